"""Objectives along a direction in the space of a model's outputs, the most promising one of each clip."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from rmer.attacks.objectives import ClipObjective, Objective
from rmer.attacks.threat import Threat
from rmer.errors import UserError
from rmer.systems.frozen import FrozenNetwork
from rmer.systems.network import Prediction

# More outputs have more combinations of signs than are worth comparing (2 ^ 12 = 4096).
MOST_SIGNED = 12


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
