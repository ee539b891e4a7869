"""Well-known features of music, computed differentiably from the log spectrograms of :mod:`rmer.data.audio`.

Below, m is the magnitude of a band in a frame, f its frequency, and a mean over frames is weighted by their
magnitude, so that silence does not count.

================= =====================================================================================
level             mean log magnitude over bands and frames, log10(1 + m)
level_variation   standard deviation over frames of the mean log magnitude: dynamics
spectral_centroid sum of f m / sum of m, Hz; mean over frames [1]
spectral_spread   root of the sum of (f - centroid)^2 m / sum of m, Hz; mean over frames [1]
brightness        share of the magnitude from 1500 Hz on; mean over frames [2]
bass              share of the magnitude below 200 Hz; mean over frames
spectral_flatness geometric over arithmetic mean of m; mean over frames [1]
spectral_flux     sum over bands by which log magnitudes rise from frame to frame; mean over frames [3]
roughness         sum over pairs of bands of m m' (exp(-3.5 s d) - exp(-5.75 s d)), with d their distance
                  in Hz and s = .24 / (.021 f + 19) of the lower one, over the sum of m^2; mean over frames
                  [4]. A proxy: bands stand for partials, which a quarter tone does not tell apart
pulse_clarity     largest normalised autocorrelation of the onset curve (flux of each frame) over the lags
                  of 40 to 240 beats a minute [5]
tempo             beats a minute: mean over these lags by the softmax of 50 times the autocorrelation,
                  weighted by a Gaussian of .9 octaves around 120 [6]
key_clarity       largest correlation of the chroma of 100-5000 Hz with the 24 key profiles [7, 2]
mode              largest correlation with a major profile less that with a minor one [7, 2]
================= =====================================================================================

[1] G. Peeters, "A large set of audio features for sound description", IRCAM, 2004, sections 6.1 and 9.1.
[2] O. Lartillot, P. Toiviainen, "A Matlab toolbox for musical feature extraction from audio", DAFx 2007.
[3] S. Böck, F. Krebs, M. Schedl, "Evaluating the online capabilities of onset detection methods", ISMIR 2012.
[4] W. Sethares, "Local consonance and the relationship between timbre and scale", JASA 94(3), 1993.
[5] O. Lartillot, T. Eerola, P. Toiviainen, J. Fornari, "Multi-feature modeling of pulse clarity", ISMIR 2008.
[6] D. Ellis, "Beat tracking by dynamic programming", Journal of New Music Research 36(1), 2007, eq. 7.
[7] C. Krumhansl, "Cognitive foundations of musical pitch", 1990: profiles of Krumhansl and Kessler (1982).
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn

from rmer.data.audio.filterbank import FPS, TUNING, band_frequencies

FEATURES = (
    *("level", "level_variation", "spectral_centroid", "spectral_spread", "brightness", "bass"),
    *("spectral_flatness", "spectral_flux", "roughness", "pulse_clarity", "tempo", "key_clarity", "mode"),
)
BRIGHT, BASS = 1500.0, 200.0  # Hz
CHROMA = (100.0, 5000.0)  # Hz
SLOWEST, FASTEST, PREFERRED, OCTAVES = 40.0, 240.0, 120.0, 0.9  # beats a minute
SHARPNESS = 50.0
# Added to magnitudes and sums of them that divide or are rooted; the quietest music lies well above it.
SILENCE = 1e-3
# Of a log spectrogram: no recording comes near, but unbounded attacks do.
LOUDEST = 6.0
MAJOR = (6.35, 2.23, 3.48, 2.33, 4.38, 4.09, 2.52, 5.19, 2.39, 3.66, 2.29, 2.88)
MINOR = (6.33, 2.68, 3.52, 5.38, 2.60, 3.53, 2.54, 4.75, 3.98, 2.69, 3.34, 3.17)


class Spect2Features(nn.Module):
    """Raw log spectrograms log10(1 + m), [batch, frames, 149], to :data:`FEATURES`, [batch, features]."""

    frequencies: Tensor
    dissonance: Tensor
    pitch_classes: Tensor
    profiles: Tensor
    bpm: Tensor

    def __init__(self) -> None:
        super().__init__()
        frequencies = band_frequencies()
        lags = np.arange(math.ceil(60 * FPS / FASTEST), math.floor(60 * FPS / SLOWEST) + 1)
        self.lags = tuple(lags.tolist())
        constants = {
            "frequencies": frequencies,
            "dissonance": _dissonance(frequencies),
            "pitch_classes": _pitch_classes(frequencies),
            "profiles": np.stack([_normal(np.roll(p, key)) for p in (MAJOR, MINOR) for key in range(12)]),
            "bpm": 60 * FPS / lags,
        }
        for name, values in constants.items():
            self.register_buffer(name, torch.from_numpy(values).float(), persistent=False)

    def forward(self, spectrograms: Tensor) -> Tensor:
        log = spectrograms.clamp(max=LOUDEST)
        magnitudes = torch.expm1(log * math.log(10)).clamp_min(0)
        rises = (log[:, 1:] - log[:, :-1]).clamp_min(0).sum(2)
        features = [*self._level(log), *self._timbre(magnitudes), rises.mean(1)]
        features += [self._roughness(magnitudes), *self._pulse(rises), *self._key(magnitudes)]
        return torch.stack(features, 1)

    def _level(self, log: Tensor) -> tuple[Tensor, Tensor]:
        of_frames = log.mean(2)
        return of_frames.mean(1), _root(of_frames.var(1, correction=0))

    def _timbre(self, magnitudes: Tensor) -> tuple[Tensor, ...]:
        frequencies, total = self.frequencies, magnitudes.sum(2) + SILENCE
        centroid = (magnitudes @ frequencies) / total
        away = (frequencies - centroid[..., None]).square()
        spread = _root((magnitudes * away).sum(2) / total)
        bright, bass = ((magnitudes @ kept) / total for kept in _registers(frequencies))
        flatness = (magnitudes + SILENCE).log().mean(2).exp() / (magnitudes + SILENCE).mean(2)
        found = (centroid, spread, bright, bass, flatness)
        return tuple(_over_frames(of_frames, magnitudes) for of_frames in found)

    def _roughness(self, magnitudes: Tensor) -> Tensor:
        pairs = ((magnitudes @ self.dissonance) * magnitudes).sum(2) / 2
        return _over_frames(pairs / (magnitudes.square().sum(2) + SILENCE), magnitudes)

    def _pulse(self, rises: Tensor) -> tuple[Tensor, Tensor]:
        onsets = rises - rises.mean(1, keepdim=True)
        size = onsets.square().sum(1) + SILENCE
        products = [
            (onsets[:, lag:] * onsets[:, : max(onsets.shape[1] - lag, 0)]).sum(1) for lag in self.lags
        ]
        correlation = torch.stack(products, 1) / size[:, None]
        preference = torch.exp(-0.5 * ((self.bpm / PREFERRED).log2() / OCTAVES).square())
        weights = torch.softmax(SHARPNESS * correlation * preference, 1)
        return correlation.amax(1), weights @ self.bpm

    def _key(self, magnitudes: Tensor) -> tuple[Tensor, Tensor]:
        chroma = magnitudes.mean(1) @ self.pitch_classes
        centred = chroma - chroma.mean(1, keepdim=True)
        size = _root(centred.square().sum(1, keepdim=True))
        correlation = (centred / size) @ self.profiles.T
        major, minor = correlation[:, :12].amax(1), correlation[:, 12:].amax(1)
        return torch.maximum(major, minor), major - minor


def _over_frames(values: Tensor, magnitudes: Tensor) -> Tensor:
    """Return the mean of values [batch, frames], weighted by the magnitude of the frames."""
    weights = magnitudes.sum(2)
    return (values * weights).sum(1) / (weights.sum(1) + SILENCE)


def _root(values: Tensor) -> Tensor:
    """Return square roots whose slope at 0 is a number."""
    return (values + SILENCE**2).sqrt()


def _registers(frequencies: Tensor) -> tuple[Tensor, Tensor]:
    return (frequencies >= BRIGHT).to(frequencies), (frequencies < BASS).to(frequencies)


def _dissonance(frequencies: np.ndarray) -> np.ndarray:
    """Return the dissonance of two partials of amplitude 1 at any two bands, symmetric [bands, bands]."""
    lower = np.minimum(frequencies[:, None], frequencies)
    scaled = 0.24 / (0.021 * lower + 19) * np.abs(frequencies[:, None] - frequencies)
    curve: np.ndarray = np.exp(-3.5 * scaled) - np.exp(-5.75 * scaled)
    return curve


def _pitch_classes(frequencies: np.ndarray) -> np.ndarray:
    """Return how much of each band counts for each pitch class from C on, [bands, 12].

    All of one at the pitch itself, half of two between them.
    """
    pitch = 9 + 12 * np.log2(frequencies / TUNING)
    distance = np.abs((pitch[:, None] - np.arange(12) + 6) % 12 - 6)
    heard = (frequencies >= CHROMA[0]) & (frequencies <= CHROMA[1])
    shares: np.ndarray = np.maximum(0, 1 - distance) * heard[:, None]
    return shares


def _normal(profile: np.ndarray) -> np.ndarray:
    centred = profile - np.mean(profile)
    found: np.ndarray = centred / np.linalg.norm(centred)
    return found
