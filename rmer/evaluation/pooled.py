"""The models of one training seed in all folds of a cross-validation, put together as if they were one."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from rmer.errors import UserError
from rmer.evaluation.attacked import AttackedModel, Curve
from rmer.evaluation.curves import break_even_epsilon
from rmer.evaluation.endpoints import Floats
from rmer.evaluation.metrics import clip_errors

# Logged metrics that count something: of all folds together they are sums.
COUNTS = ("budget/violations", "cost/", "sanity/")
# Arrays with a row for each clip.
BY_CLIP = ("labels", "clean", "adversarial", "l2", "linf")


def pooled(parts: Sequence[AttackedModel]) -> AttackedModel:
    """Return the models of all folds, in their order, as one that was attacked on the clips of each.

    Its scores are means over the folds (:func:`rmer.evaluation.endpoints.over_folds`). Raises UserError where
    a clip is in two folds, or curves are of different budgets.
    """
    first = parts[0]
    names = [clip for part in parts for clip in part.clips]
    where = f"{first.name} s{first.seed}"
    if len(set(names)) < len(names):
        mend = "Train and attack all folds anew on one data set"
        raise UserError("a clip is tested in two folds", where=where, mend=mend)
    if len({part.curve.epsilons if part.curve else () for part in parts}) > 1:
        mend = "Attack all folds alike"
        raise UserError("folds were attacked at different budgets", where=where, mend=mend)
    order = sorted(range(len(names)), key=names.__getitem__)
    rescored = [part.rescored for part in parts if part.rescored is not None]

    def joined(arrays: Sequence[Floats]) -> Floats:
        return np.concatenate(arrays)[order]

    def texts(lists: Sequence[Sequence[str]]) -> tuple[str, ...]:
        flat = [text for found in lists for text in found]
        return tuple(flat[place] for place in order)

    arrays: dict[str, Any] = {name: joined([getattr(part, name) for part in parts]) for name in BY_CLIP}
    return replace(
        first,
        clips=texts([part.clips for part in parts]),
        albums=texts([part.albums for part in parts]),
        **arrays,
        rescored=joined(rescored) if len(rescored) == len(parts) else None,
        own={metric: joined([part.own[metric] for part in parts]) for metric in first.own},
        curve=_curve([part.curve for part in parts], order),
        parts=tuple(parts),
    )


def pooled_metrics(model: AttackedModel, logged: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """Return what the runs of all folds logged: means over clips, and sums of what is counted.

    ``logged`` maps run ids to metrics; what a run does not say is left out. The break-even budget is that of
    the mean curve.
    """
    metrics = [logged[part.run_id] for part in model.parts]
    clips = np.array([len(part.clips) for part in model.parts], np.float64)
    found = {}
    for name in set.intersection(*(set(own) for own in metrics)):
        values = np.array([own[name] for own in metrics])
        found[name] = float(values.sum() if name.startswith(COUNTS) else values @ clips / clips.sum())
    found.pop("breakeven/epsilon", None)
    if model.curve is not None and "mae_clipped" in model.curve.predictions:
        damage = [
            float(clip_errors(model.labels, predictions, clipped=True).mean())
            for predictions in model.curve.predictions["mae_clipped"]
        ]
        even = break_even_epsilon(model.curve.epsilons, damage, found.get("constant/mae", math.nan))
        found |= {"breakeven/epsilon": even} if math.isfinite(even) else {}
    return found


def _curve(curves: Sequence[Curve | None], order: Sequence[int]) -> Curve | None:
    known = [curve for curve in curves if curve is not None]
    if not known:
        return None
    return Curve(
        known[0].epsilons,
        {
            metric: np.concatenate([curve.predictions[metric] for curve in known], axis=1)[:, order]
            for metric in known[0].predictions
        },
    )
