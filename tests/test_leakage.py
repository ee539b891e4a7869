"""Concept leakage: closed-form informations, units that leak by construction, and the control."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from rmer.evaluation.concepts import AttackedConcepts, ConceptLayer
from rmer.evaluation.endpoints import Floats
from rmer.evaluation.leakage import _information, leakage_means, leakage_table

CLIPS = 300


def model_of(predicted: Floats, rated: Floats, labels: Floats) -> AttackedConcepts:
    """Return a bottleneck of two concepts and one emotion with these predictions."""
    layer = ConceptLayer(("tense",), ("a", "b"), np.ones((1, 2)), np.zeros(1))
    clips = tuple(map(str, range(len(rated))))
    return AttackedConcepts(layer, clips, labels=labels, rated=rated, clean=predicted, adversarial=predicted)


@pytest.fixture
def drawn() -> tuple[Floats, Floats, Floats]:
    """Rated concepts [clips, 2], something else of the music [clips], and an emotion [clips, 1] of all."""
    rng = np.random.default_rng(3)
    rated, other = rng.normal(0, 1, (CLIPS, 2)), rng.normal(0, 1, CLIPS)
    return rated, other, (rated.sum(axis=1) + other)[:, np.newaxis]


@pytest.mark.parametrize("correlation", [0.0, 0.6, 0.95])
def test_information_of_correlated_normal_numbers_is_the_closed_form(correlation: float) -> None:
    rng = np.random.default_rng(1)
    x, y = rng.multivariate_normal([0, 0], [[1, correlation], [correlation, 1]], 3000).T
    exact = -0.5 * np.log(1 - correlation**2)
    assert _information(x[:, np.newaxis], y)[0] == pytest.approx(exact, abs=0.05)


def test_concepts_predicted_as_rated_leak_nothing(drawn: tuple[Floats, Floats, Floats]) -> None:
    rated, _, labels = drawn
    table = leakage_table(model_of(rated, rated, labels))
    assert (table.drop(columns="concept") == 0).all(axis=None)


def test_inaccurate_concepts_leak_no_more_than_the_control(drawn: tuple[Floats, Floats, Floats]) -> None:
    rated, _, labels = drawn
    predicted = rated + np.random.default_rng(2).normal(0, 0.5, rated.shape)
    found = leakage_means(leakage_table(model_of(predicted, rated, labels)))
    assert found["task_leakage"] <= found["task_leakage_control"] + 0.01
    assert found["inter_leakage"] <= found["inter_leakage_control"] + 0.01


def test_a_unit_that_hides_the_emotion_leaks_to_it_alone(drawn: tuple[Floats, Floats, Floats]) -> None:
    rated, other, labels = drawn
    table = leakage_table(model_of(rated + np.stack([other, 0 * other], 1), rated, labels)).set_index(
        "concept"
    )
    assert table["task_leakage"]["a"] > 0.05
    assert table["task_leakage"]["a"] > 5 * table["task_leakage_control"]["a"]
    assert table["task_leakage"]["b"] == 0
    assert table["inter_leakage"]["a"] < 0.02


def test_a_unit_that_mixes_two_concepts_leaks_between_them(drawn: tuple[Floats, Floats, Floats]) -> None:
    rated, _, labels = drawn
    mixed = np.stack([rated[:, 0] + rated[:, 1], rated[:, 1]], 1)
    table = leakage_table(model_of(mixed, rated, labels))
    assert (table["inter_leakage"] > 0.03).all()
    assert (table["inter_leakage"] > 5 * table["inter_leakage_control"]).all()


def test_leakage_does_not_depend_on_the_unit_of_a_concept(drawn: tuple[Floats, Floats, Floats]) -> None:
    rated, other, labels = drawn
    predicted = rated + other[:, np.newaxis]
    tables = [
        leakage_table(model_of(scale * predicted, scale * rated, labels)).drop(columns="concept")
        for scale in (1.0, 0.1)
    ]
    pd.testing.assert_frame_equal(*tables, atol=1e-6)


@pytest.mark.parametrize("lack", ["clips", "a rating"])
def test_where_nothing_can_be_said_there_is_no_number(
    drawn: tuple[Floats, Floats, Floats], lack: str
) -> None:
    rated, _, labels = (part[:7] if lack == "clips" else part.copy() for part in drawn)
    if lack == "a rating":
        rated[3, 1] = np.nan
    table = leakage_table(model_of(rated, rated, labels))
    assert table.drop(columns="concept").isna().all(axis=None)
    assert list(table["concept"]) == ["a", "b"]
