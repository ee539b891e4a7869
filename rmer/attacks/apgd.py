"""Auto-PGD (Croce & Hein, ICML 2020): PGD with momentum whose step size halves where progress stalls."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from rmer.attacks.ascent import POLISHING, polish
from rmer.attacks.objectives import Objective
from rmer.attacks.problem import Problem
from rmer.attacks.result import Crafted, Passes
from rmer.attacks.search import (
    L1,
    MSE,
    Best,
    ObjectiveAttack,
    check_search,
    losses_in_turn,
    random_starts,
    search_passes,
    steps_of_a_start,
)
from rmer.attacks.threat import beside
from rmer.systems.frozen import FrozenNetwork

MOMENTUM = 0.75
# Share of the steps since the last checkpoint that must raise the loss, or the step size is halved.
RISING = 0.75


@dataclass(frozen=True)
class APGD(ObjectiveAttack):
    """Ascend a loss by projected steps with momentum, the step size of each clip falling from 2 epsilon.

    At the checkpoints of the paper a clip's step is halved where fewer than 75 % of its steps since the last
    one raised its loss, or where neither its step nor its best loss changed; it then goes on from its best
    point. Restarts, losses and what is kept are as in :class:`rmer.attacks.pgd.PGD`; where the problem has a
    warm start, one more search begins there.
    """

    steps: int = steps_of_a_start(100)
    losses: tuple[Objective, ...] = losses_in_turn((*L1, *MSE))
    restarts: int = random_starts(2)

    name: ClassVar[str] = "apgd"
    starts_warm: ClassVar[bool] = True
    random: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        check_search(self.steps, self.restarts, self.name)

    def passes(self, targets: int) -> Passes:
        return search_passes(self.losses, self.restarts, self.steps, targets)

    @property
    def polishing(self) -> int:
        return POLISHING

    def run(self, network: FrozenNetwork, problem: Problem) -> Crafted:
        best = Best.of_clean(network, problem, self.losses[0])
        for start in range(self.restarts):
            objective = problem.started(network, self.losses[start % len(self.losses)])
            self._search(network, problem, objective, problem.random_start(), best)
        polish(problem, self.losses[0], best)
        if problem.warm_start is not None:
            cold = dict(best.values)
            objective = problem.started(network, self.losses[0])
            self._search(network, problem, objective, problem.warm_start, best)
            polish(problem, objective, best)
            # Sanity checks judge cold starts alone, and how often warm ones win is reported.
            best.columns = {f"cold_{metric}": values for metric, values in cold.items()}
            best.columns["warm_won"] = best.main > cold[self.metric]
        return best.crafted()

    def _search(
        self, network: FrozenNetwork, problem: Problem, objective: Objective, iterate: Tensor, best: Best
    ) -> None:
        """Follow one objective from one start, noting every iterate in ``best``."""
        threat, labels = problem.threat, problem.labels
        step = beside(2.0 * threat.radius(iterate).flatten().expand(len(iterate)), iterate)
        at = objective.ascend(network, iterate, labels)
        best.note(network, iterate, objective.values(at.prediction, labels))
        search = _Progress(iterate, at.loss, at.gradient)
        previous, gradient = iterate, at.gradient
        checks = checkpoints(self.steps)
        for number in range(1, self.steps + 1):
            ahead = threat.project(problem.inputs, iterate + step * threat.steepest(gradient))
            share = 1.0 if number == 1 else MOMENTUM
            moved = iterate + share * (ahead - iterate) + (1.0 - share) * (iterate - previous)
            previous, iterate = iterate, threat.project(problem.inputs, moved)
            if number == self.steps:  # nothing follows, so no gradient is needed
                best.settle(objective, iterate)
                return
            at = objective.ascend(network, iterate, labels)
            best.note(network, iterate, objective.values(at.prediction, labels))
            search.note(iterate, at.loss, at.gradient)
            gradient = at.gradient
            if number in checks:
                halve = search.stalled(checks[number])
                step = torch.where(halve, step / 2, step)
                iterate = torch.where(halve, search.iterate, iterate)
                gradient = torch.where(halve, search.gradient, gradient)


def checkpoints(steps: int) -> dict[int, int]:
    """Return step -> steps since the checkpoint before it: at shares 0, .22, .41, ... of the steps."""
    percents = [0, 22]  # whole numbers: .57 as a sum of floats would end up at step 58 of 100
    while percents[-1] < 100:
        percents.append(percents[-1] + max(percents[-1] - percents[-2] - 3, 6))
    places = sorted({-(-percent * steps // 100) for percent in percents if percent <= 100})
    return {here: here - before for before, here in itertools.pairwise(places)}


class _Progress:
    """Best point by the loss itself, and whether a clip still makes progress (conditions 1 and 2)."""

    def __init__(self, iterate: Tensor, loss: Tensor, gradient: Tensor) -> None:
        self.iterate, self.gradient = iterate, gradient
        self.loss, self.last = loss, loss
        self.rises = torch.zeros(len(loss), dtype=torch.int64, device=loss.device)
        self.loss_at_check = loss
        self.halved_at_check = torch.zeros(len(loss), dtype=torch.bool, device=loss.device)

    def note(self, iterate: Tensor, loss: Tensor, gradient: Tensor) -> None:
        self.rises += loss > self.last
        self.last = loss
        better = loss > self.loss
        wide = beside(better, iterate)
        self.iterate = torch.where(wide, iterate, self.iterate)
        self.gradient = torch.where(wide, gradient, self.gradient)
        self.loss = torch.where(better, loss, self.loss)

    def stalled(self, steps: int) -> Tensor:
        """Return which clips halve their step [clips, 1, ...], at a checkpoint after ``steps`` steps."""
        unchanged = ~self.halved_at_check & (self.loss <= self.loss_at_check)
        halve = (self.rises < RISING * steps) | unchanged
        self.halved_at_check, self.loss_at_check = halve, self.loss
        self.rises = torch.zeros_like(self.rises)
        self.last = torch.where(halve, self.loss, self.last)
        return beside(halve, self.iterate)
