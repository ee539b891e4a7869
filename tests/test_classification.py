"""Scores of classes and tags: closed forms, and scikit-learn as an independent implementation."""

from __future__ import annotations

import numpy as np
import pytest
from attack_runs import suite_run
from sklearn import metrics

from rmer.evaluation.classification import accuracy_metric, classification_metrics, classification_scores
from rmer.stages.analysis.analyze import analyze
from rmer.stages.analysis.analyze_params import AnalyzeParams
from rmer.tracking import Store

NAMES = ["a", "b", "c"]


def one_hot(classes: np.ndarray) -> np.ndarray:
    return np.eye(3)[classes]


def test_three_clips_by_hand() -> None:
    """Clips of a, b, c; predicted a, a, c."""
    predictions = [[0.9, 0.1, 0.0], [0.6, 0.5, 0.1], [0.2, 0.3, 0.4]]
    scores = classification_scores(np.eye(3), predictions, NAMES, "classes")
    assert scores.mean["accuracy"] == pytest.approx(2 / 3)
    assert [scores.per_target[name]["f1"] for name in NAMES] == pytest.approx([2 / 3, 0, 1])
    assert scores.mean["macro_f1"] == pytest.approx(5 / 9)
    assert [scores.per_target[name]["auc"] for name in NAMES] == [1, 1, 1]


@pytest.mark.parametrize("kind", ["classes", "tags"])
def test_scores_are_those_of_scikit_learn(kind: str) -> None:
    rng = np.random.default_rng(5)
    labels = (
        one_hot(rng.integers(0, 3, 60)) if kind == "classes" else (rng.random((60, 3)) < 0.4).astype(float)
    )
    predictions = np.round(labels + rng.normal(0, 0.8, labels.shape), 1)  # rounded, so that some are alike
    scores = classification_scores(labels, predictions, NAMES, kind)
    if kind == "classes":
        true, said = labels.argmax(1), predictions.argmax(1)
        assert scores.mean["accuracy"] == pytest.approx(metrics.accuracy_score(true, said))
    else:
        true, said = labels, predictions >= 0.5
        assert scores.mean["accuracy"] == pytest.approx(1 - metrics.hamming_loss(true, said))
    assert scores.mean["macro_f1"] == pytest.approx(metrics.f1_score(true, said, average="macro"))
    assert scores.mean["auc"] == pytest.approx(metrics.roc_auc_score(labels, predictions, average="macro"))
    precision = metrics.average_precision_score(labels, predictions, average="macro")
    assert scores.mean["pr_auc"] == pytest.approx(precision)


def test_a_target_that_no_clip_has_is_left_out_of_averages() -> None:
    labels = one_hot(np.array([0, 1, 0, 1]))
    scores = classification_scores(labels, labels * 0.9, NAMES, "classes")
    assert np.isnan([scores.per_target["c"][name] for name in ("f1", "auc", "pr_auc")]).all()
    assert scores.mean == {"accuracy": 1, "macro_f1": 1, "auc": 1, "pr_auc": 1}


def test_probabilities_count_by_their_largest_class() -> None:
    labels = [[0.6, 0.3, 0.1], [0.2, 0.2, 0.6]]
    assert classification_scores(labels, labels, NAMES, "classes").mean["accuracy"] == 1


def test_predictions_that_are_no_numbers_have_no_score() -> None:
    predictions = np.eye(3)
    predictions[0, 0] = np.nan
    mean = classification_scores(np.eye(3), predictions, NAMES, "classes").mean
    assert np.isnan([mean["accuracy"], mean["macro_f1"]]).all()


def test_an_attack_is_scored_by_classes_before_and_after() -> None:
    found = classification_metrics(np.eye(3), np.eye(3), np.eye(3)[[1, 2, 0]], NAMES, "classes")
    assert (found["clean/accuracy"], found["adv/accuracy"], found["delta/accuracy"]) == (1, 0, -1)
    assert (found["clean/a/auc"], found["adv/a/auc"]) == (1, 0.25)


def test_ratings_have_no_classes() -> None:
    with pytest.raises(ValueError, match="no classes"):
        classification_scores(np.eye(3), np.eye(3), NAMES, "ratings")


@pytest.mark.parametrize("kind", ["classes", "tags"])
def test_accuracy_by_albums_or_folds_is_that_of_the_clips_that_are_drawn(kind: str) -> None:
    rng = np.random.default_rng(7)
    labels = one_hot(rng.integers(0, 3, 12))
    predictions = labels + rng.normal(0, 0.7, (2, 12, 3))
    albums, metric = ["a"] * 3 + ["b"] * 4 + ["c"] * 5, accuracy_metric(kind)
    drawn = metric.endpoint(labels, predictions, albums).scores(np.array([[2.0, 0.0, 1.0]]))[0]
    rows = [*range(3), *range(3), *range(7, 12)]
    for seed, found in zip(predictions, drawn, strict=True):
        expected = classification_scores(labels[rows], seed[rows], NAMES, kind).mean["accuracy"]
        assert found == pytest.approx(expected)
    folds = metric.endpoint(labels, predictions, albums, (1,) * 5 + (2,) * 7).per_seed
    assert folds == pytest.approx(metric.endpoint(labels, predictions, albums).per_seed), "a mean over clips"


def test_an_analysis_shows_classes_and_compares_accuracy(store: Store, study: str) -> None:
    for system, damage in (("A2E", 0.1), ("A2M2E", 0.02)):
        for seed in (1, 2):
            suite_run(store, study, system, seed, damage=damage, cfg_labels="tags")
    found = analyze(store, AnalyzeParams(study=study))
    table = found.tables["classification"].set_index(["system", "metric"])
    logged = [run.metrics for run in store.find("attack", {"rmer.system": "A2E"}, study)]
    for metric in ("accuracy", "macro_f1", "auc"):
        for kind in ("clean", "adv"):
            mean = np.mean([values[f"{kind}/{metric}"] for values in logged])
            assert table.loc[("A2E", metric), kind] == pytest.approx(mean, abs=1e-9)
    row = found.tables["accuracy_comparisons"].iloc[0]
    differences = table["delta"].loc[["A2E", "A2M2E"], "accuracy"].to_numpy()
    assert (row["a"], row["b"]) == ("A2E", "A2M2E")
    assert row["difference"] == pytest.approx(differences[0] - differences[1], abs=1e-9)
    assert row["low"] < row["difference"] < row["high"]
    assert "Accuracy: attacked" in found.report.systems
    assert "Classes and tags" in [section.title for section in found.report.sections]
    metrics_of = store.get(found.outcome.run_id).metrics
    assert metrics_of["A2E/adv_auc"] == pytest.approx(table.loc[("A2E", "auc"), "adv"])
