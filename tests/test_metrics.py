"""Scores: golden values by hand, conventions where a score has no value, bad input."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from rmer.evaluation import metrics

TARGETS = ("tension", "tender")
LABELS = np.array([[0.1, 0.8], [0.3, 0.4], [0.5, 0.6], [0.9, 0.2]])
PREDICTIONS = np.array([[0.2, 0.7], [0.2, 1.4], [0.6, 0.5], [-0.6, 0.3]])


@pytest.fixture
def scores() -> metrics.Scores:
    return metrics.regression_scores(LABELS, PREDICTIONS, TARGETS)


def test_absolute_errors_by_hand(scores: metrics.Scores) -> None:
    # tension: .1 .1 .1 1.5; tender: .1 1.0 .1 .1
    assert scores.per_target["tension"]["mae"] == pytest.approx(0.45, abs=1e-12)
    assert scores.per_target["tender"]["mae"] == pytest.approx(0.325, abs=1e-12)
    assert scores.mean["mae"] == pytest.approx(0.3875, abs=1e-12)


def test_clipped_errors_count_predictions_at_the_end_of_the_scale(scores: metrics.Scores) -> None:
    # tension: .1 .1 .1 .9 (-.6 -> 0); tender: .1 .6 .1 .1 (1.4 -> 1)
    assert scores.per_target["tension"]["mae_clipped"] == pytest.approx(0.3, abs=1e-12)
    assert scores.per_target["tender"]["mae_clipped"] == pytest.approx(0.225, abs=1e-12)


def test_squared_errors_by_hand(scores: metrics.Scores) -> None:
    assert scores.per_target["tension"]["rmse"] == pytest.approx(np.sqrt(2.28 / 4), abs=1e-12)
    # total sum of squares about .45: .1225 + .0225 + .0025 + .2025
    assert scores.per_target["tension"]["r2"] == pytest.approx(1 - 2.28 / 0.35, abs=1e-12)


def test_correlation_is_pearson_over_clips_averaged_over_targets(scores: metrics.Scores) -> None:
    expected = [stats.pearsonr(LABELS[:, column], PREDICTIONS[:, column]).statistic for column in range(2)]
    assert scores.per_target["tender"]["corr"] == pytest.approx(expected[1], abs=1e-12)
    assert scores.mean["corr"] == pytest.approx(np.mean(expected), abs=1e-12)


def test_perfect_predictions_have_the_best_value_of_every_metric() -> None:
    mean = metrics.regression_scores(LABELS, LABELS, TARGETS).mean
    assert mean == pytest.approx({"corr": 1, "mae": 0, "mae_clipped": 0, "rmse": 0, "r2": 1}, abs=1e-12)


def test_names_of_logged_metrics(scores: metrics.Scores) -> None:
    trained, attacked = scores.named("test", "emotion"), scores.named("adv")
    assert trained["test/emotion/mae"] == attacked["adv/mae"] == scores.mean["mae"]
    assert trained["test/tension/corr"] == attacked["adv/tension/corr"]
    assert len(trained) == len(metrics.METRICS) * 3


def test_a_target_with_constant_labels_is_left_out_of_the_average() -> None:
    labels = np.column_stack([LABELS, np.full(4, 0.5)])
    predictions = np.column_stack([PREDICTIONS, LABELS[:, 0]])
    scores = metrics.regression_scores(labels, predictions, (*TARGETS, "flat"))
    assert np.isnan(scores.per_target["flat"]["corr"])
    assert np.isnan(scores.per_target["flat"]["r2"])
    usual = metrics.regression_scores(LABELS, PREDICTIONS, TARGETS)
    assert scores.mean["corr"] == pytest.approx(usual.mean["corr"], abs=1e-12)


def test_a_constant_prediction_makes_the_average_correlation_nan() -> None:
    predictions = np.column_stack([PREDICTIONS[:, 0], np.full(4, 0.1)])
    scores = metrics.regression_scores(LABELS, predictions, TARGETS)
    assert np.isfinite(scores.per_target["tension"]["corr"])
    assert np.isnan(scores.per_target["tender"]["corr"])
    assert np.isnan(scores.mean["corr"])
    assert np.isfinite(scores.mean["r2"])


def test_one_clip_has_errors_but_no_correlation() -> None:
    mean = metrics.regression_scores(LABELS[:1], PREDICTIONS[:1], TARGETS).mean
    assert mean["mae"] == pytest.approx(0.1, abs=1e-12)
    assert np.isnan([mean["corr"], mean["r2"]]).all()


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_diverged_predictions_have_scores_that_are_not_finite(value: float) -> None:
    predictions = PREDICTIONS.copy()
    predictions[1, 0] = value
    scores = metrics.regression_scores(LABELS, predictions, TARGETS)
    assert not np.isfinite([scores.mean["mae"], scores.mean["rmse"]]).any()
    assert np.isnan(scores.mean["corr"])
    assert np.isfinite(list(scores.per_target["tender"].values())).all()


def test_float32_input_is_scored_in_float64() -> None:
    labels, predictions = (np.float32(1000.5) + np.float32([[0], [1], [3]]) for _ in range(2))
    assert metrics.correlations(labels, predictions)[0] == pytest.approx(1.0, abs=1e-12)


def test_clip_errors_average_over_targets() -> None:
    assert metrics.clip_errors(LABELS, PREDICTIONS) == pytest.approx([0.1, 0.55, 0.1, 0.8], abs=1e-12)
    clipped = metrics.clip_errors(LABELS, PREDICTIONS, clipped=True)
    assert clipped == pytest.approx([0.1, 0.35, 0.1, 0.5], abs=1e-12)


def test_constant_predictor_is_the_mean_label() -> None:
    assert metrics.constant_predictor(LABELS) == pytest.approx([0.45, 0.5], abs=1e-12)
    assert metrics.constant_mae(LABELS, [[0.5, 0.5], [0.4, 0.1]]) == pytest.approx(0.125, abs=1e-12)


@pytest.mark.parametrize(
    ("labels", "predictions", "targets", "message"),
    [
        (LABELS[:, 0], PREDICTIONS, TARGETS, "labels must be"),
        (LABELS[:0], PREDICTIONS[:0], TARGETS, "at least one clip"),
        (LABELS, PREDICTIONS[:3], TARGETS, "shapes must be equal"),
        (LABELS, PREDICTIONS, ("tension",), "1 target names"),
        (LABELS, PREDICTIONS, ("tension", "tension"), "2 target names"),
        (np.where(LABELS == 0.4, np.nan, LABELS), PREDICTIONS, TARGETS, "clip 1, target tender, is nan"),
    ],
)
def test_bad_input(
    labels: np.ndarray, predictions: np.ndarray, targets: tuple[str, ...], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        metrics.regression_scores(labels, predictions, targets)
