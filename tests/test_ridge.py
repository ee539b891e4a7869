"""Ridge regression on features: the weights of scikit-learn, and a system like any other in every stage."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from click.testing import CliRunner
from heard_models import FRAMES
from noise_data import noise_dataset, published_parts
from sklearn.linear_model import Ridge

from entrypoints.cli import main
from rmer.data.demo.demo_files import write_demo_data
from rmer.data.standardised import Standardised, standardise
from rmer.errors import UserError
from rmer.stages.analysis.analyze import analyze
from rmer.stages.analysis.analyze_params import AnalyzeParams
from rmer.stages.attack.attack import attack
from rmer.stages.attack.attack_params import AttackParams
from rmer.stages.data.preprocess import PreprocessParams, preprocess
from rmer.stages.train import train
from rmer.stages.train_params import TrainParams
from rmer.systems.catalogue import CATALOGUE, System, known_system
from rmer.systems.feature_network import FeatureNetwork
from rmer.systems.frozen import FrozenNetwork
from rmer.systems.music_features import FEATURES
from rmer.systems.network import load_checkpoint
from rmer.systems.prediction import predict
from rmer.tracking import Artifact, Store
from rmer.training.fit import Fitted, fit
from rmer.training.protocol import resolve_fit
from rmer.training.ridge import PENALTIES, ridge_weights


@pytest.fixture(scope="module")
def data() -> Standardised:
    return standardise(noise_dataset(published_parts(40)), "published", "train")


@pytest.fixture(scope="module")
def fitted(data: Standardised) -> Fitted:
    return fit(data, resolve_fit(CATALOGUE["ridge"], "corrected", seed=3))


@pytest.mark.parametrize("penalty", [0.01, 1.0, 1e4])
def test_weights_are_those_of_scikit_learn(penalty: float) -> None:
    rng = np.random.default_rng(1)
    units, labels = rng.normal(1, 2, (30, 5)), rng.normal(size=(30, 3))
    weights, bias = ridge_weights(torch.from_numpy(units), torch.from_numpy(labels), penalty)
    known = Ridge(alpha=penalty).fit(units, labels)
    np.testing.assert_allclose(weights.T, known.coef_, atol=1e-10)
    np.testing.assert_allclose(bias, known.intercept_, atol=1e-10)


def test_the_network_predicts_what_scikit_learn_does_with_the_best_penalty(
    data: Standardised, fitted: Fitted
) -> None:
    parts = [predict(fitted.network, part.inputs) for part in (data.train, data.validation, data.test)]
    (_, train), (_, validation), (predicted, test) = parts
    assert train is not None
    assert validation is not None
    assert test is not None
    np.testing.assert_allclose(train.mean(0), 0, atol=1e-4)
    np.testing.assert_allclose(train.std(0), 1, atol=1e-4)
    fits = [Ridge(alpha=penalty).fit(train, data.train.labels.numpy()) for penalty in PENALTIES.tolist()]
    expected = data.validation.labels.numpy()
    errors = [np.square(model.predict(validation) - expected).mean() for model in fits]
    best = int(np.argmin(errors))
    assert fitted.history[0]["train/penalty"] == pytest.approx(float(PENALTIES[best]))
    np.testing.assert_allclose(predicted, fits[best].predict(test), atol=1e-4)


def test_it_is_fitted_once_and_alike_for_any_seed(data: Standardised, fitted: Fitted) -> None:
    assert (len(fitted.history), fitted.best_epoch) == (1, 1)
    other = fit(data, resolve_fit(CATALOGUE["ridge"], "corrected", seed=4, epochs=3))
    assert all(
        torch.equal(values, other.network.state_dict()[name])
        for name, values in fitted.network.state_dict().items()
    )


def test_the_gradient_reaches_the_spectrogram(data: Standardised, fitted: Fitted) -> None:
    network = FrozenNetwork(fitted.network, precision="bf16")
    assert network.precision == "fp32"
    inputs = data.test.inputs[:2]
    _, gradient = network.gradient(inputs, lambda found: found["output"].sum(1))
    double = FrozenNetwork(copy.deepcopy(fitted.network).double())
    direction = torch.randn(inputs.shape, generator=torch.Generator().manual_seed(0)).double()
    ahead, behind = (
        double.predict(inputs.double() + step * direction)["output"].sum(1) for step in (1e-6, -1e-6)
    )
    slope = (gradient * direction).sum((1, 2, 3))
    np.testing.assert_allclose(slope, (ahead - behind) / 2e-6, rtol=1e-2, atol=1e-5)


def test_what_it_is_known_as() -> None:
    ridge = CATALOGUE["ridge"]
    assert ridge.interpretable
    assert not ridge.black_box
    assert not ridge.supervises_concepts
    assert CATALOGUE["A2E"].varied(arch="features") == ridge
    assert known_system("aridge") is None
    with pytest.raises(UserError, match="closed form"):
        System("mine", "features", adversarial=True)


@pytest.fixture(scope="module")
def store(lasting_store: Store, tmp_path_factory: pytest.TempPathFactory) -> Store:
    folder = write_demo_data(tmp_path_factory.mktemp("music") / "d", clips=24, seconds=1.5, seed=1, noise=0.1)
    preprocess(
        lasting_store,
        PreprocessParams(soundtracks_dir=str(folder), midlevel_dir=str(folder), frames=FRAMES, workers=1),
    )
    for seed in (1, 2):
        train(lasting_store, TrainParams(system="ridge", seed=seed))
    return lasting_store


def test_the_training_logs_a_checkpoint_and_what_its_units_are(store: Store) -> None:
    (run, _) = store.find("train")
    network = load_checkpoint(store.download(run.run_id, f"{Artifact.CHECKPOINTS}/best.safetensors"))
    assert isinstance(network, FeatureNetwork)
    described = json.loads(store.download(run.run_id, f"{Artifact.CHECKPOINTS}/config.json").read_text())
    assert described["concepts"] == list(FEATURES)
    assert described["units"] == "standard deviations"
    exported = store.load_model(f"runs:/{run.run_id}/model")
    inputs = torch.randn(3, 1, FRAMES, 149)
    with torch.no_grad():
        assert torch.allclose(exported(inputs)["output"], network(inputs)["output"], atol=1e-5)


@pytest.mark.parametrize(
    "given",
    [
        {"attack": "apgd", "epsilon": 0.05, "steps": 3},
        {"attack": "apgd", "domain": "waveform", "steps": 3, "restarts": 1},
        {"attack": "suite", "tier": "brief"},
    ],
)
def test_it_is_attacked_through_its_features(store: Store, given: dict[str, object]) -> None:
    (outcome,) = attack(store, AttackParams(system="ridge", seed="1", **given))  # type: ignore[arg-type]
    record = store.get(outcome.run_id)
    assert record.metrics["adv/mae"] > record.metrics["clean/mae"] + 1e-3
    assert record.metrics["budget/violations"] == 0
    if given["attack"] == "suite":
        sanity = store.read_table(record.run_id, Artifact.SANITY).set_index("check")["passed"].astype(str)
        # Another seed has the same weights, as it must.
        # The movement of each emotion is that through all features.
        movement = store.read_table(record.run_id, "tables/feature_movement.csv")
        clips = store.read_table(record.run_id, Artifact.ADVERSARY_CLIPS)
        for emotion, part in movement.groupby("emotion"):
            assert set(part["feature"]) == set(FEATURES)
            moved = (clips[f"adv_{emotion}"] - clips[f"clean_{emotion}"]).mean()
            assert part["moved"].sum() == pytest.approx(moved, abs=1e-5)
        assert sanity["weights_of_no_other_system"] == sanity["gradient_matches_finite_differences"] == "True"


def test_songs_are_explained_by_features(store: Store, tmp_path: Path) -> None:
    song = next((Path(store.find("preprocess")[0].tags["rmer.soundtracks_dir"]) / "Set1").glob("*"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", store.uri)
        patch.setenv("RMER_HOME", str(tmp_path / "home"))
        done = CliRunner().invoke(
            main, ["predict", str(song), "--system", "ridge", "--out_dir", str(tmp_path / "out")]
        )
    assert done.exit_code == 0, done.output
    effects = pd.read_csv(tmp_path / "out" / "effects.csv")
    assert set(effects["concept"]) == set(FEATURES)
    row = pd.read_csv(tmp_path / "out" / "predictions.csv").iloc[0]
    for emotion, part in effects.groupby("emotion"):
        assert part["baseline"].iloc[0] + part["effect"].sum() == pytest.approx(row[emotion], abs=1e-4)
    page = (tmp_path / "out" / "predictions.html").read_text()
    assert "Features over time, in standard deviations" in page
    assert "the weight of a feature" in page


def test_seeds_of_equal_weights_are_no_reason_to_refuse_an_analysis(store: Store) -> None:
    for seed in ("1", "2"):
        attack(store, AttackParams(system="ridge", seed=seed, attack="pgd", steps=1))
    assert analyze(store, AnalyzeParams(attack="pgd")).systems["seeds"].tolist() == [2]
