"""The parameters that each attack uses: those of all attacks, and the settings that its class declares."""

from __future__ import annotations

from typing import Any, TypeVar

from rmer.attacks.attack_domains import SPECTROGRAM, WAVEFORM
from rmer.attacks.known_attacks import ATTACKS
from rmer.attacks.method import Setting
from rmer.errors import UserError
from rmer.parameters import Parameters, param
from rmer.report.readable import epsilon_in_words

P = TypeVar("P", bound=type[Parameters])

SEED = 21


def defaults_of(attack: str, domain: str = SPECTROGRAM) -> dict[str, Any]:
    """Return the parameters that an attack uses, with the values that they have where users give none."""
    method = ATTACKS[attack]
    values: dict[str, Any] = {"epsilon": method.epsilon}
    if domain == WAVEFORM:
        values = {"domain": WAVEFORM, "budget": None, "budgets": "", "norm": "masking", "attack_seed": SEED}
    elif method.protocol == "corrected":
        values |= {"epsilons": "", "norm": "linf", "attack_seed": SEED}
    values |= {name: setting.default for name, setting in method.settings().items()}
    if method.starts_warm:
        values["warm_start"] = False
    if method.takes_surrogate:
        values |= {"source_system": "", "source_run_id": ""}
    return values


def quoted(name: str) -> str:
    """Return for a help text which attacks have a parameter, and its default: ``apgd, transfer 100, pgd 40``.

    The default of more than half of all attacks comes last, as ``else .01``.
    """
    users: dict[str, list[str]] = {}
    for attack in ATTACKS:
        values = defaults_of(attack)
        if name in values:
            users.setdefault(_shown(values[name]), []).append(attack)
    usual = [shown for shown, attacks in users.items() if len(attacks) > len(ATTACKS) / 2]
    parts = [f"{', '.join(names)} {shown}".strip() for shown, names in users.items() if shown not in usual]
    return ", ".join([*parts, *(f"else {shown}" for shown in usual)])


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return epsilon_in_words(value)
    return "" if value is None else str(value)


def with_settings_of_attacks(kind: P) -> P:
    """Add every setting of an attack to a class of parameters, empty by default."""
    declared = set(kind.__annotations__)
    for attack, method in ATTACKS.items():
        for name, setting in method.settings().items():
            if name in declared:
                what = f"its setting {name} is a parameter of all attacks"
                raise UserError(what, where=f"attack {attack}", mend="Call it otherwise")
            if name not in kind.__annotations__:
                setattr(kind, name, _parameter(name, setting))
                kind.__annotations__[name] = str if setting.kind is str else setting.kind | None
    return kind


def _parameter(name: str, setting: Setting) -> Any:
    rules = {**setting.rules, "help": f"{setting.rules['help']} ({quoted(name)})"}
    empty = "" if setting.kind is str else None
    choices = ("", *rules["choices"]) if rules["choices"] else ()
    rules.pop("option", None)
    return param(empty, **{**rules, "choices": choices})
