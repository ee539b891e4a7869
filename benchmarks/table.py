"""What was measured, as Markdown, as JSON and as metrics."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks.measuring import Result, Row

BEGIN, END = "<!-- results: begin -->", "<!-- results: end -->"
MARKS = {True: "yes", False: "**no**", None: ""}


def as_markdown(results: Mapping[str, Result], facts: Mapping[str, str]) -> str:
    """Return facts, one table of all rows, notes, and the further tables."""
    parts = ["; ".join(f"{name}: {value}" for name, value in facts.items()) + "."]
    parts.append(_table([row for result in results.values() for row in result.rows]))
    notes = [note for result in results.values() for note in result.notes]
    parts += ["\n".join(f"- {note}" for note in notes)] if notes else []
    for result in results.values():
        for title, table in result.tables.items():
            parts += [f"### {title}", _plain(table).to_markdown(index=False, disable_numparse=True)]
    return "\n\n".join(parts) + "\n"


def as_json(
    results: Mapping[str, Result], facts: Mapping[str, str], settings: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the same as plain values; a row also says whether each of its targets is met."""
    rows = [
        {**asdict(row), "targets": {str(target): target.met(row) for target in row.targets}}
        for result in results.values()
        for row in result.rows
    ]
    tables = {
        title: table.to_dict("records")
        for result in results.values()
        for title, table in result.tables.items()
    }
    notes = [note for result in results.values() for note in result.notes]
    return {
        "facts": dict(facts),
        "settings": {name: str(value) for name, value in settings.items()},
        "rows": rows,
        "tables": tables,
        "notes": notes,
    }


def as_metrics(results: Mapping[str, Result]) -> dict[str, float]:
    """Return ``<benchmark>/<way>/value``, ``.../published`` and ``.../limit`` of every row."""
    metrics = {}
    for result in results.values():
        for row in result.rows:
            for column in ("value", "published", "limit"):
                number = getattr(row, column)
                if number is not None:
                    metrics[f"{_slug(row.benchmark)}/{_slug(row.way)}/{column}"] = float(number)
    return metrics


def around_results(page: Path, isa: str = "") -> tuple[str, str]:
    """Return what stands before and after the markers of a page. Raises ValueError where it has none."""
    text, (begin, end) = page.read_text(), markers(isa)
    if text.count(begin) != 1 or text.count(end) != 1:
        raise ValueError(f"{page}: needs one {begin} and one {end}")
    return text.split(begin)[0], text.split(end)[1]


def markers(isa: str = "") -> tuple[str, str]:
    """Return what stands around the results of a page: those of a CPU with its own, or older instructions."""
    begin, end = (marker.replace("results", f"results {isa}") if isa else marker for marker in (BEGIN, END))
    return begin, end


def write_page(page: Path, markdown: str, isa: str = "") -> None:
    """Replace what stands between the markers of a page. Raises ValueError where it has none."""
    head, tail = around_results(page, isa)
    begin, end = markers(isa)
    page.write_text(f"{head}{begin}\n\n{markdown}\n{end}{tail}")


def _table(rows: Sequence[Row]) -> str:
    columns = ["measured", "how", "result", "spread", "x published", "of limit", "target", "met"]
    cells = []
    before = ""
    for row in rows:
        cells.append(
            [
                row.benchmark if row.benchmark != before else "",
                row.way,
                f"{_number(row.value)} {row.unit}",
                "" if row.spread is None else f"± {row.spread:.0%} of {row.repeats}",
                "" if row.published is None else f"{row.published:.3g}",
                "" if row.limit is None else f"{row.limit:.0%}",
                "; ".join(map(str, row.targets)),
                ", ".join(MARKS[target.met(row)] for target in row.targets),
            ]
        )
        before = row.benchmark
    return pd.DataFrame(cells, columns=columns).to_markdown(index=False, disable_numparse=True)


def _plain(table: pd.DataFrame) -> pd.DataFrame:
    return table.map(lambda value: value if isinstance(value, str) else _number(value, 4))


def _number(value: float, digits: int = 3) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 or float(value).is_integer() else f"{value:.{digits}g}"


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9.]+", "_", text.lower()).strip("_")
