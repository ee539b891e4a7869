"""The mood and theme tags of MTG-Jamendo (Bogdanov et al. 2019)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from rmer.data.readers.collection import Collected
from rmer.data.readers.rated_clips import RatedClips
from rmer.data.readers.reader import DatasetReader
from rmer.data.readers.sound_index import SoundIndex, index_sounds
from rmer.data.readers.table_files import find_table, require_columns
from rmer.data.tables.class_labels import one_hot
from rmer.data.tables.text_tables import TextTable, read_whole_table
from rmer.parameters import param

TABLE = "autotagging_moodtheme.tsv"
PARTS = ("train", "validation", "test")
PREFIX = "mood/theme---"


@dataclass(frozen=True)
class JamendoMood(DatasetReader):
    """Any number of the 56 tags a track, which the official splits have in all parts; artists are groups.

    Without the lists of the splits, all tags of the table are targets. Tracks whose audio was not downloaded
    are left out.
    """

    files: ClassVar[str] = f"data/{TABLE}, data/splits/ and the audio (34/786434.mp3 ...), wherever unpacked"
    title: ClassVar[str] = "jamendo_mood"
    citation: ClassVar[str] = (
        "D. Bogdanov, M. Won, P. Tovstogan, A. Porter, X. Serra (2019), The MTG-Jamendo dataset for "
        "automatic music tagging, ML4MD workshop, ICML"
    )
    licence: ClassVar[str] = "metadata CC BY-NC-SA 4.0; audio Creative Commons, each track its own"
    faults: ClassVar[tuple[str, ...]] = (
        "tags are those of whoever uploaded a track: one that is missing may fit all the same",
        "59 tags in the table, 56 in the splits",
    )

    official_split: int = param(0, "which of the five official splits", low=0, high=4)

    def read(self, folder: Path) -> Collected:
        """Read the lists of the split, or the whole table where there are none."""
        index = index_sounds(folder)
        clips = RatedClips(lambda cell: _find(index, cell), partial=True)
        lists = {part: self._list(folder, part) for part in PARTS}
        if all(path.exists() for path in lists.values()):
            tables = {part: read_whole_table(path, ragged=True) for part, path in lists.items()}
        else:
            tables = {"": read_whole_table(find_table(folder, TABLE), ragged=True)}
            clips.warnings.append(
                f"no lists of official split {self.official_split}: only random splits are made"
            )
        rows = [(part, table, row) for part, table in tables.items() for row in _tracks(table)]
        tags = one_hot([row["tags"] for *_, row in rows])
        for number, (part, table, row) in enumerate(rows):
            labels = {tag: column[number] for tag, column in tags.items()}
            where = f"{table.path.name} line {row['line'][0]}"
            (name,), (artist,), (path,) = row["name"], row["artist"], row["path"]
            clips.add(name, labels, line=where, cell=path, group=artist, track=name, part=part)
        clips.problems[:0] = [problem for table in tables.values() for problem in table.problems]
        return _rated(clips, tuple(tags))

    def _list(self, folder: Path, part: str) -> Path:
        name = f"autotagging_moodtheme-{part}.tsv"
        return find_table(folder, f"split-{self.official_split}/{name}")


def _tracks(table: TextTable) -> list[dict[str, list[str]]]:
    """Return the tracks of a list; tags are all cells from TAGS on."""
    if not require_columns(table, "TRACK_ID", "ARTIST_ID", "PATH", "TAGS"):
        return []
    at = table.columns
    tracks = []
    for line, cells in table.rows:
        if len(cells) <= at["TAGS"]:
            table.add(line, "has no tags")
            continue
        tags = [cell.removeprefix(PREFIX) for cell in cells[at["TAGS"] :] if cell]
        row = {
            "name": [cells[at["TRACK_ID"]]],
            "artist": [cells[at["ARTIST_ID"]]],
            "path": [cells[at["PATH"]]],
        }
        tracks.append({**row, "tags": tags, "line": [str(line)]})
    return tracks


def _find(index: SoundIndex, cell: str) -> tuple[Path | None, str]:
    """Find a track, also in its smaller form (``34/786434.low.mp3``)."""
    path, problem = index.find(cell)
    if path is None and cell.endswith(".mp3"):
        low, _ = index.find(f"{cell.removesuffix('.mp3')}.low.mp3")
        return (low, "") if low else (None, problem)
    return path, problem


def _rated(clips: RatedClips, tags: tuple[str, ...]) -> Collected:
    """Leave out tags that no clip with audio has: of a part of the data set, not all can be learnt."""
    used = [tag for tag in tags if len({row[tag] for row in clips.rows}) > 1]
    if clips.rows and (unused := [tag for tag in tags if tag not in used]):
        clips.warnings.append(f"the same for all clips with audio, left out: {', '.join(unused)}")
    return clips.collected(used if clips.rows else tags, grouped=True, labels="tags")
