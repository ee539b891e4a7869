"""What an attack ascends, and by which values it chooses the iterate that it keeps."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple

import torch
from torch import Tensor

from rmer.attacks.losses import LOSSES, absolute_error, correlation_over_clips
from rmer.attacks.threat import Threat
from rmer.data.dataset import RATING_SCALE
from rmer.errors import UserError
from rmer.systems.frozen import FrozenNetwork, joined
from rmer.systems.network import Prediction


class Ascent(NamedTuple):
    """What an attack learns at an iterate: prediction, loss to be raised [batch], and its gradient.

    All three are of the network's copy in bfloat16, if it has one.
    """

    prediction: Prediction
    loss: Tensor
    gradient: Tensor


class Objective(ABC):
    """A loss, and the values by which the best iterate of each clip is kept.

    ``joint`` objectives are functions of all clips of a split together; the others of each clip alone.
    """

    joint: ClassVar[bool] = False

    @property
    @abstractmethod
    def name(self) -> str:
        """The name by which users ask for it."""

    @property
    def metric(self) -> str:
        """The main metric, by which the best iterate is kept."""
        return "mae"

    def preparation(self, targets: int) -> int:
        """Return the gradients a clip that :meth:`started` takes for a model of ``targets`` outputs."""
        return 0

    @abstractmethod
    def ascend(
        self, network: FrozenNetwork, iterates: Tensor, labels: Tensor, before: Tensor | None = None
    ) -> Ascent:
        """Return prediction, loss and gradient at ``iterates`` [batch, 1, frames, bands].

        ``before`` are the outputs [batch, targets] at iterates a step away, for losses of all clips together
        to weigh the clips by, so that they need no prediction of their own.
        """

    @abstractmethod
    def values(self, prediction: Prediction, labels: Tensor) -> dict[str, Tensor]:
        """Return metric -> value of each clip [batch], the larger the stronger; the main one comes first."""

    def started(self, network: FrozenNetwork, inputs: Tensor, labels: Tensor, threat: Threat) -> Objective:
        """Return the objective for one batch; most need no preparation."""
        return self


class ClipObjective(Objective):
    """An objective whose loss is a function of each clip alone."""

    @abstractmethod
    def loss(self, prediction: Prediction, labels: Tensor) -> Tensor:
        """Return the loss to be raised, [batch]."""

    def ascend(
        self, network: FrozenNetwork, iterates: Tensor, labels: Tensor, before: Tensor | None = None
    ) -> Ascent:
        prediction, gradient = network.gradient(iterates, lambda found: self.loss(found, labels))
        return Ascent(prediction, self.loss(prediction, labels), gradient)

    def values(self, prediction: Prediction, labels: Tensor) -> dict[str, Tensor]:
        """Return the absolute error of each clip, raw and after clipping predictions to the rating scale."""
        outputs = prediction["output"]
        return {
            "mae": absolute_error(outputs, labels),
            "mae_clipped": absolute_error(outputs.clamp(*RATING_SCALE), labels),
        }


@dataclass(frozen=True)
class ErrorObjective(ClipObjective):
    """Raise the error of each clip; ``kind`` names the loss that supplies gradients."""

    kind: Literal["l1", "mse"]

    @property
    def name(self) -> str:
        return self.kind

    def loss(self, prediction: Prediction, labels: Tensor) -> Tensor:
        return LOSSES[self.kind](prediction["output"], labels)


@dataclass(frozen=True)
class SteeringObjective(ClipObjective):
    """Push one emotion or concept up or down, whatever the labels say (a targeted attack)."""

    unit: Literal["output", "c_prob"]
    index: int
    way: Literal["up", "down"]
    target: str

    @property
    def name(self) -> str:
        return f"{self.way}:{self.target}"

    @property
    def metric(self) -> str:
        return self.name

    def loss(self, prediction: Prediction, labels: Tensor) -> Tensor:
        units = prediction["c_prob"] if self.unit == "c_prob" else prediction["output"]
        if units is None:
            where, mend = f"loss {self.name}", "Attack a bottleneck"
            raise UserError("this model has no concept units", where=where, mend=mend)
        return units[:, self.index] * (1.0 if self.way == "up" else -1.0)

    def values(self, prediction: Prediction, labels: Tensor) -> dict[str, Tensor]:
        return {self.name: self.loss(prediction, labels)}


@dataclass(frozen=True)
class CorrelationObjective(Objective):
    """Lower the correlation over the clips of a split, averaged over targets: all clips pull together.

    The reported correlation is over clips, so no attack on one clip alone can aim at it.
    """

    joint: ClassVar[bool] = True
    name = metric = "corr"

    def ascend(
        self, network: FrozenNetwork, iterates: Tensor, labels: Tensor, before: Tensor | None = None
    ) -> Ascent:
        known = network.estimate_in_batches(iterates)["output"] if before is None else before
        outputs = known.detach().requires_grad_(True)
        with torch.enable_grad():
            (weights,) = torch.autograd.grad(-correlation_over_clips(outputs, labels), outputs)
        passes = [
            network.gradient(batch, lambda found, w=weight: (found["output"] * w).sum(1))  # type: ignore[misc]
            for batch, weight in network.batches(iterates, weights)
        ]
        prediction = joined([part for part, _ in passes])
        loss = -correlation_over_clips(prediction["output"], labels)
        return Ascent(prediction, loss.expand(len(iterates)), torch.cat([gradient for _, gradient in passes]))

    def values(self, prediction: Prediction, labels: Tensor) -> dict[str, Tensor]:
        return {"corr": -correlation_over_clips(prediction["output"], labels).expand(len(labels))}
