"""What attacks share that follow objectives: the metric attacked, the best iterates so far, and the cost."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from rmer.attacks.base import Attack
from rmer.attacks.method import Aim
from rmer.attacks.named_objectives import check_losses, objectives, require_one_metric
from rmer.attacks.objectives import ErrorObjective, Objective
from rmer.attacks.problem import Problem
from rmer.attacks.result import Crafted, Passes
from rmer.attacks.threat import beside
from rmer.errors import UserError
from rmer.parameters import listed, param
from rmer.systems.frozen import FrozenNetwork

L1 = (ErrorObjective("l1"),)
MSE = (ErrorObjective("mse"),)


def steps_of_a_start(default: int) -> Any:
    """Declare the setting ``steps``."""
    return param(default, "steps of a start", low=1, high=10_000_000)


def random_starts(default: int) -> Any:
    """Declare the setting ``restarts``."""
    return param(default, "random starts", low=1, high=10_000)


def losses_in_turn(default: tuple[Objective, ...]) -> Any:
    """Declare the setting ``loss``, which names the objectives in text."""
    declared = param(
        default,
        "losses of the starts, in turn: l1, mse, outputs, signs; or one of corr, up:<emotion or concept>, "
        "down:<...>",
    )
    return dataclasses.field(default=default, metadata={**declared.metadata, "option": "loss"})


Values = dict[str, Tensor]  # metric -> value of each clip [batch], to be raised

# Iterates of a search a metric that are predicted again, where it knows them in bfloat16 alone; one where
# only later convolutions are.
CANDIDATES = 2


class ObjectiveAttack(Attack):
    """Base class of attacks with ``losses``, of which the first one says what is attacked.

    Start i follows loss i, taken in turn; all keep the best iterates by the same metrics.
    """

    losses: tuple[Objective, ...]

    def __post_init__(self) -> None:
        require_one_metric({loss.name: loss.metric for loss in self.losses})

    @classmethod
    def check(cls, given: Mapping[str, Any]) -> None:
        """Raise UserError for losses that are none, do not mix, or are more than there are starts."""
        if "loss" not in given:
            return
        losses, restarts = listed(given["loss"]), cls.settings().get("restarts")
        check_losses(losses)
        starts = given.get("restarts", restarts and restarts.default)
        if starts is not None and len(losses) > starts:
            there = f"there {'is' if starts == 1 else 'are'} {starts}"
            what = f"{len(losses)} losses ({', '.join(losses)}) need as many starts, and {there}"
            raise UserError(what, where="parameter loss", mend="Raise restarts, or leave some out")

    @classmethod
    def built(cls, settings: Mapping[str, Any], aim: Aim) -> Attack:
        given = dict(settings)
        if "loss" in given:
            names = listed(given.pop("loss"))
            followed = [names[start % len(names)] for start in range(given.get("restarts", len(names)))]
            given["losses"] = objectives(followed, aim.targets, aim.concepts)
        return super().built(given, aim)

    @property
    def joint(self) -> bool:
        return self.losses[0].joint

    @property
    def metric(self) -> str:
        return self.losses[0].metric


class Best:
    """The best iterates of each clip so far, one for each metric, by values to be raised; NaN never wins.

    Values are those of predictions in float32. Iterates that a search knows in bfloat16 alone
    (:meth:`note`) are candidates, of which the best few a metric are predicted again (:meth:`settle`).
    """

    def __init__(self, network: FrozenNetwork, problem: Problem, iterates: Tensor, values: Values) -> None:
        self.network, self.problem = network, problem
        self.iterates = dict.fromkeys(values, iterates)
        self.values = dict(values)
        self.columns: dict[str, Tensor] = {}
        self._candidates: dict[str, list[tuple[list[Tensor], Tensor]]] = {}

    @classmethod
    def of_clean(cls, network: FrozenNetwork, problem: Problem, objective: Objective) -> Best:
        """Begin with the clean clips, so that no adversary is weaker than no attack."""
        prediction = network.predict_in_batches(problem.inputs)
        return cls(network, problem, problem.inputs, objective.values(prediction, problem.labels))

    @property
    def main(self) -> Tensor:
        """Best values [batch] of the main metric."""
        return next(iter(self.values.values()))

    def note(self, network: FrozenNetwork, iterates: Tensor, values: Values) -> None:
        """Take in iterates of a search with the values that came with gradients of ``network``."""
        if network.precision == "fp32":
            self.update(iterates, values)
            return
        most = 1 if network is self.network.finer else CANDIDATES
        for metric, found in values.items():
            self._hold(self._candidates.setdefault(metric, []), iterates, found, most)

    def _hold(
        self, kept: list[tuple[list[Tensor], Tensor]], iterates: Tensor, found: Tensor, most: int
    ) -> None:
        """Keep the iterates of the largest values of each clip, in order; each is copied once at most."""
        rows: list[Tensor] = list(iterates)
        least = kept[-1][1] if len(kept) >= most else None
        for row in range(len(rows)) if least is None else (found > least).nonzero().flatten().tolist():
            rows[row] = rows[row].clone()  # lest it keeps all others of its step
        for place, (others, known) in enumerate(kept):
            rises = found > known
            pairs = list(zip(rises.tolist(), rows, others, strict=True))
            kept[place] = (
                [new if better else old for better, new, old in pairs],
                torch.where(rises, found, known),
            )
            rows = [old if better else new for better, new, old in pairs]
            found = torch.where(rises, known, found)
        if len(kept) < most:
            kept.append((rows, found))

    def promising(self, metric: str) -> Tensor:
        """Return what seems the best by a metric before candidates are predicted again, [batch, ...]."""
        rows, found = self._candidates[metric][0]
        iterates = torch.stack(rows)
        if metric not in self.values:
            return iterates
        return torch.where(
            beside(_better(found, self.values[metric]), iterates), iterates, self.iterates[metric]
        )

    def settle(self, objective: Objective, last: Tensor) -> None:
        """Predict the ``last`` iterate of a search and its candidates, and take over each that is better.

        Of the first candidates it is learnt by how much the two predictions differ, and so which of the
        others could still be better.
        """
        self.update(last, self._valued(objective, last, self.problem.labels))
        predicted = [last]
        for metric, kept in self._candidates.items():
            margin: Tensor | None = None
            for rows, found in kept:
                iterates = torch.stack(rows)
                hopeful = found == found if margin is None else found + margin > self.values[metric]
                for others in () if objective.joint else predicted:  # one search has one for two metrics
                    hopeful = hopeful & (iterates != others).flatten(1).any(1)
                predicted.append(iterates)
                exact = self._decided(objective, iterates, hopeful)
                if margin is None and metric in exact:
                    margin = 2 * (exact[metric] - found)[hopeful].abs().max()
        self._candidates = {}

    def _decided(self, objective: Objective, iterates: Tensor, hopeful: Tensor) -> Values:
        """Predict the ``hopeful`` [batch] of the iterates, take over the better ones; the others are NaN."""
        rows = hopeful.nonzero().flatten()
        if not len(rows):
            return {}
        if objective.joint:  # its value is one of all clips together
            rows = torch.arange(len(iterates), device=iterates.device)
        some = self._valued(objective, iterates[rows], self.problem.labels[rows])
        values = {
            metric: torch.full_like(self.values[metric], torch.nan).index_copy(0, rows, found)
            for metric, found in some.items()
        }
        self.update(iterates, values)
        return values

    def _valued(self, objective: Objective, iterates: Tensor, labels: Tensor) -> Values:
        return objective.values(self.network.predict_in_batches(iterates), labels)

    def update(self, iterates: Tensor, values: Values) -> None:
        """Take over each clip whose value rose."""
        for metric, found in values.items():
            if metric not in self.values:
                self.iterates[metric], self.values[metric] = iterates, found
                continue
            better = _better(found, self.values[metric])
            self.iterates[metric] = torch.where(beside(better, iterates), iterates, self.iterates[metric])
            self.values[metric] = torch.where(better, found, self.values[metric])

    def take_over(self, rows: Tensor, part: Crafted, metric: str) -> None:
        """Take in what a search for some of the clips found, by its columns metric -> values [rows].

        ``metric`` is the main one, which ``part.adversaries`` are the best by.
        """
        for name, iterates in {metric: part.adversaries, **part.also}.items():
            known, found = self.values[name][rows], part.columns[name].to(self.values[name])
            better = _better(found, known)
            self.values[name] = self.values[name].index_copy(0, rows, torch.where(better, found, known))
            wide, mine = beside(better, iterates), self.iterates[name]
            chosen = torch.where(wide, iterates.to(mine), mine[rows])
            self.iterates[name] = mine.index_copy(0, rows, chosen)

    def crafted(self) -> Crafted:
        """Return what was found."""
        also = dict(self.iterates)
        return Crafted(also.pop(next(iter(also))), also, self.columns)


def _better(found: Tensor, known: Tensor) -> Tensor:
    """Return where values rise; one that is NaN, of a clean clip, gives way to the first that is a number."""
    return (found > known) | (known.isnan() & ~found.isnan())


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
