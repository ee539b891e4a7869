"""Predictions of a network over many clips."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

Array = npt.NDArray[np.floating[Any]]


def predict(model: nn.Module, inputs: Tensor, batch_size: int = 32) -> tuple[Array, Array | None]:
    """Return targets [clips, K] and concepts [clips, C] (or None) that a model predicts.

    ``model`` must be in evaluation mode; ``inputs`` [clips, 1, frames, bands] are on the model's device.
    """
    with torch.no_grad():
        parts = [model(batch) for batch in torch.split(inputs, batch_size)]
    outputs = torch.cat([part["output"] for part in parts]).cpu().numpy()
    if parts[0]["c_prob"] is None:
        return outputs, None
    return outputs, torch.cat([part["c_prob"] for part in parts]).cpu().numpy()
