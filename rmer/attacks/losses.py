"""Losses of regression models: functions of outputs and labels [batch, targets]."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

# An error that grew by less did so by rounding: predictions are float32.
NO_DAMAGE = 1e-5


def squared_error(outputs: Tensor, labels: Tensor) -> Tensor:
    """Mean squared error of each clip over its targets [batch]."""
    return (outputs - labels).square().mean(1)


def absolute_error(outputs: Tensor, labels: Tensor) -> Tensor:
    """Mean absolute error of each clip over its targets [batch]."""
    return (outputs - labels).abs().mean(1)


def correlation(outputs: Tensor, labels: Tensor) -> Tensor:
    """Pearson correlation of each clip over its targets [batch]; NaN where either side is constant."""
    a = outputs - outputs.mean(1, keepdim=True)
    b = labels - labels.mean(1, keepdim=True)
    return (a * b).sum(1) / (a.square().sum(1) * b.square().sum(1)).sqrt()


def correlation_over_clips(outputs: Tensor, labels: Tensor) -> Tensor:
    """Pearson correlation of each target over the clips, averaged over targets (a scalar, in float64).

    Targets with constant labels are left out, as in :mod:`rmer.evaluation.metrics`; a constant output, and
    labels that are constant for every target, count as correlation 0, since an attack needs a number to go
    on from.
    """
    rated = labels.amax(0) > labels.amin(0)
    a, b = (values.double() - values.double().mean(0) for values in (outputs, labels))
    squares = a.square().sum(0) * b.square().sum(0)
    # Masks, as a GPU would have to wait for indices; and no root of 0, whose slope is infinite.
    varies = rated & (outputs.amax(0) > outputs.amin(0)) & (squares > 0)
    values = (a * b).sum(0) / torch.where(varies, squares, 1.0).sqrt()
    return torch.where(varies, values, 0.0).sum() / rated.sum().clamp_min(1)


LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"mse": squared_error, "l1": absolute_error}
