"""Reads the tables of a data set on disk: its clips, and which of them are of one recording."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from rmer.data.csv_tables import TEXT_COLUMNS, unescaped
from rmer.errors import UserError

INTEGER_COLUMNS = ("spec_frames", "excerpt_start")
MEND = "Run preprocess again, or name a folder that it wrote"


def read_clip_table(path: Path) -> pd.DataFrame:
    """Read a clip table: text columns stay text, other columns come back as the exact numbers written."""
    require_file(path)
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            rows = list(csv.reader(stream))
    except OSError as error:
        raise UserError(f"cannot be read ({error.strerror})", where=str(path), mend=MEND) from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"is not a table ({error})", where=str(path), mend=MEND) from error
    if not rows or any(len(row) != len(rows[0]) for row in rows):
        raise UserError("is empty or has rows of unequal length", where=str(path), mend=MEND)
    try:
        names = [unescaped(cell) for cell in rows[0]]
        return pd.DataFrame(
            {name: _column(name, [row[i] for row in rows[1:]]) for i, name in enumerate(names)}
        )
    except (ValueError, OverflowError) as error:
        what = f"has a cell that is not a number ({str(error)[:100]})"
        raise UserError(what, where=str(path), mend=MEND) from error


def read_duplicates(path: Path) -> tuple[tuple[str, str], ...]:
    """Return the pairs of a table that preprocessing writes where there are any; () without it."""
    if not path.exists():
        return ()
    require_file(path)
    with path.open(encoding="utf-8", newline="") as stream:
        return tuple((unescaped(row["first"]), unescaped(row["second"])) for row in csv.DictReader(stream))


def _column(name: str, cells: list[str]) -> Any:
    if name in TEXT_COLUMNS:
        return pd.Series([unescaped(cell) for cell in cells], dtype=object)
    if name in INTEGER_COLUMNS:
        return np.array([int(cell) for cell in cells], np.int64)
    return np.array([float(cell) for cell in cells], np.float64)


def require_file(path: Path) -> None:
    """Raise UserError for what exists but is no file: a folder, or a pipe, which would be waited for."""
    if path.exists() and not path.is_file():
        raise UserError("is not a file", where=str(path), mend=MEND)
