"""Starts that grow longer until two of them agree: steps are spent where there is something left to gain."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor

from rmer.attacks.ascent import POLISHING, climb
from rmer.attacks.losses import NO_DAMAGE
from rmer.attacks.objectives import Objective
from rmer.attacks.problem import Problem
from rmer.attacks.ranked_objectives import MOST_SIGNED, RankedObjective, Ranking, SignsObjective
from rmer.attacks.result import AttackResult, Crafted, Passes
from rmer.attacks.search import L1, Best, ObjectiveAttack, Values, losses_in_turn
from rmer.attacks.threat import Threat
from rmer.errors import UserError
from rmer.parameters import param
from rmer.systems.frozen import FrozenNetwork

# Starts of up to so many steps take finer gradients where others are in bfloat16: they decide small budgets,
# where those miss 1.2 % of the damage, and cost little.
SHORT = 16


@dataclass(frozen=True)
class Escalation(ObjectiveAttack):
    """Ascend from the clean clip, then from random starts of twice the steps each, until two agree.

    A clip is done when what its last start found differs from the best before by ``tolerance`` of the damage
    at most, by every metric that iterates are kept for, or when it had ``starts`` starts. So the clips and
    budgets whose starts still disagree, or whose damage still grows with the steps, get the longest ones.
    Starts take the losses in turn. The signs that the errors of all outputs should have come first: raising
    the L1 error gets stuck with those that it begins with, and misses 1 to 4 % of the damage. Models of more
    outputs than have signs to be compared (:data:`rmer.attacks.objectives.MOST_SIGNED`) do without.
    See :mod:`rmer.attacks.ascent` for the search. All clips and budgets are one pool of work; a joint loss
    is one curve of all clips, which are done together.

    Per-clip columns of the result: ``gradients`` and ``forwards`` spent, ``starts`` made, and ``agreed``.
    """

    first_steps: int = param(8, "steps of the first start, doubled from start to start", low=1, high=100_000)
    starts: int = param(4, "most starts of a clip", low=2, high=20)
    tolerance: float = param(
        0.003, "share of the damage by which starts that agree differ", low=0.0, high=1.0
    )
    losses: tuple[Objective, ...] = losses_in_turn((SignsObjective(0), *L1))

    name: ClassVar[str] = "escalation"
    random: ClassVar[bool] = True
    starts_warm: ClassVar[bool] = True
    pooled: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.starts < 2 or self.first_steps < 1:
            mend = "Raise starts or first_steps"
            raise UserError("needs two starts to compare, of a step at least", where=self.name, mend=mend)

    def passes(self, targets: int) -> Passes:
        """Return the cost of a clip whose starts never agree; a joint loss begins each with a prediction."""
        gradients, forwards = self._passes(self.starts)
        losses = {self._objective(start, targets) for start in range(self.starts)}
        return Passes(gradients + sum(loss.preparation(targets) for loss in losses), forwards)

    @property
    def polishing(self) -> int:
        return POLISHING * sum(self._steps(start) > SHORT for start in range(self.starts))

    def least_passes(self, targets: int) -> Passes:
        """Return the cost of a clip whose first two starts agree, and that is prepared for another budget."""
        return self._passes(2)

    def _passes(self, starts: int) -> Passes:
        steps = sum(map(self._steps, range(starts)))
        return Passes(steps, 1 + starts * (2 if self.joint else 1))

    def run(self, network: FrozenNetwork, problem: Problem) -> Crafted:
        best = Best.of_clean(network, problem, self.losses[0])
        clean, clips = dict(best.values), len(problem.inputs)
        bill = _Bill(clips)
        if problem.clips is None:
            problem = replace(problem, clips=torch.arange(clips))
        rankings = self._rankings(network, problem, bill)
        active = torch.arange(clips, device=problem.inputs.device)
        total = sum(map(self._steps, range(self.starts)))
        for start in range(self.starts):
            before = dict(best.values)
            found = {metric: values.clone() for metric, values in before.items()}
            for number, rows in enumerate(self._batches(network, active)):
                some = problem.of(rows)
                # Random numbers are drawn whether or not the start was made before.
                where = some.inputs if start == 0 else some.random_start()
                name = f"start-{start}-{number}-{len(rows)}"
                made = partial(self._made, network, some, start, where, rankings)
                part = bill.paid(rows, network, lambda: problem.remember(name, made))  # noqa: B023
                best.take_over(rows, part, self.metric)
                for metric in found:
                    found[metric][rows] = part.columns[metric].to(found[metric])
                problem.progress(len(rows) * self._steps(start) / total)
            done = self._agreed(clean, before, best.values, found)[active] & (start > 0)
            left = sum(map(self._steps, range(start + 1, self.starts)))
            problem.progress(int(done.sum()) * left / total)
            active = active[~done]
            if not len(active):
                break
        return self._finished(network, problem, best, bill, active)

    def shared(
        self,
        network: FrozenNetwork,
        inputs: Tensor,
        labels: Tensor,
        threats: Sequence[Threat],
        results: Sequence[AttackResult],
    ) -> list[AttackResult]:
        found = []
        for place, (threat, result) in enumerate(zip(threats, results, strict=True)):
            neighbours = [one for one in (place - 1, place + 1) if 0 <= one < len(threats)]
            problem = Problem(inputs, labels, threat, []).on(network)
            iterates = {self.metric: result.adversaries, **result.also}
            best = Best(network, problem, problem.inputs, {})
            for metric, adversaries in iterates.items():
                mine = adversaries.to(problem.inputs)
                values = self.losses[0].values(network.predict_in_batches(mine), problem.labels)
                best.iterates[metric], best.values[metric] = mine, values[metric]
            cold = dict(best.values)
            for one in neighbours:
                other = replace(problem, threat=threats[one]).on(network).threat
                theirs = {self.metric: results[one].adversaries, **results[one].also}
                for adversaries in theirs.values():
                    scaled = _scaled(problem.inputs, adversaries.to(problem.inputs), problem.threat, other)
                    prediction = network.predict_in_batches(scaled)
                    best.update(scaled, self.losses[0].values(prediction, problem.labels))
            best.columns = {**result.columns, **{f"cold_{metric}": values for metric, values in cold.items()}}
            best.columns["warm_won"] = best.main > cold[self.metric]
            found.append(self.remeasured(inputs, best.crafted(), threat, result))
        return found

    def _finished(
        self, network: FrozenNetwork, problem: Problem, best: Best, bill: _Bill, disagreeing: Tensor
    ) -> Crafted:
        columns = {"gradients": bill.gradients, "forwards": bill.forwards + 1, "starts": bill.starts}
        columns["agreed"] = torch.ones_like(bill.starts, dtype=torch.bool)
        columns["agreed"][disagreeing.cpu()] = False
        if problem.warm_start is not None:
            cold = dict(best.values)
            prediction = network.predict_in_batches(problem.warm_start)
            best.update(problem.warm_start, self.losses[0].values(prediction, problem.labels))
            columns |= {f"cold_{metric}": values for metric, values in cold.items()}
            columns["warm_won"] = best.main > cold[self.metric]
        best.columns = columns
        crafted = best.crafted()
        crafted.gradients, crafted.forwards, crafted.seconds = bill.remembered
        return crafted

    def _steps(self, start: int) -> int:
        return self.first_steps << start

    def _objective(self, start: int, targets: int) -> Objective:
        loss = self.losses[start % len(self.losses)]
        return L1[0] if isinstance(loss, SignsObjective) and targets > MOST_SIGNED else loss

    def _batches(self, network: FrozenNetwork, rows: Tensor) -> list[Tensor]:
        return [rows] if self.joint else [batch for (batch,) in network.batches(rows)]

    def _rankings(
        self, network: FrozenNetwork, problem: Problem, bill: _Bill
    ) -> dict[RankedObjective, Ranking]:
        """Prepare the losses that rank directions, once for all budgets of a clip."""
        assert problem.clips is not None
        targets, found = problem.labels.shape[1], {}
        distinct = torch.arange(int(problem.clips.max()) + 1, device=problem.inputs.device)
        for loss in {self._objective(start, targets): None for start in range(self.starts)}:
            if not isinstance(loss, RankedObjective):
                continue
            parts = []
            for number, rows in enumerate(self._batches(network, distinct)):
                name = f"ranking-{loss.name}-{loss.rank}-{number}-{len(rows)}"
                made = partial(_ranked, network, problem.of(rows), loss)
                parts.append(bill.paid(rows, network, partial(problem.remember, name, made), starts=0))
            errors, reach = (
                torch.cat([part.columns[name].to(problem.inputs) for part in parts])
                for name in ("errors", "reach")
            )
            found[loss] = Ranking(loss.directions(targets).to(problem.inputs), errors, reach)
        return found

    def _made(
        self,
        network: FrozenNetwork,
        some: Problem,
        start: int,
        where: Tensor,
        rankings: Mapping[RankedObjective, Ranking],
    ) -> Crafted:
        """Make one start for some clips; columns hold what it found by each metric."""
        steps = self._steps(start)
        used = network.finer if steps <= SHORT else network
        spent, begun = (network.gradients, network.forwards), time.perf_counter()
        best = Best(used, some, where, {})
        objective = self._objective(start, some.labels.shape[1])
        if isinstance(objective, RankedObjective):
            assert some.clips is not None
            ranking = rankings[objective].of(some.clips.to(where.device))
            objective = objective.chosen(ranking, some.threat.radius(some.inputs).view(-1))
        climb(used, some, objective, where, best, steps=steps)
        best.columns = dict(best.values)
        part = best.crafted()
        part.gradients, part.forwards = network.gradients - spent[0], network.forwards - spent[1]
        part.seconds = time.perf_counter() - begun
        return part

    def _agreed(self, clean: Values, before: Values, best: Values, found: Values) -> Tensor:
        """Return for which clips [clips] the last start found what the best before it had found."""
        agreed = [
            (found[metric] - before[metric]).abs()
            <= self.tolerance * (best[metric] - clean[metric]).clamp_min(NO_DAMAGE)
            for metric in best
        ]
        return torch.stack(agreed).all(0)


def _ranked(network: FrozenNetwork, some: Problem, loss: RankedObjective) -> Crafted:
    """Return a ranking for some clips as columns ``errors`` and ``reach``, and its cost."""
    spent, begun = network.gradients, time.perf_counter()
    ranking = loss.ranking(network.finer, some.inputs, some.labels, some.threat)
    return Crafted(
        some.inputs[:0],
        columns={"errors": ranking.errors, "reach": ranking.reach},
        gradients=network.gradients - spent,
        seconds=time.perf_counter() - begun,
    )


def _scaled(inputs: Tensor, adversaries: Tensor, threat: Threat, other: Threat) -> Tensor:
    """Return adversaries of another budget with perturbations scaled to this one, within it."""
    ratio = threat.radius(inputs) / other.radius(inputs)
    return threat.project(inputs, inputs + (adversaries - inputs) * ratio)


class _Bill:
    """What each clip has spent; ``remembered`` is what was spent before this process, of starts made then."""

    def __init__(self, clips: int) -> None:
        self.gradients, self.forwards, self.starts = torch.zeros(3, clips, dtype=torch.int64)
        self.remembered = (0, 0, 0.0)

    def paid(
        self, rows: Tensor, network: FrozenNetwork, start: Callable[[], Crafted], starts: int = 1
    ) -> Crafted:
        """Make a start for some clips, or take it from before, and note what it cost."""
        spent, begun = (network.gradients, network.forwards), time.perf_counter()
        part, rows = start(), rows.cpu()
        self.gradients[rows] += part.gradients // len(rows)
        self.forwards[rows] += part.forwards // len(rows)
        self.starts[rows] += starts
        gradients, forwards, seconds = self.remembered
        self.remembered = (
            gradients + part.gradients - (network.gradients - spent[0]),
            forwards + part.forwards - (network.forwards - spent[1]),
            seconds + max(0.0, part.seconds - (time.perf_counter() - begun)),
        )
        return part
