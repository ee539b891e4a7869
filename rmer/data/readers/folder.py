"""Any folder with sounds and one table of labels, whose columns the options name."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, TypedDict

import numpy as np

from rmer.data.readers.collection import Collected
from rmer.data.readers.over_time import OverTime
from rmer.data.readers.rated_clips import RatedClips
from rmer.data.readers.reader import DatasetReader
from rmer.data.readers.sound_index import index_sounds
from rmer.data.readers.table_files import require_columns, scaled
from rmer.data.splits import PARTS
from rmer.data.tables.class_labels import LabelKind, like_classes, one_hot
from rmer.data.tables.ratings import SCALE_MAX
from rmer.data.tables.target_names import asked_for
from rmer.data.tables.text_tables import TextTable, heading, number_in, read_whole_table, some
from rmer.errors import UserError

TABLES = (".csv", ".tsv", ".tab")
# Headings that identify a clip, the likelier first; without one, the first column does.
IDENTIFIERS = (
    "clip", "id", "file", "filename", "file name", "path", "song id", "songid", "track id", "trackid",
    "musicid", "number", "name",
)  # fmt: skip
FILES = ("file", "filename", "file name", "path", "audio")
_PARTS = {
    "train": "train",
    "training": "train",
    "valid": "validation",
    "val": "validation",
    "dev": "validation",
}
_PARTS |= {"validation": "validation", "test": "test", "testing": "test", "evaluation": "test", "": ""}
Row = tuple[int, dict[str, str]]


class _About(TypedDict):
    """What is known of a clip beside its labels: the cell of its file, its group, its part of the split."""

    cell: str
    group: str
    part: str


@dataclass(frozen=True)
class Folder(OverTime, DatasetReader):
    """Sounds anywhere below the folder, and a table (CSV or TSV) with a row a clip.

    Targets are ratings from ``scale_min`` to ``scale_max``, or the classes or tags of one column. A cell that
    identifies a clip may be a file's path, its name, or its name without ending.
    """

    files: ClassVar[str] = "sounds, in folders or not, and a table such as ratings.csv"

    ratings: str = ""
    id_column: str = ""
    file_column: str = ""
    group_column: str = ""
    split_column: str = ""
    class_column: str = ""
    tag_column: str = ""
    time_column: str = ""
    scale_min: float = 0.0
    scale_max: float = SCALE_MAX

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.scale_min >= self.scale_max:
            what = f"{self.scale_min:g} is not below scale_max, {self.scale_max:g}"
            raise UserError(
                what, where="parameter scale_min", mend="Give the ends of the scale of the ratings"
            )
        kinds = [name for name in ("class_column", "tag_column", "time_column") if getattr(self, name)]
        if len(kinds) > 1:
            raise UserError(
                f"is given beside {kinds[0]}", where=f"parameter {kinds[1]}", mend="Give one of them"
            )
        if self.over_time and not self.time_column:
            mend = "Name the column of the times, in seconds"
            raise UserError("is needed for ratings over time", where="parameter time_column", mend=mend)

    def read(self, folder: Path) -> Collected:
        """Read the table, and find the sounds that it names."""
        index = index_sounds(folder)
        clips = RatedClips(index.find)
        table, columns = self._table(folder, clips)
        if not clips.problems and not table.problems:
            targets, labels, kind = self._labels(table, columns, clips)
            self._add(table, columns, targets, labels, clips)
            clips.problems[:0] = table.problems
            if not clips.problems:
                clips.unrated(index.files())
            return clips.collected(targets, grouped=bool(self.group_column), labels=kind)
        clips.problems += table.problems
        return clips.collected((), grouped=False)

    def _table(self, folder: Path, clips: RatedClips) -> tuple[TextTable, dict[str, str]]:
        """Return the table and its columns by what they are for."""
        path = Path(self.ratings) if self.ratings else _only_table(folder, clips)
        if path is None:
            return TextTable(Path(folder)), {}
        table = read_whole_table(path)
        given = {name: getattr(self, f"{name}_column") for name in ("id", "file", "group", "split", "class")}
        given |= {"tag": self.tag_column, "time": self.time_column}
        require_columns(table, *filter(None, given.values()))
        known = {heading(name): name for name in reversed(table.columns)}
        if not given["id"] and table.columns:
            first = next(iter(table.columns))
            given["id"] = next((known[name] for name in IDENTIFIERS if name in known), first)
        if not given["file"]:
            given["file"] = next((known[name] for name in FILES if name in known), given["id"])
        return table, given

    def _labels(
        self, table: TextTable, columns: dict[str, str], clips: RatedClips
    ) -> tuple[tuple[str, ...], list[dict[str, float]], LabelKind]:
        """Return the targets, the labels of each row, 0-1, and what they are."""
        rows = list(table)
        of_class, of_tags = columns["class"], columns["tag"]
        if of_class or of_tags:
            named = _classes(rows, of_class) if of_class else _tags(rows, of_tags)
            for (line, _), found in zip(rows, named, strict=True):
                if not found and of_class:
                    table.add(line, f"{of_class} is empty")
            hot = one_hot(named)
            labels = [{name: column[row] for name, column in hot.items()} for row in range(len(rows))]
            return tuple(hot), labels, "classes" if of_class else "tags"
        targets = self._targets(table, rows, columns)
        scale = self.scale_min, self.scale_max
        labels = [scaled(table, line, cells, targets, scale) for line, cells in rows]
        for target in targets:
            clips.warnings += filter(None, [like_classes(target, [cells[target] for _, cells in rows])])
        clips.warnings += self._off_scale(labels)
        return targets, labels, "ratings"

    def _targets(self, table: TextTable, rows: Sequence[Row], columns: dict[str, str]) -> tuple[str, ...]:
        """Return the columns to predict: those asked for, else all others that hold numbers."""
        asked = tuple(asked_for(self.targets))
        if asked:
            # In the file's own spelling, where it is another one.
            require_columns(table, *asked)
            return asked if not table.problems else ()
        rest = [name for name in table.columns if name not in columns.values()]
        # A cell that is no number among many is a fault to be told of, not another kind of column.
        most = len(rows) / 2
        found = tuple(name for name in rest if sum(_is_number(cells[name]) for _, cells in rows) > most)
        if not found:
            has = some(rest, 20) or "no other column"
            table.problems.append(f"{table.path.name} has no column of numbers (it has: {has}): give targets")
        return found

    def _off_scale(self, labels: Sequence[dict[str, float]]) -> list[str]:
        """Warn of ratings that fill so little of the scale that it is likely to be another one."""
        values = [value for row in labels for value in row.values() if not math.isnan(value)]
        if not values or max(values) - min(values) > 0.2:
            return []
        span = self.scale_max - self.scale_min
        low, high = (self.scale_min + value * span for value in (min(values), max(values)))
        scale = f"{self.scale_min:g} to {self.scale_max:g}"
        return [
            f"all ratings lie in {low:g} to {high:g} of the scale {scale}: are scale_min and scale_max right?"
        ]

    def _add(
        self,
        table: TextTable,
        columns: dict[str, str],
        targets: Sequence[str],
        labels: Sequence[dict[str, float]],
        clips: RatedClips,
    ) -> None:
        over_time: dict[str, list[tuple[int, dict[str, str], list[float]]]] = {}
        for (line, cells), row in zip(list(table), labels, strict=True):
            identifier = cells[columns["id"]]
            part = _PARTS.get(cells[columns["split"]].casefold(), "?") if columns["split"] else ""
            if not identifier:
                table.add(line, f"{columns['id']} is empty")
            elif part == "?":
                table.add(
                    line, f"{columns['split']} is {cells[columns['split']]!r}, none of {', '.join(PARTS)}"
                )
            elif columns["group"] and not cells[columns["group"]]:
                table.add(line, f"{columns['group']} of clip {identifier} is empty")
            elif columns["time"]:
                seconds, problem = number_in(cells[columns["time"]], 0.0, 360_000.0)
                if problem:
                    table.add(line, f"{columns['time']} {problem}")
                over_time.setdefault(identifier, []).append((line, cells, [seconds, *row.values()]))
            else:
                clips.add(
                    identifier, row, line=f"{table.path.name} line {line}", **_about(cells, columns, part)
                )
        for song, found in over_time.items():
            line, cells, _ = found[0]
            values = np.array([row for *_, row in found], np.float64)
            about = _about(cells, columns, _PARTS.get(cells.get(columns["split"], "").casefold(), ""))
            about["group"] = about["group"] or song
            where = f"{table.path.name} line {line}"
            self.add_windows(clips, song, values[:, 0], values[:, 1:], targets, line=where, **about)


def _about(cells: dict[str, str], columns: dict[str, str], part: str) -> _About:
    group = cells[columns["group"]] if columns["group"] else ""
    return {"cell": cells[columns["file"]], "group": group, "part": part}


def _only_table(folder: Path, clips: RatedClips) -> Path | None:
    """Return the one table of a folder, or of the folders in it; notes where there are none or several."""
    for places in (Path(folder).glob("*"), Path(folder).glob("*/*")):
        found = sorted(path for path in places if path.suffix.lower() in TABLES and path.name[0] != ".")
        if len(found) == 1:
            return found[0]
        if found:
            clips.problems.append(
                f"{folder} has several tables ({some([x.name for x in found])}): give ratings"
            )
            return None
    clips.problems.append(f"no table ({', '.join(TABLES)}) in {folder}: give ratings")
    return None


def _classes(rows: Iterable[Row], column: str) -> list[list[str]]:
    """Return the class of each row; one that is a number has the column's name before it."""
    cells = [cells[column] for _, cells in rows]
    return [[f"{column} {cell}" if _is_number(cell) else cell] if cell else [] for cell in cells]


def _tags(rows: Iterable[Row], column: str) -> list[list[str]]:
    return [list(filter(None, map(str.strip, re.split("[,;|]", cells[column])))) for _, cells in rows]


def _is_number(cell: str) -> bool:
    return not number_in(cell, -math.inf, math.inf)[1]
