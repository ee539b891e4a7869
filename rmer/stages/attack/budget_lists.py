"""All budgets of an attack run, out of the lists and defaults that its parameters name."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from rmer.attacks.method import AttackMethod
from rmer.attacks.sound_budgets import LEAST_LINF_DB, SUITE_DB, epsilon_of, sound_step
from rmer.attacks.suite import Tier
from rmer.errors import UserError
from rmer.evaluation.budgets import curve_step
from rmer.parameters import listed


def budgets_of_spectrograms(
    settings: Mapping[str, Any], method: type[AttackMethod], usual: Iterable[float], *, is_curve: bool
) -> list[float]:
    """Return the budgets a cell, ascending: those of ``epsilons``, else the ``usual`` and the reported one.

    Raises UserError where the reported one is not among them, or is 0 and a least budget is wanted, or two of
    a curve have one step.
    """
    reported, text = float(settings["epsilon"]), settings.get("epsilons", "")
    if method.needs_budget and reported == 0:
        what = f"the {method.name} attack looks for nothing within a budget of 0"
        raise UserError(what, where="parameter epsilon", mend="Give a number above 0")
    budgets = _listed_budgets(text) if text else sorted({*usual, reported})
    if reported not in budgets:
        what = f"{text} does not hold the reported budget {reported:g}"
        mend = "Add it, or name the one to be reported with epsilon"
        raise UserError(what, where="parameter epsilons", mend=mend)
    if len(budgets) > 1 or is_curve:
        _check_steps({0.0, *budgets})
    return budgets


def budgets_of_sound(settings: Mapping[str, Any], tier: Tier | None) -> list[float]:
    """Return the budgets of sounds as ratios of amplitudes, ascending: those of ``budgets``, else the tier's.

    Raises UserError where the reported one is not among them, or one is too small, or two have one step.
    """
    norm, reported, text = settings["norm"], settings["budget"], settings["budgets"]
    known = () if tier is None or tier.brief else SUITE_DB[norm]
    usual = {*known, reported}
    budgets = _listed_levels(text) if text else sorted(usual)
    if reported not in budgets:
        mend = "Add it, or name the one to be reported with budget"
        what = f"{text} does not hold the reported budget {reported:g} dB"
        raise UserError(what, where="parameter budgets", mend=mend)
    if norm == "linf" and budgets[0] < LEAST_LINF_DB:
        what = f"{budgets[0]:g} dBFS is less than a step of 16 bit, which no sample can change by"
        mend = f"Give budgets above {LEAST_LINF_DB:.1f}"
        raise UserError(what, where="parameter budget", mend=mend)
    epsilons = sorted(epsilon_of(norm, budget) for budget in budgets)
    for a, b in itertools.pairwise(epsilons):
        if sound_step(a) == sound_step(b):
            what = "two budgets share a step of curve/*, which counts tenths of a dB"
            mend = "Give budgets at least .1 dB apart"
            raise UserError(what, where="parameter budgets", mend=mend)
    return epsilons


def _listed_numbers(text: str, allowed: Callable[[float], bool], *, where: str, mend: str) -> list[float]:
    """Return the numbers of a list, ascending; raises UserError where one is none, or not ``allowed``."""
    try:
        numbers = sorted({float(part) for part in listed(text)})
    except ValueError:
        numbers = []
    if not numbers or not all(map(allowed, numbers)):
        raise UserError(f"{text!r} is no list of budgets", where=f"parameter {where}", mend=mend)
    return numbers


def _listed_budgets(text: str) -> list[float]:
    mend = "Give numbers above 0, separated by commas"
    return _listed_numbers(text, lambda budget: 0 < budget < 1e6, where="epsilons", mend=mend)


def _listed_levels(text: str) -> list[float]:
    mend = "Give numbers of dB, separated by commas"
    return _listed_numbers(text, lambda level: -200 <= level <= 200, where="budgets", mend=mend)


def _check_steps(budgets: Iterable[float]) -> None:
    """Raise UserError where two points of a curve would be one in the store; 0 is that of the clean clips."""
    for a, b in itertools.pairwise(sorted(budgets)):
        if curve_step(a) == curve_step(b):
            what = f"the budgets {a:g} and {b:g} share a step of curve/*, which counts units of .0001"
            mend = "Give budgets above .00005 that lie at least .0001 apart"
            raise UserError(what, where="parameter epsilons", mend=mend)
