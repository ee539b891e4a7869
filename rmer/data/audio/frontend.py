"""The front end as published: mono audio at 22 050 Hz to a logarithmically filtered log spectrogram.

Two implementations agree to 2e-6: :class:`MadmomAudio2Spect` here runs madmom itself, and
:class:`rmer.data.audio.torch_frontend.Audio2Spect` is its differentiable twin, which needs no madmom.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from threadpoolctl import ThreadpoolController

from rmer.data.audio.decoders import (
    SAMPLE_RATE,
    decoder_version,
    missing_madmom,
    quantise,
    read_signal,
    require_decoder,
    rounded,
)
from rmer.data.audio.filterbank import BANDS_PER_OCTAVE, FPS, FRAME_SIZE, HIGHEST, LOWEST, silent_audio
from rmer.data.audio.soundness import Soundness, measure
from rmer.errors import UserError

FRAMES = 313  # 10 s
FRONTENDS = ("madmom", "torch")
FRONTEND_VERSION = 1  # raise when either implementation changes a value: cached spectrograms depend on it

FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True)
class File2Spect:
    """Audio file to raw log spectrogram, float32 [frames, 149] (:func:`rmer.data.audio.decoders.decode`)."""

    decoder: str = "soundfile"
    frontend: str = "madmom"

    def __call__(self, path: Path) -> FloatArray:
        return self.with_soundness(path)[0]

    def with_soundness(self, path: Path) -> tuple[FloatArray, Soundness]:
        """Return the spectrogram and what was measured on the recording that it was made of."""
        signal = read_signal(path, self.decoder)
        return audio2spect(self.frontend)(rounded(signal.samples)), measure(signal)

    @property
    def version(self) -> str:
        """Everything but the file that a spectrogram depends on."""
        return f"{self.decoder} {decoder_version(self.decoder)} {self.frontend} {FRONTEND_VERSION}"

    def require(self) -> None:
        """Raise UserError where the decoder or the front end is unknown or not installed."""
        require_decoder(self.decoder)
        audio2spect(self.frontend)


@cache
def audio2spect(frontend: str) -> Callable[[npt.NDArray[np.floating[Any]]], FloatArray]:
    """Return a front end by name: float [samples] to float32 [frames, 149]; built once a process.

    Raises UserError where it is unknown or cannot be had.
    """
    if frontend == "madmom":
        return MadmomAudio2Spect()
    if frontend == "torch":
        # Workers that run madmom do without torch.
        from rmer.data.audio.torch_frontend import TorchAudio2Spect

        return TorchAudio2Spect()
    raise UserError(f"no front end {frontend!r}", mend=f"Choose one of: {', '.join(FRONTENDS)}")


class MadmomAudio2Spect:
    """madmom's processors with the published settings, and its handling of 16-bit samples.

    The signal is peak-normalised in int16 (truncating; where the peak is positive and below full scale a
    sample of -32768 wraps, because its absolute value does), zeros at both ends are trimmed, and frames of
    2048 samples at 31.3 per second, starting at their reference sample, pass a Hann window, the Fourier
    transform, triangular filters at 24 bands an octave and log10(1 + x).
    """

    def __init__(self) -> None:
        try:
            from madmom.audio import FramedSignalProcessor, LogarithmicFilteredSpectrogramProcessor, Signal
        except ImportError as error:
            raise missing_madmom("front end madmom") from error
        self._signal = Signal
        self._frame = FramedSignalProcessor(frame_size=FRAME_SIZE, fps=FPS, origin="future")
        self._filter = LogarithmicFilteredSpectrogramProcessor(
            num_bands=BANDS_PER_OCTAVE, fmin=LOWEST, fmax=HIGHEST
        )
        self._threads = ThreadpoolController()

    def __call__(self, audio: npt.NDArray[np.floating[Any]]) -> FloatArray:
        """Return the log spectrogram, float32 [frames, 149], of ``audio`` [samples] in [-1, 1].

        Raises UserError when no sample reaches a 16-bit step.
        """
        samples = quantise(audio)
        if not samples.size or not np.abs(samples).max():
            raise silent_audio()
        with np.errstate(invalid="ignore"):  # the wrap at -32768 is meant
            signal = self._signal(samples, sample_rate=SAMPLE_RATE, num_channels=1, norm=True)
        frames = self._frame.process(np.trim_zeros(signal))
        # On some processors linear algebra rounds otherwise on more threads.
        with self._threads.limit(limits=1, user_api="blas"):
            return np.array(self._filter.process(frames), np.float32)
