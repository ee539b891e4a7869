"""The fast gradient sign method (Goodfellow et al., ICLR 2015), on multi-output regression."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from rmer.attacks.objectives import Objective
from rmer.attacks.problem import Problem
from rmer.attacks.result import Crafted, Passes
from rmer.attacks.search import L1, Best, ObjectiveAttack, losses_in_turn, search_passes
from rmer.systems.frozen import FrozenNetwork


@dataclass(frozen=True)
class FGSM(ObjectiveAttack):
    """One step to the border of the budget from the clean clip; in an L2 ball, along the gradient itself."""

    losses: tuple[Objective, ...] = losses_in_turn(L1)

    name: ClassVar[str] = "fgsm"

    def passes(self, targets: int) -> Passes:
        return search_passes(self.losses, len(self.losses), 1, targets)

    def run(self, network: FrozenNetwork, problem: Problem) -> Crafted:
        best = Best.of_clean(network, problem, self.losses[0])
        threat = problem.threat
        for loss in self.losses:
            objective = problem.started(network, loss)
            gradient = objective.ascend(network, problem.inputs, problem.labels).gradient
            step = threat.radius(problem.inputs) * threat.steepest(gradient)
            iterate = threat.project(problem.inputs, problem.inputs + step)
            best.update(iterate, objective.values(network.predict_in_batches(iterate), problem.labels))
        return best.crafted()
