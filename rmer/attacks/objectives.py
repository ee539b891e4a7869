"""What an attack ascends, and by which values it chooses the iterate that it keeps."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Literal, NamedTuple, cast

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


class Ranking(NamedTuple):
    """What a linear model promises of directions [many, targets] in the space of a model's outputs.

    ``errors`` are those of the clean clips along them, ``reach`` what a budget of radius 1 adds, both
    [clips, many].
    """

    directions: Tensor
    errors: Tensor
    reach: Tensor

    def of(self, clips: Tensor) -> Ranking:
        """Return the ranking of some of the clips, given by their places."""
        return Ranking(self.directions, self.errors[clips], self.reach[clips])


class RankedObjective(ClipObjective):
    """Raise the error of each clip along one direction in the space of its outputs: the one of ``rank``.

    Directions are ranked per clip by the error that a linear model predicts for them: the error now, plus
    epsilon times the dual norm of the gradient at the clean clip.
    """

    rank: int

    @abstractmethod
    def directions(self, targets: int) -> Tensor:
        """Return all directions to choose from, [directions, targets]."""

    def preparation(self, targets: int) -> int:
        return targets

    def started(self, network: FrozenNetwork, inputs: Tensor, labels: Tensor, threat: Threat) -> Objective:
        return self.chosen(self.ranking(network, inputs, labels, threat), threat.radius(inputs).view(-1))

    def chosen(self, ranking: Ranking, radii: Tensor) -> Objective:
        """Return the objective of this rank within budgets of ``radii`` [1 or clips]."""
        potentials = ranking.errors + radii.view(-1, 1) * ranking.reach
        ranked = potentials.argsort(stable=True, dim=1, descending=True)
        return _DirectedObjective(ranking.directions[ranked[:, self.rank % len(ranking.directions)]])

    def ranking(self, network: FrozenNetwork, inputs: Tensor, labels: Tensor, threat: Threat) -> Ranking:
        """Return what directions promise, whatever the size of the budget."""
        directions = self.directions(labels.shape[1]).to(inputs)
        prediction, slopes = output_slopes(network, inputs, labels.shape[1])
        errors = (prediction["output"] - labels) @ directions.T
        return Ranking(directions, errors, threat.dual_norms(slopes, directions))

    def loss(self, prediction: Prediction, labels: Tensor) -> Tensor:
        raise AssertionError("directions are chosen at the start of an attack")


def output_slopes(network: FrozenNetwork, inputs: Tensor, targets: int) -> tuple[Prediction, Tensor]:
    """Return the prediction at ``inputs`` and the gradient of each output there, [clips, targets, cells]."""
    passes = [
        network.gradient(inputs, lambda found, k=target: found["output"][:, k])  # type: ignore[misc]
        for target in range(targets)
    ]
    return passes[0][0], torch.stack([gradient.flatten(1) for _, gradient in passes], 1)


def up_and_down(targets: int) -> Tensor:
    """Return the directions up and down of each output in turn, [2 targets, targets]."""
    return torch.stack([torch.eye(targets), -torch.eye(targets)], 1).flatten(0, 1)


@dataclass(frozen=True)
class OutputObjective(RankedObjective):
    """Raise the error of each clip along one output, up or down."""

    rank: int = 0
    name = "outputs"

    def directions(self, targets: int) -> Tensor:
        return up_and_down(targets)


@dataclass(frozen=True)
class SignsObjective(RankedObjective):
    """Raise the error of each clip with a chosen sign of the error of every output.

    The absolute error is the largest of its signed sums, one for each choice of signs, and gradient ascent
    on it gets stuck with the signs that it begins with. On a linear model the choice of rank 0 is the one
    of the global optimum.
    """

    rank: int = 0
    name = "signs"

    def directions(self, targets: int) -> Tensor:
        if targets > MOST_SIGNED:
            what = f"{targets} targets have too many combinations of signs (at most {MOST_SIGNED} targets)"
            raise UserError(what, where="loss signs", mend="Use l1 or outputs")
        return torch.cartesian_prod(*[torch.tensor([1.0, -1.0])] * targets).view(-1, targets)


@dataclass(frozen=True, eq=False)
class _DirectedObjective(ClipObjective):
    """Raise the signed sum of each clip's outputs along its ``directions`` [batch, targets]."""

    directions: Tensor
    name = "directed"

    def loss(self, prediction: Prediction, labels: Tensor) -> Tensor:
        return (self.directions * (prediction["output"] - labels)).sum(1)


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


def objectives(
    names: list[str], targets: tuple[str, ...], concepts: tuple[str, ...] = ()
) -> tuple[Objective, ...]:
    """Return the objectives called ``names``: l1, mse, outputs, signs, corr, up:<name> or down:<name>.

    ``up`` and ``down`` take an emotion of ``targets`` or a concept of ``concepts``. The n-th ``outputs`` or
    ``signs`` is the direction of rank n. Raises UserError for what :func:`check_losses` refuses and for a
    name that the model does not have.
    """
    check_losses(names)
    ranks = [names[:place].count(name) for place, name in enumerate(names)]
    return tuple(_objective(name, rank, targets, concepts) for name, rank in zip(names, ranks, strict=True))


def check_losses(names: Sequence[str]) -> None:
    """Raise UserError, before any model is known, for a name of no loss and for losses that do not mix."""
    for name in names:
        if name not in (*ERROR_LOSSES, "corr") and not STEERED.fullmatch(name):
            mend = f"Use {', '.join(ERROR_LOSSES)}, corr, or up: or down: before an emotion or concept"
            raise UserError(f"{name!r} is no loss", where="parameter loss", mend=mend)
    require_one_metric({name: "mae" if name in ERROR_LOSSES else name for name in names})


def require_one_metric(metrics: Mapping[str, str]) -> None:
    """Raise UserError where losses (name -> main metric) keep different iterates, as no restarts may."""
    if len(set(metrics.values())) != 1:
        names, mend = ", ".join(metrics), f"Give one of them, or several of {', '.join(ERROR_LOSSES)}"
        what = f"{names or 'nothing'} cannot be restarts of one attack: each keeps another iterate"
        raise UserError(what, where="parameter loss", mend=mend)


ERROR_LOSSES = ("l1", "mse", "outputs", "signs")
STEERED = re.compile("(up|down):.+")
# More outputs have more combinations of signs than are worth comparing (2 ^ 12 = 4096).
MOST_SIGNED = 12


def _objective(name: str, rank: int, targets: tuple[str, ...], concepts: tuple[str, ...]) -> Objective:
    if name == "corr":
        return CorrelationObjective()
    if name == "outputs":
        return OutputObjective(rank)
    if name == "signs":
        return SignsObjective(rank)
    if name in LOSSES:
        return ErrorObjective(cast(Literal["l1", "mse"], name))
    way, _, target = name.partition(":")
    steer = partial(SteeringObjective, way=cast(Literal["up", "down"], way), target=target)
    if target in targets:
        return steer("output", targets.index(target))
    if target in concepts:
        return steer("c_prob", concepts.index(target))
    mend = f"Use up: or down: before one of {', '.join((*targets, *concepts))}"
    raise UserError(f"{name!r} is no loss", where="parameter loss", mend=mend)
