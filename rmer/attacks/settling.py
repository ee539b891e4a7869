"""Perturbations of sounds rounded to whole 16-bit steps, with each band of each frame within its limits."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor

from rmer.attacks.band_spectra import band_means, limited
from rmer.attacks.shaped_rounding import shaped, shaping_filters
from rmer.data.audio.masking import HOP, WINDOW, stft

# Rounds of lowering bands where they are too loud, and then whole frames, before these are left alone for
# good. In the first, other bands keep what they have; the second ones know no spectra that no signal has.
BAND_LOWERINGS, LOWERINGS = 4, 10
LOWERED_TO = 0.97
CAUTION = 1e-3  # for rounding of spectra in float32
# Frames of the masking model whose windows reach into the one between them: 2048 samples, 512 apart.
REACH = 2
# Mean squared magnitude of a bin for the error of plain rounding: a twelfth, times the power of the window.
ROUNDING_POWER = 0.375 * WINDOW / 12
# Share of frames with a band in which plain rounding alone is too loud, from which on it is shaped.
SHAPED_FROM = 0.01


def settled(delta: Tensor, fixed: Tensor, room: Tensor, limits: Tensor) -> Tensor:
    """Return changes of samples [clips, samples] as whole steps, none louder than ``limits``.

    Parameters
    ----------
    delta : what is wanted, within the limits or nearly so
    fixed : bool [clips, samples], where nothing may change
    room : steps by which a sample may rise and fall, [2, clips, samples]
    limits : magnitudes [clips, bands, frames], as of :func:`rmer.data.audio.masking.band_limits`

    Where even rounding is too loud (quiet passages, small budgets), its error is shaped like the limits, and
    frames in which that does not help stay as they were.
    """
    too_quiet = (limits.square().amin(1) < ROUNDING_POWER).float().mean(1) > SHAPED_FROM
    filters = shaping_filters(limits) if bool(too_quiet.any()) else None
    gain, allowed = torch.ones_like(limits[:, 0]), limits.clone()
    for lowering in itertools.count():
        gains = over_samples(gain, delta.shape[1])
        found = _rounded(gains * delta, fixed | (gains == 0), room, filters)
        loud = band_means(stft(found)).sqrt() / limits
        over = loud > 1 - CAUTION
        if not bool(over.any()):
            return found
        if lowering < BAND_LOWERINGS:
            allowed = torch.where(over, allowed * LOWERED_TO / loud.clamp_min(1.0), allowed)
            delta = limited(delta, allowed).masked_fill_(fixed, 0.0)
            continue
        lowered = gain * LOWERED_TO / loud.amax(1).clamp_min(1.0)
        last = lowering >= BAND_LOWERINGS + LOWERINGS
        gain = torch.where(over.any(1), torch.zeros_like(gain) if last else lowered, gain)
    raise AssertionError("unreachable")


def over_samples(gains: Tensor, samples: int) -> Tensor:
    """Return the gain of each sample [clips, samples] from that of each frame [clips, frames].

    No sample within a frame's window has more than that frame's gain; between, it changes linearly.
    """
    reach = 2 * REACH + 1
    least = -torch.nn.functional.max_pool1d(-gains[:, None], reach, stride=1, padding=REACH)
    spread = torch.nn.functional.interpolate(
        least, size=(gains.shape[1] - 1) * HOP + 1, mode="linear", align_corners=True
    )[:, 0]
    missing = samples - spread.shape[1]
    return torch.nn.functional.pad(spread, (0, missing), "replicate") if missing > 0 else spread[:, :samples]


def _rounded(delta: Tensor, fixed: Tensor, room: Tensor, filters: Tensor | None) -> Tensor:
    if filters is not None:
        return shaped(delta, fixed, room, filters)
    return torch.maximum(torch.minimum(delta.round(), room[0]), -room[1]).masked_fill_(fixed, 0.0)
