"""Models that attacks are tested on: linear with known optima, and small trained networks."""

from __future__ import annotations

from copy import deepcopy
from functools import cache, partial
from itertools import product

import torch
from torch import Tensor, nn

FRAMES, BANDS = 12, 10
CELLS = FRAMES * BANDS


def spectrograms(count: int, dtype: torch.dtype = torch.float64, seed: int = 3) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, 1, FRAMES, BANDS, generator=generator, dtype=dtype)


class LinearBottleneck(nn.Module):
    """Linear from spectrogram to concepts to targets, so that both have closed-form optima."""

    def __init__(self, targets: int, concepts: int = 3) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(8)
        self.concepts = nn.Parameter(torch.randn(concepts, CELLS, generator=generator, dtype=torch.float64))
        self.head = nn.Parameter(torch.randn(targets, concepts, generator=generator, dtype=torch.float64))

    @property
    def weights(self) -> Tensor:
        """Weights of the targets on cells, [targets, cells]."""
        return (self.head @ self.concepts).detach()

    def forward(self, inputs: Tensor) -> dict[str, Tensor | None]:
        concepts = inputs.flatten(1) @ self.concepts.T
        return {"output": concepts @ self.head.T, "c_prob": concepts}


class SmallNetwork(nn.Module):
    """Convolutions, batch norm and a bottleneck on [1, 12, 10]: the model contract in small."""

    def __init__(self, targets: int = 8, concepts: int = 4) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 16, 3, 2), nn.ReLU(), nn.Flatten()
        )
        self.concepts = nn.Sequential(nn.Linear(16 * 4 * 3, 16), nn.ReLU(), nn.Linear(16, concepts))
        self.head = nn.Linear(concepts, targets)

    def forward(self, inputs: Tensor) -> dict[str, Tensor | None]:
        concepts = self.concepts(self.features(inputs))
        return {"output": self.head(concepts), "c_prob": concepts}


def trained(
    seed: int, targets: int = 8, dtype: torch.dtype = torch.float32
) -> tuple[SmallNetwork, Tensor, Tensor]:
    """Return a network fitted to 64 clips of a non-linear relation, and 32 other clips with their labels.

    It is fitted in float64, where what processors round differently stays below what float32 can tell: the
    network is the same one on every CPU and with any number of threads.
    """
    network, inputs, labels = _fitted(seed, targets)
    return deepcopy(network).to(dtype), inputs.to(dtype), labels.to(dtype)


@cache
def _fitted(seed: int, targets: int) -> tuple[SmallNetwork, Tensor, Tensor]:
    torch.manual_seed(seed)
    normal = partial(torch.randn, dtype=torch.float64)
    directions = normal(targets, CELLS) / CELLS**0.5
    inputs = normal(96, 1, FRAMES, BANDS)
    labels = 0.5 + 0.2 * torch.tanh(inputs.flatten(1) @ directions.T) + 0.03 * normal(96, targets)
    network = SmallNetwork(targets).double()
    optimiser = torch.optim.Adam(network.parameters(), 5e-3)
    for _ in range(40):
        for batch in torch.randperm(64).split(16):
            optimiser.zero_grad()
            (network(inputs[batch])["output"] - labels[batch]).square().mean().backward()
            optimiser.step()
    return network.eval(), inputs[64:], labels[64:]


def labels_before_a_hit(outputs: Tensor) -> Tensor:
    """Return labels [clips, targets >= 3] that the published attack has all but hit at its first step.

    They are the outputs [clips, targets] plus a vector at right angles to what varies in them, of a size that
    makes the correlation over the targets .9001: a hair above the threshold .9. The squared error then rises
    along minus that vector, which is also the way in which the correlation falls fastest, so that any step
    that raises the one lowers the other.
    """
    centred = outputs - outputs.mean(1, keepdim=True)
    across = torch.linspace(-1.0, 1.0, outputs.shape[1], dtype=outputs.dtype).square()
    across = across - across.mean()
    varying = centred.square().sum(1, keepdim=True)
    across = across - (centred @ across)[:, None] * centred / varying
    size = varying.sqrt() * (1 / 0.9001**2 - 1) ** 0.5
    return outputs + size * across / across.norm(dim=1, keepdim=True)


def worst_error(errors: Tensor, weights: Tensor, radius: float, norm: str) -> Tensor:
    """Return the largest mean absolute error [clips] of a linear regressor within a ball.

    The error is the maximum over signs s of mean(s * error), and each of these is linear in the
    perturbation: radius times the dual norm of mean(s * weights) is what it can gain.
    """
    targets = len(weights)
    signs = torch.tensor(list(product([-1.0, 1.0], repeat=targets)), dtype=errors.dtype)
    gains = radius * torch.linalg.vector_norm(signs @ weights, 1 if norm == "linf" else 2, dim=1)
    return ((errors @ signs.T + gains) / targets).amax(1)
