"""Where a random search on the sound moves: windows of the music's own short-time spectrum, louder or softer.

The squares of Andriushchenko et al. (ECCV 2020) are windows of an image; those of a sound's samples would be
clicks. So windows are of its short-time spectrum, frames x bands (69 of 1/3 Bark, those of
:mod:`rmer.data.audio.masking`), which is our adaptation, as is what they hold: the spectrum of the music
itself with each bin at magnitude 1, times a gain. A gain above 0 makes the music louder there, one below 0
softer. In phase with the music, a perturbation moves all magnitudes of a window the same way, where noise of
its size raises some and lowers others.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from rmer.attacks.problem import Problem
from rmer.data.audio.masking import HOP, band_of_bin, istft, stft
from rmer.data.audio.recordings import HEADER, Header

# Least and largest magnitude of a gain, as powers of 2. The start has 1: louder windows take a budget over
# the whole sound (snr) away from all others.
GAINS = (-1.0, 2.0)


@dataclass(frozen=True, eq=False)
class SoundWindows:
    """The moves of :class:`rmer.attacks.square.Square` on rows of samples; states are gains."""

    problem: Problem

    def start(self) -> Tensor:
        """Return gains of +-1, one sign a band, constant over time, [batch, bands, frames]."""
        frames = self._phases.shape[2]
        signs = torch.where(self.problem.draw(torch.rand, self._bands, 1) < 0.5, -1.0, 1.0)
        return signs.to(self.problem.inputs).expand(-1, -1, frames)

    def changed(self, gains: Tensor, share: float, draws: Tensor) -> Tensor:
        """Return gains with those of one window a clip replaced by one new gain.

        The window is as long and as wide as a ``share`` of all that can change asks for, with the same share
        of frames as of bands. ``draws`` [batch, 6] are uniform in [0, 1).
        """
        least, most = GAINS
        new = torch.where(draws[:, 0] < 0.5, -1.0, 1.0) * 2 ** (least + (most - least) * draws[:, 1])
        side = math.sqrt(share)
        height = max(round(side * self._bands), 1)
        lowest = (draws[:, 2] * (self._bands - height + 1)).floor()
        # Rows begin where what may change begins, and may end later.
        count = (self.problem.inputs[:, 0, Header.HIGH] / HOP).ceil().clamp_min(1)
        length = (side * count).round().clamp_min(1)
        begin = (draws[:, 3] * (count - length + 1)).floor()
        bands = _within(self._bands, lowest, lowest + height)
        frames = _within(gains.shape[2], begin, begin + length)
        return torch.where(bands[:, :, None] & frames[:, None], new.to(gains)[:, None, None], gains)

    def adversaries(self, gains: Tensor) -> Tensor:
        """Return the rows of gains, at the border of the budget, [batch, 1, cells]."""
        inputs, threat = self.problem.inputs, self.problem.threat
        spectra = self._phases * gains[:, band_of_bin(gains.device)]
        samples = istft(spectra, inputs.shape[2] - HEADER)
        rows = torch.nn.functional.pad(samples, (HEADER, 0))[:, None]
        direction = threat.steepest(torch.where(threat.changeable(inputs), rows, 0.0))
        return threat.project(inputs, inputs + threat.radius(inputs) * direction)

    @cached_property
    def _phases(self) -> Tensor:
        """The music's spectrum with bins of magnitude 1, or 0 where it has nothing, [batch, bins, frames]."""
        return stft(self.problem.inputs[:, 0, HEADER:]).sgn()

    @cached_property
    def _bands(self) -> int:
        return int(band_of_bin(torch.device("cpu"))[-1]) + 1


def _within(count: int, begin: Tensor, end: Tensor) -> Tensor:
    """Return which of the places 0, 1, ... lie from ``begin`` to before ``end``, bool [batch, count]."""
    places = torch.arange(count, device=begin.device)
    return (places >= begin[:, None]) & (places < end[:, None])
