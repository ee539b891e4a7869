"""Minimum-norm attack: the smallest budget at which a clip's error grows by a given amount."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from rmer.attacks.apgd import APGD
from rmer.attacks.base import Attack, require_none
from rmer.attacks.fgsm import FGSM
from rmer.attacks.method import Aim, Setting, settings_of
from rmer.attacks.pgd import PGD
from rmer.attacks.problem import Problem
from rmer.attacks.result import Crafted, Passes
from rmer.attacks.search import MSE
from rmer.attacks.threat import beside
from rmer.errors import UserError
from rmer.parameters import param
from rmer.systems.frozen import FrozenNetwork

# What is asked within each radius, unless something else is named.
WITHIN_RADIUS = APGD(20, MSE, restarts=1)


@dataclass(frozen=True)
class MinimumNorm(Attack):
    """Bisect the radius of the ball, for each clip on its own, between 0 and the threat's epsilon.

    A radius counts as enough where the adversary that ``inner`` finds within it raises the clip's value (its
    MAE; the first value of ``inner``'s objective) by ``growth`` over the clean clip's. What is found is
    therefore an upper bound on the smallest radius, exact where ``inner`` finds the optimum, and no wider
    than epsilon / 2^``bisections`` above a radius at which ``inner`` failed.

    Column ``minimum_epsilon`` [clips] is the radius found, in the units of ``Threat.epsilon``, and each
    adversary lies within its own; it is NaN where even the whole epsilon is not enough, and the adversary
    is then the one of the whole epsilon.
    """

    growth: float = param(0.1, "growth of a clip's MAE that is looked for", low=1e-12, high=1e6)
    inner: APGD | PGD | FGSM = WITHIN_RADIUS
    bisections: int = param(10, "bisections of the budget", low=1, high=60)

    name: ClassVar[str] = "minimum_norm"
    epsilon: ClassVar[float] = 0.1
    needs_budget: ClassVar[bool] = True
    random: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.inner.joint:
            mend = "Use loss l1 or mse"
            raise UserError("a joint objective has no error of each clip", where=self.name, mend=mend)
        if not self.growth > 0:
            raise UserError(f"{self.growth} is no growth", where="growth", mend="Give a number > 0")
        if self.bisections < 1:
            raise UserError("needs at least one bisection", where=self.name, mend="Raise bisections")

    @classmethod
    def settings(cls) -> Mapping[str, Setting]:
        return {"steps": settings_of(WITHIN_RADIUS)["steps"], **super().settings()}

    @classmethod
    def built(cls, settings: Mapping[str, Any], aim: Aim) -> Attack:
        own = dict(settings)
        return cls(inner=replace(WITHIN_RADIUS, steps=own.pop("steps")), **own)

    @property
    def metric(self) -> str:
        return self.inner.metric

    def passes(self, targets: int) -> Passes:
        """Return the cost of a clip whose whole budget is enough; the others cost less."""
        gradients, forwards = self.inner.passes(targets)
        runs = 1 + self.bisections
        return Passes(runs * gradients, 1 + runs * (forwards + 1))

    def run(self, network: FrozenNetwork, problem: Problem) -> Crafted:
        goal = self._values(network, problem, problem.inputs) + self.growth
        adversaries = self._within(network, problem)
        reached = self._values(network, problem, adversaries) >= goal
        minimum = torch.where(reached, _epsilons(problem), torch.nan)
        # The one place where a GPU is waited for: what follows is for these clips alone.
        rows = reached.nonzero().flatten()
        if len(rows):
            some = problem.of(rows)
            found, minimum[rows] = self._bisected(network, some, adversaries[rows], goal[rows])
            threat = replace(some.threat, epsilon=minimum[rows])
            require_none(threat.violations(some.inputs, found), threat, self.name)
            adversaries = adversaries.index_copy(0, rows, found)
        return Crafted(adversaries, columns={"minimum_epsilon": minimum})

    def _bisected(
        self, network: FrozenNetwork, problem: Problem, adversaries: Tensor, goal: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return adversaries and radii [clips] of clips whose whole budget is enough."""
        enough = _epsilons(problem)
        short = torch.zeros_like(enough)
        for _ in range(self.bisections):
            middle = self.between(short, enough)
            narrowed = replace(problem, threat=replace(problem.threat, epsilon=middle))
            found = self._within(network, narrowed)
            hit = self._values(network, problem, found) >= goal
            adversaries = torch.where(beside(hit, found), found, adversaries)
            enough = torch.where(hit, middle, enough)
            short = torch.where(hit, short, middle)
        return adversaries, enough

    def between(self, short: Tensor, enough: Tensor) -> Tensor:
        """Return the next radii [clips] between those that are too short and those that are enough."""
        return (short + enough) / 2

    def _within(self, network: FrozenNetwork, problem: Problem) -> Tensor:
        return problem.threat.settle(problem.inputs, self.inner.run(network, problem).adversaries)

    def _values(self, network: FrozenNetwork, problem: Problem, inputs: Tensor) -> Tensor:
        prediction = network.predict_in_batches(inputs)
        return next(iter(self.inner.losses[0].values(prediction, problem.labels).values()))


def _epsilons(problem: Problem) -> Tensor:
    """Return the epsilon of each clip, float64 [clips], beside the inputs."""
    return problem.threat.epsilons(len(problem.inputs)).to(problem.inputs.device)
