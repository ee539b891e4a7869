"""rmer's own CSV tables: written so that spreadsheets run nothing in them, and read back as they were.

A spreadsheet takes a cell that begins with one of ``= + - @`` (or a tab or line end) as a formula, also one
that came with somebody's data set: https://owasp.org/www-community/attacks/CSV_Injection. Such a text gets an
apostrophe before it; numbers stay numbers.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, TextIO

import pandas as pd
from packaging.version import Version
from pandas.api.types import is_object_dtype, is_string_dtype

from rmer.errors import UserError

# Columns that hold text, even where every cell looks like a number.
TEXT_COLUMNS = (
    "clip", "file", "album", "track", "split", "split_published", "split_album", "split_official",
)  # fmt: skip
_FORMULA = re.compile("'*[=+\\-@\t\r\n\uff1d\uff0b\uff0d\uff20]")  # the last four: as wide as Chinese signs
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.IGNORECASE | re.ASCII)
_MISSING = ("", "nan", "NaN", "NA", "<NA>", "None", "null")
# From pandas 3.1 on, reading is always exact and the option is deprecated.
_EXACT: dict[str, Any] = (
    {} if Version(pd.__version__) >= Version("3.1") else {"float_precision": "round_trip"}
)


def write_table(frame: pd.DataFrame, file: Path | TextIO) -> None:
    """Write a table without its index; numbers keep every digit, texts like formulas are escaped."""
    # In float64, because the shortest text of a float32 is another number when read back.
    wide = frame.astype(dict.fromkeys(frame.select_dtypes("float32").columns, "float64"))
    safe = _on_texts(wide, escaped)
    # Python quotes no cell for the sake of a carriage return, at which every reader would end the row.
    returns = any(safe[name].astype(str).str.contains("\r").any() for name in _texts(safe))
    quoting: Literal[0, 2] = csv.QUOTE_NONNUMERIC if returns else csv.QUOTE_MINIMAL
    safe.to_csv(file, index=False, lineterminator="\n", quoting=quoting)


def table_text(frame: pd.DataFrame) -> str:
    """Return a table as :func:`write_table` writes it."""
    text = io.StringIO()
    write_table(frame, text)
    return text.getvalue()


def read_table(path: Path, *, where: str) -> pd.DataFrame:
    """Read a table of :func:`write_table` with every digit.

    Names such as clip ids stay text (``007``, ``NA``), empty text stays empty. Raises UserError for what is
    no such table, which it calls ``where``.
    """
    if not path.is_file():
        raise _no_table(where, "it is no file")
    try:
        columns = pd.read_csv(path, nrows=0).columns
        texts = [column for column in columns if column in TEXT_COLUMNS]
        table: pd.DataFrame = pd.read_csv(
            path,
            dtype=dict.fromkeys(texts, str),
            keep_default_na=False,
            na_values={column: [] if column in texts else list(_MISSING) for column in columns},
            **_EXACT,
        )
    except OSError as error:
        raise _no_table(where, str(error.strerror)) from error
    except ValueError as error:  # pandas' own errors and those of decoding are of this kind
        raise _no_table(where, type(error).__name__) from error
    return _on_texts(table, unescaped)


def escaped(text: str) -> str:
    """Return a text as it is written into a cell."""
    return f"'{text}" if _FORMULA.match(text) and not _NUMBER.fullmatch(text) else text


def unescaped(cell: str) -> str:
    """Return the text of a cell that :func:`escaped` made."""
    return cell[1:] if cell.startswith("'") and _FORMULA.match(cell) else cell


def _no_table(where: str, reason: str) -> UserError:
    mend = "Restore the file, or repeat the run"
    return UserError(f"cannot be read as a table ({reason})", where=where, mend=mend)


def _on_texts(frame: pd.DataFrame, change: Callable[[str], str]) -> pd.DataFrame:
    changed = frame.rename(columns=lambda name: change(name) if isinstance(name, str) else name)
    for name in _texts(changed):
        changed[name] = [change(cell) if isinstance(cell, str) else cell for cell in changed[name]]
    return changed


def _texts(frame: pd.DataFrame) -> list[Any]:
    return [
        name
        for name, kind in frame.dtypes.items()
        if is_object_dtype(kind) or is_string_dtype(kind) or isinstance(kind, pd.CategoricalDtype)
    ]
