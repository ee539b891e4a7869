"""Recordings and a small model for tests of attacks on sound."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile
import torch
from torch import Tensor, nn

from rmer.attacks.sound_budgets import epsilon_of
from rmer.attacks.sound_threat import SoundThreat
from rmer.data.audio.decoders import SAMPLE_RATE
from rmer.data.audio.frontend import File2Spect
from rmer.data.audio.recordings import Recording, Samples
from rmer.data.dataset import Normalisation
from rmer.data.preparation.recording_files import SoundFiles
from rmer.evaluation.sound_subject import SoundSubject
from rmer.systems.frozen import FrozenNetwork
from rmer.systems.listening_network import ListeningNetwork

FRAMES = 24
NORMALISATION = Normalisation(1.2, 0.7)


class SmallListener(nn.Module):
    """A convolution and a linear layer over standardised spectrograms, in the form of the model contract."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.convolution = nn.Conv2d(1, 6, 5, stride=3)
        self.head = nn.Linear(6 * 12, 3)

    def forward(self, inputs: Tensor) -> dict[str, Tensor | None]:
        features = torch.relu(self.convolution(inputs))
        pooled = nn.functional.adaptive_avg_pool2d(features, (1, 12)).flatten(1)
        return {"output": self.head(pooled) + 0.5, "c_prob": None}


def samples(seed: int, count: int, peak: float = 20000.0) -> Samples:
    """Return tones and noise that come and go, int16 [count]."""
    rng = np.random.default_rng(seed)
    time = np.arange(count) / SAMPLE_RATE
    tones = sum(np.sin(2 * np.pi * rng.uniform(80, 4000) * time + rng.uniform(0, 6)) for _ in range(4))
    sound = (tones + rng.normal(0, 0.3, count)) * (0.2 + np.abs(np.sin(3 * time + seed)))
    return np.asarray(np.rint(peak * sound / np.abs(sound).max()), np.int16)


def clips() -> dict[str, Recording]:
    """Return recordings that each stress one thing."""
    ordinary = samples(0, 30000)
    wrapping = samples(5, 25000)
    wrapping[[9000, 12000]] = -32768
    return {
        "ordinary": Recording(ordinary, 7),
        "from its start": Recording(samples(1, 24000), 0),
        "to its end": Recording(samples(2, 24000), 11),
        "silence around": Recording(
            np.r_[np.zeros(1234, np.int16), samples(3, 22000), ordinary[:900] * 0], 4
        ),
        "repeated": Recording(samples(4, 9000), 0),
        "shorter than a frame": Recording(samples(6, 700), 0),
        "wraps at full scale": Recording(wrapping, 3),
        "faint": Recording(samples(7, 26000, peak=900.0), 5),
    }


def sound_files(names: tuple[str, ...] = tuple(clips()), frontend: str = "madmom") -> SoundFiles:
    """Return some of the recordings as files to be."""
    recordings = tuple(clips()[name] for name in names)
    return SoundFiles(names, recordings, FRAMES, File2Spect("soundfile", frontend), NORMALISATION)


def listening(model: nn.Module | None = None) -> FrozenNetwork:
    return FrozenNetwork(ListeningNetwork(model or SmallListener(), NORMALISATION, FRAMES))


def subject(files: SoundFiles, norm: str = "masking") -> SoundSubject:
    """Return the small model on recordings, with labels in its reach."""
    rows, model = files.rows(), SmallListener()
    labels = torch.rand(len(rows), 3, generator=torch.Generator().manual_seed(1))
    return SoundSubject(
        network=listening(model),
        reader=FrozenNetwork(model),
        inputs=rows,
        labels=labels,
        threat_at=lambda epsilon: SoundThreat.around(norm, epsilon, rows),
        files=files,
    )


def threat(norm: str, budget: float, rows: Tensor) -> SoundThreat:
    """Return the threat model of a budget in dB."""
    return SoundThreat.around(norm, epsilon_of(norm, budget), rows)


def write(folder: Path, recordings: dict[str, Samples]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, values in recordings.items():
        soundfile.write(folder / f"{name}.wav", values, SAMPLE_RATE, subtype="PCM_16")
