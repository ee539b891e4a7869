"""Short-time spectra in the bands of the masking model.

Spectra are those of :func:`rmer.data.audio.masking.stft`, [batch, bins, frames]; limits and gains are one a
band and frame.
"""

from __future__ import annotations

import math
from functools import cache

import torch
from torch import Tensor

from rmer.data.audio.masking import WINDOW, band_of_bin, bin_shares, istft, stft


def limited(samples: Tensor, limits: Tensor) -> Tensor:
    """Return [clips, samples] with each band of each frame lowered to ``limits`` where it is louder.

    ``limits`` [clips, bands, frames] are magnitudes, as of :func:`rmer.data.audio.masking.band_limits`. Once:
    of spectra that belong to no signal, the nearest signal's may still exceed them.
    """
    return _at_limits(samples, limits, most=1.0)


def filled(samples: Tensor, limits: Tensor) -> Tensor:
    """Return [clips, samples] with each band of each frame scaled to ``limits``: the steepest direction.

    In units of the limits the budget of a band is a ball: the gradient there, scaled to its border.
    """
    return _at_limits(samples, limits)


def _at_limits(samples: Tensor, limits: Tensor, most: float = math.inf) -> Tensor:
    """Scale each band of each frame to its limit, by ``most`` at most."""
    spectra = stft(samples)
    gains = limits * band_means(spectra).clamp_min(torch.finfo(limits.dtype).tiny).rsqrt()
    return istft(_scaled(spectra, gains.clamp_max(most)), samples.shape[1])


def band_means(spectra: Tensor) -> Tensor:
    """Return the mean squared magnitude of the bins of each band, [clips, bands, frames].

    Over the square of what is masked, it is the noise-to-mask ratio.
    """
    parts = torch.view_as_real(spectra.transpose(1, 2))
    power = parts[..., 0].square().addcmul_(parts[..., 1], parts[..., 1])
    return (power @ _shares(power).T).transpose(1, 2)


def summed_norms(spectra: Tensor, limits: Tensor, directions: Tensor) -> Tensor:
    """Return by how much signals of just the ``limits`` [bands, frames] raise linear functions, [many].

    ``spectra`` [targets, bins, frames] are those of some gradients, and a function's gradient is their sum
    with the weights of a row of ``directions`` [many, targets]. The sum over bands and frames of the root of
    its power, which is a quadratic form of the weights: so that hundreds of sums cost one transform.
    """
    pooling = _shares(spectra.real)
    parts = torch.view_as_real(spectra)
    first, second = torch.triu_indices(len(spectra), len(spectra)).tolist()
    products = [
        (pooling @ (parts[i] * parts[j]).sum(-1) * limits.square()).flatten()
        for i, j in zip(first, second, strict=True)
    ]
    twice = torch.tensor([1.0 if i == j else 2.0 for i, j in zip(first, second, strict=True)]).to(directions)
    powers = (directions[:, first] * directions[:, second] * twice) @ torch.stack(products)
    widths = (pooling > 0).sum(1).to(powers)
    sizes = powers.clamp_min(0.0).sqrt().view(len(directions), len(widths), -1).sum(2) @ widths
    # Of both halves of the spectrum, in the scale of the inverse transform, whose windows sum to 3 / 2.
    return sizes * 2 / (WINDOW * 1.5)


def _scaled(spectra: Tensor, gains: Tensor) -> Tensor:
    """Scale spectra in place by the gains of their bands [clips, bands, frames]."""
    # Real and imaginary parts as neighbours: torch would make real gains complex first.
    parts = torch.view_as_real(spectra.transpose(1, 2)).flatten(2)
    of_bands = gains.transpose(1, 2)
    parts *= of_bands.gather(2, _band_of_part(gains.device).expand(*of_bands.shape[:2], -1))
    return spectra


@cache
def _band_of_part(device: torch.device) -> Tensor:
    return band_of_bin(device).repeat_interleave(2)


def _shares(like: Tensor) -> Tensor:
    """Return what takes the mean over the bins of each band, [bands, bins]."""
    return _pools(like.dtype, like.device)


@cache
def _pools(dtype: torch.dtype, device: torch.device) -> Tensor:
    return bin_shares(dtype, device).contiguous()
