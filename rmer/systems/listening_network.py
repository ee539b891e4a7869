"""Any model of the contract, made to take rows of samples: what it gets of sounds, differentiably."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from rmer.data.audio.row_frontend import Rows2Samples, Rows2Spect
from rmer.data.audio.transformations import Transformation
from rmer.data.dataset import Normalisation
from rmer.data.preparation.recording_files import SoundFiles
from rmer.systems.audio_model import AudioModel
from rmer.systems.network import Prediction


class Ear(nn.Module, ABC):
    """What a model gets of sounds: of rows [batch, 1, cells], which gradients pass, and of files.

    Of a row and of the file that holds it both are the same, up to ``rounding``.
    """

    rounding: float

    @abstractmethod
    def forward(self, rows: Tensor) -> Tensor:
        """Return what the model gets of rows."""

    @abstractmethod
    def of_files(self, sounds: SoundFiles, files: Sequence[Path]) -> Tensor:
        """Return what the model gets of files of the clips of ``sounds``, changed or not."""


class SpectrogramEar(Ear):
    """The log spectrogram of the excerpt, standardised as training data were, [batch, 1, frames, bands]."""

    mean: Tensor
    std: Tensor
    rounding = 1e-3  # 1e-5 from arithmetic alone; steps of single samples make more than .01

    def __init__(self, frames: int, normalisation: Normalisation) -> None:
        super().__init__()
        self.front_end = Rows2Spect(frames)
        for name in ("mean", "std"):
            value = torch.tensor(getattr(normalisation, name), dtype=torch.float32)
            self.register_buffer(name, value, persistent=False)

    def forward(self, rows: Tensor) -> Tensor:
        standardised: Tensor = (self.front_end(rows[:, 0]) - self.mean) / self.std
        return standardised[:, None]

    def of_files(self, sounds: SoundFiles, files: Sequence[Path]) -> Tensor:
        return sounds.spectrograms(files)


class SampleEar(Ear):
    """The samples of the excerpt at 22 050 Hz, [batch, samples]."""

    rounding = 1e-6  # a step is 3e-5

    def __init__(self, frames: int, *, peak_normalised: bool) -> None:
        super().__init__()
        self.rows2samples = Rows2Samples(frames, peak_normalised=peak_normalised)

    def forward(self, rows: Tensor) -> Tensor:
        samples: Tensor = self.rows2samples(rows[:, 0])
        return samples

    def of_files(self, sounds: SoundFiles, files: Sequence[Path]) -> Tensor:
        return sounds.samples(files, peak_normalised=self.rows2samples.peak_normalised)


def ear_of(model: nn.Module, normalisation: Normalisation, frames: int) -> Ear:
    """Return what ``model`` gets of sounds."""
    if isinstance(model, AudioModel):
        return SampleEar(frames, peak_normalised=model.peak_normalised)
    return SpectrogramEar(frames, normalisation)


class ListeningNetwork(nn.Module):
    """Map rows of samples (:mod:`rmer.data.audio.recordings`) [batch, 1, cells] to predictions of ``model``.

    ``model`` gets what it would get of a file with these samples: their log spectrogram, or a model that
    takes audio (:class:`AudioModel`) the samples. With ``transformations``
    (:mod:`rmer.data.audio.transformations`), predictions and gradients are the mean of those for the clip as
    it is and after each of them.
    """

    def __init__(
        self,
        model: nn.Module,
        normalisation: Normalisation,
        frames: int,
        transformations: Sequence[Transformation] = (),
    ) -> None:
        super().__init__()
        self.transformations = tuple(transformations)
        self.ear = ear_of(model, normalisation, frames)
        self.model = model

    def forward(self, rows: Tensor) -> Prediction:
        prediction: Prediction = self.model(self.ear(rows))
        if not self.transformations:
            return prediction
        found = [prediction, *(self.model(self.ear(change(rows))) for change in self.transformations)]
        units = [one["c_prob"] for one in found if one["c_prob"] is not None]
        return {
            "output": torch.stack([one["output"] for one in found]).mean(0),
            "c_prob": torch.stack(units).mean(0) if units else None,
        }
