"""PMEmo (Zhang et al. 2018): arousal and valence of choruses of popular songs."""

from __future__ import annotations

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
from rmer.data.tables.text_tables import TextTable, number_in, read_whole_table

TARGETS = ("arousal", "valence")
COLUMNS = {"Arousal(mean)": "arousal", "Valence(mean)": "valence"}
STATIC, DYNAMIC, METADATA = "static_annotations.csv", "dynamic_annotations.csv", "metadata.csv"
SCALE = (0.0, 1.0)


@dataclass(frozen=True)
class Pmemo(OverTime, DatasetReader):
    """Arousal and valence (0-1), averaged a song, or twice a second from second 15 on.

    Songs of one artist are a group, where ``metadata.csv`` is there. Sounds without ratings are left out.
    """

    files: ClassVar[str] = "chorus/1.mp3 ..., annotations/static_annotations.csv and metadata.csv"
    title: ClassVar[str] = "pmemo"
    citation: ClassVar[str] = (
        "K. Zhang, H. Zhang, S. Li, C. Yang, L. Sun (2018), The PMEmo dataset for music emotion recognition, "
        "Proc. ACM ICMR"
    )
    licence: ClassVar[str] = "for research; the authors ask to be cited, and state no licence of the audio"
    faults: ClassVar[tuple[str, ...]] = (
        "794 choruses, of which 767 have ratings of the song",
        "no official split",
    )

    def read(self, folder: Path) -> Collected:
        """Read the averages, or the ratings over time, and the artists."""
        index = index_sounds(folder, ("chorus", "PMEmo2019/chorus"))
        clips = RatedClips(index.find)
        artists, metadata = _artists(folder)
        table = read_whole_table(find_table(folder, DYNAMIC if self.over_time else STATIC))
        if require_columns(table, "musicId", *COLUMNS, *(["frameTime"] if self.over_time else [])):
            self._rated(table, clips, artists)
        clips.problems[:0] = [*table.problems, *metadata.problems]
        if not artists and not metadata.problems:
            clips.warnings.append(f"no {METADATA}: artists are unknown, so that no split keeps them apart")
        if not clips.problems:
            clips.unrated(index.files())
        return clips.collected(TARGETS, grouped=bool(artists))

    def _rated(self, table: TextTable, clips: RatedClips, artists: dict[str, str]) -> None:
        of_songs: dict[str, list[tuple[str, list[float]]]] = {}
        for line, cells in table:
            song, values = cells["musicId"], scaled(table, line, cells, list(COLUMNS), SCALE)
            labels = {COLUMNS[column]: value for column, value in values.items()}
            where, group = f"{table.path.name} line {line}", artists.get(song, f"song {song}")
            if not self.over_time:
                clips.add(song, labels, line=where, group=group)
                continue
            time, problem = number_in(cells["frameTime"], 0.0, 36_000.0)
            if problem:
                table.add(line, f"frameTime {problem}")
            of_songs.setdefault(song, []).append((where, [time, *labels.values()]))
        for song, rows in of_songs.items():
            found = np.array([values for _, values in rows], np.float64)
            group = artists.get(song, f"song {song}")
            self.add_windows(clips, song, found[:, 0], found[:, 1:], TARGETS, line=rows[0][0], group=group)


def _artists(folder: Path) -> tuple[dict[str, str], TextTable]:
    """Return song -> artist and the table; empty where there is none."""
    path = find_table(folder, METADATA)
    table = read_whole_table(path, ragged=True) if path.exists() else TextTable(path)
    column = "artists" if "artists" in table.columns else "artist"
    if not path.exists() or not require_columns(table, "musicId", column):
        return {}, table
    return {cells["musicId"]: cells[column] for _, cells in table if cells[column]}, table
