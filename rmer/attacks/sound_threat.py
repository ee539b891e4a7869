"""The threat model of sounds: which changes of a recording's samples an attacker may use."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import ClassVar, cast

import numpy as np
import torch
from torch import Tensor

from rmer.attacks.band_spectra import filled, limited, summed_norms
from rmer.attacks.settling import settled
from rmer.attacks.sound_budgets import SOUND_NORMS
from rmer.attacks.threat import Norm, Threat, beside, l2_norms, linf_norms
from rmer.data.audio.decoders import FULL_SCALE
from rmer.data.audio.masking import band_limits, band_powers, masking_thresholds, stft
from rmer.data.audio.recordings import HEADER, Header, changeable

# Rounds of limiting short-time spectra, which belong to no signal at first: while searching, where single
# bands stay up to 15 dB too loud after onsets, and before adversaries are settled.
ROUNDS = 2
SETTLING_ROUNDS = 6
# Rounds of finding the largest perturbation whose rounding to whole steps has the norm that is allowed.
ROUNDINGS = 3
# Float32 rounding of norms and spectra, relative.
RELATIVE = 1e-5
# What limits are lowered to, of what would do, in frames where single precision has missed them.
STRICTER = 0.99


@dataclass(frozen=True)
class SoundThreat(Threat):
    """Perturbations of 16-bit samples within a budget, made so that the front end hears the same clip.

    The attacked object is a batch of rows (:mod:`rmer.data.audio.recordings`), [clips, 1, cells] in 16-bit
    steps. Headers, the samples at the peak, the first and the last that sound, and all that the excerpt does
    not hear stay as they are, and no sample exceeds the peak, or the front end would divide by another one.
    A row stands for its samples rounded to whole steps: wherever :meth:`project` puts a row, its rounding is
    within the budgets ``linf`` and ``snr``. For ``masking`` that is so after :meth:`settle`, which rounds.

    Attributes
    ----------
    norm : "linf", the largest change of a sample, of full scale; "snr", root mean square of the change, of
        that of the clip's samples; "masking", amplitude of the change in each band and frame, of what the
        masking model allows (:func:`rmer.data.audio.masking.noise_to_mask`)
    epsilon : the amplitude ratio, or one for each clip [clips]; 20 log10 of it is the level in dB
    signal : Euclidean norm of each clip's samples [clips], in steps; for ``snr``
    limits : what each clip masks, as magnitudes [clips, bands, frames]; for ``masking``
    """

    signal: Tensor | None = None
    limits: Tensor | None = None

    norms: ClassVar[tuple[str, ...]] = SOUND_NORMS

    @classmethod
    def around(cls, norm: str, epsilon: float | Tensor, rows: Tensor) -> SoundThreat:
        """Return the threat model of perturbations of clean ``rows`` [clips, 1, cells]."""
        samples = rows[:, 0, HEADER:]
        signal = l2_norms(samples.double()) if norm == "snr" else None
        limits = (
            torch.cat([band_limits(clip) for clip in torch.split(samples, 1)]) if norm == "masking" else None
        )
        return cls(cast(Norm, norm), epsilon, signal=signal, limits=limits)

    def of(self, rows: slice | list[int] | Tensor) -> SoundThreat:
        epsilon = self.epsilon[rows] if isinstance(self.epsilon, Tensor) else self.epsilon
        signal, limits = (None if each is None else each[rows] for each in (self.signal, self.limits))
        return replace(self, epsilon=epsilon, signal=signal, limits=limits)

    def on(self, device: torch.device) -> SoundThreat:
        epsilon = self.epsilon.to(device) if isinstance(self.epsilon, Tensor) else self.epsilon
        signal, limits = (None if each is None else each.to(device) for each in (self.signal, self.limits))
        return replace(self, epsilon=epsilon, signal=signal, limits=limits)

    def pooled(self, threats: Sequence[Threat], clips: int) -> SoundThreat:
        epsilon = torch.cat([one.epsilons(clips) for one in threats])
        times = len(threats)
        signal = None if self.signal is None else self.signal.repeat(times)
        limits = None if self.limits is None else self.limits.repeat(times, 1, 1)
        return replace(self, epsilon=epsilon, signal=signal, limits=limits)

    def radius(self, inputs: Tensor) -> Tensor:
        """Return the budget of each clip, [1 or clips, 1, 1]: in steps, or of what is masked.

        That of ``linf`` is a whole number of steps, the last that is within the budget.
        """
        epsilon = torch.as_tensor(self.epsilon, dtype=torch.float64, device=inputs.device).view(-1)
        if self.norm == "linf":
            epsilon = (epsilon * FULL_SCALE * (1 + RELATIVE)).floor()
        elif self.norm == "snr":
            assert self.signal is not None
            epsilon = epsilon * self.signal.to(inputs.device)
        return beside(epsilon.to(inputs.dtype), inputs)

    def project(self, inputs: Tensor, candidates: Tensor) -> Tensor:
        """Return ``candidates`` [clips, 1, cells] moved to sounds within the budget around ``inputs``."""
        if inputs.device.type == "cpu" and len(inputs) > 1:  # what one clip needs stays in the caches
            parts = zip(torch.split(inputs, 1), torch.split(candidates, 1), strict=True)
            return torch.cat([self.of([clip]).project(*part) for clip, part in enumerate(parts)])
        delta, fixed = candidates - inputs, ~self.changeable(inputs)
        radius = self.radius(inputs)
        if self.norm == "linf":
            delta = torch.maximum(torch.minimum(delta, radius), -radius)
        if self.norm == "masking":
            delta = self._masked(inputs, delta.masked_fill_(fixed, 0.0), fixed, ROUNDS)
        peak = inputs[..., Header.PEAK, None]
        projected = torch.where(fixed, inputs, torch.maximum(torch.minimum(inputs + delta, peak), -peak))
        return self._scaled(inputs, projected - inputs) if self.norm == "snr" else projected

    def random_start(self, inputs: Tensor, noise: Tensor) -> Tensor:
        """Turn ``noise``, uniform in [-1, 1], into a start; for ``snr`` and ``masking`` at a random size."""
        share = 1.0 if self.norm == "linf" else beside(noise.flatten(1)[:, 0].abs(), noise)
        return self.project(inputs, inputs + self.radius(inputs) * share * self.filled(inputs, noise))

    def settle(self, inputs: Tensor, adversaries: Tensor) -> Tensor:
        """Return the rows rounded to whole steps, within the budget, as a file will hold them.

        For ``masking``, see :mod:`rmer.attacks.settling`.
        """
        if self.norm != "masking":
            return adversaries.round()
        found = adversaries.clone()
        # Nearly all are in between steps; only of others it is worth measuring whether they must change.
        unsettled = (adversaries != adversaries.round()).flatten(1).any(1)
        whole = (~unsettled).nonzero().flatten()
        if len(whole):
            unsettled[whole] = self.of(whole).violations(inputs[whole], adversaries[whole])
        for clip in unsettled.nonzero().flatten().tolist():
            found[clip] = self.of([clip])._settled(inputs[[clip]], adversaries[[clip]])[0]
        return found

    def steepest(self, gradient: Tensor) -> Tensor:
        """Return the direction of steepest ascent in the unit ball, shaped like ``gradient``."""
        if self.norm == "linf":
            return gradient.sign()
        if self.norm == "snr":
            return gradient / beside(l2_norms(gradient).clamp_min(torch.finfo(gradient.dtype).tiny), gradient)
        assert self.limits is not None
        limits, samples = self.limits.to(gradient), gradient[:, 0, HEADER:]
        size = 1 if gradient.device.type == "cpu" else len(gradient)
        parts = zip(torch.split(samples, size), torch.split(limits, size), strict=True)
        return _as_rows(torch.cat([filled(*part) for part in parts]))

    def filled(self, inputs: Tensor, noise: Tensor) -> Tensor:
        """Return ``noise`` where samples may change, at the size of the unit ball; for ``linf`` as it is."""
        noise = torch.where(self.changeable(inputs), noise, 0.0)
        return noise if self.norm == "linf" else self.steepest(noise)

    def dual_norms(self, slopes: Tensor, directions: Tensor) -> Tensor:
        """Return how far the unit ball moves outputs along ``directions``; see :class:`Threat`.

        For ``masking``, how far :meth:`steepest` does.
        """
        if self.norm != "masking":
            return super().dual_norms(slopes, directions)
        assert self.limits is not None
        found = []
        for clip, limits in zip(slopes, self.limits, strict=True):
            found.append(summed_norms(stft(clip[:, HEADER:]), limits.to(clip), directions))
        return torch.stack(found)

    def changeable(self, inputs: Tensor) -> Tensor:
        """Return which cells an attacker may change (:func:`rmer.data.audio.recordings.changeable`)."""
        return changeable(inputs)

    def used(self, inputs: Tensor, adversaries: Tensor) -> Tensor:
        """Return the share of the budget that each adversary uses, [clips]; of amplitudes, not in dB."""
        delta = adversaries - inputs
        if self.norm == "masking":
            return self._loudest(masking_thresholds(inputs[:, 0, HEADER:]), delta).amax(1)
        sizes = linf_norms(delta) if self.norm == "linf" else _wide_norms(delta)
        return sizes / self.radius(inputs).view(-1)

    def violations(self, inputs: Tensor, adversaries: Tensor) -> Tensor:
        """Return for each clip [clips] whether its saved row is no file, another clip, or over the budget.

        What is masked is computed anew from ``inputs``, so that limits of other clips are found out.
        """
        x, adversary = inputs.double(), adversaries.double()
        delta = adversary - x
        wrong = (adversary != adversary.round()) | ~adversary.isfinite() | ((delta != 0) & ~changeable(x))
        wrong |= adversary != _within_peak(x, adversary)
        if self.norm == "masking":
            outside = self._loudest(_masked_by(inputs), delta).amax(1) > 1 + RELATIVE
        else:
            sizes = linf_norms(delta) if self.norm == "linf" else l2_norms(delta)
            size = torch.as_tensor(self.epsilon, dtype=torch.float64, device=x.device).view(-1)
            size = size * (FULL_SCALE if self.norm == "linf" else l2_norms(x[..., HEADER:]))
            outside = sizes > size * (1 + RELATIVE)
        return outside | wrong.flatten(1).any(1)

    def _scaled(self, inputs: Tensor, delta: Tensor) -> Tensor:
        """Return rows whose rounding lies in the L2 ball, as near to its border as ``delta`` reaches.

        What counts is the norm after rounding: where most of a perturbation is less than half a step, it may
        be larger before.
        """
        radius = self.radius(inputs).view(-1).expand(len(inputs))
        tiny = torch.finfo(delta.dtype).tiny
        first = (radius / _wide_norms(delta).to(delta).clamp_min(tiny)).clamp(max=1.0)
        scale, best = first, torch.zeros_like(first)
        for _ in range(ROUNDINGS):
            size = _wide_norms((inputs + beside(scale, delta) * delta).round() - inputs).to(delta)
            best = torch.where((size <= radius) & (scale > best), scale, best)
            scale = (scale * radius / size.clamp_min(tiny) * (1 - RELATIVE)).clamp(max=1.0)
        rows = inputs + beside(best, delta) * delta
        # Cut off, no perturbation is larger than it was.
        cut = inputs + (beside(first * (1 - RELATIVE), delta) * delta).trunc()
        return torch.where(beside(best > 0, delta), rows, cut)

    def _masked(self, inputs: Tensor, delta: Tensor, fixed: Tensor, rounds: int) -> Tensor:
        """Return perturbations with each band of their short-time spectra limited by what is masked."""
        assert self.limits is not None
        limits = self.radius(inputs) * self.limits.to(inputs)
        for _ in range(rounds):
            delta = _as_rows(limited(delta[:, 0, HEADER:], limits)).masked_fill_(fixed, 0.0)
        return delta

    def _settled(self, inputs: Tensor, adversary: Tensor) -> Tensor:
        """Return one row [1, 1, cells] rounded within the limits, as :meth:`violations` measures them."""
        assert self.limits is not None
        fixed = ~self.changeable(inputs)
        delta = self._masked(inputs, (adversary - inputs).masked_fill_(fixed, 0.0), fixed, SETTLING_ROUNDS)
        peak = inputs[..., Header.PEAK, None]
        room = torch.stack([peak - inputs, peak + inputs]).clamp_min(0.0)[:, :, 0, HEADER:]
        limits = (self.radius(inputs) * self.limits.to(inputs)).clamp_min(torch.finfo(inputs.dtype).tiny)
        masked = _masked_by(inputs)
        while True:
            steps = settled(delta[:, 0, HEADER:], fixed[:, 0, HEADER:], room, limits)
            loudest = self._loudest(masked, _as_rows(steps).double()).to(limits)
            if not bool((loudest > 1).any()):
                return inputs + _as_rows(steps)
            limits = torch.where(loudest > 1, STRICTER / loudest, 1.0)[:, None] * limits

    def _loudest(self, masked: Tensor, delta: Tensor) -> Tensor:
        """Return the largest amplitude of any band in each frame, of what is allowed, [clips, frames].

        ``masked`` are the clean clips' :func:`rmer.data.audio.masking.masking_thresholds`.
        """
        ratio = (band_powers(delta[:, 0, HEADER:]) / masked).amax(1).sqrt()
        epsilon = torch.as_tensor(self.epsilon, dtype=torch.float64, device=masked.device).view(-1, 1)
        return ratio / epsilon.to(ratio)


def _masked_by(rows: Tensor) -> Tensor:
    """Return the masking thresholds of rows [clips, 1, cells] in float64, [clips, bands, frames]."""
    samples = rows[:, 0, HEADER:]
    if rows.device.type != "cpu":
        return masking_thresholds(samples.double())
    clips = samples.numpy()
    return torch.cat([_thresholds_of(clip.tobytes(), clips.dtype.str) for clip in clips])


@lru_cache(maxsize=64)
def _thresholds_of(samples: bytes, dtype: str) -> Tensor:
    """Return the thresholds of one clip; every attack measures its adversaries by them, and settles them."""
    return masking_thresholds(torch.from_numpy(np.frombuffer(samples, dtype).astype(np.float64)[None]))


def _within_peak(inputs: Tensor, rows: Tensor) -> Tensor:
    """Return rows with no sample above the peak of its clip that is not so in ``inputs``; headers stay."""
    peak = inputs[..., Header.PEAK, None]
    low, high = torch.minimum(-peak, inputs), torch.maximum(peak, inputs)
    return torch.maximum(torch.minimum(rows, high), low)


def _wide_norms(values: Tensor) -> Tensor:
    """Return the Euclidean norm of each clip [clips], summed in float64: rows are long."""
    norms: Tensor = torch.linalg.vector_norm(values.flatten(1), dim=1, dtype=torch.float64)
    return norms


def _as_rows(samples: Tensor) -> Tensor:
    """Return [clips, samples] as rows [clips, 1, cells] with nothing in their headers."""
    return torch.nn.functional.pad(samples, (HEADER, 0))[:, None]
