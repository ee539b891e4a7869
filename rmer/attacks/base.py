"""What every attack shares: batching over clips, cost accounting, and a budget that cannot be forgotten."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar, final

import torch
from torch import Tensor, nn

from rmer.attacks.threat import Threat, l2_norms, linf_norms
from rmer.systems.frozen import FrozenNetwork

Progress = Callable[[int], None]


class BudgetError(AssertionError):
    """An attack returned an adversary outside its threat model: a bug in the attack."""


@dataclass
class Crafted:
    """What an attack returns for one batch: adversaries [batch, 1, frames, bands] and per-clip columns."""

    adversaries: Tensor
    columns: dict[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class AttackResult:
    """Adversaries of all clips with what was spent on them; everything on the CPU.

    Attributes
    ----------
    adversaries : float [clips, 1, frames, bands], in the units of the inputs
    columns : per-clip values [clips] or [clips, targets] that the attack reports (iterations, ...)
    linf, l2 : norms of the saved perturbations [clips], in the units of the inputs
    violations : bool [clips], whether the saved adversary leaves ``threat``
    """

    adversaries: Tensor
    columns: dict[str, Tensor]
    linf: Tensor
    l2: Tensor
    violations: Tensor
    gradients: int
    forwards: int
    seconds: float


class Attack(ABC):
    """Base class. Calling an attack crafts, checks and measures; a subclass writes only :meth:`run`."""

    name: ClassVar[str]
    # Whether adversaries must satisfy the threat model. Only the published attack, which never enforced its
    # epsilon, sets this to False: its violations are then counted, not raised.
    enforced: ClassVar[bool] = True

    @abstractmethod
    def run(
        self, network: FrozenNetwork, inputs: Tensor, labels: Tensor, threat: Threat, noise: Tensor
    ) -> Crafted:
        """Craft adversaries for one batch; clips must not influence each other.

        ``inputs`` [batch, 1, frames, bands], ``labels`` [batch, targets]; ``noise`` holds what randomness
        the attack may use, uniform in [-1, 1), [batch, restarts, 1, frames, bands], so that a clip's result
        does not depend on the batch that it is in.
        """

    @property
    def restarts(self) -> int:
        """How many random starts a clip gets (0: the attack draws no random numbers)."""
        return 0

    @final
    def __call__(
        self,
        model: nn.Module | FrozenNetwork,
        inputs: Tensor,
        labels: Tensor,
        threat: Threat,
        *,
        seed: int = 0,
        batch_size: int = 8,
        progress: Progress | None = None,
    ) -> AttackResult:
        """Attack every clip of a split.

        Parameters
        ----------
        model : maps [batch, 1, frames, bands] to {"output": [batch, targets], "c_prob": ...}
        inputs : [clips, 1, frames, bands], standardised
        labels : [clips, targets], what the attack moves away from
        seed : of the random starts; the draw for clip i does not depend on ``batch_size``
        progress : called with the number of clips done after each batch

        Raises
        ------
        BudgetError : an adversary of an enforced attack leaves ``threat``
        """
        network = model if isinstance(model, FrozenNetwork) else FrozenNetwork(model)
        spent_before, started = (network.gradients, network.forwards), time.perf_counter()
        generator = torch.Generator().manual_seed(seed)
        parts: list[Crafted] = []
        for x, y in zip(inputs.split(batch_size), labels.split(batch_size), strict=True):
            noise = torch.rand((len(x), self.restarts, *x.shape[1:]), generator=generator) * 2 - 1
            device, dtype = network.device, network.dtype
            crafted = self.run(
                network, x.to(device, dtype), y.to(device, dtype), threat, noise.to(device, dtype)
            )
            parts.append(
                Crafted(crafted.adversaries.cpu(), {name: v.cpu() for name, v in crafted.columns.items()})
            )
            if progress is not None:
                progress(len(x))
        adversaries = torch.cat([part.adversaries for part in parts])
        clean = inputs.cpu()
        violations = threat.violations(clean, adversaries)
        if self.enforced and bool(violations.any()):
            clips = violations.nonzero().flatten().tolist()
            raise BudgetError(
                f"{self.name}: {threat.norm} epsilon {threat.epsilon} exceeded on clips {clips}"
            )
        delta = adversaries.double() - clean.double()
        return AttackResult(
            adversaries=adversaries,
            columns={name: torch.cat([part.columns[name] for part in parts]) for name in parts[0].columns},
            linf=linf_norms(delta),
            l2=l2_norms(delta),
            violations=violations,
            gradients=network.gradients - spent_before[0],
            forwards=network.forwards - spent_before[1],
            seconds=time.perf_counter() - started,
        )
