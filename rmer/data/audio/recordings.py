"""Clips as rows of 16-bit samples: the part that an excerpt hears, and all that says how it is heard.

What an attack on the sound changes is one such row a clip. A row stands alone: it tells where in its clip it
lies, what peak the front end divides by, and which samples may change without anything else changing, so that
whatever takes a batch of rows needs to know nothing of their files.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from rmer.data.audio.decoders import FULL_SCALE
from rmer.data.audio.filterbank import FRAME_SIZE, HOP, silent_audio

Samples = npt.NDArray[np.int16]


class Header(IntEnum):
    """What stands before the samples of a row: whole numbers that float32 holds exactly.

    ``START`` is the excerpt's first frame, ``COUNT`` the frames of the whole clip, ``PEAK`` its largest
    sample, in 16-bit steps; samples from ``LOW`` on and before ``HIGH`` may change.
    """

    START = 0
    COUNT = 1
    PEAK = 2
    LOW = 3
    HIGH = 4


HEADER = len(Header)


@dataclass(frozen=True, eq=False)
class Recording:
    """A decoded clip, int16 [samples] at 22 050 Hz, and the first frame of its excerpt.

    Raises UserError where no sample can be the peak that the front end divides by.
    """

    samples: Samples
    start: int

    def __post_init__(self) -> None:
        if self.peak <= 0:
            raise silent_audio()

    @property
    def peak(self) -> int:
        """The largest magnitude, as the front end has it: that of -32768 counts as itself, so as none."""
        magnitudes = np.abs(self.samples.astype(np.int32))
        return int(magnitudes[magnitudes < FULL_SCALE].max(initial=0))

    @property
    def sounding(self) -> tuple[int, int]:
        """Places of the first and the last sample that is not zero: the front end trims what lies outside."""
        places = np.flatnonzero(self.samples)
        return int(places[0]), int(places[-1])

    @property
    def count(self) -> int:
        """Frames of the whole clip."""
        first, last = self.sounding
        return math.ceil((last - first + 1) / HOP)

    def heard(self, frames: int) -> tuple[int, int]:
        """Return where the samples lie that an excerpt of ``frames`` frames is made of: first, and one past.

        Those of a clip that is too short, whose excerpt repeats it, are all that sound.
        """
        first, last = self.sounding
        if self.count <= frames:
            return first, last + 1
        end = first + int((self.start + frames - 1) * HOP) + FRAME_SIZE
        return first + int(self.start * HOP), min(end, len(self.samples))

    def row(self, frames: int) -> npt.NDArray[np.float32]:
        """Return the clip as a row, float32 [HEADER + samples of :func:`row_samples`], zeros at its end.

        The first and last sample that sound may not change, as the front end trims there.
        """
        begin, end = self.heard(frames)
        first, last = self.sounding
        row = np.zeros(HEADER + row_samples(frames), np.float32)
        row[Header.START], row[Header.COUNT], row[Header.PEAK] = self.start, self.count, self.peak
        row[Header.LOW], row[Header.HIGH] = max(first + 1 - begin, 0), max(min(last, end) - begin, 0)
        row[HEADER : HEADER + end - begin] = self.samples[begin:end]
        return row

    def excerpt(self, frames: int, *, peak_normalised: bool) -> npt.NDArray[np.float32]:
        """Return the samples that the spectrogram of an excerpt is made of, float32 [:func:`row_samples`].

        As fractions of full scale, or of the clip's peak. A clip that is too short is repeated, as its
        spectrogram is; where another one ends, silence follows.
        """
        begin, end = self.heard(frames)
        found, size = self.samples[begin:end], row_samples(frames)
        if self.count <= frames:
            found = np.resize(np.roll(found, -int(self.start * HOP)), size)
        whole = np.pad(found, (0, size - len(found)))
        return np.asarray(whole / (self.peak if peak_normalised else FULL_SCALE), np.float32)

    def replaced(self, row: npt.NDArray[np.floating], frames: int) -> Samples:
        """Return the whole clip with the samples of a row of whole steps in their place, int16 [samples]."""
        begin, end = self.heard(frames)
        whole = self.samples.copy()
        whole[begin:end] = row[HEADER : HEADER + end - begin].astype(np.int16)
        return whole


def excerpts(recordings: Iterable[Recording], frames: int, *, peak_normalised: bool) -> Tensor:
    """Return :meth:`Recording.excerpt` of each recording, float32 [clips, samples]."""
    found = [recording.excerpt(frames, peak_normalised=peak_normalised) for recording in recordings]
    return torch.from_numpy(np.stack(found))


def row_samples(frames: int) -> int:
    """Return how many samples of a row are enough for an excerpt of ``frames`` frames, of any clip."""
    return math.ceil((frames - 1) * HOP) + FRAME_SIZE


def changeable(rows: Tensor) -> Tensor:
    """Return which cells of clean rows [clips, 1, cells] may change with the front end hearing the same clip.

    Not the header, what lies outside the clip, its first and last sounding sample, nor samples at the peak.
    """
    # Numbers of the rows' own kind, which hold all places: comparisons of whole ones take much longer.
    place = torch.arange(-HEADER, rows.shape[-1] - HEADER, dtype=rows.dtype, device=rows.device)
    low, high, peak = (rows[..., at, None] for at in (Header.LOW, Header.HIGH, Header.PEAK))
    return (place >= low.clamp_min(0)) & (place < high) & (rows.abs() < peak)
