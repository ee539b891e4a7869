"""The form of a spectrogram as published: frames and bands, which both front ends share."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from rmer.data.audio.decoders import SAMPLE_RATE
from rmer.errors import UserError

FPS = 31.3
HOP = SAMPLE_RATE / FPS  # samples, 704.47: frame i starts at sample int(i * HOP)
FRAME_SIZE = 2048
BANDS_PER_OCTAVE = 24
LOWEST, HIGHEST, TUNING = 20.0, 16000.0, 440.0  # Hz
BANDS = 149

FloatArray = npt.NDArray[np.float32]


def filterbank() -> FloatArray:
    """Return madmom's logarithmic filterbank, float32 [1024 bins, 149 bands].

    Triangles of unit area between neighbours of the bins that lie nearest to frequencies at 24 an octave,
    tuned to 440 Hz; bins that several low frequencies share count once.
    """
    bins, centres = np.arange(FRAME_SIZE // 2), _corners()
    triangles = [
        np.interp(bins, centres[i : i + 3], [0, 1, 0], left=0, right=0) for i in range(len(centres) - 2)
    ]
    return np.stack([triangle / triangle.sum() for triangle in triangles], axis=1).astype(np.float32)


def band_frequencies() -> npt.NDArray[np.float64]:
    """Return the frequency in Hz at which each band is largest, [149]."""
    return _corners()[1:-1] * SAMPLE_RATE / FRAME_SIZE


def _corners() -> npt.NDArray[np.float64]:
    """Return the bins at which the triangles begin, are largest and end, [151]."""
    steps = np.arange(-1000, 1000) / BANDS_PER_OCTAVE
    frequencies = TUNING * 2.0**steps
    frequencies = frequencies[(frequencies >= LOWEST) & (frequencies <= HIGHEST)]
    return np.unique(np.rint(frequencies * FRAME_SIZE / SAMPLE_RATE).clip(max=FRAME_SIZE // 2 - 1))


def silent_audio() -> UserError:
    """Say that there is nothing to normalise."""
    return UserError("audio is silent from start to end", where="front end", mend="Leave this clip out")
