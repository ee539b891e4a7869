"""The checks of many evaluations in one table: one row a check, and the runs that fail it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from rmer.report.contents import Contents
from rmer.report.html import ReportTable, Section
from rmer.report.readable import NO_VALUE, in_words, tick

TITLE = "Sanity checks"
PAGE = "docs/sanity-checks.md"
COLUMNS = ("check", "passed", "failed", "not_judged", "worst", "limit", "failing")
CAPTION = (
    "One row a check: in how many runs it passed, failed, or could not be judged; the value that is farthest "
    "over its limit (or, where none is, closest to it) with that limit."
)


def sanity_table(runs: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Return one row a check over all runs (:data:`COLUMNS`), those that failed first.

    ``runs`` holds the name of a run -> its ``tables/sanity.csv``; ``failing`` lists the runs that failed,
    separated by commas.
    """
    if not runs:
        return pd.DataFrame(columns=list(COLUMNS))
    checks = pd.concat([table.assign(run=name) for name, table in runs.items()], ignore_index=True)
    judged = checks["passed"].map(_truth)
    rows = []
    for name, group in checks.groupby("check", sort=False):
        verdicts = judged[group.index]
        bad = group[verdicts == 0]
        worst = _worst(bad, farthest=True) if len(bad) else _worst(group[verdicts == 1], farthest=False)
        rows.append(
            {
                "check": name,
                "passed": int((verdicts == 1).sum()),
                "failed": len(bad),
                "not_judged": int(verdicts.isna().sum()),
                "worst": worst[0],
                "limit": worst[1],
                "failing": ", ".join(bad["run"]),
            }
        )
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    return table.sort_values("failed", ascending=False, kind="stable", ignore_index=True)


def sanity_sentence(table: pd.DataFrame) -> str:
    """Return how many checks failed in how many runs, empty where all that were judged passed."""
    failed = int(table["failed"].sum())
    if not failed:
        return ""
    runs = {run for names in table["failing"] for run in names.split(", ") if run}
    every = failed + int(table["passed"].sum())
    return (
        f"{failed} of {every} sanity checks failed, in {len(runs)} run{'s' if len(runs) > 1 else ''}: the "
        "numbers of these runs may not be what they seem."
    )


def checks_section(contents: Contents) -> Section:
    """Return the section, with ``tables/sanity.csv``; without checks the table alone."""
    table = sanity_table(contents.checks)
    if table.empty:
        return Section(TITLE, data={"sanity": table})
    judged = int(table["passed"].sum() + table["failed"].sum())
    sentence = sanity_sentence(table) or f"All {judged} checks that could be judged passed."
    unjudged = [in_words(name) for name in table.loc[(table["passed"] + table["failed"]) == 0, "check"]]
    paragraphs = [sentence]
    if unjudged:
        paragraphs.append(f"Never judged, as no run has what they need: {', '.join(unjudged)}.")
    paragraphs.append(f"What each check means, and what to do when it fails: {PAGE}, under its name.")
    return Section(TITLE, paragraphs, [ReportTable(CAPTION, readable_sanity(table))], data={"sanity": table})


def readable_sanity(table: pd.DataFrame) -> pd.DataFrame:
    """Return the table as text."""
    return pd.DataFrame(
        {
            "Check": [in_words(name) for name in table["check"]],
            "Passed": table["passed"].astype(str),
            "Failed": table["failed"].astype(str),
            "Not judged": table["not_judged"].astype(str),
            "Worst value": [_figure(value) for value in table["worst"]],
            "Limit": [_figure(value) for value in table["limit"]],
            "Runs that failed": [names or NO_VALUE for names in table["failing"]],
        }
    )


def _worst(rows: pd.DataFrame, *, farthest: bool) -> tuple[float, float]:
    distance = (rows["value"] - rows["limit"]).abs().to_numpy(np.float64)
    if not np.isfinite(distance).any():
        return np.nan, np.nan
    place = int(np.nanargmax(distance) if farthest else np.nanargmin(distance))
    return float(rows["value"].iloc[place]), float(rows["limit"].iloc[place])


def _truth(value: object) -> float:
    """Return 1, 0 or NaN for the cell of a CSV file, which may have been read as a bool or as text."""
    return {"true": 1.0, "false": 0.0}.get(str(value).lower(), np.nan)


def _figure(value: float) -> str:
    if not np.isfinite(value):
        return NO_VALUE
    return f"{value:.0f}" if abs(value) >= 100 else tick(value)
