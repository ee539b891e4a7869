"""Short-time spectra in the bands of the masking model."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

from rmer.data.audio.decoders import SAMPLE_RATE
from rmer.data.audio.masking import BANDS_PER_BARK, BINS, WINDOW, bark


def mean_in_bands(spectra: Tensor, weights: Tensor | None = None) -> Tensor:
    """Return the mean squared magnitude of the bins of each band, weighted, [clips, bands, frames].

    Where weights are the reciprocals of what is masked per bin, that is the noise-to-mask ratio.
    """
    parts = torch.view_as_real(spectra)
    power = parts[..., 0].square().addcmul_(parts[..., 1], parts[..., 1])
    bands = band_of_bin(power.device)
    widths = torch.bincount(bands)
    pooling = torch.nn.functional.one_hot(bands, len(widths)).T / widths.clamp_min(1)[:, None]
    return pooling.to(power) @ (power if weights is None else power.mul_(weights))


def scaled(spectra: Tensor, gains: Tensor) -> Tensor:
    """Return complex spectra times real gains; torch would make the latter complex first."""
    return torch.view_as_complex(torch.view_as_real(spectra) * gains[..., None])


@cache
def band_of_bin(device: torch.device) -> Tensor:
    """Return the band of the masking model that each bin lies in, int64 [bins]."""
    hertz = torch.arange(BINS, dtype=torch.float64) * SAMPLE_RATE / WINDOW
    return (bark(hertz) * BANDS_PER_BARK).long().to(device)
