"""What an attack maximises: one value a clip, from outputs and labels [batch, targets]."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

Loss = Callable[[Tensor, Tensor], Tensor]


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


LOSSES: dict[str, Loss] = {"mse": squared_error, "l1": absolute_error}
