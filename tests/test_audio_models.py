"""Models that take audio: what they are given, attacks with known optima, and every stage on files."""

from __future__ import annotations

from math import gcd
from pathlib import Path

import mlflow
import numpy as np
import pytest
import soundfile
import torch
from click.testing import CliRunner
from mlflow.models import ModelSignature
from mlflow.types import Schema, TensorSpec
from scipy.signal import resample_poly
from sounds import FRAMES, NORMALISATION, clips, sound_files, threat
from torch import Tensor, nn

from entrypoints.cli import main
from rmer.attacks.apgd import APGD
from rmer.attacks.attack_domains import SPECTROGRAM
from rmer.attacks.sound_threat import SoundThreat
from rmer.data.audio.decoders import SAMPLE_RATE
from rmer.data.audio.recordings import HEADER, changeable, row_samples
from rmer.data.audio.resampling import Resampling
from rmer.data.audio.row_frontend import Rows2Samples
from rmer.data.demo.demo_files import write_demo_data
from rmer.errors import UserError
from rmer.evaluation.fragility import fragility
from rmer.evaluation.sound_subject import SoundSubject
from rmer.stages.attack.attack import attack
from rmer.stages.attack.attack_params import AttackParams
from rmer.stages.data.preprocess import PreprocessParams, preprocess
from rmer.stages.predict.predict_params import PredictParams
from rmer.stages.predict.seed_models import find_models
from rmer.systems.audio_model import AudioModel, excerpt_samples, hearing
from rmer.systems.frozen import FrozenNetwork
from rmer.systems.listening_network import ListeningNetwork
from rmer.tracking import Artifact, Store

SAMPLES = row_samples(FRAMES)


class LinearInSamples(nn.Module):
    """One target: weights times samples."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.weights = nn.Parameter(torch.randn(SAMPLES, 1, generator=generator) / 100)

    def forward(self, samples: Tensor) -> Tensor:
        return samples @ self.weights


class SmallListener(nn.Module):
    """A convolution over samples, their energy, and a linear layer: eight targets."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(4)
        self.front = nn.Conv1d(1, 6, 64, stride=16)
        self.head = nn.Linear(6, 8)

    def forward(self, samples: Tensor) -> Tensor:
        energies = self.front(samples[:, None]).square().mean(2)
        return self.head(torch.log(1e-4 + energies)) / 20 + 0.5


def subject(model: AudioModel, names: tuple[str, ...], norm: str) -> SoundSubject:
    files = sound_files(names)
    rows = files.rows()
    return SoundSubject(
        network=FrozenNetwork(ListeningNetwork(model, NORMALISATION, FRAMES)),
        reader=FrozenNetwork(model),
        inputs=rows,
        labels=torch.zeros(len(rows), 1),
        threat_at=lambda epsilon: SoundThreat.around(norm, epsilon, rows),
        files=files,
    )


@pytest.mark.parametrize("peak_normalised", [False, True])
def test_rows_are_the_samples_of_their_excerpts(peak_normalised: bool) -> None:
    known = clips()
    rows = torch.stack([torch.from_numpy(recording.row(FRAMES)) for recording in known.values()])
    found = Rows2Samples(FRAMES, peak_normalised=peak_normalised)(rows)
    for samples, (name, recording) in zip(found, known.items(), strict=True):
        begin, end = recording.heard(FRAMES)
        expected = recording.samples[begin:end] / (recording.peak if peak_normalised else 32768)
        if recording.count <= FRAMES:
            assert name in ("repeated", "shorter than a frame")
            expected = np.resize(expected, SAMPLES)
        expected = np.pad(expected, (0, SAMPLES - len(expected)))
        np.testing.assert_allclose(samples, expected, atol=1e-6, err_msg=name)


@pytest.mark.parametrize("rate", [8000, 16_000, 44_100, 48_000])
def test_resampling_is_that_of_scipy(rate: int) -> None:
    signals = np.random.default_rng(0).normal(size=(2, 3001))
    divisor = gcd(rate, SAMPLE_RATE)
    expected = resample_poly(signals, rate // divisor, SAMPLE_RATE // divisor, axis=1)
    found = Resampling(SAMPLE_RATE, rate)(torch.from_numpy(signals))
    np.testing.assert_allclose(found, expected, atol=1e-12)
    heard: list[Tensor] = []
    network = nn.Sequential(nn.Identity(), nn.Linear(excerpt_samples(FRAMES, rate), 1))
    network[0].register_forward_pre_hook(lambda _, given: heard.append(given[0]))
    AudioModel(network, rate=rate)(torch.zeros(1, SAMPLES))
    assert heard[0].shape == (1, excerpt_samples(FRAMES, rate))


def test_a_search_finds_the_largest_change_that_samples_allow() -> None:
    """Each sample moves by whole steps within budget and peak, in the direction of its weight."""
    network = LinearInSamples()
    of_linf = subject(AudioModel(network), ("ordinary", "to its end"), "linf")
    budget = threat("linf", -70.0, of_linf.inputs)  # 10 steps
    found = of_linf.attacked(APGD(3, restarts=1), budget, "linf")
    rows, weights = of_linf.inputs, network.weights.detach()[:, 0]
    peak, steps = rows[..., 2, None], 10.0
    most = torch.maximum(
        (weights * torch.minimum(peak - rows, torch.tensor(steps))[..., HEADER:]),
        (weights * torch.maximum(-peak - rows, torch.tensor(-steps))[..., HEADER:]),
    )
    best = (most * changeable(rows)[..., HEADER:]).sum((1, 2)) / 32768
    clean = of_linf.predicted(rows)[:, 0]
    moved = of_linf.predicted(found.adversaries)[:, 0] - clean
    # The labels are 0: it is pushed away from there, up or down.
    down = torch.maximum(
        (-weights * torch.minimum(peak - rows, torch.tensor(steps))[..., HEADER:]),
        (-weights * torch.maximum(-peak - rows, torch.tensor(-steps))[..., HEADER:]),
    )
    worst = (down * changeable(rows)[..., HEADER:]).sum((1, 2)) / 32768
    expected = np.where(clean > 0, best, -worst)
    np.testing.assert_allclose(moved, expected, rtol=1e-3)


def test_a_search_finds_the_direction_of_the_weights_within_a_signal_to_noise_ratio() -> None:
    network = LinearInSamples()
    of_snr = subject(AudioModel(network), ("ordinary",), "snr")
    rows = of_snr.inputs
    found = of_snr.attacked(APGD(5, restarts=1), threat("snr", 40.0, rows), "snr")
    free = changeable(rows)[0, 0, HEADER:]
    size = 0.01 * rows[0, 0, HEADER:].double().norm()
    expected = float(size * network.weights.detach()[free, 0].double().norm()) / 32768
    clean, adversarial = of_snr.predicted(rows)[0, 0], of_snr.predicted(found.adversaries)[0, 0]
    assert 0.99 * expected < abs(adversarial - clean) < 1.001 * expected
    assert abs(adversarial) > abs(clean)


def test_bfloat16_is_not_used_where_samples_would_lose_their_bits() -> None:
    model = ListeningNetwork(AudioModel(LinearInSamples()), NORMALISATION, FRAMES)
    assert FrozenNetwork(model, precision="bf16").precision == "fp32"


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ({"takes": "video"}, r"takes video.*audio or spectrogram"),
        ({"takes": "audio", "sample_rate": "16k"}, r"sample_rate is 16k.*whole number"),
        ({"takes": "audio", "sample_rate": 22051}, r"no model is given sound at 22051 Hz.*16000"),
        ({"takes": "audio", "sample_rate": 100}, r"100 is not from 4000"),
    ],
)
def test_what_cannot_be_given_is_told(said: dict[str, object], told: str) -> None:
    with pytest.raises(UserError, match=told):
        hearing(nn.Identity(), said, where="mine")
    assert isinstance(hearing(nn.Identity(), {}, where="mine"), nn.Identity)
