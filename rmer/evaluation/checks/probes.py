"""Measurements of a model and of saved adversaries for sanity checks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy.typing as npt
import torch
from torch import Tensor

from rmer.attacks.base import Attack
from rmer.attacks.losses import squared_error
from rmer.attacks.threat import Threat, linf_norms
from rmer.evaluation.endpoints import Floats
from rmer.evaluation.metrics import regression_scores
from rmer.systems.frozen import FrozenNetwork

# Below this, a gradient gives no direction: the largest cell of a working network's is above 1e-5.
TINY_GRADIENT = 1e-10
# Steps of finite differences, in standardised units: far above float32 rounding, and around the budgets.
# Those of sounds are in steps of 16 bit: half of one moves every other sample by a whole one, as halves are
# rounded to even. Larger ones already bend what is linear: the logarithm of quiet bins.
STEPS = (1e-4, 1e-3)
SOUND_STEPS = (0.5, 1.0)


@dataclass(frozen=True, eq=False)
class Gradients:
    """Input gradients of the attacked loss: share of cells that are exactly 0, and largest cell, [clips]."""

    zero_share: Floats
    largest: Floats


@dataclass(frozen=True)
class Repeats:
    """Largest difference between predictions: of one batch twice, and of clips alone and in a batch."""

    same_batch: float
    alone: float


@dataclass(frozen=True)
class Seeds:
    """Share of cells that differ between two attacks: with the same seed, and with another one."""

    same: float
    other: float


@dataclass(frozen=True)
class Inputs:
    """Mean and standard deviation over all cells, and lowest cell less the floor (None without floor)."""

    mean: float
    std: float
    above_floor: float | None


@dataclass(frozen=True)
class Budget:
    """Clips whose saved adversary leaves the ball or the box, and the largest perturbation / radius."""

    violations: int
    used: float


def measure_gradients(
    network: FrozenNetwork, inputs: Tensor, labels: Tensor, threat: Threat | None = None
) -> Gradients:
    """Measure the gradients of the squared error that attacks see, at the clean clips.

    ``inputs`` [clips, 1, ...]; ``labels`` [clips, targets] are those that the attack is given. Cells that
    ``threat`` does not let change do not count.
    """
    zero, largest = [], []
    for clips, truth in _batches(network, inputs, labels):
        gradient = _gradient(network, clips, truth)
        changeable = (
            torch.ones_like(gradient, dtype=torch.bool) if threat is None else threat.changeable(clips)
        )
        dead = ((gradient == 0) & changeable).flatten(1).double().sum(1)
        zero.append(dead / changeable.flatten(1).double().sum(1))
        largest.append(linf_norms(gradient).double())
    return Gradients(torch.cat(zero).cpu().numpy(), torch.cat(largest).cpu().numpy())


def derivative_errors(
    network: FrozenNetwork, inputs: Tensor, labels: Tensor, steps: Sequence[float] = STEPS
) -> Floats:
    """Compare the slope that gradients promise with central differences of the squared error, [clips].

    The slope is taken along the sign of the gradient, where attacks go. The error is the difference divided
    by the larger of both slopes, at the step of ``steps`` where it is least: 0 where they
    agree, 1 where one of them is zero, 2 where a gradient points down.
    """
    errors = []
    for clips, truth in _batches(network, inputs, labels):
        gradient = _gradient(network, clips, truth)
        promised = gradient.double().abs().flatten(1).sum(1)
        found = [_slope(network, clips, truth, gradient.sign(), step) for step in steps]
        errors.append(torch.stack([_relative(slope, promised) for slope in found]).amin(0))
    return torch.cat(errors).cpu().numpy()


def measure_repeats(network: FrozenNetwork, inputs: Tensor) -> Repeats:
    """Predict the clips [clips, 1, frames, bands] twice as one batch, and once each alone."""
    inputs = inputs.to(network.device, network.dtype)
    once, again = (network.predict(inputs)["output"] for _ in range(2))
    alone = torch.cat([network.predict(clip)["output"] for clip in torch.split(inputs, 1)])
    return Repeats(float((again - once).abs().max()), float((alone - once).abs().max()))


def measure_seeds(
    attack: Attack, network: FrozenNetwork, inputs: Tensor, labels: Tensor, threat: Threat
) -> Seeds:
    """Run an attack twice with one seed and once with another.

    Attacks of many steps end in the same corner from any start; use one of few steps that keeps its last
    iterate (``PGD(steps=1, keep="last")``), and a few clips.
    """
    runs = (attack(network, inputs, labels, threat, seed=seed) for seed in (1, 1, 2))
    first, same, other = (result.adversaries for result in runs)
    return Seeds(float((same != first).double().mean()), float((other != first).double().mean()))


def measure_inputs(inputs: Tensor | None, floor: Tensor | None) -> Inputs | None:
    """Measure the standardised inputs of the attacked part; ``floor`` [bands] is standardised silence.

    None for a model that takes audio, which is not standardised.
    """
    if inputs is None:
        return None
    above = None if floor is None else float((inputs.double() - floor.to(inputs).double()).min())
    return Inputs(float(inputs.double().mean()), float(inputs.double().std()), above)


def measure_budget(inputs: Tensor, saved: Mapping[str, Tensor], threat: Threat) -> Budget:
    """Measure saved adversaries (metric -> [clips, 1, frames, bands], read back) against the threat model."""
    inputs = inputs.cpu()
    outside = torch.zeros(len(inputs), dtype=torch.bool)
    largest = torch.zeros(len(inputs), dtype=torch.float64)
    for adversaries in saved.values():
        outside |= threat.violations(inputs, adversaries)
        largest = torch.maximum(largest, threat.used(inputs.double(), adversaries.double()))
    return Budget(int(outside.sum()), float(largest.max()))


def rescore(
    network: FrozenNetwork, saved: Mapping[str, Tensor], labels: npt.ArrayLike, targets: Sequence[str]
) -> dict[str, dict[str, float]]:
    """Score adversaries that were read back: metric they are worst for -> every metric -> value.

    ``labels`` [clips, targets].
    """
    scores = {}
    for metric, adversaries in saved.items():
        found = network.predict_in_batches(adversaries.to(network.device, network.dtype))["output"]
        scores[metric] = dict(regression_scores(labels, found.cpu().numpy(), targets).mean)
    return scores


def _batches(network: FrozenNetwork, inputs: Tensor, labels: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    for part in zip(*(torch.split(values, network.batch_size) for values in (inputs, labels)), strict=True):
        clips, truth = (values.to(network.device, network.dtype) for values in part)
        yield clips, truth


def _gradient(network: FrozenNetwork, clips: Tensor, labels: Tensor) -> Tensor:
    return network.gradient(clips, lambda found: squared_error(found["output"], labels))[1]


def _slope(network: FrozenNetwork, clips: Tensor, labels: Tensor, direction: Tensor, step: float) -> Tensor:
    ahead, behind = (
        squared_error(network.predict(clips + way * step * direction)["output"].double(), labels.double())
        for way in (1, -1)
    )
    return (ahead - behind) / (2 * step)


def _relative(found: Tensor, promised: Tensor) -> Tensor:
    scale = torch.maximum(found.abs(), promised.abs())
    return torch.where(scale > 0, (found - promised).abs() / scale, torch.ones_like(scale))
