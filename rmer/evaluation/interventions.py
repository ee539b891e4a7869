"""What if a concept had another value: the emotions after interventions on a bottleneck's concepts.

Replacing predicted concepts at test time, by their ratings above all, is the intervention of Koh et al.,
"Concept bottleneck models", ICML 2020. See :mod:`rmer.evaluation.concepts` for units and terms.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from rmer.evaluation.concepts import AttackedConcepts
from rmer.evaluation.endpoints import Floats
from rmer.evaluation.metrics import regression_scores, under_attack

SMALL_CHANGE = 0.1  # one point of the rating scale


def what_if_table(model: AttackedConcepts) -> pd.DataFrame:
    """Return what one changed concept does to the clean predictions, one row for each concept and change.

    Columns: ``concept``, ``change`` (``+.1``, ``-.1``, ``+1 spread``, ``-1 spread``, ``rated``: set to its
    rating), ``mae`` of the emotions after it, and ``delta_<emotion>``, the mean change of each emotion.
    """
    layer, before, rows = model.layer, model.layer.predict(model.clean), []
    for column, concept in enumerate(layer.concepts):
        predicted, spread = model.clean[:, column], model.spread[column]
        changes = {
            "+.1": predicted + SMALL_CHANGE,
            "-.1": predicted - SMALL_CHANGE,
            "+1 spread": predicted + spread,
            "-1 spread": predicted - spread,
            "rated": model.rated[:, column],
        }
        for change, values in changes.items():
            after = layer.what_if(model.clean, {concept: values})
            means = dict(zip(layer.emotions, (after - before).mean(axis=0), strict=True))
            row = {"concept": concept, "change": change, "mae": float(np.abs(after - model.labels).mean())}
            rows.append(row | {f"delta_{emotion}": mean for emotion, mean in means.items()})
    return pd.DataFrame(rows)


def repair_table(model: AttackedConcepts) -> pd.DataFrame:
    """Return the scores of the emotions after 0, 1, 2, ... concepts are replaced.

    Three curves: attacked concepts replaced by their clean values (``adversarial``, ``clean``) or by their
    ratings (``adversarial``, ``rated``), and clean concepts replaced by their ratings (``clean``, ``rated``).
    At each step that concept is added which leaves the smallest MAE. This choice knows the rated emotions:
    the curve says what replacing concepts can do at best, one after the other.

    Columns: ``input``, ``replaced_by``, ``replaced`` (how many concepts), ``concept`` (the one added, empty
    at first), ``mae``, ``mae_clipped``, ``corr`` of the emotions, and ``alone_mae`` (of ``concept`` alone).
    """
    curves = {
        ("adversarial", "clean"): (model.adversarial, model.clean),
        ("adversarial", "rated"): (model.adversarial, model.rated),
        ("clean", "rated"): (model.clean, model.rated),
    }
    rows = [
        {"input": kind, "replaced_by": values, **row}
        for (kind, values), (before, after) in curves.items()
        for row in _repair(model, before, after)
    ]
    return pd.DataFrame(rows)


def _repair(model: AttackedConcepts, before: Floats, after: Floats) -> list[dict[str, Any]]:
    layer, left, replaced = model.layer, list(model.layer.concepts), list[str]()

    def predictions(concepts: Sequence[str]) -> Floats:
        return layer.predict(np.where(np.isin(layer.concepts, concepts), after, before))

    def mae(concepts: Sequence[str]) -> float:
        return float(np.abs(predictions(concepts) - model.labels).mean())

    def row(concept: str, alone: float) -> dict[str, Any]:
        mean = regression_scores(model.labels, predictions(replaced), layer.emotions).mean
        scores = {name: mean[name] for name in under_attack()}
        return {"replaced": len(replaced), "concept": concept, **scores, "alone_mae": alone}

    rows = [row("", mae(()))]
    while left:
        best = min(left, key=lambda concept: mae([*replaced, concept]))
        left.remove(best)
        replaced.append(best)
        rows.append(row(best, mae([best])))
    return rows
