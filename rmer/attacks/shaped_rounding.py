"""Rounding to whole 16-bit steps whose error lies where the music masks it: noise shaping.

The error of plain rounding is white: a twelfth of a squared step, spread evenly over all frequencies, so that
in quiet bands it is louder than small budgets allow. With errors fed back to samples that follow, its noise
gets the spectrum of a filter: here that of what is masked.

Sources: M. A. Gerzon, P. G. Craven, "Optimal noise shaping and dither of digital signals", AES 87th
Convention, 1989; filters by linear prediction as in W. Verhelst, D. De Koning, "Noise shaping filter design
for minimally audible signal requantization", WASPAA 2001.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from rmer.data.audio.masking import HOP, band_of_bin

ORDER = 24
# What filters leave of the dynamic range of limits, as power: a filter of 50 dB needs errors without end.
RANGE = 1e-5
# Samples that are rounded one after another. Others are rounded beside them, and begin without errors to feed
# back, which costs a noise of ORDER / SEGMENT of the white one.
SEGMENT = 4 * HOP
# Fixed samples and the peak must not make errors that grow.
LARGEST_ERROR = 1.0

Floats = npt.NDArray[np.float64]


def shaped(delta: Tensor, fixed: Tensor, room: Tensor, filters: Tensor) -> Tensor:
    """Return changes [clips, samples] as whole steps, float32, with an error of the spectrum of ``filters``.

    Where ``fixed`` nothing changes, and no sample rises or falls by more than its ``room`` in steps
    [2, clips, samples]. ``filters`` [clips, frames, ORDER] are :func:`shaping_filters`.
    """
    clips, samples = delta.shape
    missing = -samples % SEGMENT
    low, high = -room[1], room[0]
    low, high = (torch.where(fixed, 0.0, bound) for bound in (low, high))
    wanted, least, most = (
        _segments(torch.nn.functional.pad(each, (0, missing))) for each in (delta, low, high)
    )
    count = (samples + missing) // HOP
    # Frame t is centred on sample 512 t: each block of 512 takes the filter of the frame in its first half.
    known = filters[:, :count]
    known = torch.cat([known, known[:, -1:].expand(-1, count - known.shape[1], -1)], 1)
    blocks = known.reshape(-1, SEGMENT // HOP, ORDER).permute(1, 2, 0).cpu().double().numpy()
    steps = _rounded(wanted, least, most, blocks)
    whole = torch.from_numpy(steps.T.reshape(clips, -1)[:, :samples])
    return whole.to(delta)


def shaping_filters(limits: Tensor) -> Tensor:
    """Return filters [clips, frames, ORDER] of errors with the spectra ``limits`` [clips, bands, frames].

    The coefficients after the first, which is 1, of the filter that predicts a signal whose spectrum is their
    reciprocal: it is of minimum phase, and its power response follows their square, best where they are low.
    """
    power = limits.double().square().transpose(1, 2)
    power = power / power.amax(2, keepdim=True)
    inverse = 1 / (power + RANGE)
    correlation = torch.fft.irfft(inverse[..., band_of_bin(limits.device)])[..., : ORDER + 1]
    lags = torch.arange(ORDER, device=limits.device)
    toeplitz = correlation[..., (lags[:, None] - lags).abs()]
    found: Tensor = torch.linalg.solve(toeplitz, -correlation[..., 1:])
    return found


def _segments(values: Tensor) -> Floats:
    """Return [clips, samples] as float64 [SEGMENT, segments]."""
    return np.ascontiguousarray(values.cpu().double().reshape(-1, SEGMENT).T.numpy())


def _rounded(wanted: Floats, least: Floats, most: Floats, blocks: Floats) -> Floats:
    """Round each column, with errors fed back through the filters of its blocks [blocks, ORDER, columns]."""
    errors = np.zeros((ORDER + len(wanted), wanted.shape[1]))
    steps = np.empty_like(wanted)
    for block, filters in enumerate(blocks):
        newest_last = np.ascontiguousarray(filters[::-1])
        for place in range(block * HOP, (block + 1) * HOP):
            value = wanted[place] + np.einsum("ij,ij->j", newest_last, errors[place : place + ORDER])
            found = np.clip(np.rint(value), least[place], most[place])
            steps[place] = found
            errors[place + ORDER] = np.clip(found - value, -LARGEST_ERROR, LARGEST_ERROR)
    return steps
