"""A tracking server that goes away: the work goes on, and afterwards every value is there exactly once."""

from __future__ import annotations

import json
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
from networks import log_half
from servers import MlflowServer, free_port, interrupt, mlflow_server, postgresql, start_python, wait_for

from rmer.errors import UserError
from rmer.tracking import Run, RunSpec, Store, Tag, connect
from rmer.tracking.delivery.journal import Journal, waiting_runs
from rmer.tracking.delivery.operations import LogArtifact

STEPS = 60
FRAME = pd.DataFrame({"clip": ["001"], "x": [0.5]})


@pytest.fixture(scope="module")
def lasting_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowServer]:
    with mlflow_server(tmp_path_factory.mktemp("server")) as running:
        yield running


@pytest.fixture
def server(lasting_server: MlflowServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MlflowServer:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RMER_DRAIN_SECONDS", "2")
    if not lasting_server.answers():
        lasting_server.start()
    return lasting_server


@pytest.fixture
def spec(request: pytest.FixtureRequest) -> RunSpec:
    return RunSpec("train", "A2E s6", {"lr": 5e-4, "test": request.node.name})


def log_epoch(run: Run, step: int) -> None:
    run.metrics({"train/loss": step / 3, "val/corr": 1 - step / 7}, step=step)


def assert_each_point_once(store: Store, run_id: str, steps: int) -> None:
    assert store.metric_history(run_id, "train/loss") == [(step, step / 3) for step in range(steps)]
    assert store.metric_history(run_id, "val/corr") == [(step, 1 - step / 7) for step in range(steps)]


def test_a_server_away_for_some_seconds_costs_nothing(
    server: MlflowServer, spec: RunSpec, capfd: pytest.CaptureFixture[str]
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

    outcome = store.perform(spec, body)
    assert outcome.waiting == 0
    assert_each_point_once(store, outcome.run_id, STEPS)
    assert store.get(outcome.run_id).status == "FINISHED"
    assert store.download(outcome.run_id, "report.html").read_text() == "report"
    messages = capfd.readouterr().err
    assert messages.count("does not answer") == 1
    assert messages.count("answers again") == 1


def test_a_server_away_for_good_then_back(
    server: MlflowServer, spec: RunSpec, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    store = connect(server.uri)

    def body(run: Run) -> None:
        for step in range(STEPS):
            if step == STEPS // 2:
                server.stop()
            log_epoch(run, step)
        run.params({"device": "cpu"})
        run.file(Path(__file__), "code")

    outcome = store.perform(spec, body)
    assert outcome.waiting > 0
    assert f"{outcome.waiting} records wait" in capfd.readouterr().err
    with pytest.raises(UserError, match=f"{server.uri}.*does not answer"):
        connect(server.uri)
    assert store.replay().left == outcome.waiting
    assert connect(f"sqlite:///{tmp_path}/other.db").sync().elsewhere == {server.uri: 1}

    server.start()
    result = connect(server.uri, send_waiting=False).sync()
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
    assert store.perform(spec, lambda run: pytest.fail("done twice")).skipped


def test_a_torn_and_an_unreadable_line_of_a_journal_do_not_stop_the_rest(
    server: MlflowServer, spec: RunSpec, tmp_path: Path
) -> None:
    store = connect(server.uri)

    def body(run: Run) -> None:
        server.stop()
        log_epoch(run, 0)

    run_id = store.perform(spec, body).run_id
    (operations,) = (tmp_path / "rmer-home" / "spool").glob(f"*/{run_id}/operations.jsonl")
    first, *rest = operations.read_bytes().splitlines(keepends=True)
    assert json.loads(first)["do"] == "params"
    operations.write_bytes(b"".join([b"\0\0\0\n", *rest, b'{"do": "metr']))
    server.start()
    result = store.sync()
    assert (result.left, len(result.refused)) == (0, 1)
    assert_each_point_once(store, run_id, 1)
    record = store.get(run_id)
    assert record.status == "FAILED"
    assert "cannot be read" in record.tags[Tag.ERROR]


def test_a_database_that_is_restarted_costs_nothing(
    spec: RunSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with postgresql(tmp_path / "postgresql") as database:
        store = connect(database.uri)

        def body(run: Run) -> None:
            for step in range(30):
                if step == 10:
                    database.stop()
                if step == 20:
                    threading.Timer(1.0, database.start).start()
                log_epoch(run, step)
                time.sleep(0.05)

        outcome = store.perform(spec, body)
        assert outcome.waiting == 0
        assert_each_point_once(store, outcome.run_id, 30)
        database.stop()
        with pytest.raises(UserError, match="does not answer"):
            connect(database.uri)


KILLED = """
import os, sys, time
from rmer.tracking import RunSpec, connect

def body(run):
    for step in range({steps}):
        run.metrics({{"train/loss": step / 3, "val/corr": 1 - step / 7}}, step=step)
        time.sleep(.002)
    print("logged", flush=True)
    time.sleep(60)

connect().perform(RunSpec("train", "A2E s6", {config!r}), body)
"""


@pytest.mark.slow
@pytest.mark.parametrize("steps", [37, 400])
def test_a_process_killed_while_sending_loses_and_repeats_nothing(
    server: MlflowServer, spec: RunSpec, steps: int
) -> None:
    process = start_python(KILLED.format(steps=steps, config=spec.config), MLFLOW_TRACKING_URI=server.uri)
    assert process.stdout is not None
    assert process.stdout.readline() == "logged\n"
    process.kill()
    process.communicate()

    store = connect(server.uri)  # replays
    (record,) = store.search({Tag.CONFIG: spec.digest})
    assert_each_point_once(store, record.run_id, steps)

    def rest(run: Run) -> None:
        assert run.logged_step("train/loss") == steps - 1
        log_epoch(run, steps)

    outcome = store.perform(spec, rest)
    assert (outcome.run_id, outcome.resumed) == (record.run_id, True)
    assert_each_point_once(store, record.run_id, steps + 1)


def test_a_journal_that_was_sent_but_not_acknowledged_is_harmless(
    server: MlflowServer, spec: RunSpec, tmp_path: Path
) -> None:
    store = connect(server.uri)

    def body(run: Run) -> None:
        server.stop()
        for step in range(5):
            log_epoch(run, step)
        run.table(FRAME, "tables/a.csv")
        run.ui_table(FRAME, "a.json")
        run.dataset_input("soundtracks", "abc", source={"run": "r"})
        log_half(run)
        run.metrics({"test/mae": 0.5}, model="model")

    run_id = store.perform(spec, body).run_id
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
    models = store.client.search_logged_models([run.info.experiment_id])
    (model,) = [model for model in models if model.source_run_id == run_id]
    assert model.status == "READY"
    assert [(metric.key, metric.value) for metric in model.metrics] == [("test/mae", 0.5)]
    assert run.data.tags["mlflow.loggedArtifacts"].count("a.json") == 1


def test_nobody_answers() -> None:
    uri = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(UserError, match=rf"{uri}.*does not answer.*rmer server"):
        connect(uri)


def test_a_store_that_comes_back_in_time_is_waited_for(
    server: MlflowServer, spec: RunSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = connect(server.uri)
    server.stop()
    threading.Timer(1.0, server.start).start()
    assert not store.perform(spec, lambda run: None).skipped
    server.stop()
    monkeypatch.setenv("RMER_WAIT_SECONDS", "1")
    with pytest.raises(UserError, match="does not answer"):
        store.perform(RunSpec("train", "x", {"a": 1}), lambda run: None)


def test_tags_of_another_run_are_sent_later_and_harmless_when_replayed(
    server: MlflowServer, spec: RunSpec, tmp_path: Path
) -> None:
    store = connect(server.uri)
    trained = store.perform(RunSpec("train", "A2E s6", {"of": spec.digest}), lambda run: None).run_id
    before = store.get(trained)

    def body(run: Run) -> None:
        server.stop()
        run.tag_other(trained, {"rmer.attacked_by": run.run_id, "rmer.count": 2})

    attack = store.perform(spec, body).run_id
    journal = next((tmp_path / "rmer-home" / "spool").glob(f"*/{attack}"))
    shutil.copytree(journal, tmp_path / "backup")
    server.start()
    for _ in range(2):
        assert store.sync().left == 0
        after = store.get(trained)
        assert after.tags == {**before.tags, "rmer.attacked_by": attack, "rmer.count": "2"}
        assert (after.status, after.params) == ("FINISHED", before.params)
        assert "rmer.attacked_by" not in store.get(attack).tags
        if not journal.exists():
            shutil.copytree(tmp_path / "backup", journal)


def test_a_journal_of_which_a_part_was_sent_takes_further_files() -> None:
    journal = Journal("sqlite:///none.db", "r")
    for name in ("a", "b", "c"):
        (journal.new_folder() / name).write_text(name)
        journal.append(LogArtifact(f"files/x/{name}", ""))
    ends = [end for _, end in journal.read(3)]
    journal.acknowledge(ends[0], ["files/000001/a"])
    journal.close()

    journal = Journal("sqlite:///none.db", "r")
    place = journal.new_folder()
    assert (place.name, list(place.iterdir())) == ("000004", [])
    assert journal.count_waiting() == 2
    journal.close()


HOLD = """
import time
from rmer.tracking.delivery.journal import Journal

journal = Journal({uri!r}, {run_id!r})
print("held", flush=True)
time.sleep({duration})
journal.close()
"""


def hold_journal(store: Store, run_id: str, duration: float) -> subprocess.Popen[str]:
    """Own the journal of a run in another process, as a replay does."""
    process = start_python(HOLD.format(uri=store.uri, run_id=run_id, duration=duration))
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_a_run_whose_journal_is_just_being_sent_is_waited_for(store: Store, spec: RunSpec) -> None:
    run_id = interrupt(store, spec)
    process = hold_journal(store, run_id, 1.0)
    outcome = store.perform(spec, lambda run: log_epoch(run, 0))
    assert (outcome.run_id, outcome.resumed) == (run_id, True)
    assert process.wait(30) == 0
    assert_each_point_once(store, run_id, 1)
    assert store.get(run_id).status == "FINISHED"


def test_a_journal_that_stays_busy_is_a_user_error_and_leaves_the_run_as_it_was(
    store: Store, spec: RunSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RMER_WAIT_SECONDS", "0.5")
    run_id = interrupt(store, spec)
    process = hold_journal(store, run_id, 60)
    try:
        with pytest.raises(UserError, match=f"still sending what run {run_id} logged.*Try again"):
            store.perform(spec, lambda run: pytest.fail("begun"))
    finally:
        process.kill()
        process.communicate()
    record = store.get(run_id)
    assert (record.status, record.tags[Tag.ERROR]) == ("FAILED", "stopped")
    assert store.perform(spec, lambda run: None).run_id == run_id  # the dead process holds nothing


def test_a_run_that_another_process_finishes_meanwhile_is_skipped(store: Store, spec: RunSpec) -> None:
    run_id = interrupt(store, spec)
    process = hold_journal(store, run_id, 1.5)
    threading.Timer(0.5, store.client.set_terminated, (run_id, "FINISHED")).start()
    outcome = store.perform(spec, lambda run: pytest.fail("done twice"))
    assert (outcome.run_id, outcome.skipped) == (run_id, True)
    assert process.wait(30) == 0
