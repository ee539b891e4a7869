"""The attack of the published study, and its bridge form with the budget enforced.

Source: Hoedt, Flexer, Widmer, SMC 2025, as run by the accompanying code. Two of its properties are kept on
purpose, because the published numbers contain them: epsilon is not enforced, and the prediction reported
is the last iterate's while the perturbation kept is that of the last *hit* (see ``docs/protocols.md``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from rmer.attacks.base import Attack
from rmer.attacks.losses import correlation, squared_error
from rmer.attacks.problem import Problem
from rmer.attacks.result import Crafted, Passes
from rmer.errors import UserError
from rmer.parameters import param
from rmer.systems.frozen import FrozenNetwork
from rmer.systems.network import Prediction

# Optimisers of torch.optim that act on each cell alone, so that clips of a batch do not interact.
OPTIMISERS = (
    "Adam", "AdamW", "Adamax", "Adagrad", "Adadelta", "NAdam", "RAdam", "RMSprop", "Rprop", "SGD", "ASGD",
)  # fmt: skip
# Iterations from one look at convergence to the next. A look waits for a GPU, so it is rare there: clips stay
# as they were when they converged, and gradients are taken and counted until the look.
LOOK_EVERY = {"cpu": 1, "cuda": 50}


@dataclass(frozen=True)
class PublishedAttack(Attack):
    """Ascend the MSE to the labels with an optimiser fed the gradient's sign, from a zero perturbation.

    Before each update the clip's ``conv_method`` value is compared with a threshold: Pearson correlation
    over the clip's targets, to be lowered, or mean squared error, to be raised. A hit keeps the current
    perturbation and moves the threshold by .1; a hit at the last threshold ends that clip's attack.
    ``alpha`` adds the published penalty: a second step that shrinks the perturbation.
    """

    max_iters: int = param(1000, "iterations", low=1, high=10_000_000)
    lr: float = param(0.002, "learning rate", low=1e-12, high=1e6)
    conv_method: Literal["corr", "mse"] = param("corr", "criterion")
    sign: bool = param(True, "step along the gradient's sign")
    optimiser: str = param("Adam", "optimiser of torch.optim", choices=OPTIMISERS)
    alpha: float | None = param(None, "weight of the loss against a penalty on the perturbation", low=1e-12)
    exact: bool = True  # whether thresholds are compared with float32 predictions beside reduced gradients

    name: ClassVar[str] = "published"
    on_sound: ClassVar[bool] = False
    protocol: ClassVar[str] = "published"
    epsilon: ClassVar[float] = 0.001
    enforced: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.optimiser not in OPTIMISERS:
            mend = f"Use one of {', '.join(OPTIMISERS)}"
            raise UserError(f"{self.optimiser!r} is not one of its optimisers", where="optimiser", mend=mend)
        if self.conv_method not in ("corr", "mse"):
            mend = "Use corr or mse"
            raise UserError(f"{self.conv_method!r} is no criterion", where="conv_method", mend=mend)

    def passes(self, targets: int) -> Passes:
        return Passes(self.max_iters, 0)

    def _ascend(self, network: FrozenNetwork, iterates: Tensor, labels: Tensor) -> tuple[Prediction, Tensor]:
        prediction, gradient = network.gradient(
            iterates, lambda found: squared_error(found["output"], labels) * (self.alpha or 1.0)
        )
        # What is compared with thresholds is reported.
        reported = self.exact and network.precision != "fp32"
        return network.predict(iterates) if reported else prediction, gradient

    def run(self, network: FrozenNetwork, problem: Problem) -> Crafted:
        inputs, labels = problem.inputs, problem.labels
        state = _State(inputs, labels, self)
        look_every = LOOK_EVERY.get(inputs.device.type, LOOK_EVERY["cuda"])
        for iteration in range(1, self.max_iters + 1):
            prediction, gradient = self._ascend(network, inputs + state.delta.detach(), labels)
            state.note(prediction["output"])
            if iteration % look_every == 0 and bool(state.converged.all()):
                break
            state.step(gradient)
            if self.enforced:
                state.replace(problem.threat.project(inputs, inputs + state.delta.detach()) - inputs)
        reported = ("iterations", "converged", "threshold", "last_prediction")
        return Crafted(inputs + state.best, columns={name: getattr(state, name) for name in reported})


@dataclass(frozen=True)
class BridgeAttack(PublishedAttack):
    """The published attack with its epsilon enforced after every step; nothing else is changed."""

    name: ClassVar[str] = "bridge"
    protocol: ClassVar[str] = "bridge"
    enforced: ClassVar[bool] = True


class _State:
    """Per-clip state of one batch: perturbation, threshold, best perturbation, convergence."""

    def __init__(self, inputs: Tensor, labels: Tensor, attack: PublishedAttack) -> None:
        self.labels, self.attack = labels, attack
        self.delta = torch.zeros_like(inputs).requires_grad_(True)
        self.optimiser = getattr(torch.optim, attack.optimiser)([self.delta], lr=attack.lr)
        self.best = torch.zeros_like(inputs)
        clips, targets = labels.shape
        self.converged = torch.zeros(clips, dtype=torch.bool, device=inputs.device)
        # NaN: no threshold set yet. Thresholds are float64, moved by repeated subtraction as published.
        self.threshold = torch.full((clips,), torch.nan, dtype=torch.float64, device=inputs.device)
        self.iterations = torch.zeros(clips, dtype=torch.int64, device=inputs.device)
        self.last_prediction = inputs.new_full((clips, targets), torch.nan)

    def note(self, outputs: Tensor) -> None:
        """Take in the predictions at the current perturbation: thresholds, hits, convergence."""
        active = ~self.converged
        self.iterations += active
        self.last_prediction = torch.where(active[:, None], outputs, self.last_prediction)
        lowered = self.attack.conv_method == "corr"
        value = (correlation if lowered else squared_error)(outputs.double(), self.labels.double())
        # A threshold of exactly zero is falsy in the published code and so is set anew (-0.0 as well).
        unset = (self.threshold == 0) | self.threshold.isnan()
        first = (torch.ceil if lowered else torch.floor)(value * 10) / 10
        threshold = torch.where(unset, first, self.threshold)
        if lowered:
            hit, movable, moved = value <= threshold, threshold >= -0.9, threshold - 0.1
        else:
            hit, movable, moved = value >= threshold, threshold <= 0.9, threshold + 0.1
        hit &= active
        self.best = torch.where(hit.view(-1, 1, 1, 1), self.delta.detach(), self.best)
        self.converged |= hit & ~movable
        threshold = torch.where(hit & movable, moved, threshold)
        self.threshold = torch.where(active, threshold, self.threshold)

    def step(self, gradient: Tensor) -> None:
        """Update the perturbation of every clip that has not converged, ascending."""
        before = self.delta.detach().clone()
        self._apply(-gradient)
        if self.attack.alpha:
            self._apply(2 * self.delta.detach())  # gradient of the penalty sum(delta^2), descending
        self.replace(torch.where(self.converged.view(-1, 1, 1, 1), before, self.delta.detach()))

    def replace(self, delta: Tensor) -> None:
        """Set the perturbation in place: the optimiser keeps hold of the same tensor."""
        with torch.no_grad():
            self.delta.copy_(delta)

    def _apply(self, gradient: Tensor) -> None:
        self.delta.grad = gradient.sign() if self.attack.sign else gradient
        self.optimiser.step()
