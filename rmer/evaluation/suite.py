"""The corrected evaluation: its tiers, and the attacks whose adversaries are reported."""

from __future__ import annotations

from dataclasses import dataclass

from rmer.attacks.apgd import APGD
from rmer.attacks.base import Attack
from rmer.attacks.objectives import CorrelationObjective, ErrorObjective, Objective, OutputObjective

# Budget a cell whose adversaries are stored and scored (the primary endpoint), in standardised units.
REPORTED = 0.01


@dataclass(frozen=True)
class Tier:
    """How thorough an evaluation is.

    Attributes
    ----------
    norms : norms of the budgets; each is a run of its own
    epsilons : budgets a cell
    steps : of every start
    restarts : starts of the attack on the error of each clip (l1, mse, then single outputs)
    joint_restarts : starts of the attack on the correlation over clips
    queries : of the black-box control
    """

    norms: tuple[str, ...]
    epsilons: tuple[float, ...]
    steps: int
    restarts: int
    joint_restarts: int
    queries: int


TIERS = {
    "quick": Tier(("linf",), (0.002, 0.01, 0.05), 20, 2, 1, 100),
    "paper": Tier(("linf", "l2"), (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1), 100, 5, 5, 1000),
}


def white_box(tier: Tier) -> tuple[Attack, Attack]:
    """Return the attacks that are reported: on the error of each clip, and on the correlation."""
    losses: list[Objective] = [ErrorObjective("l1"), ErrorObjective("mse")]
    losses += [OutputObjective(rank) for rank in range(tier.restarts - len(losses))]
    return (
        APGD(tier.steps, tuple(losses[: tier.restarts]), tier.restarts),
        APGD(tier.steps, (CorrelationObjective(),), tier.joint_restarts),
    )
