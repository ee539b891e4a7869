"""The same recording twice in a data set: copies of another gain, bitrate, rate or cut, found by their sound.

Haitsma and Kalker (2002, "A highly robust audio fingerprinting system", ISMIR) identify recordings by
differences of band energies along time and frequency in overlapping frames. The same differences are taken
here, of the log spectrograms that are there anyway, and kept as numbers rather than as signs: clips are few
enough to compute the normalised cross-correlation of all pairs at all lags.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy.fft
import torch
from torch import Tensor

from rmer.data.splits import FloatArray

# Measured on 278 excerpts of real music and 360 synthetic clips (docs/own-data.md): different excerpts of a
# track that repeats itself reach .76, different tracks and synthetic clips .23; copies have .89 and more.
SIMILAR = 0.82
LOWEST_BAND, HIGHEST_BAND, POOLED = 20, 116, 6  # of 149: what every codec and rate keeps
SPAN = 2  # frames between which differences along time are taken
OVERLAP = 0.8  # share of the shorter clip that must overlap: tracks repeat shorter passages note for note
LONGEST = 3756  # frames, 2 minutes: of a longer recording only these are compared
_CANDIDATE = 0.15  # correlation over whole clips below which no overlap can be similar enough
_LEAST_ENERGY = 0.2  # share of a clip's changes, at least, that an overlap holds
_BLOCK = 96  # clips a side of what is correlated at once


@dataclass(frozen=True)
class Match:
    """Two rows of the same recording, their correlation (at most 1), and the frames that the second lags."""

    rows: tuple[int, int]
    similarity: float
    lag: float


def find_duplicates(spectrograms: Sequence[FloatArray]) -> list[Match]:
    """Return all pairs of log spectrograms, each [frames, bands], that hold the same recording, in order.

    One may start later than the other or lie inside it, by any number of frames or half frames.
    """
    prints = [fingerprint(spectrogram) for spectrogram in spectrograms]
    matches = [Match((a, b), *similarity(prints[a], prints[b])) for a, b in _candidates(prints)]
    return sorted((match for match in matches if match.similarity >= SIMILAR), key=lambda match: match.rows)


def fingerprint(spectrogram: FloatArray) -> FloatArray:
    """Return how coarse bands change, float32 [frames - 4, 15], of energy 1 (all 0 where nothing changes).

    Smoothing along time lets half a frame of offset matter little; differences along time and frequency take
    out gain, equalisation and what is always there.
    """
    bands = np.asarray(spectrogram[:LONGEST, LOWEST_BAND:HIGHEST_BAND], np.float64)
    pooled = bands.reshape(len(bands), (HIGHEST_BAND - LOWEST_BAND) // POOLED, POOLED).mean(axis=2)
    for _ in range(2):
        pooled = (pooled[1:] + pooled[:-1]) / 2
    changes = np.diff(pooled[SPAN:] - pooled[:-SPAN], axis=1)
    changes -= changes.mean(axis=0) if len(changes) else 0
    energy = float(np.square(changes).sum())
    return np.asarray(changes / np.sqrt(energy) if energy > 0 else changes, np.float32)


def similarity(first: FloatArray, second: FloatArray) -> tuple[float, float]:
    """Return the largest correlation of two fingerprints over lags, and the lag of ``second`` in frames.

    Between whole lags ``second`` is interpolated, as its mean with itself one frame later. Lags count where
    OVERLAP of the shorter one overlaps, with its share of the changes. (0, 0) where none does.
    """
    size = scipy.fft.next_fast_len(len(first) + len(second), real=True)
    spectra = [scipy.fft.rfft(np.asarray(x, np.float64), size, axis=0) for x in (first, second)]
    cross = scipy.fft.irfft((spectra[0] * spectra[1].conj()).sum(axis=1), size)
    lags = np.arange(1 - len(second), len(first))
    start, stop = np.maximum(lags, 0), np.minimum(len(first), len(second) + lags)
    enough = stop - start >= OVERLAP * min(len(first), len(second))
    energies = [_energy(first, start, stop), _energy(second, start - lags, stop - lags)]
    enough &= np.sqrt(energies[0] * energies[1]) >= _LEAST_ENERGY
    whole = np.where(enough, cross[lags] / np.sqrt(np.maximum(energies[0] * energies[1], 1e-12)), 0)
    smoothness = [float((x[1:] * x[:-1]).sum()) for x in (first, second)]
    half = (whole[1:] + whole[:-1]) / 2 / np.sqrt((1 + max(*smoothness, 0.0)) / 2)
    best, between = int(whole.argmax()), int(half.argmax()) if len(half) else 0
    if len(half) and half[between] > whole[best]:
        return min(float(half[between]), 1.0), float(lags[between]) + 0.5
    return min(float(whole[best]), 1.0), float(lags[best])


def _energy(fingerprint: FloatArray, start: npt.NDArray[np.int64], stop: npt.NDArray[np.int64]) -> FloatArray:
    total = np.concatenate([[0.0], np.cumsum(np.square(fingerprint, dtype=np.float64).sum(axis=1))])
    return np.asarray(total[stop] - total[start])


def _candidates(prints: Sequence[FloatArray]) -> Iterator[tuple[int, int]]:
    """Yield the pairs of rows that correlate at some lag, over whole clips: a cheap bound, for all pairs."""
    longest = max(map(len, prints), default=0)
    size = scipy.fft.next_fast_len(2 * longest, real=True) if longest else 0
    starts = range(0, len(prints), _BLOCK)
    for first in starts:
        rows = _spectra(prints[first : first + _BLOCK], size)
        for second in starts[first // _BLOCK :]:
            columns = rows if second == first else _spectra(prints[second : second + _BLOCK], size)
            spectrum = torch.matmul(rows, columns.conj().transpose(1, 2))
            cross = torch.fft.irfft(spectrum.permute(1, 2, 0), n=size).amax(dim=2)
            for row, column in (cross >= _CANDIDATE).nonzero().tolist():
                if first + row < second + column:
                    yield first + row, second + column


def _spectra(prints: Sequence[FloatArray], size: int) -> Tensor:
    """Return Fourier transforms of padded fingerprints, complex64 [bins, clips, bands]."""
    padded = np.zeros((len(prints), size, prints[0].shape[1]), np.float32)
    for row, one in enumerate(prints):
        padded[row, : len(one)] = one
    spectra: Tensor = torch.fft.rfft(torch.from_numpy(padded), dim=1)
    return spectra.transpose(0, 1).contiguous()
