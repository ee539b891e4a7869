"""What a reader makes of a data set's files: clips and labels, with every problem, audio not yet decoded."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from rmer.data.tables.class_labels import LabelKind
from rmer.errors import DataErrors

FEWEST_CLIPS = 6
MEND = "Mend the files and run again; what is computed is kept"


@dataclass(frozen=True)
class Collected:
    """Clips of a data set in the order of the ratings, and every problem that its files have.

    ``clips`` has the columns ``clip``, ``file`` (relative to the data set's folder), ``album``, ``track`` (""
    where unknown), the ``emotions`` and, where they are known, the ``concepts`` (0-1). ``audio`` maps clips
    to files. Clips of one album (or artist, film, session) never lie in two parts of the album split, which
    there is where the data set ``has_albums``.

    ``labels`` says what the targets are (:mod:`rmer.data.tables.class_labels`), ``titles`` how the files call
    those that have another name. ``official`` maps clips to their part of the split that comes with the data
    set, and is empty where none does. ``starts`` maps clips to the second at which their excerpt starts, of
    those for which it is not drawn: several clips may be windows of one file.
    """

    clips: pd.DataFrame
    audio: Mapping[str, Path]
    emotions: tuple[str, ...]
    concepts: tuple[str, ...] = ()
    has_albums: bool = False
    problems: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    labels: LabelKind = "ratings"
    titles: Mapping[str, str] = field(default_factory=dict)
    official: Mapping[str, str] = field(default_factory=dict)
    starts: Mapping[str, float] = field(default_factory=dict)

    def checked(self) -> Collected:
        """Return itself; raises DataErrors with all problems where there are any."""
        if self.problems:
            raise DataErrors(self.problems, where="data set", mend=MEND)
        return self


def labels_digest(clips: pd.DataFrame, targets: Sequence[str]) -> str:
    """Return 16 hex digits over the clip names and parsed values of ``targets``, in the order of the rows.

    Copies of a file that differ in byte order mark, line ends or spelling of numbers have the same digest.
    """
    content = hashlib.sha256(json.dumps([list(targets), clips["clip"].tolist()]).encode())
    content.update(np.ascontiguousarray(clips[list(targets)].to_numpy(np.float64), "<f8").tobytes())
    return content.hexdigest()[:16]
