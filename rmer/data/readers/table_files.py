"""Tables of a data set, wherever in its folder they were unpacked."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rmer.data.tables.text_tables import TextTable, heading, no_column, number_in


def find_table(folder: Path, name: str) -> Path:
    """Return the file of a name that lies nearest below a folder; where there is none, where it should be.

    Hidden folders and ``__MACOSX`` are left out.
    """
    found = [
        path
        for path in sorted(Path(folder).rglob(name))
        if not any(part.startswith((".", "__MACOSX")) for part in path.relative_to(folder).parts)
    ]
    return min(found, key=lambda path: len(path.parts), default=Path(folder) / name)


def require_columns(table: TextTable, *names: str) -> bool:
    """Say whether a table has columns, however their headings are spaced and cased; calls them by ``names``.

    Notes those that it lacks as problems.
    """
    known = {heading(column): column for column in table.columns}
    for name in names:
        column = known.get(heading(name))
        if column is not None:
            table.columns.setdefault(name, table.columns[column])
        elif table.columns:
            table.problems.append(no_column(table, name, known, list(map(heading, names))))
    return bool(table.columns) and not table.problems


def scaled(
    table: TextTable, line: int, cells: dict[str, str], columns: Sequence[str], scale: tuple[float, float]
) -> dict[str, float]:
    """Return the values of columns, low to high as 0 to 1; notes what is no number or off the scale."""
    low, high = scale
    values = {}
    for column in columns:
        value, problem = number_in(cells[column], low, high)
        values[column] = (value - low) / (high - low)
        if problem:
            table.add(line, f"{column} {problem}")
    return values
