"""Bottlenecks whose last layer is fitted by itself: closed-form weights, concepts that no emotion shaped."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from noise_data import noise_dataset, published_parts

from rmer.data.standardised import Standardised, standardise
from rmer.errors import UserError
from rmer.systems.catalogue import CATALOGUE
from rmer.systems.network import build_network
from rmer.systems.prediction import predict
from rmer.training.fit import Fitted, fit
from rmer.training.last_layer import least_squares, refit_last_layer
from rmer.training.protocol import resolve_fit


@pytest.fixture(scope="module")
def data() -> Standardised:
    return standardise(noise_dataset(published_parts(30)), "published", "train")


def fitted(data: Standardised, system: str) -> Fitted:
    return fit(data, resolve_fit(CATALOGUE[system], "corrected", seed=3, epochs=2, width=0.125, lr=1e-3))


def test_least_squares_finds_an_exact_linear_map() -> None:
    rng = torch.Generator().manual_seed(1)
    concepts, weights = torch.rand(30, 7, generator=rng), torch.rand(8, 3, generator=rng)
    labels = concepts @ weights[:-1] + weights[-1]
    assert torch.allclose(least_squares(concepts, labels).float(), weights, atol=1e-5)


def test_least_squares_takes_the_smallest_weights_where_concepts_are_the_same() -> None:
    concept = torch.rand(20, 1, generator=torch.Generator().manual_seed(1))
    found = least_squares(concept.repeat(1, 2), 2 * concept)
    assert torch.allclose(found, torch.tensor([[1.0], [1.0], [0.0]], dtype=torch.float64), atol=1e-6)


@pytest.mark.parametrize("system", ["sA2M2E", "iA2M2E"])
def test_the_last_layer_fits_the_training_clips_best(data: Standardised, system: str) -> None:
    network = fitted(data, system).network
    units = predict(network, data.train.inputs)[1]
    inputs = torch.from_numpy(units) if system == "sA2M2E" else data.train.concepts
    assert inputs is not None
    best = least_squares(inputs, data.train.labels)
    assert torch.allclose(network.fc_ml2emo.weight.double(), best[:-1].T, atol=1e-4)  # type: ignore[union-attr]
    assert torch.allclose(network.fc_ml2emo.bias.double(), best[-1], atol=1e-4)  # type: ignore[union-attr]


def test_emotions_do_not_shape_the_concepts(data: Standardised) -> None:
    other = dataclasses.replace(
        data,
        train=dataclasses.replace(data.train, labels=1 - data.train.labels),
        validation=dataclasses.replace(data.validation, labels=1 - data.validation.labels),
    )
    first, second = fitted(data, "sA2M2E"), fitted(other, "sA2M2E")
    (emotions, units), (others, same) = (predict(one.network, data.test.inputs) for one in (first, second))
    assert units is not None
    assert same is not None
    np.testing.assert_array_equal(units, same)
    np.testing.assert_allclose(emotions, 1 - others, atol=1e-5)


def test_the_network_of_the_best_concepts_is_kept(data: Standardised) -> None:
    found = fitted(data, "iA2M2E")
    scores = [epoch["val/concept/corr"] for epoch in found.history]
    assert [epoch["val/stopping"] for epoch in found.history] == scores
    assert found.best_epoch == 1 + int(np.argmax(scores))


def test_a_network_without_such_a_layer_is_refused(data: Standardised) -> None:
    with pytest.raises(UserError, match="no linear layer from concepts to emotions"):
        refit_last_layer(build_network("plain"), data.train, "predicted")
