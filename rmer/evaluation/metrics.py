"""Scores of predicted emotions or concepts against ratings.

Conventions
-----------
Labels and predictions are arrays ``[clips, targets]``. A target is one rated quantity ("tension", "melody"),
in units of the rating scale divided by 10, so that ratings lie in 0-1. Every metric is computed per target
over the clips, in float64, and then averaged over the targets with equal weights.

Metrics
-------
* ``corr``: Pearson correlation over clips.
* ``mae``: mean absolute error.
* ``mae_clipped``: mean absolute error after clipping the predictions to the rating scale, 0-1.
* ``rmse``: square root of the mean squared error (the average over targets is a mean of roots).
* ``r2``: coefficient of determination, 1 - residual / total sum of squares.

Where a score has no value
--------------------------
``corr`` is NaN for a target whose labels or predictions are constant, ``r2`` for one whose labels are.
Targets with constant *labels* are left out of the average (they are the same for every model, so averages
stay comparable); a constant *prediction* makes the average NaN (no model gains by giving up on a target).
Predictions that are not finite give scores that are not finite. NaN is never an improvement.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rmer.data.dataset import RATING_SCALE

METRICS = ("corr", "mae", "mae_clipped", "rmse", "r2")

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Scores:
    """Scores of one set of predictions.

    Attributes
    ----------
    mean
        Metric -> average over targets.
    per_target
        Target -> metric -> value.
    """

    mean: Mapping[str, float]
    per_target: Mapping[str, Mapping[str, float]]

    def named(self, group: str, average: str = "") -> dict[str, float]:
        """Return the scores under the names by which they are logged.

        Parameters
        ----------
        group
            First part of every name ("test", "adv").
        average
            Name that stands for the average over targets: ``named("test", "emotion")`` gives
            ``test/emotion/mae`` and ``test/tension/mae``; ``named("adv")`` gives ``adv/mae`` and
            ``adv/tension/mae``.
        """
        stem = f"{group}/{average}" if average else group
        names = {f"{stem}/{metric}": value for metric, value in self.mean.items()}
        for target, scores in self.per_target.items():
            names |= {f"{group}/{target}/{metric}": value for metric, value in scores.items()}
        return names


def regression_scores(labels: npt.ArrayLike, predictions: npt.ArrayLike, targets: Sequence[str]) -> Scores:
    """Score predictions against labels.

    Parameters
    ----------
    labels, predictions
        Arrays ``[clips, targets]``; labels are finite.
    targets
        Names of the columns.

    Returns
    -------
    Scores
        Every metric of :data:`METRICS`, averaged and per target.

    Raises
    ------
    ValueError
        When shapes or names do not match, there is no clip, or a label is not finite.
    """
    true, predicted = validate(labels, predictions, targets)
    with np.errstate(invalid="ignore", over="ignore"):
        values = {
            "corr": correlations(true, predicted),
            "mae": np.abs(predicted - true).mean(axis=0),
            "mae_clipped": np.abs(clip_to_scale(predicted) - true).mean(axis=0),
            "rmse": np.sqrt(((predicted - true) ** 2).mean(axis=0)),
            "r2": _determination(true, predicted),
        }
    rated = _varies(true)
    mean = {
        metric: _mean(column[rated] if metric in ("corr", "r2") else column)
        for metric, column in values.items()
    }
    per_target = {
        str(target): {metric: float(values[metric][index]) for metric in METRICS}
        for index, target in enumerate(targets)
    }
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
    limited: Floats = np.clip(np.asarray(predictions, dtype=np.float64), *RATING_SCALE)
    return limited


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


def _mean(values: Floats) -> float:
    return float(values.mean()) if len(values) else float("nan")
