"""What happens to recordings, as differentiable functions of rows of samples.

An attack on predictions that are averaged over these looks for changes that survive them (expectation over
transformations: A. Athalye, L. Engstrom, A. Ilyas, K. Kwok, "Synthesizing robust adversarial examples", ICML
2018).

========== ==============================================================================
shift      the beginning is cut off, half a frame of the front end or a whole one: all that
           follows moves against the frames
gain       3 dB louder, with samples that stop at full scale
lowpass    nothing above 8 kHz, as codecs at low rates leave it
resampling to 44.1 kHz and back
========== ==============================================================================

A row holds what an excerpt hears and no more, so that after a cut its last frame ends in silence, and the
peak that the front end divides by is taken to change as that of the row does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial

import torch
from scipy.signal import firwin, resample_poly
from torch import Tensor

from rmer.data.audio.decoders import FULL_SCALE, SAMPLE_RATE
from rmer.data.audio.filterbank import HOP
from rmer.data.audio.recordings import HEADER, Header

Transformation = Callable[[Tensor], Tensor]

GAIN = 3.0  # dB
LOWPASS = 8000.0  # Hz
LOWPASS_TAPS = 65
# Longer than the response of resampling there and back.
RESAMPLING_TAPS = 81


def shifted(rows: Tensor, samples: int) -> Tensor:
    """Return rows [batch, 1, cells] without their first samples, followed by silence."""
    header = rows[..., :HEADER].clone()
    for bound in (Header.LOW, Header.HIGH):
        header[..., bound] = (header[..., bound] - samples).clamp_min(0.0)
    kept = torch.nn.functional.pad(rows[..., HEADER + samples :], (0, samples))
    return torch.cat([header, kept], -1)


def louder(rows: Tensor, decibels: float) -> Tensor:
    """Return rows [batch, 1, cells] louder by so many dB; samples stop at full scale."""
    gain, most = 10 ** (decibels / 20), FULL_SCALE - 1
    header = rows[..., :HEADER].clone()
    header[..., Header.PEAK] = (header[..., Header.PEAK] * gain).round().clamp_max(most)
    return torch.cat([header, (rows[..., HEADER:] * gain).clamp(-FULL_SCALE, most)], -1)


def filtered(rows: Tensor, taps: Callable[[], Tensor]) -> Tensor:
    """Return rows [batch, 1, cells] convolved with a symmetric filter, which delays nothing."""
    header, samples = rows[..., :HEADER].clone(), rows[..., HEADER:]
    weights = taps().to(rows)
    found = torch.nn.functional.conv1d(samples, weights[None, None], padding=len(weights) // 2)
    found = found.clamp(-FULL_SCALE, FULL_SCALE - 1)
    peaks = [values.detach().abs().amax(-1).clamp_min(1.0) for values in (found, samples)]
    header[..., Header.PEAK] = (header[..., Header.PEAK] * peaks[0] / peaks[1]).round().clamp_min(1.0)
    return torch.cat([header, found], -1)


@cache
def lowpass_taps() -> Tensor:
    """Return the filter of ``lowpass``, float64 [taps]."""
    return torch.from_numpy(firwin(LOWPASS_TAPS, LOWPASS, fs=SAMPLE_RATE))


@cache
def resampling_taps() -> Tensor:
    """Return what resampling to the double rate and back does to an impulse, float64 [taps]."""
    impulse = torch.zeros(RESAMPLING_TAPS, dtype=torch.float64)
    impulse[RESAMPLING_TAPS // 2] = 1.0
    return torch.from_numpy(resample_poly(resample_poly(impulse.numpy(), 2, 1), 1, 2))


# Name -> what it stands for, one prediction each.
TRANSFORMATIONS: Mapping[str, tuple[Transformation, ...]] = {
    "shift": (partial(shifted, samples=int(HOP / 2)), partial(shifted, samples=int(HOP))),
    "gain": (partial(louder, decibels=GAIN),),
    "lowpass": (partial(filtered, taps=lowpass_taps),),
    "resampling": (partial(filtered, taps=resampling_taps),),
}


def variants(names: Sequence[str]) -> tuple[Transformation, ...]:
    """Return the transformations of some names; the clip as it is comes without saying."""
    return tuple(one for name in names for one in TRANSFORMATIONS[name])
