"""Projected gradient descent (Madry et al., ICLR 2018), on multi-output regression."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor

from rmer.attacks.objectives import Objective
from rmer.attacks.problem import Problem
from rmer.attacks.result import Crafted, Passes
from rmer.attacks.search import (
    MSE,
    Best,
    ObjectiveAttack,
    check_search,
    losses_in_turn,
    random_starts,
    search_passes,
    steps_of_a_start,
)
from rmer.systems.frozen import FrozenNetwork


@dataclass(frozen=True)
class PGD(ObjectiveAttack):
    """Ascend a loss by steps of ``epsilon * relative_step``, projecting after each.

    Each of ``restarts`` starts is drawn at random in the ball; start i follows loss i (taken in turn). Kept
    per clip is the iterate with the largest value of the objective, over all steps and starts and the clean
    clip itself, so that an adversary is never weaker than no attack. ``keep="last"`` returns the last
    iterate instead, whatever its value, and needs no predictions: what adversarial training uses.
    """

    steps: int = steps_of_a_start(40)
    relative_step: float = 0.25
    losses: tuple[Objective, ...] = losses_in_turn(MSE)
    restarts: int = random_starts(1)
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
                best.note(network, iterate, objective.values(prediction, problem.labels))
                iterate = self._moved(problem, iterate, gradient)
            best.settle(objective, iterate)
        return best.crafted()

    def _last(self, network: FrozenNetwork, problem: Problem) -> Tensor:
        objective = problem.started(network, self.losses[0])
        iterate = problem.random_start()
        for _ in range(self.steps):
            iterate = self._moved(
                problem, iterate, objective.ascend(network, iterate, problem.labels).gradient
            )
        return iterate

    def _moved(self, problem: Problem, iterate: Tensor, gradient: Tensor) -> Tensor:
        threat = problem.threat
        step = threat.radius(iterate) * self.relative_step * threat.steepest(gradient)
        return threat.project(problem.inputs, iterate + step)
