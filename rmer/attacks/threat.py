"""The threat model: which perturbations an attacker may use."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
from torch import Tensor

from rmer.errors import UserError

# What perturbations of spectrograms and those of sounds (:mod:`rmer.attacks.sound_threat`) are measured by.
Norm = Literal["linf", "l2", "snr", "masking"]
NORMS = ("linf", "l2")

# Float32 rounding of x + delta, relative to max(1, |x|): the saved array may miss the budget by no more.
ROUNDING = 2.0**-22
# Rounds of the L2 projection that give back what the box cuts off; mostly exact to rounding.
ROUNDS = 2


@dataclass(frozen=True)
class Threat:
    """A norm ball around each clip, intersected with the box of valid spectrograms.

    Tensors may lie on any device; :meth:`on` moves them to that of the inputs, so that no step of an attack
    has to. Radii on a GPU are not checked, as one would have to wait for them.

    Attributes
    ----------
    norm : "linf" or "l2"
    epsilon : radius of the ball in standardised-spectrogram units (>= 0), or one for each clip [clips]
    floor : [bands] or None: least valid value of each band (standardised silence)
    ceiling : [bands] or None: largest valid value of each band; a clip that exceeds it keeps its own value
    """

    norm: Norm
    epsilon: float | Tensor
    floor: Tensor | None = None
    ceiling: Tensor | None = None

    norms: ClassVar[tuple[str, ...]] = NORMS

    def __post_init__(self) -> None:
        if self.norm not in self.norms:
            raise UserError(f"{self.norm!r} is no norm", where="norm", mend=f"Use {' or '.join(self.norms)}")
        radii = torch.as_tensor(self.epsilon)
        if radii.device.type == "cpu" and not bool(((radii >= 0) & radii.isfinite()).all()):
            raise UserError(f"{self.epsilon} is out of range", where="epsilon", mend="Give a number >= 0")

    @classmethod
    def per_cell(
        cls,
        norm: Norm,
        epsilon: float,
        cells: int,
        floor: Tensor | None = None,
        ceiling: Tensor | None = None,
    ) -> Threat:
        """Return the threat model of a budget a cell, for spectrograms of ``cells`` cells.

        The L2 ball gets the radius ``epsilon * sqrt(cells)``, so that it contains the L-inf ball of the same
        ``epsilon``: budgets of both norms are named by one number.
        """
        return cls(norm, epsilon if norm == "linf" else epsilon * math.sqrt(cells), floor, ceiling)

    def radius(self, inputs: Tensor) -> Tensor:
        """Return the radius of the ball around each clip, [1 or clips, 1, ...], to go beside ``inputs``."""
        if isinstance(self.epsilon, Tensor):
            return beside(self.epsilon.double().to(inputs), inputs)
        return inputs.new_full([1] * inputs.dim(), self.epsilon)

    def epsilons(self, clips: int) -> Tensor:
        """Return the epsilon of each clip, float64 [clips]."""
        return torch.as_tensor(self.epsilon, dtype=torch.float64).expand(clips)

    def of(self, rows: slice | list[int] | Tensor) -> Threat:
        """Return the threat model of some of the clips, given by their places."""
        return replace(self, epsilon=self.epsilon[rows]) if isinstance(self.epsilon, Tensor) else self

    def on(self, device: torch.device) -> Threat:
        """Return the threat model with its tensors on a device."""
        epsilon = self.epsilon.to(device) if isinstance(self.epsilon, Tensor) else self.epsilon
        floor, ceiling = (None if bound is None else bound.to(device) for bound in (self.floor, self.ceiling))
        return replace(self, epsilon=epsilon, floor=floor, ceiling=ceiling)

    def pooled(self, threats: Sequence[Threat], clips: int) -> Threat:
        """Return the threat model of ``clips`` clips within several budgets, one budget after another.

        ``threats`` differ from this one in their budget alone.
        """
        budgets = [torch.as_tensor(one.epsilon, dtype=torch.float64).expand(clips) for one in threats]
        return replace(self, epsilon=torch.cat(budgets))

    def project(self, inputs: Tensor, candidates: Tensor) -> Tensor:
        """Return ``candidates`` [clips, 1, frames, bands] moved into the ball around ``inputs`` and the box.

        The ball comes first: as ``inputs`` lies in the box, clipping to it only shrinks the perturbation, so
        both hold. For L2 what the box has cut off is given back to the other cells (see ``_scale``).
        """
        delta, radius = candidates - inputs, self.radius(inputs)
        if self.norm == "linf":
            delta = torch.maximum(torch.minimum(delta, radius), -radius)
        else:
            delta = delta * self._scale(inputs, delta)
        return self._clip_to_box(inputs, inputs + delta)

    def random_start(self, inputs: Tensor, noise: Tensor) -> Tensor:
        """Turn ``noise``, uniform in [-1, 1] and shaped like ``inputs``, into a start inside the budget.

        L-inf: uniform in the ball. L2: the direction of the noise, at a radius drawn from its first value.
        """
        if self.norm == "linf":
            return self.project(inputs, inputs + self.radius(inputs) * noise)
        sizes = beside(l2_norms(noise).clamp_min(torch.finfo(noise.dtype).tiny), noise)
        share = beside(noise.flatten(1)[:, 0].abs(), noise)
        return self.project(inputs, inputs + self.radius(inputs) * share * noise / sizes)

    def settle(self, inputs: Tensor, adversaries: Tensor) -> Tensor:
        """Return found adversaries as they are stored; a spectrogram is stored as it is."""
        return adversaries

    def steepest(self, gradient: Tensor) -> Tensor:
        """Return the direction of steepest ascent in the unit ball, shaped like ``gradient``."""
        return steepest(gradient, self.norm)

    def filled(self, inputs: Tensor, noise: Tensor) -> Tensor:
        """Return ``noise`` scaled to the unit ball; that of L-inf, whose values have a size, stays."""
        return noise if self.norm == "linf" else steepest(noise, self.norm)

    def dual_norms(self, slopes: Tensor, directions: Tensor) -> Tensor:
        """Return how far the unit ball moves outputs along ``directions`` [many, targets], [clips, many].

        ``slopes`` [clips, targets, cells] are the gradients of the outputs.
        """
        order = 1 if self.norm == "linf" else 2
        norms = [
            torch.linalg.vector_norm(some @ slopes, order, dim=2)
            for some in torch.split(directions, 16)  # a few at a time, for want of memory
        ]
        return torch.cat(norms, 1)

    def changeable(self, inputs: Tensor) -> Tensor:
        """Return which cells of ``inputs`` an attacker may change, bool: of spectrograms, all."""
        return torch.ones_like(inputs, dtype=torch.bool)

    def used(self, inputs: Tensor, adversaries: Tensor) -> Tensor:
        """Return the share of the budget that each adversary uses, [clips]."""
        delta = adversaries - inputs
        sizes = linf_norms(delta) if self.norm == "linf" else l2_norms(delta)
        return sizes / self.radius(inputs).view(-1)

    def violations(self, inputs: Tensor, adversaries: Tensor) -> Tensor:
        """Return for each clip [clips] whether its saved float32 adversary leaves the ball or the box."""
        x, adversary = inputs.double(), adversaries.double()
        slack = ROUNDING * x.abs().clamp_min(1.0)
        delta, radius = adversary - x, self.radius(x)
        if self.norm == "linf":
            outside = (delta.abs() > radius + slack).flatten(1).any(1)
        else:
            # The norm that a perturbation was scaled by is rounded as well, relative to itself.
            outside = l2_norms(delta) > radius.view(-1) * (1.0 + ROUNDING) + l2_norms(slack)
        boxed = self._clip_to_box(x, adversary)
        invalid = ((boxed - adversary).abs() > slack) | ~adversary.isfinite()
        return outside | invalid.flatten(1).any(1)

    def _scale(self, inputs: Tensor, delta: Tensor) -> Tensor:
        """Return by what to scale perturbations before the box, for the nearest point of L2 ball and box.

        That point is ``delta * scale`` cut to the box, with the largest scale <= 1 of a norm within the
        radius. Each round takes the cells that the box cuts at the last scale for cut, and solves for the
        others: scales only rise and every one is feasible, so that rounds may end early.
        """
        tiny = torch.finfo(delta.dtype).tiny
        radius = self.radius(inputs)
        scale = (radius / _wide_norms(delta).clamp_min(tiny)).clamp(max=1.0)
        if self.floor is None and self.ceiling is None:
            return scale
        low, high = (bound - inputs for bound in self._bounds(inputs))
        for _ in range(ROUNDS):
            moved = scale * delta
            boxed = torch.maximum(torch.minimum(moved, high), low)
            free = _wide_norms(torch.where(boxed == moved, moved, 0.0))
            left = radius.square() - _wide_norms(boxed).square() + free.square()
            scale = scale * (left.clamp_min(0.0).sqrt() / free.clamp_min(tiny)).clamp_min(1.0)
            scale = scale.clamp(max=1.0)
        return scale

    def _clip_to_box(self, inputs: Tensor, candidates: Tensor) -> Tensor:
        low, high = self._bounds(inputs)
        return torch.maximum(torch.minimum(candidates, high), low)

    def _bounds(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Return the least and the largest valid value of each cell, broadcastable to ``inputs``."""
        low, high = (inputs.new_full((), bound) for bound in (-torch.inf, torch.inf))
        # The clip itself is always valid, also where rounding puts it a hair outside floor or ceiling.
        if self.floor is not None:
            low = torch.minimum(self.floor.to(inputs), inputs)
        if self.ceiling is not None:
            high = torch.maximum(self.ceiling.to(inputs), inputs)
        return low, high


def steepest(gradient: Tensor, norm: Norm) -> Tensor:
    """Return the direction of steepest ascent in the norm's unit ball, [clips, ...]; zero stays zero."""
    if norm == "linf":
        return gradient.sign()
    return gradient / beside(l2_norms(gradient).clamp_min(torch.finfo(gradient.dtype).tiny), gradient)


def beside(values: Tensor, clips: Tensor) -> Tensor:
    """Return one value a clip [clips] with as many dimensions as ``clips`` [clips, ...], to go beside it."""
    return values.view(-1, *[1] * (clips.dim() - 1))


def l2_norms(values: Tensor) -> Tensor:
    """Return the Euclidean norm of each clip, [clips, ...] -> [clips]."""
    norms: Tensor = torch.linalg.vector_norm(values.flatten(1), dim=1)
    return norms


def linf_norms(values: Tensor) -> Tensor:
    """Return the largest absolute value of each clip, [clips, ...] -> [clips]."""
    return values.flatten(1).abs().amax(1)


def _wide_norms(values: Tensor) -> Tensor:
    return beside(l2_norms(values), values)
