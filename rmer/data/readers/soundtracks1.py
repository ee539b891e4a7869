"""Soundtracks, Set 1, under its own name (Eerola & Vuoskoski 2011)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from rmer.data.readers.soundtracks import Soundtracks

CITATION = (
    "T. Eerola, J. K. Vuoskoski (2011), A comparison of the discrete and dimensional models of emotion in "
    "music, Psychology of Music 39(1)"
)
LICENCE = "CC BY 4.0 (osf.io/p6vkg); the clips are of commercial film music, for academic research"


@dataclass(frozen=True)
class Soundtracks1(Soundtracks):
    """The 360 clips of Set 1; the published study is of these."""

    title: ClassVar[str] = "soundtracks1"
    citation: ClassVar[str] = CITATION
    licence: ClassVar[str] = LICENCE
    faults: ClassVar[tuple[str, ...]] = (
        "clips 111, 122 and 300 last less than 10 s",
        "no official split; in the published one every test clip shares an album with a training clip",
        "few raters a clip: the set was a pilot for Set 2",
    )
