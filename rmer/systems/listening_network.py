"""Any model of the contract, made to take the sound itself: a front end before it that gradients pass."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from rmer.data.audio.row_frontend import Rows2Spect
from rmer.data.audio.transformations import Transformation
from rmer.data.dataset import Normalisation
from rmer.systems.network import Prediction


class ListeningNetwork(nn.Module):
    """Map rows of samples (:mod:`rmer.data.audio.recordings`) [batch, 1, cells] to predictions of ``model``.

    ``model`` gets what it would get of a file with these samples: the log spectrogram of the excerpt,
    standardised as its training data were, [batch, 1, frames, bands]. With ``transformations``
    (:mod:`rmer.data.audio.transformations`), predictions and gradients are the mean of those for the clip as
    it is and after each of them.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        model: nn.Module,
        normalisation: Normalisation,
        frames: int,
        transformations: Sequence[Transformation] = (),
    ) -> None:
        super().__init__()
        self.transformations = tuple(transformations)
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
        if not self.transformations:
            return prediction
        found = [
            prediction,
            *(self.model(self.spectrograms(change(rows))) for change in self.transformations),
        ]
        units = [one["c_prob"] for one in found if one["c_prob"] is not None]
        return {
            "output": torch.stack([one["output"] for one in found]).mean(0),
            "c_prob": torch.stack(units).mean(0) if units else None,
        }
