"""Projected gradient descent (Madry et al., ICLR 2018) on a multi-output regression model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from rmer.attacks.base import Attack, Crafted
from rmer.attacks.losses import LOSSES, absolute_error
from rmer.attacks.threat import Threat, l2_norms
from rmer.errors import UserError
from rmer.systems.frozen import FrozenNetwork


@dataclass(frozen=True)
class PGD(Attack):
    """Ascend the loss by steps of ``epsilon * relative_step``, projecting after each.

    Kept per clip is the iterate with the largest mean absolute error, over all steps and restarts and the
    clean clip itself, so that an adversary is never weaker than no attack. ``loss`` supplies gradients only.
    """

    steps: int = 40
    relative_step: float = 0.25
    loss: str = "mse"
    restarts: int = 1

    name: ClassVar[str] = "pgd"

    def __post_init__(self) -> None:
        if self.loss not in LOSSES:
            raise UserError(f"{self.loss!r} is no loss", where="loss", mend=f"Use {' or '.join(LOSSES)}")
        if self.steps < 1 or self.restarts < 1:
            raise UserError(
                "needs at least one step and one start", where="pgd", mend="Raise steps or restarts"
            )

    @property
    def starts(self) -> int:
        return self.restarts

    def run(
        self, network: FrozenNetwork, inputs: Tensor, labels: Tensor, threat: Threat, noise: Tensor
    ) -> Crafted:
        best = Best(inputs, absolute_error(network.outputs(inputs), labels))
        for start in noise.unbind(1):
            iterate = threat.random_start(inputs, start)
            for _ in range(self.steps):
                outputs, gradient = network.gradient(iterate, lambda out: LOSSES[self.loss](out, labels))
                best.update(iterate, absolute_error(outputs, labels))
                step = threat.epsilon * self.relative_step * _steepest(gradient, threat)
                iterate = threat.project(inputs, iterate + step)
            best.update(iterate, absolute_error(network.outputs(iterate), labels))
        passes = torch.full((len(inputs),), self.steps * self.restarts)
        return Crafted(best.iterates, {"iterations": passes})


class Best:
    """The best iterate of each clip so far, by a value to be maximised; NaN never wins."""

    def __init__(self, iterates: Tensor, values: Tensor) -> None:
        self.iterates = iterates.clone()
        self.values = values.clone()

    def update(self, iterates: Tensor, values: Tensor) -> None:
        """Take over each clip whose value rose."""
        better = values > self.values
        self.iterates = torch.where(better.view(-1, 1, 1, 1), iterates, self.iterates)
        self.values = torch.where(better, values, self.values)


def _steepest(gradient: Tensor, threat: Threat) -> Tensor:
    """Direction of steepest ascent in the norm's unit ball."""
    if threat.norm == "linf":
        return gradient.sign()
    sizes = l2_norms(gradient).clamp_min(torch.finfo(gradient.dtype).tiny)
    return gradient / sizes.view(-1, 1, 1, 1)
