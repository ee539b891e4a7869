"""Transfer: adversaries crafted on one network, handed to another."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar

from torch import nn

from rmer.attacks.apgd import APGD
from rmer.attacks.base import Attack
from rmer.attacks.method import Aim, Setting, settings_of
from rmer.attacks.problem import Problem
from rmer.attacks.result import Crafted, Passes
from rmer.attacks.search import MSE
from rmer.errors import UserError
from rmer.systems.frozen import FrozenNetwork

# What the surrogate is attacked by, unless something else is named.
ON_SURROGATE = APGD(100, MSE, restarts=1)


@dataclass(frozen=True, eq=False)
class Transfer(Attack):
    """Attack ``surrogate`` by ``inner`` within the victim's threat model; the victim is asked nothing.

    Everything, the ranking of directions and the choice of the best iterate included, is done by the
    surrogate: a choice by the victim's error would be an attack by queries. Random numbers are those that
    ``inner`` would draw on the victim with the same seed, so that a victim that is its own surrogate meets
    the same fate as under ``inner``. Gradients and forward passes of the surrogate are the result's cost.

    The surrogate gets the victim's inputs: one that was trained on otherwise standardised spectrograms has
    to be wrapped in a module that converts them.
    """

    surrogate: FrozenNetwork | nn.Module
    inner: Attack = ON_SURROGATE

    name: ClassVar[str] = "transfer"
    takes_surrogate: ClassVar[bool] = True
    needs_surrogate: ClassVar[bool] = True
    random: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not self.inner.enforced:
            mend = "Use an attack that does"
            raise UserError(f"{self.inner.name} holds no budget", where=self.name, mend=mend)

    @classmethod
    def settings(cls) -> Mapping[str, Setting]:
        return {"steps": settings_of(ON_SURROGATE)["steps"]}

    @classmethod
    def built(cls, settings: Mapping[str, Any], aim: Aim) -> Attack:
        inner = replace(ON_SURROGATE, **settings)
        # Without a surrogate there is only a cost to be told, which is that of the attack on it.
        return inner if aim.surrogate is None else cls(aim.surrogate, inner)

    @property
    def joint(self) -> bool:
        return self.inner.joint

    @property
    def metric(self) -> str:
        return self.inner.metric

    def passes(self, targets: int) -> Passes:
        return self.inner.passes(targets)

    @cached_property
    def network(self) -> FrozenNetwork:
        """The surrogate, made ready once for all batches."""
        given = self.surrogate
        return given if isinstance(given, FrozenNetwork) else FrozenNetwork(given)

    def run(self, network: FrozenNetwork, problem: Problem) -> Crafted:
        spent = (self.network.gradients, self.network.forwards)
        part = self.inner.run(self.network, problem.on(self.network))
        # The base class counts the passes of the victim itself.
        own = network is self.network
        return Crafted(
            part.adversaries.to(problem.inputs),
            {metric: values.to(problem.inputs) for metric, values in part.also.items()},
            part.columns,
            gradients=part.gradients + (0 if own else self.network.gradients - spent[0]),
            forwards=part.forwards + (0 if own else self.network.forwards - spent[1]),
        )
