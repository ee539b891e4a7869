"""Calls that go wrong: one lost reply doubles nothing, one error is waited for, a refusal is said at once."""

from __future__ import annotations

import math
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pytest
from click.testing import CliRunner
from faulty_proxy import Fault, FaultyProxy
from networks import log_half
from servers import MlflowServer, interrupt, mlflow_server

import entrypoints.train
from rmer.errors import UserError
from rmer.execution.engine_params import EngineParams
from rmer.execution.jobs import Failure, Job, Site, do
from rmer.parameters import Parameters, param
from rmer.stages.analysis.analyze import Analysis
from rmer.stages.data.demo_data import DemoParams, make_demo_data
from rmer.stages.data.preprocess import PreprocessParams, preprocess
from rmer.stages.study import study
from rmer.stages.study.plan import StudyParams, make_plan
from rmer.tracking import Outcome, Run, RunSpec, Store, Tag, connect

STARTING = ("/health", "experiments/search", "experiments/get-by-name", "experiments/create")
WRITING = (
    *("runs/create", "runs/log-batch", "runs/log-inputs", "runs/update"),
    *("mlflow-artifacts/", "/logged-models", "runs/outputs"),
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowServer]:
    with mlflow_server(tmp_path_factory.mktemp("server")) as running:
        yield running


@pytest.fixture
def proxy(server: MlflowServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyProxy]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RMER_DRAIN_SECONDS", "5")
    proxy = FaultyProxy(server.uri)
    yield proxy
    proxy.close()


@pytest.fixture
def spec(request: pytest.FixtureRequest) -> RunSpec:
    return RunSpec("train", "A2E s6", {"test": request.node.name}, {Tag.SYSTEM: "A2E"})


def log_everything(run: Run) -> None:
    """Make every kind of call that a run makes."""
    for step in range(3):
        run.metrics({"train/loss": step / 3}, step=step)
    run.dataset_input("soundtracks", "abc", source={"run_id": "r"})
    run.ui_table(pd.DataFrame({"clip": ["001"], "x": [0.5]}), "per_clip.json")
    log_half(run)
    run.metrics({"test/mae": 0.5}, model="model")


def assert_everything_once(store: Store, spec: RunSpec) -> None:
    (record,) = store.search({Tag.CONFIG: spec.digest})
    assert (record.status, record.tags[Tag.STAGE]) == ("FINISHED", "train")
    assert store.metric_history(record.run_id, "train/loss") == [(step, step / 3) for step in range(3)]
    run = store.client.get_run(record.run_id)
    assert len(run.inputs.dataset_inputs) == len(run.outputs.model_outputs) == 1
    models = store.client.search_logged_models([record.experiment_id])
    (model,) = [model for model in models if model.source_run_id == record.run_id]
    assert (model.status, [metric.value for metric in model.metrics]) == ("READY", [0.5])
    assert run.data.tags["mlflow.loggedArtifacts"].count("per_clip.json") == 1


@pytest.mark.parametrize("kind", ["lose", "late", "drop", "status", "cut"])
def test_a_fault_of_every_call_loses_and_doubles_nothing(
    proxy: FaultyProxy, spec: RunSpec, kind: str
) -> None:
    experiment = f"lab {kind}"
    proxy.faults = tuple(Fault(kind, path, times=1) for path in (*STARTING, *WRITING))
    outcome = connect(proxy.uri, experiment).perform(spec, log_everything)
    assert outcome.waiting == 0
    assert proxy.harmed()[kind] == len(proxy.faults)
    proxy.faults = ()
    store = connect(proxy.uri, experiment)
    assert_everything_once(store, spec)
    experiments = [found.name for found in store.client.search_experiments()]
    assert experiments.count(experiment) == 1


def test_a_lost_reply_while_a_failed_run_is_reopened(proxy: FaultyProxy, spec: RunSpec) -> None:
    store = connect(proxy.uri)
    interrupt(store, spec)
    proxy.faults = tuple(Fault("lose", path, times=1) for path in ("runs/delete-tag", "runs/update"))
    assert store.perform(spec, log_everything).resumed
    assert proxy.harmed() == {"lose": 2}
    assert Tag.ERROR not in store.search({Tag.CONFIG: spec.digest})[0].tags
    assert_everything_once(store, spec)


REFUSED = (
    "the tracking store refuses user clara {} (403 harmed on purpose). Ask its administrator for the "
    "right {}, or log to an experiment of your own (MLFLOW_EXPERIMENT_NAME)"
)
LOGIN = "Set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
UNKNOWN = f"the tracking store does not know user clara (401). {LOGIN}"


@pytest.mark.parametrize(
    ("status", "path", "message"),
    [
        (403, "runs/create", REFUSED.format("runs/create", "EDIT")),
        (403, "runs/search", REFUSED.format("runs/search", "READ")),
        (401, "experiments/search", UNKNOWN),
    ],
)
def test_a_refusal_is_said_at_once(
    proxy: FaultyProxy, spec: RunSpec, monkeypatch: pytest.MonkeyPatch, status: int, path: str, message: str
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "clara")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "secret")
    proxy.faults = (Fault("status", path, status=status),)
    with pytest.raises(UserError) as caught:
        connect(proxy.uri).perform(spec, log_everything)
    assert str(caught.value) == f"{proxy.uri}: {message}"
    assert proxy.harmed() == {"status": 1}  # asked once


def test_a_right_lost_in_the_middle_of_a_run_loses_nothing(
    proxy: FaultyProxy, spec: RunSpec, capfd: pytest.CaptureFixture[str]
) -> None:
    store = connect(proxy.uri)

    def body(run: Run) -> None:
        proxy.faults = (Fault("status", "runs/", status=403),)
        log_everything(run)

    outcome = store.perform(spec, body)
    assert outcome.waiting > 0
    assert store.left_behind() == 1
    told = capfd.readouterr().err
    assert "refuses a user without login runs/log-batch (403 harmed on purpose)" in told
    proxy.faults = ()
    assert store.sync().left == 0
    assert store.left_behind() == 0
    assert_everything_once(store, spec)


@pytest.mark.slow
def test_a_training_whose_values_wait_says_them_and_ends_with_a_code_of_its_own(
    proxy: FaultyProxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", proxy.uri)
    monkeypatch.setenv("RMER_DRAIN_SECONDS", "0.5")
    store = connect()
    data = make_demo_data(DemoParams(out_dir=str(tmp_path / "demo"), clips=16, seconds=3.0))
    preprocess(store, PreprocessParams(soundtracks_dir=str(data), frames=40, workers=1))
    arguments = ["--system", "A2E", "--epochs", "2", "--device", "cpu"]
    proxy.faults = (Fault("drop", "runs/log-batch"),)
    first = CliRunner().invoke(entrypoints.train.cli, arguments)
    said = re.search(r"trained: run (\w+), test correlation (-?\d\.\d{3})\n", first.stdout)
    assert said is not None, first.output
    assert first.stdout.splitlines()[-1] == (
        f"waiting: values of 1 runs for {proxy.uri}; `rmer sync` sends them (exit code 75)"
    )
    assert first.exit_code == 75

    proxy.faults = ()
    second = CliRunner().invoke(entrypoints.train.cli, arguments)
    told = first.stdout.splitlines()[0].replace("trained", "was trained before")
    assert (second.exit_code, second.stdout.splitlines()[0]) == (0, told)
    value = store.get(said[1]).metrics["test/emotion/corr"]
    assert math.isclose(value, float(said[2]), abs_tol=5e-4)


@dataclass(frozen=True)
class Reading(Parameters):
    before: str = param("", "run that is read")


def read_text(store: Store, params: Reading) -> str:
    return store.download(params.before, "a.txt").read_text()


def perform_while_the_store_goes(proxy: FaultyProxy, store: Store, spec: RunSpec) -> Outcome:
    """Do a run whose file waits when it is done."""

    def body(run: Run) -> None:
        proxy.faults = (Fault("drop", "runs/log-batch"), Fault("drop", "mlflow-artifacts/"))
        run.text("written", "a.txt")

    outcome = store.perform(spec, body)
    assert outcome.waiting
    return outcome


@pytest.mark.parametrize("back", [True, False])
def test_a_job_waits_for_what_the_one_before_it_logged(
    proxy: FaultyProxy, spec: RunSpec, back: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The store went away while the first ran; a second after the next one began it is back, or not."""
    monkeypatch.setenv("RMER_DRAIN_SECONDS", "0.2")
    monkeypatch.setenv("RMER_WAIT_SECONDS", "20" if back else "1")
    store = connect(proxy.uri)

    first = perform_while_the_store_goes(proxy, store, spec)
    job, site = Job("second", read_text, Reading(first.run_id), {"before": "first"}), Site(proxy.uri, "", "x")
    if back:
        threading.Timer(1, setattr, (proxy, "faults", ())).start()
        assert do(job, site) == "written"
    else:
        failure = do(job, site)
        assert isinstance(failure, Failure)
        assert "the tracking store does not answer" in failure.reason
        proxy.faults = ()
        assert do(job, site) == "written"


def test_a_study_analyses_what_its_jobs_logged_once_it_is_there(
    proxy: FaultyProxy, spec: RunSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RMER_DRAIN_SECONDS", "0.2")
    store = connect(proxy.uri)
    run_id = perform_while_the_store_goes(proxy, store, spec).run_id

    def analysed(store: Store, *_: object) -> Analysis:
        raise UserError(f"analysed: {store.download(run_id, 'a.txt').read_text()}")

    monkeypatch.setattr(study, "run_jobs", lambda *_, **__: ({"A2E s6 | pgd": run_id}, []))
    monkeypatch.setattr(study, "_analyze", analysed)
    plan = make_plan(StudyParams(systems="A2E", attacks="pgd"))

    def body(run: Run) -> None:
        proxy.faults = ()
        study._body(run, store, plan, EngineParams(), lambda: Outcome(run_id), dict, "")

    with pytest.raises(UserError, match="analysed: written"):
        store.perform(RunSpec("study", "study", {"test": run_id}), body)
