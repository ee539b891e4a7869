"""DEAM, the MediaEval Database for Emotional Analysis in Music (Aljanaki, Yang & Soleymani 2017)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from rmer.data.readers.collection import Collected
from rmer.data.readers.over_time import OverTime
from rmer.data.readers.rated_clips import RatedClips
from rmer.data.readers.reader import DatasetReader
from rmer.data.readers.sound_index import index_sounds
from rmer.data.readers.table_files import find_table, require_columns, scaled
from rmer.data.tables.rating_windows import Floats
from rmer.data.tables.text_tables import TextTable, read_whole_table, whole_number

TARGETS = ("valence", "arousal")
STATIC = ("static_annotations_averaged_songs_1_2000.csv", "static_annotations_averaged_songs_2000_2058.csv")
# Position of the artist in the rows of each year's metadata, whose headings differ and whose rows are ragged.
ARTISTS = {"metadata_2013.csv": 2, "metadata_2014.csv": 1, "metadata_2015.csv": 3}
SCALE, SCALE_OVER_TIME = (1.0, 9.0), (-1.0, 1.0)


@dataclass(frozen=True)
class Deam(OverTime, DatasetReader):
    """Valence and arousal of 1802 songs: of each song (1-9), or twice a second from second 15 on (-1 to 1).

    The folder holds what the archives unpack to, however nested. Songs of one artist are a group, where the
    metadata are there.
    """

    files: ClassVar[str] = "MEMD_audio/2.mp3 ..., annotations/ and, for groups, metadata/"
    title: ClassVar[str] = "deam"
    citation: ClassVar[str] = (
        "A. Aljanaki, Y.-H. Yang, M. Soleymani (2017), Developing a benchmark for emotional analysis of "
        "music, PLoS ONE 12(3)"
    )
    licence: ClassVar[str] = "annotations CC BY-NC; audio Creative Commons, each song its own"
    faults: ClassVar[tuple[str, ...]] = (
        "songs 2001-2058 are whole songs of up to 10 minutes, rated by other people than the 45 s excerpts",
        "no split comes with all 1802 songs: MediaEval split each year's part by itself",
    )

    def read(self, folder: Path) -> Collected:
        """Read both files of averages (or valence.csv and arousal.csv), and the artists of three years."""
        index = index_sounds(folder)
        clips = RatedClips(index.find)
        artists = _artists(folder)
        tables = (
            self._over_time(folder, clips, artists) if self.over_time else _static(folder, clips, artists)
        )
        clips.problems[:0] = [problem for table in tables for problem in table.problems]
        if not artists:
            clips.warnings.append(
                "no metadata_2013.csv ...: artists are unknown, so that no split keeps them apart"
            )
        if not clips.problems:
            clips.unrated(index.files())
        return clips.collected(TARGETS, grouped=bool(artists))

    def _over_time(self, folder: Path, clips: RatedClips, artists: dict[str, str]) -> list[TextTable]:
        tables = [read_whole_table(find_table(folder, f"{name}.csv"), ragged=True) for name in TARGETS]
        if sum(require_columns(table, "song_id") for table in tables) == len(tables):
            first, second = (_rows_over_time(table) for table in tables)
            for song, (line, valence) in first.items():
                if song not in second:
                    tables[1].problems.append(f"{tables[1].path.name} has no row of song {song}")
                    continue
                arousal = second[song][1]
                times = sorted(valence.keys() & arousal.keys())
                ratings: Floats = np.array([[valence[at], arousal[at]] for at in times]).reshape(-1, 2)
                self.add_windows(
                    clips, song, np.array(times), ratings, TARGETS, line=line, group=_group(song, artists)
                )
        return tables


def _static(folder: Path, clips: RatedClips, artists: dict[str, str]) -> list[TextTable]:
    tables = [read_whole_table(find_table(folder, name)) for name in STATIC]
    if not tables[1].path.exists() and tables[0].path.exists():
        clips.warnings.append(f"no {STATIC[1]}: songs 2001-2058 are left out")
        tables.pop()
    for table in tables:
        columns = {f"{name}_mean": name for name in TARGETS}
        if not require_columns(table, "song_id", *columns):
            continue
        for line, cells in table:
            values = scaled(table, line, cells, list(columns), SCALE)
            labels = {columns[column]: value for column, value in values.items()}
            song = cells["song_id"]
            clips.add(song, labels, line=f"{table.path.name} line {line}", group=_group(song, artists))
    return tables


def _rows_over_time(table: TextTable) -> dict[str, tuple[str, dict[float, float]]]:
    """Return song -> its line and {seconds: rating, 0-1} from columns such as ``sample_15000ms``."""
    low, high = SCALE_OVER_TIME
    times = {
        name: int(found[1]) / 1000
        for name in table.columns
        if (found := re.fullmatch(r"sample_(\d+)ms", name))
    }
    rows: dict[str, tuple[str, dict[float, float]]] = {}
    for line, cells in table:
        rated = {times[name]: cells[name] for name in times if cells[name].casefold() not in ("", "nan")}
        values: dict[float, float] = {}
        for at, cell in rated.items():
            value = _number(cell)
            if not low <= value <= high:
                table.add(line, f"rating {cell!r} at {at:g} s is not in {low:g} to {high:g}")
            values[at] = (value - low) / (high - low)
        rows[cells["song_id"]] = (f"{table.path.name} line {line}", values)
    return rows


def _number(cell: str) -> float:
    try:
        return float(cell)
    except ValueError:
        return float("nan")


def _artists(folder: Path) -> dict[str, str]:
    """Return song -> artist, as far as the metadata say."""
    found: dict[str, str] = {}
    for name, position in ARTISTS.items():
        path = find_table(folder, name)
        table = read_whole_table(path, ragged=True) if path.exists() else TextTable(path)
        for _, cells in table.rows:
            song = whole_number(cells[0])
            if song is not None and len(cells) > position and cells[position].strip('\t "'):
                found[str(song)] = cells[position].strip('\t "')
    return found


def _group(song: str, artists: dict[str, str]) -> str:
    number = whole_number(song)
    return artists.get(str(number), f"song {song}")
