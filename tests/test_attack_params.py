"""One place for the defaults of attacks: their classes, from which the command line takes them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from rmer.attacks.apgd import APGD
from rmer.attacks.base import Attack
from rmer.attacks.escalation import Escalation
from rmer.attacks.fgsm import FGSM
from rmer.attacks.known_attacks import ATTACKS
from rmer.attacks.method import Aim
from rmer.attacks.minimum_norm import MinimumNorm
from rmer.attacks.noise import Noise
from rmer.attacks.objectives import CorrelationObjective, ErrorObjective, SteeringObjective
from rmer.attacks.pgd import PGD
from rmer.attacks.published import BridgeAttack, PublishedAttack
from rmer.attacks.square import Square
from rmer.attacks.suite import TIERS, white_box
from rmer.attacks.transfer import Transfer
from rmer.errors import UserError
from rmer.stages.attack.attack_defaults import defaults_of, quoted
from rmer.stages.attack.attack_params import AttackParams

CLASSES: dict[str, tuple[Attack, ...]] = {
    "published": (PublishedAttack(),),
    "bridge": (BridgeAttack(),),
    "suite": white_box(TIERS["quick"]),
    "apgd": (APGD(),),
    "escalation": (Escalation(),),
    "pgd": (PGD(),),
    "fgsm": (FGSM(),),
    "square": (Square(),),
    "transfer": (Transfer.inner,),  # its cost is told before there is a surrogate
    "minimum_norm": (MinimumNorm(),),
    "noise": (Noise(),),
}
PUBLISHED = {
    "epsilon": 0.001,
    "max_iters": 1000,
    "lr": 0.002,
    "conv_method": "corr",
    "sign": True,
    "optimiser": "Adam",
    "alpha": None,
}
CORRECTED = {"epsilon": 0.01, "epsilons": "", "norm": "linf", "attack_seed": 21}
STEPS = (
    "parameter epsilons: the budgets {} share a step of curve/*, which counts units of .0001. Give budgets "
    "above .00005 that lie at least .0001 apart"
)
SOURCE = {"source_system": "", "source_run_id": ""}


@pytest.mark.parametrize("attack", ATTACKS)
def test_an_attack_of_the_command_line_is_its_class_as_it_comes(attack: str) -> None:
    params = AttackParams(attack=attack)
    assert params.method.attacks(params.own_settings, Aim(("tension",))) == CLASSES[attack]


def test_defaults_stay_what_finished_runs_were_made_with() -> None:
    assert {attack: defaults_of(attack) for attack in ATTACKS} == {
        "published": PUBLISHED,
        "bridge": PUBLISHED,
        "suite": {**CORRECTED, "tier": "quick", "warm_start": False, **SOURCE},
        "apgd": {**CORRECTED, "steps": 100, "restarts": 2, "loss": "l1,mse", "warm_start": False},
        "escalation": {
            **CORRECTED,
            "first_steps": 8,
            "starts": 4,
            "tolerance": 0.003,
            "loss": "signs,l1",
            "warm_start": False,
        },
        "pgd": {**CORRECTED, "steps": 40, "restarts": 1, "loss": "mse"},
        "fgsm": {**CORRECTED, "loss": "l1"},
        "square": {**CORRECTED, "queries": 1000},
        "transfer": {**CORRECTED, "steps": 100, **SOURCE},
        "minimum_norm": {**CORRECTED, "epsilon": 0.1, "steps": 20, "growth": 0.1, "bisections": 10},
        "noise": {**CORRECTED, "noise": "uniform", "draws": 10},
    }
    # What no parameter names, and is part of no configuration.
    assert (Transfer.inner, MinimumNorm.inner) == (
        APGD(100, (ErrorObjective("mse"),), 1),
        APGD(20, (ErrorObjective("mse"),), 1),
    )


@pytest.mark.parametrize(
    ("parameter", "text"),
    [
        ("epsilon", "published, bridge .001, minimum_norm .1, else .01"),
        ("steps", "apgd, transfer 100, pgd 40, minimum_norm 20"),
        ("restarts", "apgd 2, pgd 1"),
        ("loss", "apgd l1,mse, escalation signs,l1, pgd mse, fgsm l1"),
        ("sign", "published, bridge true"),
        ("alpha", "published, bridge"),
        ("source_system", "suite, transfer"),
    ],
)
def test_help_texts_quote_the_defaults(parameter: str, text: str) -> None:
    assert quoted(parameter) == text
    declared = AttackParams.__dataclass_fields__[parameter].metadata["help"]
    assert f"({text})" in declared


MIXED = (
    "parameter loss: {} cannot be restarts of one attack: each keeps another iterate. Give one of them, or "
    "several of l1, mse, outputs, signs"
)
NO_LOSS = (
    "parameter loss: {} is no loss. Use l1, mse, outputs, signs, corr, or up: or down: before an emotion or "
    "concept"
)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"attack": "apgd", "loss": "l1,corr"}, MIXED.format("l1, corr")),
        # Also where there is one start, which would follow the first loss only.
        ({"attack": "pgd", "loss": "l1,corr"}, MIXED.format("l1, corr")),
        ({"attack": "fgsm", "loss": "corr,mse"}, MIXED.format("corr, mse")),
        ({"attack": "apgd", "loss": "up:tension,down:tension"}, MIXED.format("up:tension, down:tension")),
        ({"attack": "apgd", "loss": ","}, MIXED.format("nothing")),
        ({"attack": "apgd", "loss": "huber"}, NO_LOSS.format("'huber'")),
        ({"attack": "apgd", "loss": "up:"}, NO_LOSS.format("'up:'")),
        (
            {"attack": "pgd", "loss": "l1,mse"},
            "parameter loss: 2 losses (l1, mse) need as many starts, and there is 1. Raise restarts, or "
            "leave some out",
        ),
        (
            {"attack": "apgd", "loss": "l1,mse,outputs"},
            "parameter loss: 3 losses (l1, mse, outputs) need as many starts, and there are 2. Raise "
            "restarts, or leave some out",
        ),
        ({"attack": "pgd", "epsilons": ".01,.01001"}, STEPS.format("0.01 and 0.01001")),
        ({"attack": "apgd", "epsilons": ".01,.00002"}, STEPS.format("0 and 2e-05")),
        ({"attack": "suite", "epsilon": 0.01003}, STEPS.format("0.01 and 0.01003")),
        (
            {"attack": "published", "optimiser": "LBFGS"},
            "parameter optimiser: 'LBFGS' is not one of its values. Choose one of: Adam, AdamW, Adamax, "
            "Adagrad, Adadelta, NAdam, RAdam, RMSprop, Rprop, SGD, ASGD",
        ),
        (
            {"attack": "minimum_norm", "growth": 0.0},
            "parameter growth: 0.0 is out of range. Give a number in [1e-12, 1000000.0]",
        ),
    ],
)
def test_what_no_attack_could_do_is_refused_where_it_is_read(values: Mapping[str, Any], message: str) -> None:
    with pytest.raises(UserError) as caught:
        AttackParams.from_mapping(values)
    assert str(caught.value) == message


@pytest.mark.parametrize("attack", [APGD, PGD, FGSM, Square, Noise])
@pytest.mark.parametrize(
    ("losses", "named"),
    [
        ((ErrorObjective("l1"), CorrelationObjective()), "l1, corr"),
        ((SteeringObjective("output", 0, "up", "fear"), ErrorObjective("mse")), "up:fear, mse"),
        ((), "nothing"),
    ],
)
def test_losses_that_do_not_mix_make_no_attack(
    attack: Callable[..., Attack], losses: Any, named: str
) -> None:
    with pytest.raises(UserError) as caught:
        attack(losses=losses)
    assert str(caught.value) == MIXED.format(named)
