"""Objectives by the names that users give them: l1, mse, outputs, signs, corr, up:<name>, down:<name>."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Literal, cast

from rmer.attacks.losses import LOSSES
from rmer.attacks.objectives import CorrelationObjective, ErrorObjective, Objective, SteeringObjective
from rmer.attacks.ranked_objectives import OutputObjective, SignsObjective
from rmer.errors import UserError

ERROR_LOSSES = ("l1", "mse", "outputs", "signs")
STEERED = re.compile("(up|down):.+")


def objectives(
    names: list[str], targets: tuple[str, ...], concepts: tuple[str, ...] = ()
) -> tuple[Objective, ...]:
    """Return the objectives called ``names``: l1, mse, outputs, signs, corr, up:<name> or down:<name>.

    ``up`` and ``down`` take an emotion of ``targets`` or a concept of ``concepts``. The n-th ``outputs`` or
    ``signs`` is the direction of rank n. Raises UserError for what :func:`check_losses` refuses and for a
    name that the model does not have.
    """
    check_losses(names)
    ranks = [names[:place].count(name) for place, name in enumerate(names)]
    return tuple(_objective(name, rank, targets, concepts) for name, rank in zip(names, ranks, strict=True))


def check_losses(names: Sequence[str]) -> None:
    """Raise UserError, before any model is known, for a name of no loss and for losses that do not mix."""
    for name in names:
        if name not in (*ERROR_LOSSES, "corr") and not STEERED.fullmatch(name):
            mend = f"Use {', '.join(ERROR_LOSSES)}, corr, or up: or down: before an emotion or concept"
            raise UserError(f"{name!r} is no loss", where="parameter loss", mend=mend)
    require_one_metric({name: "mae" if name in ERROR_LOSSES else name for name in names})


def require_one_metric(metrics: Mapping[str, str]) -> None:
    """Raise UserError where losses (name -> main metric) keep different iterates, as no restarts may."""
    if len(set(metrics.values())) != 1:
        names, mend = ", ".join(metrics), f"Give one of them, or several of {', '.join(ERROR_LOSSES)}"
        what = f"{names or 'nothing'} cannot be restarts of one attack: each keeps another iterate"
        raise UserError(what, where="parameter loss", mend=mend)


def _objective(name: str, rank: int, targets: tuple[str, ...], concepts: tuple[str, ...]) -> Objective:
    if name == "corr":
        return CorrelationObjective()
    if name == "outputs":
        return OutputObjective(rank)
    if name == "signs":
        return SignsObjective(rank)
    if name in LOSSES:
        return ErrorObjective(cast(Literal["l1", "mse"], name))
    way, _, target = name.partition(":")
    steer = partial(SteeringObjective, way=cast(Literal["up", "down"], way), target=target)
    if target in targets:
        return steer("output", targets.index(target))
    if target in concepts:
        return steer("c_prob", concepts.index(target))
    mend = f"Use up: or down: before one of {', '.join((*targets, *concepts))}"
    raise UserError(f"{name!r} is no loss", where="parameter loss", mend=mend)
