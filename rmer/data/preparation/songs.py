"""Whole songs, cut into windows as long as the excerpts that models are trained on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rmer.data.audio.any_format import read_any
from rmer.data.audio.decoders import SAMPLE_RATE, quantise, rounded
from rmer.data.audio.filterbank import FPS
from rmer.data.audio.frontend import audio2spect
from rmer.data.audio.recordings import Samples
from rmer.data.audio.soundness import measure, problems_of, warnings_of
from rmer.data.preparation.excerpts import excerpt
from rmer.data.splits import FloatArray
from rmer.errors import UserError

LONGEST_MINUTES = 120.0


@dataclass(frozen=True, eq=False)
class Song:
    """A decoded recording and its spectrogram.

    ``samples`` are int16 [samples], mono at 22 050 Hz, ``spectrogram`` raw log float32 [frames, bands];
    ``warnings`` say what is odd about it, each going on "<file> "; ``decoder`` read it.
    """

    name: str
    samples: Samples
    spectrogram: FloatArray
    decoder: str
    warnings: tuple[str, ...] = ()

    @property
    def seconds(self) -> float:
        """Its length."""
        return len(self.samples) / SAMPLE_RATE

    @property
    def lead(self) -> float:
        """Seconds of silence before the first frame, which the front end trims."""
        return int(np.flatnonzero(self.samples)[0]) / SAMPLE_RATE

    def starts(self, frames: int, hop: float) -> list[int]:
        """Return the first frame of each window of ``frames`` frames, one every ``hop`` seconds.

        The last one ends where the song does, so that all of it is heard. A song that is shorter than a
        window has one, which repeats it.
        """
        last = max(len(self.spectrogram) - frames, 0)
        step = max(round(hop * FPS), 1)
        return [*range(0, last, step), last]

    def windows(self, starts: list[int], frames: int) -> FloatArray:
        """Return the windows, raw log spectrograms float32 [windows, frames, bands]."""
        return np.stack([excerpt(self.spectrogram, start, frames) for start in starts])

    def middle(self, start: int, frames: int) -> float:
        """Return the second of the song in the middle of a window."""
        return self.lead + (start + min(frames, len(self.spectrogram)) / 2) / FPS


def read_song(path: Path, *, decoder: str = "soundfile", frontend: str = "madmom", frames: int = 313) -> Song:
    """Read a recording of any format and compute its spectrogram.

    Raises UserError where it cannot be decoded, lasts over two hours, or is nothing to be judged: silence,
    a constant, less than a second.
    """
    signal, used = read_any(path, decoder)
    sound = measure(signal)
    problems = problems_of(sound)
    if sound.seconds > 60 * LONGEST_MINUTES:
        problems.append(f"lasts {sound.seconds / 60:.0f} minutes, more than {LONGEST_MINUTES:g}")
    if problems:
        raise UserError("; ".join(problems), where=str(path))
    return Song(
        name=path.name,
        samples=quantise(signal.samples),
        spectrogram=audio2spect(frontend)(rounded(signal.samples)),
        decoder=used,
        warnings=tuple(warnings_of(sound, frames / FPS)),
    )
