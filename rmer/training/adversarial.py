"""Attacked inputs for adversarial training."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from rmer.attacks.pgd import PGD
from rmer.attacks.published import PublishedAttack
from rmer.attacks.threat import Threat
from rmer.data.standardised import Standardised
from rmer.systems.frozen import FrozenNetwork
from rmer.systems.precision import Precision
from rmer.training.protocol import AdversarialTraining

# What the published attack declares and never enforces.
_DECLARED = Threat("linf", 0.001)


def attack_unbounded(
    model: nn.Module,
    inputs: Tensor,
    labels: Tensor,
    settings: AdversarialTraining,
    precision: Precision = "fp32",
) -> Tensor:
    """Return a batch attacked as in published adversarial training: the kept perturbations, often zero."""
    attack = PublishedAttack(max_iters=settings.iterations)
    network = FrozenNetwork(model, precision=precision)
    result = attack(network, inputs, labels, _DECLARED, batch_size=len(inputs))
    return result.adversaries.to(inputs.device)


def attack_bounded(
    model: nn.Module,
    inputs: Tensor,
    labels: Tensor,
    data: Standardised,
    settings: AdversarialTraining,
    seed: int,
    precision: Precision = "fp32",
) -> Tensor:
    """Return a batch attacked by PGD within the budget and the box of valid spectrograms.

    The network is a frozen copy in evaluation mode, so crafting leaves batch-norm statistics alone.
    """
    assert settings.epsilon is not None
    assert settings.norm is not None
    cells = inputs[0].numel()
    threat = Threat.per_cell(settings.norm, settings.epsilon, cells, data.floor, data.ceiling)
    attack = PGD(steps=settings.iterations, relative_step=0.25, keep="last")
    network = FrozenNetwork(model, precision=precision)
    result = attack(network, inputs, labels, threat, seed=seed, batch_size=8)
    return result.adversaries.to(inputs.device)


def batch_seed(seed: int, epoch: int, batch: int) -> int:
    """Seed of the random starts of one batch: a function of its place, so that a resumed fit repeats it."""
    return int(
        torch.randint(2**62, (), generator=torch.Generator().manual_seed(seed * 10**6 + epoch)) + batch
    )
