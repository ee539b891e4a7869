"""What every attack shares: batching over clips, cost accounting, and a budget that cannot be forgotten."""

from __future__ import annotations

import os
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, final

import torch
from torch import Tensor, nn

from rmer.attacks.threat import Threat, l2_norms, linf_norms
from rmer.systems.frozen import FrozenNetwork

Progress = Callable[[int], object]


class BudgetError(AssertionError):
    """An attack returned an adversary outside its threat model: a bug in the attack."""


@dataclass
class Crafted:
    """What an attack returns for one batch: adversaries [batch, 1, frames, bands] and per-clip columns.

    The cost is filled in by the base class.
    """

    adversaries: Tensor
    columns: dict[str, Tensor] = field(default_factory=dict)
    gradients: int = 0
    forwards: int = 0
    seconds: float = 0.0


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
        the attack may use, uniform in [-1, 1), [batch, starts, 1, frames, bands], so that a clip's result
        does not depend on the batch that it is in.
        """

    @property
    def starts(self) -> int:
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
        resume: Path | None = None,
    ) -> AttackResult:
        """Attack every clip of a split.

        Parameters
        ----------
        model : maps [batch, 1, frames, bands] to {"output": [batch, targets], "c_prob": ...}
        inputs : [clips, 1, frames, bands], standardised
        labels : [clips, targets], what the attack moves away from
        seed : of the random starts; the draw for clip i does not depend on ``batch_size``
        progress : called with the number of clips done after each batch
        resume : folder for finished batches; those found there are not attacked again

        Raises
        ------
        BudgetError : an adversary of an enforced attack leaves ``threat``
        """
        network = model if isinstance(model, FrozenNetwork) else FrozenNetwork(model)
        generator = torch.Generator().manual_seed(seed)
        done = 0
        parts: list[Crafted] = []
        for x, y in zip(torch.split(inputs, batch_size), torch.split(labels, batch_size), strict=True):
            # Drawn for finished batches too: the random numbers of a clip depend on its place alone.
            noise = torch.rand((len(x), self.starts, *x.shape[1:]), generator=generator) * 2 - 1
            file = None if resume is None else resume / f"{done:05d}-{len(x)}.pt"
            if file is not None and file.exists():
                part = Crafted(**torch.load(file, weights_only=True))
            else:
                part = self._craft(network, x, y, threat, noise)
                if file is not None:
                    _save(part, file)
            parts.append(part)
            done += len(x)
            if progress is not None:
                progress(len(x))
        return self._measure(inputs.cpu(), parts, threat)

    def _craft(self, network: FrozenNetwork, x: Tensor, y: Tensor, threat: Threat, noise: Tensor) -> Crafted:
        spent, started = (network.gradients, network.forwards), time.perf_counter()
        device, dtype = network.device, network.dtype
        part = self.run(network, x.to(device, dtype), y.to(device, dtype), threat, noise.to(device, dtype))
        return Crafted(
            adversaries=part.adversaries.cpu(),
            columns={name: values.cpu() for name, values in part.columns.items()},
            gradients=network.gradients - spent[0],
            forwards=network.forwards - spent[1],
            seconds=time.perf_counter() - started,
        )

    def _measure(self, clean: Tensor, parts: list[Crafted], threat: Threat) -> AttackResult:
        adversaries = torch.cat([part.adversaries for part in parts])
        violations = threat.violations(clean, adversaries)
        if self.enforced and bool(violations.any()):
            clips = violations.nonzero().flatten().tolist()
            budget = f"{threat.norm} epsilon {threat.epsilon}"
            raise BudgetError(f"{self.name}: {budget} exceeded on clips {clips}")
        delta = adversaries.double() - clean.double()
        return AttackResult(
            adversaries=adversaries,
            columns={name: torch.cat([part.columns[name] for part in parts]) for name in parts[0].columns},
            linf=linf_norms(delta),
            l2=l2_norms(delta),
            violations=violations,
            gradients=sum(part.gradients for part in parts),
            forwards=sum(part.forwards for part in parts),
            seconds=sum(part.seconds for part in parts),
        )


def _save(part: Crafted, file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    unfinished = file.with_suffix(f".{os.getpid()}.part")
    torch.save(vars(part), unfinished)
    unfinished.replace(file)
