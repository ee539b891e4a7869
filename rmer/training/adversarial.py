"""Attacked inputs for adversarial training."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from rmer.attacks.pgd import PGD
from rmer.attacks.published import PublishedAttack
from rmer.attacks.search import MSE
from rmer.attacks.threat import Threat
from rmer.data.standardised import Standardised
from rmer.systems.arithmetic import Precision
from rmer.systems.devices import clips_at_once
from rmer.systems.frozen import FrozenNetwork
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
    attack = PublishedAttack(max_iters=settings.iterations, exact=False)
    network = FrozenNetwork(model, precision=precision)
    return attack.on_device(network, inputs, labels, _DECLARED, batch_size=len(inputs))[0]


def bounded_threat(data: Standardised, settings: AdversarialTraining, device: torch.device) -> Threat:
    """Return the threat model of corrected adversarial training, on the device of the training."""
    assert settings.epsilon is not None
    assert settings.norm is not None
    cells = data.train.inputs[0].numel()
    return Threat.per_cell(settings.norm, settings.epsilon, cells, data.floor, data.ceiling).on(device)


def attack_bounded(
    model: nn.Module,
    inputs: Tensor,
    labels: Tensor,
    threat: Threat,
    settings: AdversarialTraining,
    seed: int,
    precision: Precision = "fp32",
) -> tuple[Tensor, Tensor]:
    """Return a batch attacked by PGD within a threat model, and which adversaries leave it (bool [clips]).

    The network is a frozen copy in evaluation mode, so crafting leaves batch-norm statistics alone.
    """
    attack = PGD(steps=settings.iterations, relative_step=0.25, losses=MSE, keep="last")
    network = FrozenNetwork(model, precision=precision)
    size = clips_at_once(network.device)
    return attack.on_device(network, inputs, labels, threat, seed=seed, batch_size=size)


def batch_seed(seed: int, epoch: int, batch: int) -> int:
    """Seed of the random starts of one batch: a function of its place, so that a resumed fit repeats it."""
    generator = torch.Generator().manual_seed(seed * 10**6 + epoch)
    return int(torch.randint(2**62, (), generator=generator) + batch)
