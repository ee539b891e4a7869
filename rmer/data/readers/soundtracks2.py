"""Soundtracks, Set 2: 110 clips that were chosen from Set 1 and rated anew (Eerola & Vuoskoski 2011)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from rmer.data.dataset import EMOTIONS
from rmer.data.readers.collection import Collected
from rmer.data.readers.rated_clips import RatedClips
from rmer.data.readers.reader import DatasetReader
from rmer.data.readers.sound_index import index_sounds
from rmer.data.readers.soundtracks1 import CITATION, LICENCE
from rmer.data.readers.table_files import find_table, require_columns, scaled
from rmer.data.tables.ratings import SCALE_MAX, SOUNDTRACKS_SCALE
from rmer.data.tables.text_tables import read_whole_table, whole_number

RATINGS = "mean_ratings_set2.csv"
TARGETS = (*EMOTIONS, "beauty", "liking")
# The authors' own corrections (osf.io/p6vkg): clips of one recording, which are one group whatever the table.
SAME_TRACK = {95: 10, 88: 84}


@dataclass(frozen=True)
class Soundtracks2(DatasetReader):
    """Ratings (1-9, divided by 10 as in Set 1) of eight emotions, beauty and liking; albums are groups."""

    files: ClassVar[str] = f"Set2/001.mp3 ... and {RATINGS}"
    title: ClassVar[str] = "soundtracks2"
    citation: ClassVar[str] = CITATION
    licence: ClassVar[str] = LICENCE
    faults: ClassVar[tuple[str, ...]] = (
        "clips 010 and 095 are the same, 084 and 088 are of one track",
        "clips were chosen from Set 1: do not train on one and test on the other",
        "no official split",
    )

    def read(self, folder: Path) -> Collected:
        """Read the ratings; a column ``soundtrack``, where there is one, names the album."""
        index = index_sounds(folder, ("Set2", "set2"))
        clips = RatedClips(index.find)
        table = read_whole_table(find_table(folder, RATINGS))
        grouped = any(name.casefold() in ("soundtrack", "soundtrck") for name in table.columns)
        albums: dict[int, str] = {}
        if require_columns(table, "number", *TARGETS):
            album = next((name for name in table.columns if name.casefold().startswith("soundtr")), "")
            for line, cells in table:
                number, where = whole_number(cells["number"]), f"{table.path.name} line {line}"
                if number is None:
                    table.add(line, f"{cells['number']!r} is not a clip number")
                    continue
                values = scaled(table, line, cells, TARGETS, SOUNDTRACKS_SCALE)
                low, high = SOUNDTRACKS_SCALE
                labels = {name: (low + value * (high - low)) / SCALE_MAX for name, value in values.items()}
                albums[number] = " ".join(cells[album].split()) if album else ""
                first = albums.get(SAME_TRACK.get(number, number), "")
                clips.add(
                    str(number), labels, line=where, group=first or f"clip {SAME_TRACK.get(number, number)}"
                )
        clips.problems[:0] = table.problems
        if not grouped and not table.problems:
            clips.warnings.append(f"{RATINGS} has no column soundtrack: albums are unknown")
        return clips.collected(TARGETS, grouped=grouped)
