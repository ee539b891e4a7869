"""Weights of networks: whether they are numbers, and whether two networks have the same."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from rmer.errors import UserError

Weights = Mapping[str, Tensor]


def require_finite(weights: Weights, *, where: str, mend: str) -> None:
    """Raise UserError where a weight is NaN or infinite: training diverged, or the file is damaged."""
    bad = [
        name for name, values in weights.items() if values.is_floating_point() and not values.isfinite().all()
    ]
    if bad:
        more = f" and {len(bad) - 1} more" if len(bad) > 1 else ""
        raise UserError(f"weights are NaN or infinite ({bad[0]}{more})", where=where, mend=mend)


def same_weights(first: Weights, second: Weights) -> bool:
    """Tell whether two networks have weights of the same names and values, bit for bit."""
    return first.keys() == second.keys() and all(
        torch.equal(values, second[name]) for name, values in first.items()
    )
