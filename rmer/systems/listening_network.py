"""Any model of the contract, made to take the sound itself: a front end before it that gradients pass."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from rmer.data.audio.row_frontend import Rows2Spect
from rmer.data.dataset import Normalisation
from rmer.systems.network import Prediction


class ListeningNetwork(nn.Module):
    """Map rows of samples (:mod:`rmer.data.audio.recordings`) [batch, 1, cells] to predictions of ``model``.

    ``model`` gets what it would get of a file with these samples: the log spectrogram of the excerpt,
    standardised as its training data were, [batch, 1, frames, bands].
    """

    mean: Tensor
    std: Tensor

    def __init__(self, model: nn.Module, normalisation: Normalisation, frames: int) -> None:
        super().__init__()
        self.front_end = Rows2Spect(frames)
        self.model = model
        for name in ("mean", "std"):
            value = torch.tensor(getattr(normalisation, name), dtype=torch.float32)
            self.register_buffer(name, value, persistent=False)

    def spectrograms(self, rows: Tensor) -> Tensor:
        """Return the standardised spectrograms that the model gets, [batch, 1, frames, bands]."""
        standardised: Tensor = (self.front_end(rows[:, 0]) - self.mean) / self.std
        return standardised[:, None]

    def forward(self, rows: Tensor) -> Prediction:
        prediction: Prediction = self.model(self.spectrograms(rows))
        return prediction
