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
    return _pooling(power) @ (power if weights is None else power.mul_(weights))


def summed_norms(spectra: Tensor, directions: Tensor) -> Tensor:
    """Return by how much signals of unit power in every band and frame raise linear functions, [many].

    ``spectra`` [targets, bins, frames] are those of some gradients, and a function's gradient is their sum
    with the weights of a row of ``directions`` [many, targets]. The sum over bands and frames of the root of
    its power, which is a quadratic form of the weights: so that hundreds of sums cost one transform.
    """
    pooling, parts = _pooling(spectra.real), torch.view_as_real(spectra)
    first, second = torch.triu_indices(len(spectra), len(spectra)).tolist()
    products = [
        (pooling @ (parts[i] * parts[j]).sum(-1)).flatten() for i, j in zip(first, second, strict=True)
    ]
    twice = torch.tensor([1.0 if i == j else 2.0 for i, j in zip(first, second, strict=True)]).to(directions)
    powers = (directions[:, first] * directions[:, second] * twice) @ torch.stack(products)
    widths = (pooling > 0).sum(1).to(powers)
    sizes = powers.clamp_min(0.0).sqrt().view(len(directions), len(widths), -1).sum(2) @ widths
    # Of both halves of the spectrum, in the scale of the inverse transform, whose windows sum to 3 / 2.
    return sizes * 2 / (WINDOW * 1.5)


def scaled(spectra: Tensor, gains: Tensor) -> Tensor:
    """Return complex spectra times real gains; torch would make the latter complex first."""
    return torch.view_as_complex(torch.view_as_real(spectra) * gains[..., None])


@cache
def band_of_bin(device: torch.device) -> Tensor:
    """Return the band of the masking model that each bin lies in, int64 [bins]."""
    hertz = torch.arange(BINS, dtype=torch.float64) * SAMPLE_RATE / WINDOW
    return (bark(hertz) * BANDS_PER_BARK).long().to(device)


@cache
def _pools(device: torch.device) -> Tensor:
    bands = band_of_bin(device)
    widths = torch.bincount(bands)
    return torch.nn.functional.one_hot(bands, len(widths)).T / widths.clamp_min(1)[:, None]


def _pooling(like: Tensor) -> Tensor:
    """Return what takes the mean over the bins of each band, [bands, bins]."""
    return _pools(like.device).to(like)
