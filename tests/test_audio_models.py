"""Models that take audio: what they are given, attacks with known optima, and every stage on files."""

from __future__ import annotations

import sys
from math import gcd
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
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
from rmer.attacks.sound_budgets import SOUND_NORMS
from rmer.attacks.sound_threat import SoundThreat
from rmer.data.audio.decoders import SAMPLE_RATE
from rmer.data.audio.recordings import HEADER, changeable, row_samples
from rmer.data.audio.resampling import Resampling
from rmer.data.audio.row_frontend import Rows2Samples
from rmer.data.demo.demo_files import write_demo_data
from rmer.data.preparation.recording_files import FileError
from rmer.errors import UserError
from rmer.evaluation.fragility import fragility
from rmer.evaluation.sound_subject import SoundSubject
from rmer.stages.analysis.analyze import analyze
from rmer.stages.analysis.analyze_params import AnalyzeParams
from rmer.stages.attack.attack import attack
from rmer.stages.attack.attack_params import AttackParams
from rmer.stages.data.preprocess import PreprocessParams, preprocess
from rmer.stages.predict.predict_params import PredictParams
from rmer.stages.predict.seed_models import find_models
from rmer.stages.study.cost import describe_attack
from rmer.systems.audio_model import AudioModel, excerpt_samples, hearing
from rmer.systems.code_model import model_of_code
from rmer.systems.frozen import FrozenNetwork
from rmer.systems.listening_network import ListeningNetwork
from rmer.tracking import Artifact, Stage, Store

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


def test_a_chain_that_hears_other_samples_than_the_file_holds_is_found_out() -> None:
    heard = subject(AudioModel(LinearInSamples()), ("ordinary", "to its end"), "snr")
    ear = heard.ear
    hears = ear.forward
    ear.forward = lambda rows: hears(rows).roll(1, 1)  # type: ignore[method-assign]
    with pytest.raises(FileError, match="what the model gets of the file misses"):
        heard.predicted(heard.inputs)


def test_bfloat16_is_not_used_where_samples_would_lose_their_bits() -> None:
    model = ListeningNetwork(AudioModel(LinearInSamples()), NORMALISATION, FRAMES)
    assert FrozenNetwork(model, precision="bf16").precision == "fp32"


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ({"takes": "video"}, r"takes 'video'.*audio or spectrogram"),
        ({"takes": "audio", "sample_rate": "16k"}, r"sample_rate is '16k'.*whole number"),
        ({"takes": "audio", "sample_rate": 22051}, r"no model is given sound at 22051 Hz.*16000"),
        ({"takes": "audio", "sample_rate": 100}, r"100 is not from 4000"),
    ],
)
def test_what_cannot_be_given_is_told(said: dict[str, object], told: str) -> None:
    with pytest.raises(UserError, match=told):
        hearing(nn.Identity(), said, where="mine")
    assert isinstance(hearing(nn.Identity(), {}, where="mine"), nn.Identity)


CODE = """
import numpy as np
import torch
from torch import nn


class Listener(nn.Module):
    sample_rate = 16_000

    def __init__(self):
        super().__init__()
        torch.manual_seed(4)
        self.front = nn.Conv1d(1, 4, 64, stride=16)
        self.head = nn.Linear(4, 8)

    def forward(self, samples):
        energies = self.front(samples[:, None]).square().mean(2)
        return self.head(torch.log(1e-4 + energies)) / 20 + 0.5


class Sixteen(Listener):
    pass


def loudness(samples):
    return samples.std(axis=1, keepdims=True).repeat(8, axis=1)


loudness.sample_rate = 22_050


from functools import cache

from sklearn.linear_model import Ridge


def bands(samples):
    power = np.abs(np.fft.rfft(samples, axis=1)) ** 2
    return np.log10(np.stack([part.mean(1) for part in np.array_split(power, 16, axis=1)], 1) + 1e-6)


@cache
def regressor():
    rng = np.random.default_rng(0)
    return Ridge().fit(rng.normal(0, 2, (60, 16)), rng.uniform(0, 1, (60, 8)))


def brightness(samples):
    return regressor().predict(bands(samples))


brightness.sample_rate = 16_000
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_demo_data(tmp_path_factory.mktemp("music") / "d", clips=24, seconds=1.5, seed=1, noise=0.1)


@pytest.fixture(scope="module")
def store(lasting_store: Store, folder: Path) -> Store:
    """A store with a data set and a model that takes audio, logged as docs/own-model.md says."""
    preprocess(lasting_store, PreprocessParams(soundtracks_dir=str(folder), frames=FRAMES, workers=1))
    example = np.zeros((2, SAMPLES), np.float32)
    mlflow.set_tracking_uri(lasting_store.uri)
    with mlflow.start_run(run_name="mine"):
        mlflow.pytorch.log_model(
            SmallListener().eval(),
            name="model",
            input_example=example,
            signature=ModelSignature(Schema([TensorSpec(example.dtype, (-1, SAMPLES))])),
            serialization_format="pt2",
            pip_requirements=["torch"],
            metadata={"takes": "audio", "sample_rate": SAMPLE_RATE, "peak_normalised": True},
            registered_model_name="listener",
        )
    return lasting_store


def attacked(store: Store, **given: object) -> str:
    (outcome,) = attack(store, AttackParams(model_uri="models:/listener/1", **given))  # type: ignore[arg-type]
    return outcome.run_id


def test_what_is_logged_is_what_the_model_says_of_the_saved_files(store: Store, folder: Path) -> None:
    run_id = attacked(store, domain="waveform", attack="apgd", steps=3, restarts=1, budget=-6.0, listen=1)
    record, sounds = store.get(run_id), store.download(run_id, f"{Artifact.SOUNDS}/mae")
    clips, model = store.read_table(run_id, Artifact.ADVERSARY_CLIPS), SmallListener().eval()
    emotions = [name.removeprefix("label_") for name in clips if str(name).startswith("label_")]
    dataset = store.download(record.tags["rmer.dataset_run_id"], Artifact.DATASET)
    starts = store.read_table(record.tags["rmer.dataset_run_id"], f"{dataset.name}/clips.csv")
    starts = starts.set_index("clip")["excerpt_start"].astype(int)
    for row in clips.to_dict("records"):
        samples, _ = soundfile.read(sounds / f"{row['clip']}.wav", dtype="int16")
        first = int(np.flatnonzero(samples)[0]) + int(starts[row["clip"]] * SAMPLE_RATE / 31.3)
        heard = np.zeros(SAMPLES, np.float32)
        excerpt = samples[first : first + SAMPLES] / np.abs(samples.astype(int)).max()
        heard[: len(excerpt)] = excerpt
        with torch.no_grad():
            found = model(torch.from_numpy(heard)[None])[0]
        np.testing.assert_allclose([row[f"adv_{name}"] for name in emotions], found, atol=1e-5)
    assert record.metrics["adv/mae"] > record.metrics["clean/mae"] + 1e-3
    assert record.metrics["budget/violations"] == 0
    assert clips["noise_to_mask_db"].max() <= -6 + 1e-3
    assert "sound" in store.download(run_id, Artifact.LISTEN).read_text()


def test_a_suite_judges_a_model_that_takes_audio(store: Store) -> None:
    run_id = attacked(store, domain="waveform", attack="suite", tier="brief", norm="linf")
    sanity = store.read_table(run_id, Artifact.SANITY).set_index("check")
    held = ["budget_held", "saved_adversaries_rescore", "gradient_matches_finite_differences"]
    assert sanity["passed"][held].eq(True).all()
    assert pd.isna(sanity["passed"]["normalisation_matches"])  # samples are not standardised


def test_there_is_no_spectrogram_to_attack(store: Store) -> None:
    with pytest.raises(UserError, match=r"takes audio: there is no spectrogram.*Give domain waveform"):
        attacked(store, attack="apgd")


@pytest.fixture(scope="module")
def code(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("code") / "my_models.py"
    file.write_text(CODE)
    return file


def test_a_model_of_code_is_attacked_at_a_rate_of_its_own(store: Store, code: Path) -> None:
    params = AttackParams(
        model_uri=f"{code}:Listener", domain="waveform", attack="apgd", steps=3, restarts=1, budget=-6.0
    )
    (outcome,) = attack(store, params)
    record = store.get(outcome.run_id)
    assert record.tags["rmer.system"] == "Listener"
    assert record.metrics["adv/mae"] > record.metrics["clean/mae"] + 1e-3
    assert attack(store, params)[0].skipped
    code.write_text(CODE.replace("manual_seed(4)", "manual_seed(5)"))
    assert not attack(store, params)[0].skipped


def test_code_gets_what_lies_beside_it_whenever_it_asks(tmp_path: Path) -> None:
    """Two files that import helpers of one name, one of them only when it predicts."""
    for place, number, early in (("a", 1, True), ("b", 2, True), ("c", 3, False)):
        (tmp_path / place).mkdir()
        (tmp_path / place / "helper_of_models.py").write_text(f"VALUE = {number}.0\n")
        wanted = "from helper_of_models import VALUE"
        inside = "" if early else f"    {wanted}\n"
        (tmp_path / place / "net.py").write_text(
            f"import numpy as np\n{wanted if early else ''}\n\n"
            f"def predict(batch):\n{inside}    return np.full((len(batch), 2), VALUE)\n"
        )
    models = [model_of_code(f"{tmp_path / place / 'net.py'}:predict") for place in "abc"]
    outputs = [model(torch.zeros(1, 1, 8, 149))["output"][0, 0].item() for model in (*models, *models)]
    assert outputs == [1, 2, 3, 1, 2, 3]
    assert "helper_of_models" not in sys.modules


def test_a_callable_on_audio_is_attacked_without_gradients(store: Store, code: Path) -> None:
    given = {"model_uri": f"{code}:loudness", "domain": "waveform", "norm": "linf"}
    (outcome,) = attack(store, AttackParams(**given, attack="noise", draws=2))  # type: ignore[arg-type]
    record = store.get(outcome.run_id)
    assert record.metrics["adv/mae"] > record.metrics["clean/mae"]
    with pytest.raises(UserError, match=r"my_models.py:loudness: is known by its predictions alone"):
        attack(store, AttackParams(**given, attack="apgd", steps=1))  # type: ignore[arg-type]


@pytest.mark.parametrize("norm", SOUND_NORMS)
def test_square_finds_more_than_noise_on_a_function_of_audio(store: Store, code: Path, norm: str) -> None:
    given = {"model_uri": f"{code}:loudness", "domain": "waveform", "norm": norm, "listen": 0}
    added = {}
    for method in ({"attack": "square", "queries": 30}, {"attack": "noise", "draws": 30}):
        (outcome,) = attack(store, AttackParams(**given, **method))  # type: ignore[arg-type]
        record = store.get(outcome.run_id)
        assert record.metrics["budget/violations"] == 0
        added[method["attack"]] = record.metrics["adv/mae"] - record.metrics["clean/mae"]
    assert added["square"] > 2 * max(added["noise"], 0)


def test_a_suite_of_queries_on_audio_and_its_report(store: Store, code: Path) -> None:
    given = {"model_uri": f"{code}:brightness", "domain": "waveform", "attack": "suite", "tier": "brief"}
    data = store.find(Stage.PREPROCESS)[0].run_id
    params = AttackParams(**given, study="bright", dataset_run_id=data, listen=1)  # type: ignore[arg-type]
    said = describe_attack(store, params)
    assert "brightness gives no gradient: three of its predictions count as one" in said
    (outcome,) = attack(store, params)
    record = store.get(outcome.run_id)
    assert record.params["cfg.search"] == "square"
    assert record.metrics["cost/gradients"] == record.metrics["budget/violations"] == 0
    assert record.metrics["adv/mae"] > record.metrics["clean/mae"]
    sanity = store.read_table(outcome.run_id, Artifact.SANITY).set_index("check")
    held = ["evaluation_mode", "budget_held", "saved_adversaries_rescore", "seed_changes_the_attack"]
    assert sanity["passed"][held].eq(True).all(), sanity
    assert sanity["detail"]["share_of_zero_gradients"] == "not measured: the model gives no gradient"
    report = analyze(store, AnalyzeParams(study="bright", attack="suite", domain="waveform")).report
    assert any("by predictions alone" in sentence for sentence in report.headline)
    titles = {section.title for section in report.sections}
    assert {"Audible domain: attacks on the sound", "Sanity checks"} <= titles


def test_songs_are_predicted_and_judged(store: Store, folder: Path, tmp_path: Path) -> None:
    """Every window is what the model says of its samples, and its file moves as the page says."""
    hearer = find_models(store, PredictParams(model_uri="models:/listener/1"))
    song = hearer.read(folder / "Set1" / "001.mp3")
    found = hearer.hears(song, 0.2)
    assert len(found.starts) > 1
    model, peak = SmallListener().eval(), np.abs(song.samples.astype(int)).max()
    first = int(np.flatnonzero(song.samples)[0])
    for start, predicted in zip(found.starts, found.predicted[0], strict=True):
        samples = song.samples[first + int(start * SAMPLE_RATE / 31.3) :][:SAMPLES] / peak
        heard = np.pad(samples, (0, SAMPLES - len(samples))).astype(np.float32)
        with torch.no_grad():
            np.testing.assert_allclose(predicted, model(torch.from_numpy(heard)[None])[0], atol=1e-5)
    fragile = fragility(hearer.hears, song, found, move=0.02)
    assert fragile.found
    assert np.abs(fragile.moved) >= 0.02 - 1e-5
    with pytest.raises(UserError, match=r"there is no spectrogram to change.*waveform"):
        fragility(hearer.hears, song, found, domain=SPECTROGRAM)


def test_the_command_writes_the_page(store: Store, folder: Path, code: Path, tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", store.uri)
        patch.setenv("RMER_HOME", str(tmp_path / "home"))
        song, out = str(folder / "Set1" / "001.mp3"), str(tmp_path / "out")
        done = CliRunner().invoke(main, ["predict", song, "--model", f"{code}:Listener", "--out_dir", out])
        whole = ["predict", song, "--model", f"{code}:loudness", "--fragility", "true", "--out_dir", out]
        refused = CliRunner().invoke(main, whole)
    assert "predictions alone, so that no smallest change" in refused.output
    assert done.exit_code == 0, done.output
    assert "Listener" in (tmp_path / "out" / "predictions.html").read_text()
