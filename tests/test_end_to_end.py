"""The study through ``mlflow run``, on sqlite and on a real server; kills, outages, other people's models."""

from __future__ import annotations

import math
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
import torch
from conftest import ROOT
from mlflow import MlflowClient
from mlflow.models import ModelSignature
from mlflow.types import Schema, TensorSpec
from servers import mlflow_server

from rmer.attacks.method import Aim
from rmer.attacks.suite import TIERS, Tier, white_box
from rmer.data.dataset import EMOTIONS, Dataset
from rmer.errors import UserError
from rmer.evaluation.gradient_precision import COMPARED
from rmer.evaluation.metrics import own_columns, regression_scores
from rmer.stages.analysis.analyze import analyze
from rmer.stages.analysis.analyze_params import AnalyzeParams
from rmer.stages.attack.attack import attack, victims_of
from rmer.stages.attack.attack_params import AttackParams
from rmer.stages.attack.attack_setup import gradients_of_run
from rmer.stages.attack.given_models import digest_of
from rmer.stages.data.demo_data import DemoParams, make_demo_data
from rmer.stages.data.preprocess import PreprocessParams, preprocess
from rmer.stages.study.cost import describe_attack
from rmer.stages.study.plan import StudyParams, make_plan
from rmer.stages.study.study import HEADING, run_study
from rmer.stages.train import train
from rmer.stages.train_params import TrainParams
from rmer.systems.network import build_network, load_checkpoint
from rmer.systems.prediction import predict
from rmer.tracking import Artifact, Origin, RunSpec, Stage, Store, Tag, connect

OPTIONS = (
    "clips=16 frames=40 seeds=6 systems=A2E,A2M2E,aA2E epochs=5 adversarial_iterations=2 max_iters=4 steps=3 "
    "attacks=published,bridge,suite train_protocol=published tier=quick width=.25 lr=5e-4 batch_size=8 "
    "precision=auto engine=serial workers=1 device=cpu"
)
TINY = dict(option.split("=") for option in OPTIONS.split())

pytestmark = pytest.mark.slow


def mlflow_command(entry: str, parameters: Mapping[str, str]) -> list[str]:
    """Return the command by which a user runs an entry point in the installed environment."""
    command = [sys.executable, "-m", "mlflow", "run", str(ROOT), "--env-manager", "local", "-e", entry]
    return command + [part for name, value in parameters.items() for part in ("-P", f"{name}={value}")]


def mlflow_run(
    entry: str, parameters: Mapping[str, str], store: str, *, check: bool = True
) -> subprocess.CompletedProcess[str]:
    """Run an entry point of this project to its end."""
    environment = {**os.environ, "MLFLOW_TRACKING_URI": store}
    command = mlflow_command(entry, parameters)
    folder = Path(store.removeprefix("sqlite:///")).parent  # where MLflow puts artifacts of a store it makes
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert not check or done.returncode == 0, done.stderr[-4000:]
    return done


def start(command: list[str], store: str, home: Path) -> subprocess.Popen[bytes]:
    """Start a command in a process group of its own."""
    environment = {**os.environ, "MLFLOW_TRACKING_URI": store, "RMER_HOME": str(home)}
    return subprocess.Popen(command, cwd=ROOT, env=environment, start_new_session=True)


def rmer_command(*arguments: str) -> list[str]:
    """Return a call of the ``rmer`` command of this clone."""
    return [sys.executable, "-m", "entrypoints.cli", *arguments]


def wait_until(reached: Callable[[], bool], process: subprocess.Popen[bytes], seconds: float = 120) -> None:
    """Wait for a condition while a process runs."""
    end = time.monotonic() + seconds
    while not reached():
        assert process.poll() is None, "the process ended too soon"
        assert time.monotonic() < end, "the condition was not reached"
        time.sleep(0.05)


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("demo")
    return make_demo_data(DemoParams(out_dir=str(folder / "data"), clips=16, seconds=3.0))


def prepared(store: Store, demo: Path, study: str = "") -> str:
    """Return the preprocess run of the demo data, whose spectrograms are computed once."""
    kept = {"cache_dir": str(demo.parent / "spectrograms"), "study": study}
    return preprocess(store, PreprocessParams(soundtracks_dir=str(demo), frames=40, workers=1, **kept)).run_id


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, str]:
    """The whole study, once, through ``mlflow run`` on sqlite; and what it printed."""
    folder = tmp_path_factory.mktemp("study")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RMER_HOME", str(folder / "home"))
        uri = f"sqlite:///{folder / 'mlflow.db'}"
        done = mlflow_run("main", TINY, uri)
        again = mlflow_run("main", TINY, uri)
        return connect(uri), done.stdout + again.stdout


def test_the_study_is_flat_runs_found_by_tags(study: tuple[Store, str]) -> None:
    store, _ = study
    counts = {stage: len(store.find(stage)) for stage in vars(Stage).values() if stage in STAGES}
    assert counts == STAGES
    mlflow.set_tracking_uri(store.uri)
    runs = mlflow.search_runs(
        search_all_experiments=True,
        filter_string="tags.`rmer.stage` = 'attack' and tags.`rmer.system` = 'A2M2E'",
    )
    assert sorted(runs["tags.rmer.attack"]) == ["bridge", "published", "suite", "suite"]
    assert "tags.mlflow.parentRunId" not in runs


STAGES = {"preprocess": 1, "train": 3, "attack": 12, "analyze": 3, "study": 1}


def test_a_second_call_repeats_nothing_and_points_to_the_first(study: tuple[Store, str]) -> None:
    store, output = study
    (first,) = store.find(Stage.STUDY)
    (wrapper,) = store.search({Tag.DUPLICATE_OF: first.run_id})
    assert Tag.STAGE not in wrapper.tags
    assert output.count("Answer: ") == 2, "and is printed again"
    assert "mlflow ui --backend-store-uri" in output


def test_the_study_attacks_the_sound_first(study: tuple[Store, str]) -> None:
    """Of each model one suite on the sound, compared in the analysis of the suites, and told first."""
    store, output = study
    heard = store.find(Stage.ATTACK, {Tag.DOMAIN: "waveform"})
    assert {run.tags[Tag.SYSTEM] for run in heard} == {"A2E", "A2M2E", "aA2E"}
    for run in heard:
        assert (run.tags[Tag.NORM], run.tags[Tag.BUDGET], run.tags[Tag.TIER]) == ("masking", "-6", "brief")
        assert run.metrics["budget/violations"] == 0
        assert store.download(run.run_id, Artifact.LISTEN).stat().st_size > 1000
    (analysed,) = store.find(Stage.ANALYZE, {Tag.ATTACK: "suite"})
    table = store.read_table(analysed.run_id, "tables/sound_robustness.csv").set_index(["system", "metric"])
    for run in heard:
        found = table.loc[(run.tags[Tag.SYSTEM], "mae_clipped"), "delta"]
        assert found == pytest.approx(run.metrics["delta/mae_clipped"])
    page = store.download(analysed.run_id, "report.html").read_text()
    assert "Audible domain: attacks on the sound" in page
    assert "Listen to A2M2E s6 (masking)" in page
    told = " ".join(output.split())
    assert told.index("on the sound, 6 dB below what the music masks: A2E") < told.index("at L-inf .01: A2E")
    (summed,) = store.find(Stage.STUDY)
    gain = summed.metrics["versus/A2M2E suite_sound_delta_mae_clipped"]
    assert gain == pytest.approx(table.loc[("A2M2E", "mae_clipped"), "delta"])


def test_lineage_leads_from_attack_to_data_and_back(study: tuple[Store, str]) -> None:
    store, _ = study
    (dataset,) = store.find(Stage.PREPROCESS)
    for attacked in store.find(Stage.ATTACK):
        trained = store.get(attacked.tags[Tag.TRAIN_RUN_ID])
        assert trained.tags[f"{Tag.ATTACK_RUN_ID}.{attacked.run_id}"].startswith(attacked.tags[Tag.ATTACK])
        assert trained.tags[Tag.DATASET_RUN_ID] == attacked.tags[Tag.DATASET_RUN_ID] == dataset.run_id
        assert attacked.tags[Tag.DATASET] == dataset.tags[Tag.DATASET]
        assert trained.tags[Tag.SEED] == attacked.tags[Tag.SEED] == "6"
        assert trained.tags[Tag.WEIGHTS] == attacked.params["cfg.model"]


@pytest.mark.parametrize("system", ["A2E", "A2M2E", "aA2E"])
def test_stored_adversaries_and_model_give_the_logged_numbers(study: tuple[Store, str], system: str) -> None:
    store, _ = study
    (run,) = store.find(Stage.ATTACK, {Tag.SYSTEM: system, Tag.ATTACK: "suite", Tag.NORM: "linf"})
    table = store.read_table(run.run_id, Artifact.ADVERSARY_CLIPS)
    labels = table[[f"label_{emotion}" for emotion in EMOTIONS]].to_numpy()
    model = store.load_model(f"runs:/{run.tags[Tag.TRAIN_RUN_ID]}/model")
    kinds = {"mae": ("adversaries", "adv")}
    kinds |= {metric: (metric, kind) for metric, kind in own_columns().items()}
    for metric, (array, kind) in kinds.items():
        saved = np.load(store.download(run.run_id, f"adversaries/{array}.npy"), allow_pickle=False)
        scored, _ = predict(model, torch.from_numpy(saved)[:, None])
        found = table[[f"{kind}_{emotion}" for emotion in EMOTIONS]].to_numpy()
        np.testing.assert_allclose(found, scored, atol=1e-5)
        expected = regression_scores(labels, found, EMOTIONS).mean[metric]
        assert run.metrics[f"adv/{metric}"] == pytest.approx(expected)
        curve = dict(store.metric_history(run.run_id, f"curve/{metric}"))
        assert curve[100] == pytest.approx(expected, abs=1e-5)
    assert run.metrics["budget/violations"] == 0
    assert table["linf"].max() <= 0.01 + 1e-6
    assert run.metrics["adv/mae"] >= run.metrics["clean/mae"], "the clean clip is a candidate"


def test_a_suite_is_one_run_with_curve_checks_and_a_price_told_before(study: tuple[Store, str]) -> None:
    store, _ = study
    (run,) = store.find(Stage.ATTACK, {Tag.SYSTEM: "A2M2E", Tag.ATTACK: "suite", Tag.NORM: "linf"})
    assert run.tags[Tag.TIER] == "quick"
    assert (run.tags[Tag.EPSILON], run.params["cfg.epsilon"]) == ("0.01", "0.01")
    assert [step for step, _ in store.metric_history(run.run_id, "curve/mae")] == [0, 20, 100, 500]
    checks = store.read_table(run.run_id, Artifact.SANITY)
    assert run.metrics["sanity/failed"] == (checks["passed"].astype(str) == "False").sum()
    assert run.params["cfg.source_system"] == "A2E"
    params = AttackParams(attack="suite", train_run_id=run.tags[Tag.TRAIN_RUN_ID], device="cpu")
    (victim,) = victims_of(store, params)
    attacks = white_box(TIERS["quick"])
    reduced = run.params["cfg.precision"] == "bf16"
    each = [attack.passes(len(EMOTIONS)).gradients + reduced * attack.polishing for attack in attacks]
    planned = sum(each) * len(params.all_epsilons)
    assert run.metrics["cost/gradients"] == planned * len(victim.data.test)
    price = gradients_of_run(
        params, Aim(EMOTIONS), clips=len(victim.data.test), precision="fp32", transfer=True
    )
    assert f"{price:,} attack gradients" in describe_attack(store, params)


@pytest.mark.parametrize("target", ["valence", "melody"])
def test_a_price_is_told_of_every_loss_that_an_attack_takes(study: tuple[Store, str], target: str) -> None:
    params = {"attack": "pgd", "loss": f"up:{target}", "steps": 3, "device": "cpu"}
    assert "attack gradients" in describe_attack(study[0], AttackParams(system="A2M2E", **params))
    with pytest.raises(UserError, match="'up:boredom' is no loss"):
        describe_attack(study[0], AttackParams(system="A2M2E", **{**params, "loss": "up:boredom"}))


def test_published_runs_report_the_last_iterate_and_rescore_the_saved_one(study: tuple[Store, str]) -> None:
    store, _ = study
    (run,) = store.find(Stage.ATTACK, {Tag.SYSTEM: "A2M2E", Tag.ATTACK: "published"})
    table = store.read_table(run.run_id, Artifact.ADVERSARY_CLIPS)
    saved = np.load(store.download(run.run_id, Artifact.ADVERSARIES), allow_pickle=False)
    network = load_checkpoint(store.download(run.tags[Tag.TRAIN_RUN_ID], "checkpoints/best.safetensors"))
    scored, _ = predict(network, torch.from_numpy(saved)[:, None])
    rescored = table[[f"rescored_{emotion}" for emotion in EMOTIONS]].to_numpy()
    np.testing.assert_allclose(rescored, scored, atol=1e-5)
    assert run.tags[Tag.BUDGET_HELD] == "false"
    assert not np.allclose(rescored, table[[f"adv_{emotion}" for emotion in EMOTIONS]].to_numpy())


def test_train_runs_hold_scores_predictions_curves_and_checkpoints(study: tuple[Store, str]) -> None:
    store, _ = study
    (run,) = store.find(Stage.TRAIN, {Tag.SYSTEM: "A2M2E"})
    scores = store.read_table(run.run_id, Artifact.SCORES).set_index(["group", "target"])
    for metric in ("corr", "mae", "rmse", "r2"):
        assert f"test/emotion/{metric}" in run.metrics
        for name in ("tension", "mode"):
            assert math.isfinite(scores[metric]["test", name])
    assert run.metrics["test/tension/mae"] == pytest.approx(scores["mae"]["test", "tension"])
    assert [step for step, _ in store.metric_history(run.run_id, "train/loss")] == [1, 2, 3, 4, 5]
    table = store.read_table(run.run_id, Artifact.PREDICTIONS)
    assert table["split"].value_counts().to_dict() == {"train": 12, "validation": 2, "test": 2}
    test = table[table["split"] == "test"]
    error = np.abs(test["pred_tension"] - test["label_tension"]).mean()
    assert run.metrics["test/tension/mae"] == pytest.approx(error)
    for path in ("figures/learning_curve.svg", "checkpoints/config.json"):
        assert store.download(run.run_id, path).stat().st_size > 0
    kept = {path.name for path in store.download(run.run_id, "checkpoints").iterdir()}
    assert kept == {"best.safetensors", "config.json"}
    (adversarial,) = store.find(Stage.TRAIN, {Tag.SYSTEM: "aA2E"})
    assert [step for step, _ in store.metric_history(adversarial.run_id, "train/adversarial_loss")] == [5]


def test_analysis_of_own_runs(study: tuple[Store, str]) -> None:
    store, _ = study
    for run in store.find(Stage.ANALYZE):
        systems = pd.read_csv(store.download(run.run_id, "tables/systems.csv"))
        assert list(systems["system"]) == ["A2E", "A2M2E", "aA2E"]
        readable = store.download(run.run_id, "tables/systems.md").read_text()
        assert "2019" not in readable, "values of other data do not stand beside these"
        assert store.download(run.run_id, Artifact.REPORT).read_text().lstrip().startswith("<!DOCTYPE html>")


def test_mlproject_hands_on_what_it_does_not_declare(tmp_path: Path) -> None:
    """Spaces, empty values and negative numbers arrive as typed; a name that there is not ends the run."""
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    given = {"out_dir": str(tmp_path / "a b"), "clips": "11", "seconds": "1.5", "seed": "", "noise": "0"}
    mlflow_run("demo_data", given, uri)
    assert make_demo_data(DemoParams(out_dir=given["out_dir"], clips=11, seconds=1.5, noise=0))
    refused = {
        "parameter lr: -1.0 is out of range": {"lr": "-1", "study": "a b"},
        "unknown parameter sed. Did you mean seed?": {"sed": "-1"},
    }
    client = MlflowClient(uri)
    for message, parameters in refused.items():
        done = mlflow_run("train", parameters, uri, check=False)
        assert done.returncode != 0
        assert message in done.stderr
        run = client.search_runs(["0"], max_results=1)[0]
        assert run.info.status == "FAILED"
        assert message.split(". ")[0] in run.data.tags[Tag.ERROR]


def test_training_killed_at_any_moment_goes_on_to_the_same_weights(
    tmp_path: Path, demo: Path, isolated_home: Path
) -> None:
    command = rmer_command(
        "train", "--system", "A2M2E", "--epochs", "12", "--width", ".25", "--device", "cpu"
    )
    uri = f"sqlite:///{tmp_path / 'killed.db'}"
    store = connect(uri)
    prepared(store, demo)
    process = start(command, uri, isolated_home)
    wait_until(lambda: any((isolated_home / "work").rglob("training.pt")), process)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    (killed,) = store.search({Tag.STAGE: Stage.TRAIN})
    assert killed.status == "RUNNING"
    assert start(command, uri, isolated_home).wait() == 0
    (resumed,) = store.search({Tag.STAGE: Stage.TRAIN})
    assert (resumed.run_id, resumed.status) == (killed.run_id, "FINISHED")
    steps = [step for step, _ in store.metric_history(resumed.run_id, "val/emotion/corr")]
    assert steps == list(range(1, len(steps) + 1)), "every epoch once"

    whole = connect(f"sqlite:///{tmp_path / 'whole.db'}")
    prepared(whole, demo)
    assert start(command, whole.uri, isolated_home).wait() == 0
    (reference,) = whole.find(Stage.TRAIN)
    weights = "checkpoints/best.safetensors"
    mine = store.download(resumed.run_id, weights).read_bytes()
    assert mine == whole.download(reference.run_id, weights).read_bytes()
    assert resumed.metrics["test/emotion/mae"] == reference.metrics["test/emotion/mae"]


def test_the_study_on_a_server_without_shared_disk_that_stops_in_mid_run(
    tmp_path: Path, isolated_home: Path
) -> None:
    smaller = {**TINY, "systems": "A2M2E", "attacks": "pgd", "epochs": "30", "width": "1"}
    command = mlflow_command("main", smaller)
    with mlflow_server(tmp_path / "server") as server:
        process = start(command, server.uri, isolated_home)
        wait_until(lambda: any((isolated_home / "work").rglob("training.pt")), process)
        server.stop()
        time.sleep(5)
        server.start()
        assert process.wait() == 0
        store = connect(server.uri)
        (trained,) = store.find(Stage.TRAIN)
        steps = [step for step, _ in store.metric_history(trained.run_id, "train/loss")]
        assert steps == list(range(1, 31)), "no epoch lost or repeated"
        (attacked,) = store.find(Stage.ATTACK)
        saved = np.load(store.download(attacked.run_id, Artifact.ADVERSARIES), allow_pickle=False)
        assert saved.shape == (2, 40, 149)
        assert len(store.find(Stage.STUDY)) == 1


class TheirNetwork(torch.nn.Module):
    """A model of somebody else's that meets the contract, unless its outputs are scaled by infinity."""

    def __init__(self, targets: int, scale: float) -> None:
        super().__init__()
        self.head, self.scale = torch.nn.Linear(149, targets), scale

    def forward(self, inputs: torch.Tensor) -> dict[str, torch.Tensor | None]:
        return {"output": self.scale * self.head(inputs.mean((1, 2))), "c_prob": None}


def log_their_model(targets: int, tags: Mapping[str, str], scale: float = 1.0) -> str:
    """Log a model as docs/own-model.md says; return its URI."""
    signature = ModelSignature(
        inputs=Schema([TensorSpec(np.dtype(np.float32), (-1, 1, 40, 149))]),
        outputs=Schema([TensorSpec(np.dtype(np.float32), (-1, targets), "output")]),
    )
    with mlflow.start_run(tags=dict(tags)):
        logged = mlflow.pytorch.log_model(
            TheirNetwork(targets, scale).eval(),
            name="model",
            signature=signature,
            input_example=np.zeros((2, 1, 40, 149), np.float32),
            serialization_format="pt2",
            pip_requirements=[],
        )
    return str(logged.model_uri)


def test_a_model_logged_by_a_user_is_attacked_like_ours(store: Store, demo: Path) -> None:
    dataset_run_id = prepared(store, demo)
    mlflow.set_tracking_uri(store.uri)
    tags = {Tag.STAGE: "train", Tag.SYSTEM: "theirs", Tag.SEED: "1", Tag.ORIGIN: Origin.EXTERNAL}
    log_their_model(8, {**tags, Tag.DATASET_RUN_ID: dataset_run_id})
    (outcome,) = attack(store, AttackParams(attack="pgd", system="theirs", steps=3, epsilon=0.1))
    metrics = store.get(outcome.run_id).metrics
    assert metrics["adv/mae"] > metrics["clean/mae"]
    assert metrics["budget/violations"] == 0


def test_a_checkpoint_of_the_published_code_is_attacked_by_its_path(
    store: Store, tmp_path: Path, demo: Path
) -> None:
    prepared(store, demo)
    trained = train(store, TrainParams(system="A2B2E", epochs=1, device="cpu"))
    network = load_checkpoint(store.download(trained.run_id, "checkpoints/best.safetensors"))
    torch.save(network.state_dict(), tmp_path / "cem_a2m2e_12345.pt")
    params = AttackParams(model_uri=str(tmp_path / "cem_a2m2e_12345.pt"), max_iters=2, split="validation")
    (by_path,), (by_tag,) = (
        attack(store, params),
        attack(store, AttackParams(system="A2B2E", max_iters=2, split="validation")),
    )
    own, theirs = store.get(by_tag.run_id).metrics, store.get(by_path.run_id).metrics
    assert own["adv/mae"] == pytest.approx(theirs["adv/mae"])


def test_a_model_of_ours_is_attacked_on_its_own_data_whatever_the_uri(store: Store, demo: Path) -> None:
    prepared(store, demo)
    trained = train(store, TrainParams(system="A2E", train_protocol="corrected", epochs=1, device="cpu"))
    settings = {"attack": "pgd", "steps": 2, "split": "validation"}
    (by_tag,) = attack(store, AttackParams(system="A2E", **settings))
    (by_uri,) = attack(store, AttackParams(model_uri=f"runs:/{trained.run_id}/model", **settings))
    assert by_uri.skipped
    assert by_uri.run_id == by_tag.run_id
    assert store.get(by_tag.run_id).tags[Tag.SPLIT_SCHEME] == "album"


def test_a_suite_with_reduced_gradients_says_what_they_cost(
    store: Store, tmp_path: Path, demo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(TIERS, "quick", Tier(("linf",), (0.002, 0.01), 3, 2, 1, 10))
    prepared(store, demo)
    torch.save(build_network("plain", width=0.25).state_dict(), tmp_path / "a2e.pt")
    params = AttackParams(attack="suite", model_uri=str(tmp_path / "a2e.pt"), precision="bf16", device="cpu")
    price = describe_attack(store, params)
    twin = {Tag.SYSTEM: "aA2E", Tag.SEED: "6", Tag.WEIGHTS: digest_of(tmp_path / "a2e.pt")}
    store.perform(RunSpec(Stage.TRAIN, "aA2E s6", {"system": "aA2E"}, twin), lambda run: None)
    (outcome,) = attack(store, params)
    table = store.read_table(outcome.run_id, Artifact.PRECISION)
    assert table["epsilon"].tolist() == [0.002, 0.01]
    (victim,) = victims_of(store, params)
    clips = len(victim.data.test)
    assert set(table["clips"]) == {min(clips, COMPARED)}
    for metric in ("mae_loss", "mae_clipped_loss"):
        losses = store.metric_history(outcome.run_id, f"precision/{metric}")
        assert losses == [(20, pytest.approx(table[metric][0])), (100, pytest.approx(table[metric][1]))]
    checks = store.read_table(outcome.run_id, Artifact.SANITY).set_index("check")
    value = max(table["mae_loss"].max(), table["mae_clipped_loss"].max())
    assert checks.loc["reduced_search_as_strong", "value"] == pytest.approx(value)
    twins = checks.loc["weights_of_no_other_system"]
    assert (twins["value"], str(twins["passed"]), twins["detail"]) == (1, "False", "aA2E s6")
    # Two starts on the error and one on the correlation, of three steps, and at the end of each attack five
    # in float32; controls are no part of it.
    assert store.get(outcome.run_id).metrics["cost/gradients"] == clips * 2 * (3 * 3 + 2 * 5)
    gradients = gradients_of_run(params, Aim(EMOTIONS), clips=clips, precision="bf16", transfer=True)
    assert f"{gradients:,} attack gradients" in price


def test_an_adaptive_suite_says_what_it_spent_where_and_is_held_to_the_fixed_one(
    store: Store, tmp_path: Path, demo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    budgets = (0.002, 0.01, 0.5)
    monkeypatch.setitem(TIERS, "paper", Tier(("linf",), budgets, 12, 2, 1, 10, adaptive=True))
    prepared(store, demo)
    train(store, TrainParams(system="A2E", epochs=2, width=0.25, device="cpu"))
    params = AttackParams(attack="suite", tier="paper", device="cpu")
    price = int(re.search(r"([\d,]+) attack gradients", describe_attack(store, params))[1].replace(",", ""))  # type: ignore[index]
    (outcome,) = attack(store, params)
    run = store.get(outcome.run_id)
    curve = store.read_table(outcome.run_id, Artifact.CURVE).iloc[1:]
    clips = len(store.read_table(outcome.run_id, Artifact.ADVERSARY_CLIPS))
    assert (curve["starts"] >= 2).all()
    assert curve["agreed"].between(0, 1).all()
    assert curve["gradients"].sum() == run.metrics["cost/gradients"] <= price
    assert (curve["gradients"] >= clips * 2 * 24).all()
    checks = store.read_table(outcome.run_id, Artifact.SANITY).set_index("check")
    assert f"{clips} clips" in checks.loc["adaptive_search_as_strong", "detail"]
    assert str(checks.loc["adaptive_search_as_strong", "passed"]) == "True"
    assert str(checks.loc["gradients_spent", "passed"]) == "True"
    assert (run.params["cfg.first_steps"], run.params["cfg.starts"]) == ("8", "4")
    (again,) = attack(store, params)
    assert again.run_id == outcome.run_id


def test_an_attack_without_a_study_joins_none_and_leaves_finished_studies_as_they_are(
    store: Store, demo: Path
) -> None:
    prepared(store, demo, study="done")
    train(store, TrainParams(system="A2E", epochs=1, device="cpu", study="done"))
    (inside,) = attack(store, AttackParams(attack="pgd", steps=1, study="done"))
    (outside,) = attack(store, AttackParams(attack="pgd", steps=2))
    assert store.get(inside.run_id).tags[Tag.STUDY] == "done"
    assert Tag.STUDY not in store.get(outside.run_id).tags
    analysed = analyze(store, AnalyzeParams(study="done")).tables["runs"]
    assert analysed["run_id"].tolist() == [inside.run_id]
    with pytest.raises(
        UserError, match=r"steps: 1 \(1 runs\), 2 \(1 runs\)\. Narrow with where=steps=2 or study"
    ):
        analyze(store, AnalyzeParams())
    assert analyze(store, AnalyzeParams(where="steps=2")).tables["runs"]["run_id"].tolist() == [
        outside.run_id
    ]


def test_a_study_name_stands_for_one_set_of_settings(store: Store, demo: Path) -> None:
    tiny = {"frames": 40, "systems": "A2E", "attacks": "pgd", "steps": 1, "study": "mine", "device": "cpu"}
    tiny |= {"engine": "serial"}
    run_study(store, make_plan(StudyParams(seeds="6", epochs=1, **tiny)), demo)
    more = run_study(store, make_plan(StudyParams(seeds="6,21", epochs=1, **tiny)), demo)
    assert more.summary.partition(HEADING)[2].count("A2E") == 1
    assert len(store.find(Stage.TRAIN, study="mine")) == 2
    with pytest.raises(UserError, match=r"holds runs of other settings \(epochs 1\)"):
        run_study(store, make_plan(StudyParams(seeds="6", epochs=2, **tiny)), demo)


def test_a_model_that_breaks_the_contract_is_a_clear_error(store: Store, demo: Path) -> None:
    prepared(store, demo)
    mlflow.set_tracking_uri(store.uri)
    for uri, what in (
        (log_their_model(5, {}), r"returns output \[2, 5\], the data set has 8 targets"),
        (log_their_model(8, {}, scale=np.inf), "predicts NaN or infinity for clean clips"),
    ):
        with pytest.raises(UserError, match=what):
            attack(store, AttackParams(model_uri=uri))


def test_data_without_concepts_trains_what_needs_none(store: Store, tmp_path: Path, demo: Path) -> None:
    bare = tmp_path / "bare"
    bare.mkdir()
    for name in ("Set1", "mean_ratings_set1.csv"):
        (bare / name).symlink_to(demo / name)
    run_id = prepared(store, bare)
    assert Dataset.load(store.download(run_id, Artifact.DATASET)).concepts == ()
    assert not train(store, TrainParams(system="A2B2E", epochs=1)).skipped
    with pytest.raises(UserError, match="learns concepts"):
        train(store, TrainParams(system="A2M2E", epochs=1))


def test_two_clones_that_differ_run_their_own_code(tmp_path: Path) -> None:
    for name in ("one", "two"):
        clone = tmp_path / name
        subprocess.run(["git", "clone", "-q", str(ROOT), str(clone)], check=True)
        init = clone / "rmer" / "__init__.py"
        init.write_text(init.read_text() + f'\nprint("this is clone {name}")\n')
    for name in ("one", "two"):
        command = [sys.executable, "-m", "mlflow", "run", str(tmp_path / name), "--env-manager", "local"]
        done = subprocess.run(
            [*command, "-P", "dry_run=true", "-P", "clips=12", "-P", "frames=40"],
            env={**os.environ, "MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path / 'mlflow.db'}"},
            capture_output=True,
            text=True,
            check=True,
        )
        assert f"this is clone {name}" in done.stdout
        assert done.stdout.count("this is clone") == 1
