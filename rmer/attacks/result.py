"""What an attack returns: of one batch, and of all clips with what was spent on them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import NamedTuple

from torch import Tensor


class Passes(NamedTuple):
    """Passes through the network a clip: gradients (forward and backward) and predictions (forward)."""

    gradients: int
    forwards: int

    @property
    def in_gradients(self) -> int:
        """The cost as so many gradients, three predictions counted as one."""
        return self.gradients + self.forwards // 3


@dataclass
class Crafted:
    """What an attack returns for one batch.

    ``adversaries`` [batch, 1, frames, bands] are the worst that were found for the attack's main metric,
    ``also`` (metric -> adversaries) those for other metrics; ``columns`` holds per-clip values. The cost is
    filled in by the base class.
    """

    adversaries: Tensor
    also: dict[str, Tensor] = field(default_factory=dict)
    columns: dict[str, Tensor] = field(default_factory=dict)
    gradients: int = 0
    forwards: int = 0
    seconds: float = 0.0

    def cpu(self) -> Crafted:
        """Return what was crafted with its tensors on the CPU."""
        return replace(
            self,
            adversaries=self.adversaries.cpu(),
            also={metric: values.cpu() for metric, values in self.also.items()},
            columns={name: values.cpu() for name, values in self.columns.items()},
        )

    def rows(self, rows: slice) -> Crafted:
        """Return some clips, and of the cost what these clips spent (columns ``gradients``, ...)."""
        columns = {name: values[rows] for name, values in self.columns.items()}
        share = len(columns["gradients"]) / len(self.adversaries)
        return Crafted(
            self.adversaries[rows],
            {metric: values[rows] for metric, values in self.also.items()},
            columns,
            gradients=int(columns["gradients"].sum()),
            forwards=int(columns["forwards"].sum()),
            seconds=self.seconds * share,
        )


@dataclass(frozen=True)
class AttackResult:
    """Adversaries of all clips with what was spent on them; everything on the CPU.

    Attributes
    ----------
    adversaries : float [clips, 1, frames, bands], in the units of the inputs
    also : metric -> adversaries that are worse than these for another metric than the attack's main one
    columns : per-clip values [clips] or [clips, targets] that the attack reports (iterations, ...)
    linf, l2 : norms of the saved perturbations [clips], in the units of the inputs
    violations : bool [clips], whether a saved adversary leaves ``threat``
    """

    adversaries: Tensor
    also: dict[str, Tensor]
    columns: dict[str, Tensor]
    linf: Tensor
    l2: Tensor
    violations: Tensor
    gradients: int
    forwards: int
    seconds: float
