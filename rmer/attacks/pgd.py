"""Projected gradient descent (Madry et al., ICLR 2018) and its single step, on multi-output regression."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor

from rmer.attacks.base import Crafted, Passes, Problem
from rmer.attacks.objectives import Objective
from rmer.attacks.search import L1, MSE, Best, ObjectiveAttack, check_search, search_passes
from rmer.attacks.threat import steepest
from rmer.systems.frozen import FrozenNetwork


@dataclass(frozen=True)
class PGD(ObjectiveAttack):
    """Ascend a loss by steps of ``epsilon * relative_step``, projecting after each.

    Each of ``restarts`` starts is drawn at random in the ball; start i follows loss i (taken in turn). Kept
    per clip is the iterate with the largest value of the objective, over all steps and starts and the clean
    clip itself, so that an adversary is never weaker than no attack. ``keep="last"`` returns the last
    iterate instead, whatever its value, and needs no predictions: what adversarial training uses.
    """

    steps: int = 40
    relative_step: float = 0.25
    losses: tuple[Objective, ...] = MSE
    restarts: int = 1
    keep: Literal["best", "last"] = "best"

    name: ClassVar[str] = "pgd"
    random: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        check_search(self.steps, self.restarts, self.name)

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
class SingleStep(ObjectiveAttack):
    """One step to the border of the budget from the clean clip (Goodfellow et al., ICLR 2015)."""

    losses: tuple[Objective, ...] = L1

    name: ClassVar[str] = "single_step"

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
