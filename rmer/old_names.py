"""What was called otherwise before: the one table of old names, which are still read.

Options, values and keys of parameter files that users give under an old name are taken, with a line that says
the new one. Runs that are in a store are read under the new names (``*_as_read``). A configuration is
digested as it always was (:func:`as_digested`), so that a run of before is the run of now.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

# Attacks: values of ``attack`` and ``attacks``, and of the tag ``rmer.attack``.
ATTACKS = {"single_step": "fgsm", "minimal": "minimum_norm"}
# What tiers are digested by: the fixed one was called paper when it was the only one.
TIERS = {"paper_fixed": "paper", "paper": "paper_adaptive"}
# Parameters, on the command line and in files, and as ``cfg.*`` of runs.
PARAMETERS = {"warm": "warm_start"}
# Parameters that runs logged and that nobody gives.
LOGGED = {"epsilon_report": "epsilon"}
METRICS = {"minimal/epsilon_median": "minimum_norm/epsilon_median", "minimal/found": "minimum_norm/found"}


def told_new_name(name: str) -> str:
    """Return what a parameter is called now; the user is told where that is another name."""
    return _told(name, PARAMETERS[name]) if name in PARAMETERS else name


def told_new_value(parameter: str, value: Any) -> Any:
    """Return the value of a parameter with attacks and settings as they are called now; the user is told."""
    if parameter == "where" and isinstance(value, str):
        pairs = [part.partition("=") for part in value.split(",")]
        return ",".join(f"{told_new_name(name.strip())}{equals}{text}" for name, equals, text in pairs)
    parts = value.split(",") if parameter in ("attack", "attacks") and isinstance(value, str) else []
    if not ATTACKS.keys() & set(map(str.strip, parts)):
        return value
    return ",".join(_told(part, ATTACKS[part]) if part in ATTACKS else part for part in map(str.strip, parts))


def told_new_option(argument: str) -> str:
    """Return an argument of a command line, with the option's name of now where it is one by an old name."""
    name, equals, value = argument.partition("=")
    old = name.removeprefix("--")
    return f"--{told_new_name(old)}{equals}{value}" if name.startswith("--") else argument


def attack_as_read(name: str) -> str:
    """Return what the attack of a run is called now."""
    return ATTACKS.get(name, name)


def parameter_as_read(name: str) -> str:
    """Return what a parameter that a run logged is called now."""
    return (PARAMETERS | LOGGED).get(name, name)


def metric_as_read(name: str) -> str:
    """Return what a metric of a run is called now."""
    return METRICS.get(name, name)


def as_digested(value: Any) -> Any:
    """Return a configuration, or a value in it, under the names that it was first digested by."""
    first = {new: old for old, new in (ATTACKS | PARAMETERS).items()}
    if isinstance(value, Mapping):
        known = {first.get(key, key): as_digested(item) for key, item in value.items()}
        if "tier" in known:
            known["tier"] = TIERS.get(known["tier"], known["tier"])
        # The reported budget of an attack run had two names.
        if {"attack_protocol", "epsilon", "epsilons"} <= known.keys():
            known["epsilon_report"] = known["epsilon"]
        return known
    if isinstance(value, (list, tuple)):
        return [as_digested(item) for item in value]
    return first.get(value, value) if isinstance(value, str) else value


def _told(old: str, new: str) -> str:
    print(f"rmer: {old} is called {new} now", file=sys.stderr)
    return new
