"""What attacks share that follow objectives: the metric that is attacked, the starts, and what they cost."""

from __future__ import annotations

from collections.abc import Sequence

from rmer.attacks.base import Attack, Passes
from rmer.attacks.objectives import ErrorObjective, Objective
from rmer.errors import UserError

ERROR = (ErrorObjective("mse"),)


class ObjectiveAttack(Attack):
    """Base class of attacks with ``losses``, of which the first one says what is attacked.

    Start i follows loss i, taken in turn; all keep the best iterates by the same metrics.
    """

    losses: tuple[Objective, ...]

    @property
    def joint(self) -> bool:
        return self.losses[0].joint

    @property
    def metric(self) -> str:
        return self.losses[0].metric


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
