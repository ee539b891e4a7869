"""Scores of predicted emotions or concepts against ratings.

Conventions
-----------
Labels and predictions are arrays ``[clips, targets]``. A target is one rated quantity ("tension", "melody"),
in units of the rating scale divided by 10, so that ratings lie in 0-1. Every metric is computed per target
over the clips, in float64, and then averaged over the targets with equal weights.

Metrics
-------
What a metric is, and how systems are judged by it, is one entry of :data:`OWN`; tables, curves, comparisons
and figures follow from it. Another package adds one by an entry point of the group ``rmer.metrics``.

Where a score has no value
--------------------------
``corr`` is NaN for a target whose labels or predictions are constant, ``r2`` for one whose labels are.
Targets with constant *labels* are left out of the average (they are the same for every model, so averages
stay comparable); a constant *prediction* makes the average NaN (no model gains by giving up on a target).
Predictions that are not finite give scores that are not finite. NaN is never an improvement.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from rmer.data.dataset import RATING_SCALE
from rmer.evaluation.endpoints import Endpoint, Floats, correlation_endpoint, error_endpoint, over_folds
from rmer.registry import Registry


@dataclass(frozen=True)
class Metric:
    """One way to score predictions.

    Attributes
    ----------
    name, title, phrase : As it is logged (``adv/mae_clipped``), at the head of a column or figure, and within
        a sentence.
    per_target : Labels and predictions, ``[clips, targets]`` -> values ``[targets]``.
    over_albums : Labels ``[clips, targets]``, predictions ``[seeds, clips, targets]`` and albums ``[clips]``
        -> the average over targets as a function of how much each album counts
        (:mod:`rmer.evaluation.endpoints`).
    larger_is_better : Its direction.
    clipped : Whether predictions are limited to the rating scale first.
    rated_alone : Whether targets whose labels are constant have no value, and are left out of the average.
    adversaries : The metric whose worst adversaries count under attack: its own name where attacks aim at it.
        Empty for a metric by which attacked models are not judged.
    columns : Kind of column of per-clip tables with the predictions for the adversaries that are worst by it
        (``adv_joint``), where these are others than those of ``adv``, which are worst by raw MAE.
    margin : Margin of equivalence; 0 where systems are not compared by it.
    against_constant : Whether the constant predictor's MAE is a yardstick for it.
    """

    name: str
    title: str
    phrase: str
    per_target: Callable[[Floats, Floats], Floats]
    over_albums: Callable[[Floats, Floats, Sequence[object]], Endpoint] | None = None
    larger_is_better: bool = False
    clipped: bool = False
    rated_alone: bool = False
    adversaries: str = ""
    columns: str = ""
    margin: float = 0.0
    against_constant: bool = False

    def values(self, labels: Floats, predictions: Floats) -> Floats:
        """Return the value of each target, ``[targets]``; both arrays are ``[clips, targets]``."""
        return self.per_target(labels, clip_to_scale(predictions) if self.clipped else predictions)

    def endpoint(
        self, labels: Floats, predictions: Floats, albums: Sequence[object], folds: Sequence[int] = ()
    ) -> Endpoint:
        """Return the average of each seed as a function of how much each album counts.

        With ``folds`` ``[clips]`` of a cross-validation, as a function of how much each of these counts.
        """
        if len(folds):
            members = [np.flatnonzero(np.asarray(folds) == fold) for fold in sorted(set(folds))]
            return over_folds(
                [self.endpoint(labels[rows], predictions[:, rows], [""] * len(rows)) for rows in members]
            )
        if self.over_albums is None:
            raise ValueError(f"{self.name} has no over_albums, which attacked models are judged by")
        return self.over_albums(labels, clip_to_scale(predictions) if self.clipped else predictions, albums)


def error_metric(
    name: str,
    title: str,
    phrase: str,
    loss: Callable[[Floats], Floats],
    link: Callable[[Floats], Floats] | None = None,
    **more: Any,
) -> Metric:
    """Return the metric ``link`` (mean over clips of ``loss`` (prediction - label)); ``more`` are fields."""

    def per_target(labels: Floats, predictions: Floats) -> Floats:
        mean: Floats = loss(predictions - labels).mean(axis=0)
        return mean if link is None else link(mean)

    def over_albums(labels: Floats, predictions: Floats, albums: Sequence[object]) -> Endpoint:
        return error_endpoint(loss(predictions - labels), albums, link)

    return Metric(name, title, phrase, per_target, over_albums, **more)


@dataclass(frozen=True)
class Scores:
    """Scores of predictions: metric -> average over targets, and target -> metric -> value."""

    mean: Mapping[str, float]
    per_target: Mapping[str, Mapping[str, float]]

    def named(self, group: str, average: str = "") -> dict[str, float]:
        """Return the scores under the names by which they are logged.

        ``average`` stands for the average over targets: ``named("test", "emotion")`` gives
        ``test/emotion/mae`` and ``test/tension/mae``, ``named("adv")`` ``adv/mae`` and ``adv/tension/mae``.
        """
        stem = f"{group}/{average}" if average else group
        names = {f"{stem}/{metric}": value for metric, value in self.mean.items()}
        for target, scores in self.per_target.items():
            names |= {f"{group}/{target}/{metric}": value for metric, value in scores.items()}
        return names


def regression_scores(labels: npt.ArrayLike, predictions: npt.ArrayLike, targets: Sequence[str]) -> Scores:
    """Score predictions against labels.

    Both arrays are ``[clips, targets]``, ``targets`` names their columns. Returns every metric of
    :data:`METRICS`, averaged and per target. Raises ValueError when shapes or names do not match, there is no
    clip, or a label is not finite.
    """
    true, predicted = validate(labels, predictions, targets)
    rated, mean = _varies(true), dict[str, float]()
    per_target: dict[str, dict[str, float]] = {str(target): {} for target in targets}
    for name, metric in METRICS.items():
        with np.errstate(invalid="ignore", over="ignore"):
            values = metric.values(true, predicted)
        scored = values[rated] if metric.rated_alone else values
        mean[name] = float(scored.mean()) if len(scored) else float("nan")
        for target, value in zip(targets, values, strict=True):
            per_target[str(target)][name] = float(value)
    return Scores(mean=mean, per_target=per_target)


def correlations(labels: npt.ArrayLike, predictions: npt.ArrayLike) -> Floats:
    """Return the Pearson correlation over clips of each column, ``[targets]``.

    Both arrays are ``[clips, targets]``. NaN where either column is constant or holds a NaN.
    """
    true, predicted = np.asarray(labels, dtype=np.float64), np.asarray(predictions, dtype=np.float64)
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        x, y = true - true.mean(axis=0), predicted - predicted.mean(axis=0)
        norms = np.sqrt((x**2).sum(axis=0) * (y**2).sum(axis=0))
        values: Floats = np.clip((x * y).sum(axis=0) / norms, -1.0, 1.0)
    values[~(_varies(true) & _varies(predicted))] = np.nan
    return values


def clip_errors(labels: npt.ArrayLike, predictions: npt.ArrayLike, *, clipped: bool = False) -> Floats:
    """Return the absolute error of each clip, averaged over targets, ``[clips]``.

    Both arrays are ``[clips, targets]``; ``clipped`` clips the predictions to the rating scale first.
    """
    true, predicted = np.asarray(labels, dtype=np.float64), np.asarray(predictions, dtype=np.float64)
    if clipped:
        predicted = clip_to_scale(predicted)
    errors: Floats = np.abs(predicted - true).mean(axis=1)
    return errors


def clip_to_scale(predictions: npt.ArrayLike) -> Floats:
    """Return the predictions limited to the rating scale, 0-1 (NaN stays NaN)."""
    return np.clip(np.asarray(predictions, dtype=np.float64), *RATING_SCALE)


def constant_predictor(train_labels: npt.ArrayLike) -> Floats:
    """Return the prediction, ``[targets]``, of the model that knows nothing: the mean of the labels.

    ``train_labels`` is ``[clips, targets]``. Its MAE is the yardstick for an attack: a model that an attack
    pushes beyond it is worse than no model.
    """
    labels = np.asarray(train_labels, dtype=np.float64)
    if labels.ndim != 2 or not len(labels):
        raise ValueError(f"labels must be [clips, targets] with at least one clip, not {labels.shape}")
    mean: Floats = labels.mean(axis=0)
    return mean


def constant_mae(train_labels: npt.ArrayLike, labels: npt.ArrayLike) -> float:
    """Return the MAE over clips and targets of :func:`constant_predictor` of one set of labels on another."""
    return float(np.abs(constant_predictor(train_labels) - np.asarray(labels, dtype=np.float64)).mean())


def validate(
    labels: npt.ArrayLike, predictions: npt.ArrayLike, targets: Sequence[str]
) -> tuple[Floats, Floats]:
    """Check that labels and predictions can be scored; return both as float64 ``[clips, targets]``.

    Predictions may hold NaN or infinity, since a diverged model has a (bad) score; labels may not.
    """
    true, predicted = np.asarray(labels, dtype=np.float64), np.asarray(predictions, dtype=np.float64)
    if true.ndim != 2 or not len(true):
        raise ValueError(f"labels must be [clips, targets] with at least one clip, not {true.shape}")
    if predicted.shape != true.shape:
        raise ValueError(f"predictions are {predicted.shape}, labels {true.shape}: shapes must be equal")
    if len(targets) != true.shape[1] or len(set(targets)) != len(targets) or not len(targets):
        raise ValueError(f"{len(targets)} target names ({', '.join(targets)}) for {true.shape[1]} columns")
    if not np.isfinite(true).all():
        clip, column = np.argwhere(~np.isfinite(true))[0]
        raise ValueError(f"label of clip {clip}, target {targets[column]}, is {true[clip, column]}")
    return true, predicted


def _varies(columns: Floats) -> npt.NDArray[np.bool_]:
    varies: npt.NDArray[np.bool_] = columns.max(axis=0) > columns.min(axis=0)
    return varies


def _determination(true: Floats, predicted: Floats) -> Floats:
    total = ((true - true.mean(axis=0)) ** 2).sum(axis=0)
    residual = ((predicted - true) ** 2).sum(axis=0)
    total[~_varies(true)] = np.nan
    values: Floats = 1.0 - residual / total
    return values


OWN = (
    error_metric("mae", "MAE", "raw MAE", np.abs, adversaries="mae", against_constant=True),
    error_metric(
        "mae_clipped", "MAE, clipped", "clipped MAE", np.abs, clipped=True,
        adversaries="mae_clipped", columns="adv_clipped", margin=0.02, against_constant=True,
    ),
    Metric(
        "corr", "Correlation", "correlation", correlations, correlation_endpoint, larger_is_better=True,
        rated_alone=True, adversaries="corr", columns="adv_joint", margin=0.05,
    ),
    error_metric("rmse", "RMSE", "RMSE", np.square, np.sqrt),
    Metric("r2", "R²", "explained variance", _determination, larger_is_better=True, rated_alone=True),
)  # fmt: skip
METRICS: Registry[Metric] = Registry("metric", "rmer.metrics", {metric.name: metric for metric in OWN})


def under_attack() -> dict[str, Metric]:
    """Return the metrics by which attacked models are judged, by name."""
    return {name: metric for name, metric in METRICS.items() if metric.adversaries}


def aims() -> list[str]:
    """Return the metrics that attacks aim at."""
    return list(dict.fromkeys(metric.adversaries for metric in under_attack().values()))


def own_columns() -> dict[str, str]:
    """Return metric -> kind of column with the predictions for its own worst adversaries (``adv_joint``)."""
    return {name: metric.columns for name, metric in METRICS.items() if metric.columns}
