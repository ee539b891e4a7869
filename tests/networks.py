"""Small models and data for tests of training and attacks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from rmer.data.dataset import Normalisation
from rmer.data.standardised import Part, Standardised

if TYPE_CHECKING:
    from rmer.tracking import Run


class Linear(nn.Module):
    """A linear regressor on [1, frames, bands], whose worst perturbations have a closed form."""

    def __init__(self, weights: Tensor, bias: Tensor) -> None:
        super().__init__()
        self.weights = nn.Parameter(weights)  # [targets, frames * bands]
        self.bias = nn.Parameter(bias)

    def forward(self, inputs: Tensor) -> dict[str, Tensor | None]:
        return {"output": inputs.flatten(1) @ self.weights.T + self.bias, "c_prob": None}


class Half(nn.Module):
    """Half the mean level of each band, in the form of the model contract."""

    def forward(self, inputs: Tensor) -> dict[str, Tensor | None]:
        return {"output": inputs.mean((1, 2)) / 2, "c_prob": None}


def log_half(run: Run) -> None:
    """Log a model that is as small as one can be."""
    run.model(Half(), np.zeros((2, 1, 4, 3), np.float32), {"output": np.zeros((2, 3), np.float32)})


class Wrapped(nn.Module):
    """Base of models that do something before or after a network."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network


def linear_regressor(targets: int, cells: int = 60, seed: int = 0) -> Linear:
    generator = torch.Generator().manual_seed(seed)
    weights = torch.randn(targets, cells, generator=generator, dtype=torch.float64)
    return Linear(weights, torch.zeros(targets, dtype=torch.float64))


def synthetic_data(
    train: int = 16, validation: int = 8, frames: int = 24, targets: int = 8, concepts: int = 7
) -> Standardised:
    """Noise whose labels follow its level, up or down by target, so that training has something to learn."""
    rng = np.random.default_rng(5)

    def part(clips: int, first: int) -> Part:
        inputs = rng.normal(0, 1, (clips, 1, frames, 149)).astype(np.float32)
        level = rng.uniform(-1, 1, (clips, 1)).astype(np.float32)
        inputs += level[:, :, None, None]
        noise = rng.normal(0, 0.05, (clips, targets + concepts))
        signs = np.resize([0.3, -0.3], targets + concepts)
        labels = torch.from_numpy((0.5 + level * signs + noise).astype(np.float32))
        return Part(
            np.arange(first, first + clips),
            torch.from_numpy(inputs),
            labels[:, :targets],
            labels[:, targets:] if concepts else None,
        )

    trained = part(train, 0)
    return Standardised(
        train=trained,
        validation=part(validation, train),
        test=part(validation, train + validation),
        normalisation=Normalisation(0.4, 0.5),
        floor=torch.full((149,), -0.8),
        ceiling=trained.inputs.amax(dim=(0, 1, 2)),
    )
