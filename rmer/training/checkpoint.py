"""Training state on disk: enough to go on to the same weights, bit for bit on a CPU."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rmer.errors import UserError
from rmer.files import whole
from rmer.training.stopping import EarlyStopping


@dataclass
class TrainingState:
    """Where a fit stands after ``epoch`` complete epochs.

    ``history`` holds one mapping of metric names to values an epoch; ``rng`` the state of torch's CPU
    generator, ``cuda_rng`` that of the GPU where one is used.
    """

    epoch: int
    network: dict[str, Tensor]
    optimiser: dict[str, Any]
    stopping: EarlyStopping
    best: dict[str, Tensor] | None
    rng: Tensor
    cuda_rng: Tensor | None = None
    history: list[dict[str, float]] = field(default_factory=list)

    def save(self, path: Path) -> None:
        """Write the state to ``path``; a crash leaves the previous file whole."""
        with whole(path) as part:
            torch.save({**vars(self), "stopping": asdict(self.stopping)}, part)

    @classmethod
    def load(cls, path: Path) -> TrainingState:
        """Read a state that :meth:`save` wrote; nothing but tensors and plain values is unpickled."""
        try:
            values = torch.load(path, map_location="cpu", weights_only=True)
            return cls(**{**values, "stopping": EarlyStopping(**values["stopping"])})
        except Exception as error:  # torch, pickle and zip each raise their own kind for a bad file
            what = f"not a training checkpoint ({type(error).__name__})"
            raise UserError(what, where=str(path), mend="Delete it to train from the start") from error
