"""The corrected evaluation: its tiers, and the attacks whose adversaries are reported."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from rmer.attacks.apgd import APGD
from rmer.attacks.base import Attack
from rmer.attacks.escalation import Escalation
from rmer.attacks.method import Aim, AttackMethod, settings_of
from rmer.attacks.objectives import CorrelationObjective, ErrorObjective, Objective
from rmer.attacks.ranked_objectives import OutputObjective
from rmer.attacks.square import Square
from rmer.parameters import param


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
    queries : of Square: the black-box control, or the attack on models that are known by predictions alone
    adaptive : whether starts grow longer until two agree (:mod:`rmer.attacks.escalation`); a random sample
        of clips is then searched by the fixed starts above as well, and has the controls
    brief: whether it is to show in seconds how all this works: controls on two clips (the huge budget on
        six), the reported budget of sounds alone, one spectrogram, no codecs, one figure of concepts
    """

    norms: tuple[str, ...]
    epsilons: tuple[float, ...]
    steps: int
    restarts: int
    joint_restarts: int
    queries: int
    adaptive: bool = False
    brief: bool = False

    @property
    def controlled(self) -> int | None:
        """Clips that the controls are made on, at random; None: all."""
        return 2 if self.brief else 6 if self.adaptive else None

    @property
    def broken(self) -> int | None:
        """Clips that a huge budget is tried on, at random; None: all."""
        return 6 if self.brief else None


_BUDGETS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1)
TIERS = {
    "quick": Tier(("linf",), (0.002, 0.01, 0.05), 20, 2, 1, 100),
    "paper": Tier(("linf", "l2"), _BUDGETS, 100, 5, 5, 1000, adaptive=True),
    "paper_fixed": Tier(("linf", "l2"), _BUDGETS, 100, 5, 5, 1000),
    "brief": Tier(("linf",), (0.01, 0.05), 8, 1, 1, 20, brief=True),
}


@dataclass(frozen=True)
class Suite(AttackMethod):
    """The attacks of a tier over its budgets; controls and sanity checks say whether they can be believed.

    A model that is known by its predictions alone is attacked by Square, with the queries of the tier.
    """

    tier: str = param("quick", "size of the suite", choices=tuple(TIERS))

    name: ClassVar[str] = "suite"
    needs_budget: ClassVar[bool] = True
    takes_surrogate: ClassVar[bool] = True
    starts_warm: ClassVar[bool] = True

    @classmethod
    def attacks(cls, settings: Mapping[str, Any], aim: Aim) -> tuple[Attack, ...]:
        tier = TIERS[settings["tier"]]
        return (Square(tier.queries),) if aim.black_box else white_box(tier)

    @classmethod
    def epsilons(cls, settings: Mapping[str, Any]) -> tuple[float, ...]:
        return TIERS[settings["tier"]].epsilons

    @classmethod
    def implied(cls, settings: Mapping[str, Any], *, black_box: bool = False) -> dict[str, Any]:
        tier = TIERS[settings["tier"]]
        if black_box:
            return {"search": Square.name, "queries": tier.queries}
        fixed = {"steps": tier.steps, "restarts": tier.restarts, "joint_restarts": tier.joint_restarts}
        adaptive = {name: setting.default for name, setting in settings_of(Escalation).items()}
        return {**(adaptive if tier.adaptive else fixed), "queries": tier.queries}


def white_box(tier: Tier) -> tuple[Attack, Attack]:
    """Return the attacks that are reported: on the error of each clip, and on the correlation."""
    if tier.adaptive:
        return Escalation(), Escalation(losses=(CorrelationObjective(),))
    return fixed_search(tier), APGD(tier.steps, (CorrelationObjective(),), tier.joint_restarts)


def fixed_search(tier: Tier) -> APGD:
    """Return the attack on the error of each clip with a tier's fixed steps and starts."""
    losses: list[Objective] = [ErrorObjective("l1"), ErrorObjective("mse")]
    losses += [OutputObjective(rank) for rank in range(tier.restarts - len(losses))]
    return APGD(tier.steps, tuple(losses[: tier.restarts]), tier.restarts)
