"""EMOPIA (Hung et al. 2021): the quadrant of valence and arousal of clips of pop piano music."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from rmer.data.readers.collection import Collected
from rmer.data.readers.rated_clips import RatedClips
from rmer.data.readers.reader import DatasetReader
from rmer.data.readers.sound_index import index_sounds
from rmer.data.readers.table_files import find_table, require_columns
from rmer.data.tables.text_tables import read_whole_table

QUADRANTS = ("Q1", "Q2", "Q3", "Q4")
# Names that the official lists of clips have had.
SPLITS = {
    "train": ("train_clips.csv", "split/train.csv"),
    "validation": ("val_clips.csv", "split/val.csv"),
    "test": ("test_clips.csv", "split/test.csv"),
}


@dataclass(frozen=True)
class Emopia(DatasetReader):
    """One class a clip, the quadrant: Q1 happy, Q2 tense, Q3 sad, Q4 calm. Clips of one song are a group.

    The song is in the clip's name, ``Q1_<video>_<number of the clip>``. Clips whose audio cannot be had any
    longer are left out.
    """

    files: ClassVar[str] = "label.csv and audio_seg/Q1_<video>_0.mp3 ..."
    title: ClassVar[str] = "emopia"
    citation: ClassVar[str] = (
        "H.-T. Hung, J. Ching, S. Doh, N. Kim, J. Nam, Y.-H. Yang (2021), EMOPIA: a multi-modal pop piano "
        "dataset for emotion recognition and emotion-based music generation, Proc. ISMIR"
    )
    licence: ClassVar[str] = "CC BY-NC-SA 4.0; audio is not part of it: video names and times of clips are"
    faults: ClassVar[tuple[str, ...]] = (
        "1087 clips in the paper, 1078 in later releases; which audio there is depends on the videos",
        "clips of one song may have different quadrants",
    )

    def read(self, folder: Path) -> Collected:
        """Read ``label.csv`` and, where they are there, the official lists of clips."""
        index = index_sounds(folder)
        clips = RatedClips(index.find, partial=True)
        table = read_whole_table(find_table(folder, "label.csv"))
        parts = _official(folder, clips)
        if require_columns(table, "ID", "4Q"):
            for line, cells in table:
                quadrant = f"Q{cells['4Q'].removeprefix('Q').removesuffix('.0')}"
                name = re.sub(r"\.(mid|mp3|wav)$", "", cells["ID"])
                song = re.fullmatch(r"Q([1-4])_(.+)_(\d+)", name)
                if quadrant not in QUADRANTS:
                    table.add(line, f"4Q is {cells['4Q']!r}, none of 1, 2, 3, 4")
                elif song is None:
                    table.add(line, f"ID is {cells['ID']!r}, not Q1_<video>_<number>")
                else:
                    if quadrant != f"Q{song[1]}":
                        clips.warnings.append(
                            f"clip {name} has 4Q {cells['4Q']}, which is not that of its name"
                        )
                    labels = {one: float(one == quadrant) for one in QUADRANTS}
                    where = f"{table.path.name} line {line}"
                    clips.add(name, labels, line=where, group=song[2], part=parts.get(name, ""))
        clips.problems[:0] = table.problems
        return clips.collected(QUADRANTS, grouped=True, labels="classes")


def _official(folder: Path, clips: RatedClips) -> dict[str, str]:
    """Return clip -> part of the official split; empty where its lists are not there."""
    found: dict[str, str] = {}
    for part, names in SPLITS.items():
        paths = [path for name in names if (path := find_table(folder, name)).exists()]
        if paths:
            table = read_whole_table(paths[0])
            name = "fname" if "fname" in table.columns else next(iter(table.columns), "fname")
            found |= {
                Path(cells[name]).name.removesuffix(".mid"): part for _, cells in table if name in cells
            }
            clips.problems += table.problems
    return found
