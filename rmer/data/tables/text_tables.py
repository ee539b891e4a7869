"""Text tables as authors of data sets ship them: encodings, separators and headings vary."""

from __future__ import annotations

import csv
import io
import itertools
import math
import re
import unicodedata
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from rmer.errors import DataErrors
from rmer.files import read_bytes
from rmer.nearest import SURE, nearest

SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
_NUMBER = re.compile(r"(\d+)(?:\.0*)?")


@dataclass(frozen=True)
class Reading:
    """What a file holds, with all that is wrong (``problems``) or merely odd (``warnings``) about it."""

    table: pd.DataFrame
    problems: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    def checked(self) -> pd.DataFrame:
        """Return the table; raises DataErrors with all problems where there are any."""
        if self.problems:
            raise DataErrors(self.problems, mend="Mend the files and run again")
        return self.table


@dataclass
class TextTable:
    """Rows of one text table with the line that each ends on; cells are trimmed text."""

    path: Path
    columns: dict[str, int] = field(default_factory=dict)
    headings: dict[str, str] = field(default_factory=dict)
    rows: list[tuple[int, list[str]]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def __iter__(self) -> Iterator[tuple[int, dict[str, str]]]:
        """Yield the line number and {column: cell} of every row; a cell that the row lacks is empty."""
        for line, cells in self.rows:
            cells = cells + [""] * (max(self.columns.values()) + 1 - len(cells))
            yield line, {name: cells[position] for name, position in self.columns.items()}

    def add(self, line: int, problem: str) -> None:
        """Note what is wrong on a line."""
        self.problems.append(f"{self.path.name} line {line}: {problem}")


def read_text_table(
    path: Path, separator: str, columns: Mapping[str, Sequence[str]], *, optional: Sequence[str] = ()
) -> TextTable:
    """Read ``columns`` (our name -> the headings it may have, already in :func:`heading` form) of a table.

    UTF-8 with or without byte order mark, UTF-16 with one, Windows-1252 otherwise; any line ends; other
    columns are ignored. On a problem that makes the rows meaningless (no such file, wrong separator, a column
    missing that is not ``optional``) the table has no rows.
    """
    table = TextTable(Path(path))
    rows = _rows(table, separator)
    if not rows:
        return table
    header = rows[0][1]
    if len(header) == 1 and (other := _other_separator(header[0], separator)):
        table.problems.append(_wrong_separator(table.path, rows, other, separator))
        return table
    _find_columns(table, [heading(cell) for cell in header], columns, optional)
    if table.problems:
        return table
    table.rows = rows[1:]
    for line, cells in table.rows:
        if any(cells[len(header) :]):
            table.add(line, "has more cells than the header")
    if not table.rows:
        table.problems.append(f"{table.path.name} has no rows")
    return table


def read_whole_table(path: Path, *, ragged: bool = False) -> TextTable:
    """Read all columns of a table whose separator is the one that its first line has most of.

    ``columns`` are called as the file calls them, trimmed and in composed Unicode (NFC); nameless ones are
    left out. Rows longer than the header are a problem, unless the table is ``ragged``. Encodings are those
    of :func:`read_text_table`.
    """
    table = TextTable(Path(path))
    first = next(iter(_rows(TextTable(table.path), "\0")), (0, [""]))[1][0]
    rows = _rows(table, max(SEPARATORS, key=first.count))
    if not rows:
        return table
    named, table.rows = rows[0][1], rows[1:]
    for position, cell in enumerate(unicodedata.normalize("NFC", cell) for cell in named):
        if cell in table.columns:
            table.problems.append(f"{table.path.name} has more than one column called {cell!r}")
        elif cell:
            table.columns[cell] = position
    for line, cells in table.rows:
        if any(cells[len(named) :]) and not ragged:
            table.add(line, "has more cells than the header")
    if not table.rows:
        table.problems.append(f"{table.path.name} has no rows")
    return table


def no_column(table: TextTable, name: str, has: Iterable[str], asked: Collection[str]) -> str:
    """Say that a table lacks a column, what it has instead, and which of these was probably meant.

    None of those that are ``asked`` for was.
    """
    has = list(has)
    free = [heading for heading in has if heading not in asked]
    near = nearest(name, free, cutoff=SURE)
    meant = f"; is it {near[0]!r}?" if near else ""
    return f"{table.path.name} has no column {name!r} (it has: {', '.join(has)}{meant})"


def heading(cell: str) -> str:
    """Return a heading in comparable form: trimmed, lower case, one blank for blanks and underscores."""
    return re.sub(r"[\s_]+", " ", cell.strip()).casefold()


def whole_number(cell: str) -> int | None:
    """Return the number of an id such as ``1``, ``001`` or ``1.0``; None where it is not one."""
    match = _NUMBER.fullmatch(cell.strip())
    return int(match.group(1)) if match else None


def clip_name(number: int) -> str:
    """Return the name of a numbered clip: ``7`` -> ``007``."""
    return f"{number:03d}"


def clip_from_cell(cell: str) -> str:
    """Return a clip's name: ``1``, ``001`` and ``1.0`` give ``001``, a file stem itself, all else ""."""
    number = whole_number(cell)
    if number is not None:
        return clip_name(number)
    return cell if re.fullmatch(r"\w[\w. -]*", cell) and cell.casefold() != "nan" else ""


def no_clip(cell: str, *, numbered: bool = False) -> str:
    """Say why a cell names no clip: by the rule of :func:`clip_from_cell`, or, ``numbered``, as a number."""
    if numbered:
        named = re.search(r"[^\W\d]", cell) and clip_from_cell(cell)
        hint = " (a column of file names is called clip)" if named else ""
        return f"{cell!r} is not a clip number{hint}"
    if strange := "".join(dict.fromkeys(re.findall(r"[^\w. -]", cell))):
        return f"{cell!r} is not a clip name for its {strange!r}: use letters, digits, blanks and _ - ."
    return f"{cell!r} is not a clip name"


def number_in(cell: str, low: float, high: float) -> tuple[float, str]:
    """Return the number of a cell and what is wrong with it ("" if nothing; the number is NaN otherwise)."""
    try:
        value = float(cell)
    except ValueError:
        hint = " (decimal comma?)" if re.fullmatch(r"\d+,\d+", cell) else ""
        return math.nan, f"is {cell!r}, not a number{hint}" if cell else "is empty"
    if math.isnan(value):
        return math.nan, "is NaN"
    if not low <= value <= high:
        return math.nan, f"is {cell}, outside {low:g}{' to ' if low < 0 else '-'}{high:g}"
    return value, ""


def some(names: Sequence[str], most: int = 8) -> str:
    """Return names as text, the first few of them where there are many."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def counted(number: int, what: str) -> str:
    """Return a number of things as text: ``1 clip``, ``2 clips``."""
    if number == 1:
        return f"1 {what}"
    noun, _, more = what.partition(" of ")
    return f"{number} {noun}s" + (f" of {more}" if more else "")


def _wrong_separator(path: Path, rows: Sequence[tuple[int, list[str]]], other: str, separator: str) -> str:
    """Say by what a table is separated, and the line of Python that separates it as it should be."""
    # Cells are whole lines here: those with digits on both sides of a comma have decimal commas.
    commas = other != "," and any(re.search(r"\d,\d", ",".join(cells)) for _, cells in rows[1:])
    reading = f"sep={other!r}" + (", decimal=','" if commas else "")
    writing = "index=False" + (f", sep={separator!r}" if separator != "," else "")
    return (
        f"{path.name} is separated by {SEPARATORS[other]}: save it with {SEPARATORS[separator]}, in Python "
        f"by pandas.read_csv({path.name!r}, {reading}).to_csv({path.name!r}, {writing})"
    )


def _find_columns(
    table: TextTable, headings: list[str], columns: Mapping[str, Sequence[str]], optional: Sequence[str]
) -> None:
    asked = set(itertools.chain(*columns.values()))
    for name, names in columns.items():
        found = [position for position, head in enumerate(headings) if head in names]
        if found:
            table.columns[name] = found[0]
            table.headings[name] = headings[found[0]]
        if len(found) > 1:
            table.problems.append(_several_columns(table, name, [headings[position] for position in found]))
        elif not found and name not in optional:
            table.problems.append(no_column(table, name, filter(None, headings), asked))


def _several_columns(table: TextTable, name: str, headings: Sequence[str]) -> str:
    different = list(dict.fromkeys(headings))
    if len(different) == 1:
        return f"{table.path.name} has {len(headings)} columns called {name!r}"
    listed = " and ".join(map(repr, different))
    return f"{table.path.name} has columns {listed}, which mean the same: leave one out"


def _rows(table: TextTable, separator: str) -> list[tuple[int, list[str]]]:
    """Return the non-blank rows with their line numbers, cells trimmed."""
    try:
        content = read_bytes(table.path)
    except OSError as error:
        table.problems.append(f"{table.path} cannot be read ({error.strerror})")
        return []
    text = _decode(content)
    if "\0" in text:
        table.problems.append(f"{table.path.name} is not a text table")
        return []
    reader = csv.reader(io.StringIO(text, newline=None), delimiter=separator)
    try:
        rows = [(reader.line_num, [cell.strip() for cell in cells]) for cells in reader]
    except csv.Error as error:
        table.problems.append(f"{table.path.name} line {reader.line_num} is not a table row ({error})")
        return []
    rows = [(line, cells) for line, cells in rows if any(cells)]
    if not rows:
        table.problems.append(f"{table.path.name} is empty")
    return rows


def _decode(content: bytes) -> str:
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        return content.decode("utf-16", errors="replace")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return content.decode("cp1252", errors="replace")


def _other_separator(header: str, separator: str) -> str:
    counts = {other: header.count(other) for other in SEPARATORS if other != separator}
    best = max(counts, key=lambda other: counts[other])
    return best if counts[best] else ""
