"""What a fit draws at random, in the order in which the published code drew it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from rmer.training.protocol import FitConfig


def shuffled_batches(clips: int, config: FitConfig, device: torch.device) -> Sequence[Tensor]:
    """Return the shuffled rows of each batch of an epoch, which is sent to the device at once.

    They are drawn from the global generator exactly as the published loader did.
    """
    loader: DataLoader[Tensor] = DataLoader(
        range(clips),  # type: ignore[arg-type]
        batch_size=config.batch_size,
        shuffle=True,
        drop_last=config.drop_last and clips >= config.batch_size,
        collate_fn=torch.tensor,
    )
    return torch.split(torch.cat(list(loader)).to(device), config.batch_size)


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Seed torch's global generators inside the block only, and ask for deterministic algorithms.

    Where a GPU has none torch warns and goes on.
    """
    deterministic = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        torch.use_deterministic_algorithms(True, warn_only=device.type == "cuda")
        try:
            yield
        finally:
            torch.use_deterministic_algorithms(deterministic, warn_only=warn_only)
