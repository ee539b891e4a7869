"""Attacked inputs for adversarial training: spectrograms, or the spectrograms of attacked sounds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor, nn

from rmer.attacks.pgd import PGD
from rmer.attacks.published import PublishedAttack
from rmer.attacks.search import MSE
from rmer.attacks.sound_budgets import epsilon_of
from rmer.attacks.sound_threat import SoundThreat
from rmer.attacks.threat import Threat
from rmer.data.standardised import Standardised
from rmer.errors import UserError
from rmer.systems.arithmetic import Precision
from rmer.systems.devices import clips_at_once
from rmer.systems.frozen import FrozenNetwork
from rmer.systems.listening_network import ListeningNetwork
from rmer.training.protocol import AdversarialTraining, FitConfig

# The parts of a split that a training attacks, and the recordings of each as rows [clips, 1, cells].
PartName = Literal["train", "validation"]
Sounds = Mapping[PartName, Tensor]
PARTS: tuple[PartName, ...] = ("train", "validation")

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


@dataclass(frozen=True, eq=False)
class Crafting:
    """Corrected adversarial training: what is attacked of the clips of each part, and within what budget.

    Attributes
    ----------
    model : the network in training, or of domain waveform that network with ears
    inputs : what it takes of each part, [clips, 1, ...]: standardised spectrograms, or rows of samples
    threats : the budget around each part's inputs, on the device of the training
    settings, precision : of the attack, and of its gradients
    """

    model: nn.Module
    inputs: Mapping[PartName, Tensor]
    threats: Mapping[PartName, Threat]
    settings: AdversarialTraining
    precision: Precision

    @cached_property
    def frozen(self) -> FrozenNetwork:
        """A frozen copy of the model, with the weights of when it was last told to follow it."""
        return FrozenNetwork(self.model, precision=self.precision)

    def attacked(self, part: PartName, clips: Tensor, labels: Tensor, seed: int) -> tuple[Tensor, Tensor]:
        """Return some clips (their places, int64) attacked by PGD, as spectrograms [clips, 1, frames, bands].

        And which adversaries leave their budget (bool [clips]). What is attacked is a frozen copy in
        evaluation mode, so crafting leaves batch-norm statistics alone.
        """
        attack = PGD(steps=self.settings.iterations, relative_step=0.25, losses=MSE, keep="last")
        network = self.frozen
        network.follow(self.model)
        size = clips_at_once(network.device)
        inputs, threat = self.inputs[part][clips], self.threats[part].of(clips)
        crafted, violations = attack.on_device(network, inputs, labels, threat, seed=seed, batch_size=size)
        if isinstance(self.model, ListeningNetwork):
            with torch.no_grad():
                crafted = self.model.ear(crafted)
        return crafted, violations


def crafting(
    network: nn.Module, data: Standardised, config: FitConfig, device: torch.device, sounds: Sounds | None
) -> Crafting | None:
    """Return how a fit attacks its clips; None where it does not, or as published.

    Raises UserError where the sounds of the clips are attacked and are not given.
    """
    settings = config.adversarial
    if settings is None or config.train_protocol != "corrected":
        return None
    assert settings.norm is not None
    if not settings.on_sound:
        assert settings.epsilon is not None
        inputs: dict[PartName, Tensor] = {part: data.part(part).inputs.to(device) for part in PARTS}
        cells = data.train.inputs[0].numel()
        box = (data.floor, data.ceiling)
        threat = Threat.per_cell(settings.norm, settings.epsilon, cells, *box).on(device)
        return Crafting(network, inputs, dict.fromkeys(PARTS, threat), settings, config.precision)
    assert settings.budget is not None
    if sounds is None:
        what = "training attacks the sound of its clips, and no recordings are given"
        raise UserError(what, where="training", mend="Give sounds, or choose adversarial_domain spectrogram")
    epsilon = epsilon_of(settings.norm, settings.budget)
    # What the clips mask is computed once, and kept: 120 kB a clip of 10 s.
    around = {part: SoundThreat.around(settings.norm, epsilon, sounds[part]).on(device) for part in PARTS}
    listening = ListeningNetwork(network, data.normalisation, data.train.inputs.shape[2]).to(device)
    rows: dict[PartName, Tensor] = {part: sounds[part].to(device) for part in PARTS}
    return Crafting(listening, rows, around, settings, config.precision)


def batch_seed(seed: int, epoch: int, batch: int) -> int:
    """Seed of the random starts of one batch: a function of its place, so that a resumed fit repeats it."""
    generator = torch.Generator().manual_seed(seed * 10**6 + epoch)
    return int(torch.randint(2**62, (), generator=generator) + batch)
