"""One model on the clips that it is attacked on: what everything that attacks it is given."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor

from rmer.attacks.base import Attack, AttackResult, Progress
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
        cost = attack.passes(self.labels.shape[1]).in_gradients
        progress = self.progress
        return attack(
            self.network,
            self.inputs,
            self.labels,
            threat,
            seed=self.seed,
            batch_size=self.batch_size,
            warm_start=warm_start,
            progress=None if progress is None else lambda clips: progress(clips * cost),
            resume=None if self.resume is None else self.resume / folder,
        )

    def seen(self, inputs: Tensor) -> Tensor:
        """Return the standardised spectrograms that the model makes of inputs: these themselves."""
        return inputs

    def predicted(self, inputs: Tensor) -> Floats:
        """Return the predictions for inputs [clips, 1, frames, bands], float64 [clips, targets]."""
        inputs = inputs.to(self.network.device, self.network.dtype)
        return self.network.predict_in_batches(inputs)["output"].double().cpu().numpy()
