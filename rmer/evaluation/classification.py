"""Scores of targets that are classes or tags, beside those of :mod:`rmer.evaluation.metrics`.

Systems regress on labels of 0 and 1 (or probabilities), so that MAE and correlation are what they are for
ratings and attacks aim at them alike. What a classifier would be judged by is computed from the same
predictions:

Metrics
-------
``accuracy``: classes: share of clips whose largest prediction is of the right class (of equal ones, the
first); tags: share of clips and tags on the right side of .5. ``f1``: F1 score of each class or tag, 2 TP /
(2 TP + FP + FN), 0 where nothing is right; averaged, ``macro_f1``. ``auc``: area under the ROC curve of
each class against the others (of equal predictions, half count), by the rank-sum statistic (Hanley & McNeil
1982, Radiology 143). ``pr_auc``: average precision, the sum over thresholds of precision times gain of
recall (as scikit-learn has it).

Where a score has no value
--------------------------
``auc`` and ``pr_auc`` are NaN for a target that all clips have or none has, and such targets are left out
of the averages; ``f1`` is NaN for one that no clip has and none is predicted to have. All are NaN where a
prediction is.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata

from rmer.data.tables.class_labels import LabelKind
from rmer.evaluation.endpoints import Endpoint, Floats, mean_endpoint
from rmer.evaluation.metrics import Metric, Scores, validate

THRESHOLD = 0.5  # from which on a tag is predicted, and a probability is a label
Truths = npt.NDArray[np.bool_]


def classification_scores(
    labels: npt.ArrayLike, predictions: npt.ArrayLike, targets: Sequence[str], kind: LabelKind
) -> Scores:
    """Score predictions ``[clips, targets]`` against classes or tags (0 or 1, or probabilities).

    Returns ``accuracy``, ``macro_f1``, ``auc`` and ``pr_auc`` as averages, ``f1``, ``auc`` and ``pr_auc`` of
    each target. Raises ValueError for ratings, and as :func:`rmer.evaluation.metrics.validate` does.
    """
    if kind == "ratings":
        raise ValueError("ratings are on a scale, and have no classes")
    true, predicted = validate(labels, predictions, targets)
    if kind == "classes":
        has, said = _largest(true), _largest(predicted)
        accuracy = float((true.argmax(axis=1) == predicted.argmax(axis=1)).mean())
    else:
        has, said = true >= THRESHOLD, predicted >= THRESHOLD
        accuracy = float((has == said).mean())
    finite = np.isfinite(predicted).all(axis=0)
    columns = {
        "f1": _f1(has, said),
        "auc": _auc(has, predicted),
        "pr_auc": _average_precision(has, predicted),
    }
    columns = {name: np.where(finite, values, np.nan) for name, values in columns.items()}
    both: Truths = np.asarray(has.any(axis=0) & ~has.all(axis=0))
    mean = {
        "accuracy": accuracy if finite.all() else float("nan"),
        "macro_f1": _mean(columns["f1"], np.asarray((has | said).any(axis=0))),
        "auc": _mean(columns["auc"], both),
        "pr_auc": _mean(columns["pr_auc"], both),
    }
    per_target = {
        str(target): {name: float(values[column]) for name, values in columns.items()}
        for column, target in enumerate(targets)
    }
    return Scores(mean, per_target)


def classification_metrics(
    labels: npt.ArrayLike,
    clean: npt.ArrayLike,
    adversarial: npt.ArrayLike,
    targets: Sequence[str],
    kind: LabelKind,
) -> dict[str, float]:
    """Return ``clean/*``, ``adv/*`` and ``delta/*`` (adversarial minus clean), where they have a value."""
    before = classification_scores(labels, clean, targets, kind)
    after = classification_scores(labels, adversarial, targets, kind)
    change = {f"delta/{name}": after.mean[name] - before.mean[name] for name in before.mean}
    found = before.named("clean") | after.named("adv") | change
    return {name: value for name, value in found.items() if np.isfinite(value)}


def accuracy_metric(kind: LabelKind) -> Metric:
    """Return accuracy as a metric by which systems are compared: a mean over clips, as of its conventions."""

    def right(labels: Floats, predictions: Floats) -> Floats:
        if kind == "classes":
            hits = labels.argmax(axis=-1) == predictions.argmax(axis=-1)
            return np.asarray(np.where(np.isfinite(predictions).all(axis=-1), hits, np.nan))
        sides = (labels >= THRESHOLD) == (predictions >= THRESHOLD)
        return np.asarray(np.where(np.isfinite(predictions), sides, np.nan).mean(axis=-1))

    def over_albums(labels: Floats, predictions: Floats, albums: Sequence[object]) -> Endpoint:
        return mean_endpoint(right(labels, predictions), albums)

    def per_target(labels: Floats, predictions: Floats) -> Floats:
        return np.full(labels.shape[1], right(labels, predictions).mean())

    return Metric("accuracy", "Accuracy", "accuracy", per_target, over_albums, larger_is_better=True)


def _largest(values: Floats) -> Truths:
    """Return which target of each clip has the largest value, exactly one each."""
    truths: Truths = np.arange(values.shape[1]) == values.argmax(axis=1)[:, np.newaxis]
    return truths


def _f1(has: Truths, said: Truths) -> Floats:
    right = (has & said).sum(axis=0)
    counted = has.sum(axis=0) + said.sum(axis=0)
    values: Floats = np.divide(2.0 * right, counted, out=np.full(len(right), np.nan), where=counted > 0)
    return values


def _auc(has: Truths, predicted: Floats) -> Floats:
    """Return P(a clip that has the target is predicted higher than one that has not), ``[targets]``."""
    ranks = rankdata(predicted, axis=0)
    with_it = has.sum(axis=0).astype(np.float64)
    pairs = with_it * (len(has) - with_it)
    above = np.where(has, ranks, 0).sum(axis=0) - with_it * (with_it + 1) / 2
    values: Floats = np.divide(above, pairs, out=np.full(len(pairs), np.nan), where=pairs > 0)
    return values


def _average_precision(has: Truths, predicted: Floats) -> Floats:
    values = np.full(has.shape[1], np.nan)
    for column in range(has.shape[1]):
        if not 0 < has[:, column].sum() < len(has):
            continue
        order = np.argsort(-predicted[:, column], kind="stable")
        hits = np.cumsum(has[order, column])
        # Clips that are predicted alike are above the threshold together.
        ends = np.flatnonzero(np.append(np.diff(predicted[order, column]) != 0, True))
        recall = hits[ends] / hits[-1]
        values[column] = (np.diff(recall, prepend=0.0) * hits[ends] / (ends + 1)).sum()
    return values


def _mean(values: Floats, both: Truths) -> float:
    return float(values[both].mean()) if both.any() else float("nan")
