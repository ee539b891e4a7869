"""Projected gradient descent (Madry et al., ICLR 2018) and its single step, on multi-output regression."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor

from rmer.attacks.base import Attack, Best, Crafted, Passes, Problem
from rmer.attacks.objectives import ErrorObjective, Objective
from rmer.attacks.threat import steepest
from rmer.errors import UserError
from rmer.systems.frozen import FrozenNetwork

ERROR = (ErrorObjective("mse"),)


@dataclass(frozen=True)
class PGD(Attack):
    """Ascend a loss by steps of ``epsilon * relative_step``, projecting after each.

    Each of ``restarts`` starts is drawn at random in the ball; start i follows loss i (taken in turn). Kept
    per clip is the iterate with the largest value of the objective, over all steps and starts and the clean
    clip itself, so that an adversary is never weaker than no attack. ``keep="last"`` returns the last
    iterate instead, whatever its value, and needs no predictions: what adversarial training uses.
    """

    steps: int = 40
    relative_step: float = 0.25
    losses: tuple[Objective, ...] = ERROR
    restarts: int = 1
    keep: Literal["best", "last"] = "best"

    name: ClassVar[str] = "pgd"
    random: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_search(self.steps, self.restarts, self.name)

    @property
    def joint(self) -> bool:
        return self.losses[0].joint

    @property
    def metric(self) -> str:
        return self.losses[0].metric

    def passes(self, targets: int) -> Passes:
        if self.keep == "last":
            return Passes(self.steps + self.losses[0].preparation(targets), 0)
        return search_passes(self.losses, self.restarts, self.steps, targets)

    def run(self, network: FrozenNetwork, problem: Problem) -> Crafted:
        if self.keep == "last":
            return Crafted(self._last(network, problem))
        best = Best.of_clean(network, problem, self.losses[0])
        for start in range(self.restarts):
            objective = problem.started(network, self.losses[start % len(self.losses)])
            iterate = problem.random_start()
            for _ in range(self.steps):
                prediction, _, gradient = objective.ascend(network, iterate, problem.labels)
                best.update(iterate, objective.values(prediction, problem.labels))
                iterate = self._moved(problem, iterate, gradient)
            final = network.predict_in_batches(iterate)
            best.update(iterate, objective.values(final, problem.labels))
        return best.crafted()

    def _last(self, network: FrozenNetwork, problem: Problem) -> Tensor:
        objective = problem.started(network, self.losses[0])
        iterate = problem.random_start()
        for _ in range(self.steps):
            gradient = objective.direction(network, iterate, problem.labels)
            iterate = self._moved(problem, iterate, gradient)
        return iterate

    def _moved(self, problem: Problem, iterate: Tensor, gradient: Tensor) -> Tensor:
        threat = problem.threat
        step = threat.radius(iterate) * self.relative_step * steepest(gradient, threat.norm)
        return threat.project(problem.inputs, iterate + step)


@dataclass(frozen=True)
class SingleStep(Attack):
    """One step to the border of the budget from the clean clip (Goodfellow et al., ICLR 2015)."""

    losses: tuple[Objective, ...] = ERROR

    name: ClassVar[str] = "single_step"

    @property
    def joint(self) -> bool:
        return self.losses[0].joint

    @property
    def metric(self) -> str:
        return self.losses[0].metric

    def passes(self, targets: int) -> Passes:
        return search_passes(self.losses, len(self.losses), 1, targets)

    def run(self, network: FrozenNetwork, problem: Problem) -> Crafted:
        best = Best.of_clean(network, problem, self.losses[0])
        threat = problem.threat
        for loss in self.losses:
            objective = problem.started(network, loss)
            gradient = objective.ascend(network, problem.inputs, problem.labels).gradient
            step = threat.radius(problem.inputs) * steepest(gradient, threat.norm)
            iterate = threat.project(problem.inputs, problem.inputs + step)
            final = network.predict_in_batches(iterate)
            best.update(iterate, objective.values(final, problem.labels))
        return best.crafted()


def search_passes(losses: Sequence[Objective], starts: int, steps: int, targets: int) -> Passes:
    """Return the cost a clip of a search that keeps the best iterate: one prediction clean, one a start."""
    followed = [losses[start % len(losses)] for start in range(starts)]
    gradients = sum(steps + loss.preparation(targets) for loss in followed)
    # A joint loss is a function of all clips: their predictions come first, gradients batch by batch after.
    joint = sum(steps for loss in followed if loss.joint)
    return Passes(gradients, 1 + starts + joint)


def check_search(steps: int, restarts: int, name: str) -> None:
    """Raise UserError where a search has no step or no start."""
    if steps < 1 or restarts < 1:
        raise UserError("needs at least one step and one start", where=name, mend="Raise steps or restarts")
