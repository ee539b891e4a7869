"""One model on the clips that it is attacked on: what everything that attacks it is given."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from torch import Tensor

from rmer.attacks.base import Attack
from rmer.attacks.problem import Progress
from rmer.attacks.result import AttackResult
from rmer.attacks.threat import Threat
from rmer.evaluation.endpoints import Floats
from rmer.systems.frozen import FrozenNetwork


@dataclass(frozen=True, eq=False)
class Subject:
    """One model, the clips that it is attacked on, and how attacks are run.

    Attributes
    ----------
    inputs : float32 [clips, 1, frames, bands]
    labels : [clips, targets], what attacks move away from
    threat_at : the threat model of a budget a cell
    seed, batch_size : as for :meth:`rmer.attacks.base.Attack.__call__`
    progress : called with a number of gradients that are done, three predictions counted as one
    resume : folder for finished batches; those found there are not attacked again
    """

    network: FrozenNetwork
    inputs: Tensor
    labels: Tensor
    threat_at: Callable[[float], Threat]
    seed: int = 0
    batch_size: int = 8
    progress: Progress | None = None
    resume: Path | None = None

    @property
    def truth(self) -> Floats:
        """The labels, float64 [clips, targets]."""
        return self.labels.cpu().double().numpy()

    def first(self, clips: int) -> Subject:
        """Return the subject with its first clips alone; what they draw at random does not change."""
        return replace(self, inputs=self.inputs[:clips], labels=self.labels[:clips])

    def attacked(
        self, attack: Attack, threat: Threat, folder: str, *, warm_start: Tensor | None = None
    ) -> AttackResult:
        """Run an attack; ``folder`` names its finished batches."""
        return attack(
            self.network,
            self.inputs,
            self.labels,
            threat,
            seed=self.seed,
            batch_size=self.batch_size,
            warm_start=warm_start,
            progress=self._in_gradients(attack),
            resume=None if self.resume is None else self.resume / folder,
        )

    def seen(self, inputs: Tensor) -> Tensor | None:
        """Return the standardised spectrograms that the model gets of inputs; None where it gets none.

        Here they are the inputs themselves.
        """
        return inputs

    def attacked_at_once(self, attack: Attack, threats: Sequence[Threat], folder: str) -> list[AttackResult]:
        """Run a pooled attack for several budgets; ``folder`` names what is finished."""
        return attack.over_budgets(
            self.network,
            self.inputs,
            self.labels,
            threats,
            seed=self.seed,
            batch_size=self.batch_size,
            progress=self._in_gradients(attack),
            resume=None if self.resume is None else self.resume / folder,
        )

    def sample(self, clips: int) -> list[int]:
        """Return the places of so many clips at most, chosen at random by the seed, ascending."""
        chosen = np.random.default_rng(self.seed).permutation(len(self.inputs))[:clips]
        return sorted(chosen.tolist())

    def of(self, rows: Sequence[int]) -> Subject:
        """Return the subject with some of its clips."""
        places = list(rows)
        return replace(self, inputs=self.inputs[places], labels=self.labels[places])

    def _in_gradients(self, attack: Attack) -> Progress | None:
        """Return what is told of clips that are done, given what takes gradients that are done."""
        cost, progress = attack.passes(self.labels.shape[1]).in_gradients, self.progress
        return None if progress is None else lambda clips: progress(clips * cost)

    @cached_property
    def clean(self) -> Floats:
        """The predictions for the inputs as they are, float64 [clips, targets]."""
        return self.predicted(self.inputs)

    def predicted(self, inputs: Tensor) -> Floats:
        """Return the predictions for inputs [clips, 1, frames, bands], float64 [clips, targets]."""
        inputs = inputs.to(self.network.device, self.network.dtype)
        return self.network.predict_in_batches(inputs)["output"].double().cpu().numpy()
