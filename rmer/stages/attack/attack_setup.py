"""One model under attack: what the parameters of ``attack`` come to for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any

import torch

from rmer.attacks.apgd import APGD
from rmer.attacks.base import Attack
from rmer.attacks.minimum_norm import WITHIN_RADIUS, MinimalPerturbation
from rmer.attacks.noise import Noise
from rmer.attacks.objectives import objectives
from rmer.attacks.pgd import PGD, SingleStep
from rmer.attacks.published import BridgeAttack, PublishedAttack
from rmer.attacks.square import Square
from rmer.attacks.threat import Threat
from rmer.attacks.transfer import ON_SURROGATE, Transfer
from rmer.data.standardised import Part, Standardised
from rmer.evaluation.checks.controls import control_cost
from rmer.evaluation.checks.measurements import Damage
from rmer.evaluation.gradient_precision import comparison_cost
from rmer.evaluation.suite import TIERS, white_box
from rmer.parameters import listed
from rmer.stages.attack.attack_params import IN_CLASS, PROTOCOLS, AttackParams
from rmer.stages.attack.victims import Victim
from rmer.systems.arithmetic import Precision, resolve_precision
from rmer.systems.devices import clips_at_once
from rmer.systems.frozen import FrozenNetwork


@dataclass(frozen=True, eq=False)
class Assault:
    """One model, and what is done to it."""

    victim: Victim
    params: AttackParams
    surrogate: Victim | None
    device: torch.device
    # Norm -> budget -> damage of the same model under the other norm, where it was evaluated.
    other_norm: Mapping[str, Mapping[float, Damage]]
    # Other systems or seeds that were trained to the same weights (``A2B2E s6``).
    twins: Sequence[str]

    @cached_property
    def precision(self) -> Precision:
        """Arithmetic of gradients."""
        return resolve_precision(self.params.precision, self.device)

    @cached_property
    def attacks(self) -> tuple[Attack, ...]:
        """The attacks whose adversaries are reported."""
        other = None if self.surrogate is None else self.freeze(self.surrogate)
        dataset = self.victim.dataset
        return build_attacks(self.params, dataset.emotions, self.victim.concepts, other)

    @cached_property
    def part(self) -> Part:
        """The clips under attack."""
        return self.victim.data.part(self.params.split)

    def freeze(self, model: Victim) -> FrozenNetwork:
        """Return a model ready for attack."""
        network = model.model.to(self.device)
        return FrozenNetwork(
            network, precision=self.precision, batch_size=self.batch_size, compile=self.params.compile
        )

    @property
    def batch_size(self) -> int:
        """Clips attacked at once."""
        return self.params.attack_batch_size or clips_at_once(self.device)


def build_attacks(
    params: AttackParams, targets: tuple[str, ...], concepts: tuple[str, ...], surrogate: FrozenNetwork | None
) -> tuple[Attack, ...]:
    """Return the attacks: one, or the white-box attacks of a suite.

    Raises UserError where a loss names no emotion of ``targets`` and no concept of ``concepts``.
    """
    if params.attack == "suite":
        return white_box(TIERS[params.settings["tier"]])
    settings = {name: value for name, value in params.settings.items() if name not in NOT_OF_ATTACKS}
    if "loss" in settings:
        names = listed(settings.pop("loss"))
        starts = settings.get("restarts", len(names))
        settings["loss"] = objectives([names[i % len(names)] for i in range(starts)], targets, concepts)
    if params.attack == "transfer":
        inner = replace(ON_SURROGATE, **settings)
        # Without a surrogate there is only a cost to be told, which is that of the attack on it.
        return (inner if surrogate is None else Transfer(surrogate, inner),)
    if params.attack == "minimal":
        search = {name: settings.pop(name) for name in ("growth", "bisections")}
        return (MinimalPerturbation(inner=replace(WITHIN_RADIUS, **settings), **search),)
    return (KINDS[params.attack](**{IN_CLASS.get(name, name): value for name, value in settings.items()}),)


def gradients_of_run(
    params: AttackParams,
    attacks: Sequence[Attack],
    targets: int,
    *,
    clips: int,
    precision: Precision,
    transfer: bool,
) -> int:
    """Return the gradients that an attack run takes, three predictions counted as one.

    ``targets`` is the number of the model's outputs; ``transfer`` tells whether there is another model for
    the controls of a suite to craft adversaries on.
    """
    passes = [attack.passes(targets) for attack in attacks]
    gradients = sum(cost.in_gradients for cost in passes) * len(params.budgets) * clips
    return gradients + controls_of_run(params, targets, clips=clips, precision=precision, transfer=transfer)


def controls_of_run(
    params: AttackParams, targets: int, *, clips: int, precision: Precision, transfer: bool
) -> int:
    """Return the gradients that the controls of a suite take, and its search with float32 gradients."""
    if params.attack != "suite":
        return 0
    tier, budgets = TIERS[params.settings["tier"]], len(params.budgets)
    controls = control_cost(tier, targets, transfer=transfer) * clips
    if precision == "fp32":
        return controls
    return controls + comparison_cost(white_box(tier)[0], targets, clips=clips, budgets=budgets)


def threat_at(params: AttackParams, data: Standardised) -> Callable[[float], Threat]:
    """Return the threat model as a function of the budget a cell.

    Published and bridge know no box: the bridge changes one thing only.
    """
    if PROTOCOLS[params.attack] != "corrected":
        return partial(Threat, "linf")
    cells = data.test.inputs[0].numel()
    return partial(_boxed, norm=params.settings["norm"], cells=cells, data=data)


KINDS: dict[str, Callable[..., Attack]] = {
    "published": PublishedAttack,
    "bridge": BridgeAttack,
    "apgd": APGD,
    "pgd": PGD,
    "single_step": SingleStep,
    "square": Square,
    "noise": Noise,
}
# Settings that belong to the threat model or to the sweep over budgets.
NOT_OF_ATTACKS = ("epsilon", "epsilons", "norm", "attack_seed", "warm", "source_system", "source_run_id")


def _boxed(epsilon: float, *, norm: Any, cells: int, data: Standardised) -> Threat:
    return Threat.per_cell(norm, epsilon, cells, data.floor, data.ceiling)
