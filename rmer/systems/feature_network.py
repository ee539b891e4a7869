"""Well-known features of music to emotions in one linear layer, below which nothing is learned."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor, nn

from rmer.systems.music_features import FEATURES, Spect2Features

if TYPE_CHECKING:  # which has this network in its list
    from rmer.systems.network import Prediction


class FeatureNetwork(nn.Module):
    """Audio to features to emotions: what a ridge regression on features predicts, differentiably.

    ``c_prob`` are the features (:mod:`rmer.systems.music_features`), each less its mean over the training
    clips and over its standard deviation there. ``input_mean`` and ``input_std`` are what the spectrograms
    were standardised by. All of it and the weights come from a fit (:mod:`rmer.training.ridge`).
    """

    has_bottleneck: ClassVar[bool] = False
    fitted_at_once: ClassVar[bool] = True
    unit_names: ClassVar[tuple[str, ...]] = FEATURES
    needs_float32: ClassVar[bool] = True  # magnitudes span six orders

    input_mean: Tensor
    input_std: Tensor
    feature_mean: Tensor
    feature_std: Tensor

    def __init__(self, targets: int = 8, concepts: int = 0) -> None:
        super().__init__()
        self.spect2features = Spect2Features()
        for name, values in (("mean", torch.zeros), ("std", torch.ones)):
            self.register_buffer(f"input_{name}", values(1))
            self.register_buffer(f"feature_{name}", values(len(FEATURES)))
        self.ridge = nn.Linear(len(FEATURES), targets)

    def features(self, spectrograms: Tensor) -> Tensor:
        """Return the features of standardised spectrograms [batch, 1, frames, bands], [batch, features]."""
        found: Tensor = self.spect2features(spectrograms[:, 0] * self.input_std + self.input_mean)
        return found

    def forward(self, spectrograms: Tensor) -> Prediction:
        """Map [batch, 1, frames, bands] to ``output`` [batch, targets] and ``c_prob`` [batch, features]."""
        units = (self.features(spectrograms) - self.feature_mean) / self.feature_std
        return {"output": self.ridge(units), "c_prob": units}

    @staticmethod
    def sizes(state: Mapping[str, Tensor]) -> tuple[int, int] | None:
        """Return targets and features of a state dict of this architecture, None for any other."""
        if "ridge.weight" not in state:
            return None
        targets, features = state["ridge.weight"].shape
        return targets, features
