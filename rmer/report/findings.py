"""What an analysis found and what limits it, in sentences: the head and the foot of the report."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from rmer.evaluation.metrics import under_attack
from rmer.evaluation.statistics import WELCH_SEEDS
from rmer.report.readable import and_list, mean_and_std, number, p_value
from rmer.report.system_tables import is_adversarial

SIGNIFICANT = 0.05
MOST_COMPARISONS = 5
# By the tag that says "published".
PUBLISHED_CAVEATS = {
    "attack_protocol": "Published attack protocol: adversarial predictions are the last iterate's, whereas "
    "the perturbation that was kept, and its norm, are those of the last hit.",
    "train_protocol": "Published training protocol: spectrograms are standardised with statistics of all "
    "clips, test clips included.",
    "split_scheme": "Published split: clips are drawn one by one, so that training and test clips come from "
    "the same albums.",
}
TESTS_CAVEAT = (
    "The published test pools clips: it takes the same clips under several seeds for independent. The tests "
    "with one score a seed (Welch's is behind the sentences at the top) do not. No p of these is corrected "
    "for the number of tests; those of the corrected comparison are."
)


def headline(systems: pd.DataFrame, tests: pd.DataFrame) -> list[str]:
    """Return which system fares best by each metric, whether the metrics agree, and who differs from whom.

    ``systems`` and ``tests`` are the tables of :mod:`rmer.report.system_tables`.
    """
    if len(systems) < 2:
        return [
            f"{row['system']}: MAE {number(row['clean_mae'])} clean, {number(row['adv_mae'])} under attack."
            for row in systems.to_dict("records")
        ]
    best = {
        "raw adversarial MAE": _best(systems, "adv_mae"),
        "adversarial MAE with predictions clipped to the rating scale": _best(systems, "adv_mae_clipped"),
        "adversarial correlation": _best(systems, "adv_corr", highest=True),
    }
    sentences = [f"Best by {metric}: {found}." for metric, found in best.items() if found]
    if len({found.split(" (")[0] for found in best.values() if found}) > 1:
        sentences.append("The metrics disagree: which system is the most robust depends on the one chosen.")
    return sentences + _comparisons(tests)


def lower_bounds(by_predictions: Mapping[str, str], others: Sequence[str]) -> str:
    """Return what comparisons of systems are worth that no gradient passes; empty where there is none.

    ``by_predictions`` maps such systems to the queries that Square had for a clip; ``others`` are those that
    were attacked through their gradients.
    """
    if not by_predictions:
        return ""
    names, queries = and_list(list(by_predictions)), and_list(sorted(set(by_predictions.values()), key=int))
    text = (
        f"Attacked by predictions alone, as no gradient passes: {names} (Square, {queries} queries a clip "
        "and budget). That finds less than gradients do, so that the damage is a lower bound."
    )
    if others:
        text += (
            f" Beside what was attacked through its gradients ({and_list(others)}), a lead of {names} in "
            "robustness shows nothing; only a lag would."
        )
    return text


def caveats(
    systems: pd.DataFrame, attacks: pd.DataFrame, selection: Mapping[str, str], folds: int = 0
) -> list[str]:
    """Return what a reader must know before believing the numbers.

    ``attacks`` is the table of :func:`rmer.report.system_tables.attacks_table`, ``selection`` maps tag names
    (without ``rmer.``) to their values, several joined by commas, ``folds`` counts those of a
    cross-validation.
    """
    notes = []
    if folds:
        notes.append(
            f"Cross-validation in {folds} folds that no album straddles: every clip is tested once, by "
            f"models trained without its fold. A seed's score is the mean over its {folds} models, by their "
            "clips; no single model is scored on all clips."
        )
    exceeded = attacks["violations"].sum()
    if exceeded > 0:
        notes.append(
            f"The budget was not enforced: {exceeded:.0f} of {attacks['clips'].sum()} perturbations exceed "
            f"epsilon {selection.get('epsilon', '')}. "
            "Systems are compared at perturbations of different size."
        )
    elif math.isnan(attacks["violations"].sum(skipna=False)):
        notes.append("Not every run says whether its perturbations hold the budget.")
    notes += [text for tag, text in PUBLISHED_CAVEATS.items() if "published" in selection.get(tag, "")]
    notes += _scale(systems, attacks)
    if systems["seeds"].min() < 5:
        notes.append(
            f"As few as {systems['seeds'].min()} seed(s) a system: spreads and tests over seeds say little."
        )
    if systems.drop(columns="system").isna().to_numpy().any():
        notes.append(
            "A dash is a score without a value: a correlation where predictions do not vary over clips."
        )
    return notes


def _scale(systems: pd.DataFrame, attacks: pd.DataFrame) -> list[str]:
    outside, constant = attacks["outside_scale"], attacks["constant_mae"].mean()
    notes = []
    if outside.max() > 0:
        shares = dict.fromkeys(f"{100 * share:.0f}" for share in (outside.min(), outside.max()))
        notes.append(
            f"{'-'.join(shares)} % of the adversarial predictions leave the rating scale (0-1); raw MAE "
            "counts how far, clipped MAE does not."
        )
    if math.isfinite(constant):
        worse = systems["system"][systems["adv_mae_clipped"] > constant]
        text = f"A model that always predicts the mean label has a MAE of {number(constant, 3)}"
        notes.append(f"{text}; under attack worse than that, even clipped: {', '.join(worse) or 'none'}.")
    return notes


def _comparisons(tests: pd.DataFrame) -> list[str]:
    """Compare others with the reference, if there is one: those trained alike, adversarially or not."""
    if len(set(tests["b"])) != 1:
        return []
    welch = tests[(tests["test"] == WELCH_SEEDS) & tests["p"].notna()]
    sentences = []
    pairs: dict[tuple[str, str], dict[str, Mapping[Any, Any]]] = {}
    for row in welch.to_dict("records"):
        if is_adversarial(row["a"]) == is_adversarial(row["b"]):
            pairs.setdefault((row["a"], row["b"]), {})[row["metric"]] = row
    for (a, b), by_metric in list(pairs.items())[:MOST_COMPARISONS]:
        differences = [
            f"{metric.phrase} {_direction(test)} (p = {p_value(test['p'])})"
            for name, metric in under_attack().items()
            if (test := by_metric.get(f"adv/{name}"))
        ]
        sentences.append(f"{b} against {a}, under attack: {', '.join(differences)}.")
    return sentences


def _direction(test: Mapping[Any, Any]) -> str:
    if test["p"] >= SIGNIFICANT:
        return "not clearly different"
    return "lower" if test["statistic"] > 0 else "higher"


def _best(systems: pd.DataFrame, column: str, *, highest: bool = False) -> str:
    values = systems[column].to_numpy(np.float64)
    if np.isnan(values).all():
        return ""
    row = systems.iloc[int(np.nanargmax(values) if highest else np.nanargmin(values))]
    return f"{row['system']} ({mean_and_std(row[column], row[f'{column}_std'])})"
