"""Synthetic clips, and the model that attacks are measured on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.measuring import Settings
from rmer.attacks.threat import Threat
from rmer.data.audio.filterbank import BANDS
from rmer.data.dataset import Normalisation
from rmer.data.standardised import Part, Standardised
from rmer.stages.attack.victims import victim_of_run
from rmer.systems.catalogue import CATALOGUE
from rmer.tracking import connect
from rmer.training.fit import fit
from rmer.training.protocol import resolve_fit

TARGETS, CONCEPTS = 8, 7
SMALL = 80  # frames


def noise(train: int, validation: int, frames: int, test: int = 1) -> Standardised:
    """Return noise whose labels follow the level of its lower and its upper bands."""
    rng = np.random.default_rng(5)
    mixing = rng.normal(0, 0.15, (2, TARGETS + CONCEPTS)).astype(np.float32)

    def part(clips: int) -> Part:
        levels = rng.uniform(-1, 1, (clips, 2)).astype(np.float32)
        inputs = rng.normal(0, 1, (clips, 1, frames, BANDS)).astype(np.float32)
        inputs += np.repeat(levels, [BANDS // 2, BANDS - BANDS // 2], axis=1)[:, None, None, :]
        labels = torch.from_numpy((0.5 + levels @ mixing).clip(0, 1))
        return Part(np.arange(clips), torch.from_numpy(inputs), labels[:, :TARGETS], labels[:, TARGETS:])

    trained = part(train)
    return Standardised(
        trained,
        part(validation),
        part(test),
        Normalisation(0.4, 0.5),
        torch.full((BANDS,), float(trained.inputs.min())),
        trained.inputs.amax((0, 1, 2)),
    )


@dataclass(frozen=True)
class Subject:
    """A trained model and the clips that it is attacked on."""

    name: str
    network: nn.Module
    inputs: Tensor
    labels: Tensor
    floor: Tensor
    ceiling: Tensor

    def threat(self, epsilon: float, *, boxed: bool = True) -> Threat:
        """Return the L-inf threat model of a budget."""
        box = (self.floor, self.ceiling) if boxed else (None, None)
        return Threat("linf", epsilon, *box)


def subject(settings: Settings) -> Subject:
    """Return the model of the train run that the settings name, else a small one trained here."""
    if settings.model:
        store = connect(settings.store or None, send_waiting=False)
        victim = victim_of_run(store, store.get(settings.model), "")
        data, network = victim.data, victim.model
        name = f"{victim.system} seed {victim.seed} ({victim.train_protocol} training)"
    else:
        data = noise(96, 16, SMALL, test=36)
        config = resolve_fit(CATALOGUE["A2M2E"], "corrected", seed=6, epochs=6, precision="bf16")
        network = fit(data, config).network
        name = "A2M2E, 6 epochs on noise of two levels"
    test = data.test
    frames = test.inputs.shape[2]
    return Subject(f"{name}, {frames} frames", network, test.inputs, test.labels, data.floor, data.ceiling)
