"""Finds the linear layer of a network that makes emotions of its concepts, whatever it is called."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import nn

from rmer.evaluation.concepts import FLOAT32_TOLERANCE, ConceptLayer
from rmer.evaluation.endpoints import Floats


def fitting_layer(
    network: nn.Module,
    emotions: Sequence[str],
    concepts: Sequence[str],
    error: Callable[[ConceptLayer], float],
) -> tuple[ConceptLayer | None, float]:
    """Return the last layer whose ``error`` is rounding, or None, and the smallest error of those tried.

    Any weights of the right shape are tried, whatever their names (those of exported programs too), the last
    ones first; without any the error is infinite.
    """
    state, best = network.state_dict(), math.inf
    for name in reversed(state):
        if tuple(state[name].shape) != (len(emotions), len(concepts)):
            continue
        bias = state.get(f"{name.removesuffix('weight')}bias", torch.zeros(len(emotions)))
        layer = ConceptLayer(tuple(emotions), tuple(concepts), _array(state[name]), _array(bias))
        found = error(layer)
        if found <= FLOAT32_TOLERANCE:
            return layer, found
        best = min(best, found)
    return None, best


def _array(values: torch.Tensor) -> Floats:
    array: Floats = values.detach().cpu().double().numpy()
    return array
