"""Resampling in torch: batched, differentiable, and equal to SciPy's polyphase resampling."""

from __future__ import annotations

import math

import numpy as np
import torch
from scipy.signal import firwin
from torch import Tensor, nn

# Zero crossings of the filter at each side, and the shape of its window, as in scipy.signal.resample_poly.
CROSSINGS, KAISER = 10, 5.0
# Of the reduced ratio: what is longer takes a filter of hundreds of megabytes.
LONGEST_RATIO = 1000


class Resampling(nn.Module):
    """Signals [batch, samples] at ``rate`` Hz to [batch, ceil(samples * target / rate)] at ``target`` Hz.

    A sinc in a Kaiser window, cut off at the lower Nyquist frequency, as in ``scipy.signal.resample_poly``;
    outside of a signal there is silence. Raises ValueError where the ratio in lowest terms has a number over
    :data:`LONGEST_RATIO`.
    """

    phases: Tensor

    def __init__(self, rate: int, target: int) -> None:
        super().__init__()
        divisor = math.gcd(rate, target)
        self.up, self.down = target // divisor, rate // divisor
        if max(self.up, self.down) > LONGEST_RATIO:
            raise ValueError(f"{target} : {rate} is no ratio of small numbers")
        half = CROSSINGS * max(self.up, self.down)
        taps = self.up * firwin(2 * half + 1, 1 / max(self.up, self.down), window=("kaiser", KAISER))
        # Output k * up + p is the sum over j of input k * down + j times tap half + p * down - j * up.
        self.before = half // self.up
        last = ((self.up - 1) * self.down + half) // self.up
        place = np.arange(self.up)[:, None] * self.down - np.arange(-self.before, last + 1) * self.up + half
        inside = (place >= 0) & (place < len(taps))
        phases = np.where(inside, taps[place.clip(0, len(taps) - 1)], 0.0)
        self.register_buffer("phases", torch.from_numpy(phases)[:, None], persistent=False)

    def forward(self, signals: Tensor) -> Tensor:
        count = -(-signals.shape[1] * self.up // self.down)
        blocks = -(-count // self.up)
        after = (blocks - 1) * self.down + self.phases.shape[2] - self.before - signals.shape[1]
        padded = nn.functional.pad(signals, (self.before, max(after, 0)))
        found = nn.functional.conv1d(padded[:, None], self.phases.to(signals), stride=self.down)
        return found[..., :blocks].transpose(1, 2).flatten(1)[:, :count]
