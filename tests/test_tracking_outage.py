"""A tracking server that goes away: the work goes on, and afterwards every value is there exactly once."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from servers import MlflowServer, free_port, mlflow_server, start_python, wait_for

from rmer.errors import UserError
from rmer.tracking import Run, RunSpec, Store, connect
from rmer.tracking.journal import waiting_runs

SPEC = RunSpec("train", "A2E s6", {"lr": 5e-4})
STEPS = 60
FRAME = pd.DataFrame({"clip": ["001"], "x": [0.5]})


class Twice(torch.nn.Module):
    """A small network in the form of the model contract."""

    def forward(self, inputs: torch.Tensor) -> dict[str, torch.Tensor | None]:
        return {"output": 2 * inputs.mean((1, 2)), "c_prob": None}


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[MlflowServer]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RMER_DRAIN_SECONDS", "2")
    with mlflow_server(tmp_path / "server") as running:
        yield running


def log_epoch(run: Run, step: int) -> None:
    run.metrics({"train/loss": step / 3, "val/corr": 1 - step / 7}, step=step)


def assert_each_point_once(store: Store, run_id: str, steps: int) -> None:
    assert store.metric_history(run_id, "train/loss") == [(step, step / 3) for step in range(steps)]
    assert store.metric_history(run_id, "val/corr") == [(step, 1 - step / 7) for step in range(steps)]


def test_a_server_away_for_some_seconds_costs_nothing(
    server: MlflowServer, capfd: pytest.CaptureFixture[str]
) -> None:
    store = connect(server.uri)

    def body(run: Run) -> None:
        for step in range(STEPS):
            if step == STEPS // 3:
                server.stop()
            if step == 2 * STEPS // 3:
                threading.Timer(2.0, server.start).start()
            began = time.monotonic()
            log_epoch(run, step)
            assert time.monotonic() - began < 1  # the work never waits for the server
            time.sleep(0.01)
        run.text("report", "report.html")
        wait_for(server.answers, "the server did not come back")

    outcome = store.perform(SPEC, body)
    assert outcome.waiting == 0
    assert_each_point_once(store, outcome.run_id, STEPS)
    assert store.get(outcome.run_id).status == "FINISHED"
    assert store.download(outcome.run_id, "report.html").read_text() == "report"
    messages = capfd.readouterr().err
    assert messages.count("does not answer") == 1
    assert messages.count("answers again") == 1


def test_a_server_away_for_good_then_back(server: MlflowServer, capfd: pytest.CaptureFixture[str]) -> None:
    store = connect(server.uri)

    def body(run: Run) -> None:
        for step in range(STEPS):
            if step == STEPS // 2:
                server.stop()
            log_epoch(run, step)
        run.params({"device": "cpu"})
        run.file(Path(__file__), "code")

    outcome = store.perform(SPEC, body)
    assert outcome.waiting > 0
    assert f"{outcome.waiting} records wait" in capfd.readouterr().err
    with pytest.raises(UserError, match=f"{server.uri}.*does not answer"):
        connect(server.uri)
    assert store.replay().left == outcome.waiting

    server.start()
    result = store.sync()
    assert (result.runs, result.records, result.left) == (1, outcome.waiting, 0)
    assert store.sync().records == 0
    assert waiting_runs(server.uri) == []
    assert_each_point_once(store, outcome.run_id, STEPS)
    record = store.get(outcome.run_id)
    assert (record.status, record.params["cfg.device"]) == ("FINISHED", "cpu")
    assert (
        store.download(outcome.run_id, f"code/{Path(__file__).name}").read_text()
        == Path(__file__).read_text()
    )
    assert store.perform(SPEC, lambda run: pytest.fail("done twice")).skipped


KILLED = """
import os, sys, time
from rmer.tracking import RunSpec, connect

def body(run):
    for step in range({steps}):
        run.metrics({{"train/loss": step / 3, "val/corr": 1 - step / 7}}, step=step)
        time.sleep(.002)
    print("logged", flush=True)
    time.sleep(60)

connect().perform(RunSpec("train", "A2E s6", {{"lr": 5e-4}}), body)
"""


@pytest.mark.slow
@pytest.mark.parametrize("steps", [37, 150, 400])
def test_a_process_killed_while_sending_loses_and_repeats_nothing(server: MlflowServer, steps: int) -> None:
    process = start_python(KILLED.format(steps=steps), MLFLOW_TRACKING_URI=server.uri)
    assert process.stdout is not None
    assert process.stdout.readline() == "logged\n"
    process.kill()
    process.communicate()

    store = connect(server.uri)  # replays
    (record,) = store.search({})
    assert_each_point_once(store, record.run_id, steps)

    def rest(run: Run) -> None:
        assert run.logged_step("train/loss") == steps - 1
        log_epoch(run, steps)

    outcome = store.perform(SPEC, rest)
    assert (outcome.run_id, outcome.resumed) == (record.run_id, True)
    assert_each_point_once(store, record.run_id, steps + 1)


def test_a_journal_that_was_sent_but_not_acknowledged_is_harmless(
    server: MlflowServer, tmp_path: Path
) -> None:
    store = connect(server.uri)

    def body(run: Run) -> None:
        server.stop()
        for step in range(5):
            log_epoch(run, step)
        run.table(FRAME, "tables/a.csv")
        run.ui_table(FRAME, "a.json")
        run.dataset_input("soundtracks", "abc", source={"run": "r"})
        run.model(Twice(), np.zeros((2, 1, 4, 3), np.float32), {"output": np.zeros((2, 3), np.float32)})
        run.metrics({"test/mae": 0.5}, model="model")

    run_id = store.perform(SPEC, body).run_id
    journal = next(path for path in (tmp_path / "rmer-home" / "spool").glob(f"*/{run_id}"))
    backup = tmp_path / "backup"
    shutil.copytree(journal, backup)
    server.start()
    assert store.sync().left == 0
    shutil.copytree(backup, journal)
    assert store.sync().left == 0

    assert_each_point_once(store, run_id, 5)
    run = store.client.get_run(run_id)
    assert len(run.inputs.dataset_inputs) == 1
    assert len(run.outputs.model_outputs) == 1
    (model,) = store.client.search_logged_models([run.info.experiment_id])
    assert model.status == "READY"
    assert [(metric.key, metric.value) for metric in model.metrics] == [("test/mae", 0.5)]
    assert run.data.tags["mlflow.loggedArtifacts"].count("a.json") == 1


def test_nobody_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    uri = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(UserError, match=rf"{uri}.*does not answer.*rmer server"):
        connect(uri)


def test_a_store_that_comes_back_in_time_is_waited_for(
    server: MlflowServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = connect(server.uri)
    server.stop()
    threading.Timer(1.0, server.start).start()
    assert not store.perform(SPEC, lambda run: None).skipped
    server.stop()
    monkeypatch.setenv("RMER_WAIT_SECONDS", "1")
    with pytest.raises(UserError, match="does not answer"):
        store.perform(RunSpec("train", "x", {"a": 1}), lambda run: None)
