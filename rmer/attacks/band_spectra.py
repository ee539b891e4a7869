"""Short-time spectra in the bands of the masking model.

Spectra are those of :func:`rmer.data.audio.masking.stft`, [batch, bins, frames]; limits and gains are one a
band and frame.
"""

from __future__ import annotations

import math
from functools import cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
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
    squares = _parts(spectra).square()
    if squares.device.type != "cpu":
        return (squares @ _shares(squares).repeat_interleave(2, 1).T).transpose(1, 2)
    layout = _layout()
    for end in layout.ends:
        squares[..., end] /= 2
    # Neighbouring bins are summed in half the time that a product of matrices takes, most of it with zeros.
    summed = torch.from_numpy(np.add.reduceat(squares.numpy(), layout.first, axis=2))
    return summed.div_(layout.sides.to(summed)).transpose(1, 2)


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
    of_bands = gains.transpose(1, 2)
    if gains.device.type == "cpu":
        of_parts = torch.from_numpy(np.repeat(of_bands.numpy(), _layout().widths, axis=2))
    else:
        of_parts = of_bands[..., _band_of_part(gains.device)]
    _parts(spectra).mul_(of_parts)
    return spectra


def _parts(spectra: Tensor) -> Tensor:
    """Return a view of spectra as [clips, frames, 2050], real and imaginary parts of a bin as neighbours.

    Torch would make real numbers complex before it scales complex ones by them.
    """
    return torch.view_as_real(spectra.transpose(1, 2)).flatten(2)


@cache
def _band_of_part(device: torch.device) -> Tensor:
    return band_of_bin(device).repeat_interleave(2)


class _Layout(NamedTuple):
    """Where the parts of the bins of each band are."""

    widths: npt.NDArray[np.int64]  # [bands]: how many
    first: npt.NDArray[np.int64]  # [bands]
    ends: tuple[slice, slice]  # of the first and last bin, which have no mirror image: they count half
    sides: Tensor  # [bands]: what the bins of a band count together


@cache
def _layout() -> _Layout:
    widths = 2 * torch.bincount(band_of_bin(torch.device("cpu"))).numpy()
    sides = torch.from_numpy(widths / 2)
    sides[[0, -1]] -= 0.5
    return _Layout(widths, np.cumsum(widths) - widths, (slice(0, 2), slice(-2, None)), sides)


def _shares(like: Tensor) -> Tensor:
    """Return what takes the mean over the bins of each band, [bands, bins]."""
    return _pools(like.dtype, like.device)


@cache
def _pools(dtype: torch.dtype, device: torch.device) -> Tensor:
    return bin_shares(dtype, device).contiguous()
