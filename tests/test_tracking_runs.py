"""Runs on a local store: opened, skipped, resumed, failed, adopted from `mlflow run`; what they log."""

from __future__ import annotations

import json
import math
import os
import shutil
import signal
import sqlite3
import time
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from servers import interrupt, start_python, wait_for

from rmer.errors import UserError
from rmer.tracking import Run, RunSpec, Store, Tag, connect, mark_wrapper_failed
from rmer.tracking.delivery.journal import left_behind, spool
from rmer.tracking.delivery.sender import StoreRefusedError
from rmer.tracking.values import as_params

SPEC = RunSpec("train", "A2E s6", {"lr": 5e-4, "system": "A2E"}, {Tag.SYSTEM: "A2E"}, study="thesis")


def nothing(run: Run) -> None:
    """Log nothing."""


def test_default_store_is_absolute_with_artifacts_beside_it(store: Store, tmp_path: Path) -> None:
    outcome = store.perform(SPEC, lambda run: run.text("hello", "notes/a.txt"))
    assert store.uri == f"sqlite:///{tmp_path}/mlflow.db"
    path = store.download(outcome.run_id, "notes/a.txt")
    assert path.is_relative_to(tmp_path / "mlruns")
    assert path.read_text() == "hello"


def test_every_experiment_of_a_new_sqlite_store_keeps_artifacts_beside_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    store = connect("sqlite:///lab/store.db")
    assert store.uri == f"sqlite:///{tmp_path}/lab/store.db"
    places = [experiment.artifact_location for experiment in store.client.search_experiments()]
    assert len(places) == 2
    assert all(str(tmp_path / "lab" / "mlruns") in place for place in places)


def test_a_run_carries_its_tags_params_and_full_history(store: Store) -> None:
    def body(run: Run) -> None:
        for epoch in range(3):
            run.metrics({"val/emotion/corr": epoch / 7, "train/loss": math.nan}, step=epoch)
        run.params({"device": "cpu", "deep": {"er": [1, 2.5]}})
        run.tags({Tag.SPLIT: "test", Tag.BUDGET_HELD: True})
        run.note("**hello**")

    outcome = store.perform(SPEC, body)
    record = store.get(outcome.run_id)
    assert (record.status, record.name) == ("FINISHED", "A2E s6")
    expected = {
        Tag.STAGE: "train",
        Tag.STUDY: "thesis",
        Tag.SYSTEM: "A2E",
        Tag.CONFIG: SPEC.digest,
        Tag.ORIGIN: "computed",
        Tag.SCHEMA: "3",
        Tag.SPLIT: "test",
        Tag.BUDGET_HELD: "true",
        Tag.PID: str(os.getpid()),
        "mlflow.note.content": "**hello**",
    }
    assert record.tags.items() >= expected.items()
    assert "mlflow.parentRunId" not in record.tags
    assert record.params == {
        "cfg.lr": "0.0005",
        "cfg.system": "A2E",
        "cfg.device": "cpu",
        "cfg.deep.er": "1,2.5",
    }
    history = store.metric_history(outcome.run_id, "val/emotion/corr")
    assert history == [(epoch, epoch / 7) for epoch in range(3)]
    assert math.isnan(record.metrics["train/loss"])


def test_digests_are_tags_and_read_as_parameters(store: Store) -> None:
    config = {"model": "0123456789abcdef", "training": "epochs 8", "lr": 0.1, "seed": 2147483647}
    run_id = store.perform(RunSpec("attack", "A2E s6", config), lambda run: None).run_id
    data = store.client.get_run(run_id).data
    assert data.params == {"cfg.lr": "0.1", "cfg.seed": "2147483647"}
    digests = {"cfg.model": "0123456789abcdef", "cfg.training": "epochs 8"}
    assert data.tags.items() >= digests.items()
    assert store.get(run_id).params == {**data.params, **digests}


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (5e-4, "0.0005"),
        (-1.0, "-1"),
        (1, "1"),
        (1e-10, "0.0000000001"),
        (0.1 + 0.2, "0.30000000000000004"),
        (np.float32(0.1), "0.1"),
        (np.int64(3), "3"),
        (True, "true"),
        (None, "none"),
        ("", ""),
        ([1, 0.5, "a"], "1,0.5,a"),
    ],
)
def test_parameters_are_plain_decimals(value: object, text: str) -> None:
    assert as_params({"x": value, "y": {"z": value}}) == {"cfg.x": text, "cfg.y.z": text}


@pytest.mark.parametrize(("value", "error"), [("a" * 6001, ValueError), (object(), TypeError)])
def test_a_bad_parameter_fails_before_a_run_is_opened(store: Store, value: object, error: type) -> None:
    with pytest.raises(error):
        store.perform(RunSpec("train", "x", {"text": value}), nothing)
    assert store.search({}) == []


def test_a_bad_duration_fails_before_a_run_is_opened(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RMER_DRAIN_SECONDS", "soon")
    with pytest.raises(UserError, match="'soon' is not a number of seconds"):
        store.perform(SPEC, lambda run: pytest.fail("worked"))
    assert store.search({Tag.CONFIG: SPEC.digest}) == []


def test_a_parameter_cannot_change(store: Store) -> None:
    def body(run: Run) -> None:
        run.params({"a": 1})
        run.params({"a": 1.0, "b": 2})
        run.params({"a": 2})

    with pytest.raises(ValueError, match=r"cfg\.a"):
        store.perform(SPEC, body)


def test_finished_work_is_skipped_whatever_the_experiment(store: Store) -> None:
    first = store.perform(SPEC, nothing)
    elsewhere = connect(experiment="another")
    second = elsewhere.perform(SPEC, lambda run: pytest.fail("the work was done again"))
    assert second.skipped
    assert second.run_id == first.run_id
    assert len(store.search({})) == 1


@pytest.mark.parametrize(
    ("error", "status", "message"),
    [
        (UserError("no clips", where="data", mend="Give some"), "FAILED", "data: no clips. Give some"),
        (ZeroDivisionError("division\nby zero"), "FAILED", "ZeroDivisionError: division by zero"),
        (KeyboardInterrupt(), "KILLED", "interrupted (KeyboardInterrupt)"),
    ],
)
def test_a_broken_run_says_why_and_is_continued_under_its_id(
    store: Store, error: BaseException, status: str, message: str
) -> None:
    def broken(run: Run) -> None:
        run.metrics({"train/loss": 1.0}, step=4)
        run.params({"device": "cuda"})
        (run.work_dir / "checkpoint").write_text("epoch 4")
        raise error

    def whole(run: Run) -> None:
        assert run.resumed
        assert (run.work_dir / "checkpoint").read_text() == "epoch 4"
        assert run.logged_step("train/loss") == 4
        assert run.logged_step("val/loss") is None
        run.params({"device": "cpu"})
        run.metrics({"train/loss": 0.5}, step=5)
        assert run.logged_step("train/loss") == 5

    with pytest.raises(type(error)):
        store.perform(SPEC, broken)
    (record,) = store.search({})
    assert (record.status, record.tags[Tag.ERROR]) == (status, message)

    outcome = store.perform(SPEC, whole)
    assert (outcome.run_id, outcome.resumed) == (record.run_id, True)
    (record,) = store.search({})
    assert record.status == "FINISHED"
    assert Tag.ERROR not in record.tags
    assert store.metric_history(record.run_id, "train/loss") == [(4, 1.0), (5, 0.5)]
    assert record.params["cfg.device"] == "cuda"
    assert record.tags["cfg.device.resumed"] == "cpu"


def test_work_dir_goes_when_the_run_is_finished(store: Store, isolated_home: Path) -> None:
    seen: list[Path] = []
    store.perform(SPEC, lambda run: seen.append(run.work_dir))
    assert not seen[0].exists()
    left = [path.name for path in isolated_home.rglob("*") if path.is_file()]
    assert sorted(name for name in left if not name.endswith(".lock")) == ["store.txt"]


def test_a_value_that_the_store_refuses_is_a_bug_and_fails_the_run(store: Store) -> None:
    def body(run: Run) -> None:
        run.metrics({"val/corr": 1.0})
        run.metrics({"adv/mae@8": 1.0})
        run.metrics({"val/mae": 2.0})

    with pytest.raises(StoreRefusedError, match="adv/mae@8"):
        store.perform(SPEC, body)
    (record,) = store.search({})
    assert record.status == "FAILED"
    assert "adv/mae@8" in record.tags[Tag.ERROR]
    assert record.metrics["val/corr"] == 1.0


def test_a_journal_that_is_lost_ends_the_run(store: Store) -> None:
    def body(run: Run) -> None:
        shutil.rmtree(spool(store.uri) / run.run_id)
        for step in range(1000):
            run.metrics({"val/corr": 1.0}, step=step)
            time.sleep(0.01)

    with pytest.raises(StoreRefusedError, match=r"operations\.jsonl"):
        store.perform(SPEC, body)
    (record,) = store.search({})
    assert record.status == "FAILED"
    assert "operations.jsonl" in record.tags[Tag.ERROR]
    assert left_behind(store.uri) == 0


def test_a_run_deleted_while_it_is_open_is_told(store: Store) -> None:
    def body(run: Run) -> None:
        store.client.delete_run(run.run_id)
        run.metrics({"val/corr": 1.0})

    with pytest.raises(StoreRefusedError, match="deleted"):
        store.perform(SPEC, body)
    assert not store.perform(SPEC, nothing).resumed


def test_runs_inside_runs_are_flat(store: Store) -> None:
    inner = [RunSpec("train", f"A2E s{seed}", {"seed": seed}) for seed in range(2)]

    def study(run: Run) -> None:
        for spec in inner:
            store.perform(spec, lambda each: each.metrics({"test/mae": 1.0}))
        run.metrics({"runs": len(inner)})

    store.perform(RunSpec("study", "study", {"a": 1}), study)
    records = store.search({}, status="FINISHED")
    assert sorted(record.name for record in records) == ["A2E s0", "A2E s1", "study"]
    assert not any("mlflow.parentRunId" in record.tags for record in records)
    assert [record.metrics for record in records if record.name == "study"] == [{"runs": 2.0}]


def test_the_same_configuration_is_not_worked_on_twice_at_once(store: Store) -> None:
    def body(run: Run) -> None:
        with pytest.raises(UserError, match=f"process {os.getpid()} on .* is already at it"):
            store.perform(SPEC, nothing)

    store.perform(SPEC, body)


def test_tables_figures_and_files(store: Store, tmp_path: Path) -> None:
    frame = pd.DataFrame(
        {"clip": ["001", "002"], "album": ["", "B, C"], "x": [1 / 3, 1e-17], "y": np.float32([0.1, 2])}
    )
    (tmp_path / "some" / "inner").mkdir(parents=True)
    (tmp_path / "some" / "inner" / "a.bin").write_bytes(b"\x00\x01")
    figure, axes = plt.subplots()
    axes.plot([1, 2])

    def body(run: Run) -> None:
        run.table(frame, "tables/predictions.csv")
        run.ui_table(frame[["clip", "x"]], "per_clip.json")
        run.figure(figure, "figures/curve")
        run.json({"a": [1]}, "a.json")
        run.file(tmp_path / "some", "checkpoints")
        run.file(tmp_path / "some" / "inner" / "a.bin", "checkpoints")
        (tmp_path / "some" / "inner" / "a.bin").write_bytes(b"changed after it was logged")

    run_id = store.perform(SPEC, body).run_id
    plt.close(figure)
    table = store.read_table(run_id, "tables/predictions.csv")
    pd.testing.assert_frame_equal(table.astype({"y": np.float32}), frame, check_exact=True)
    assert store.download(run_id, "figures/curve.svg").read_text().lstrip().startswith("<?xml")
    assert store.download(run_id, "figures/curve.png").read_bytes().startswith(b"\x89PNG")
    assert json.loads(store.download(run_id, "a.json").read_text()) == {"a": [1]}
    assert store.download(run_id, "checkpoints/some/inner/a.bin").read_bytes() == b"\x00\x01"
    assert store.download(run_id, "checkpoints/a.bin").read_bytes() == b"\x00\x01"
    seen = store.client.load_table(store.get(run_id).experiment_id, "per_clip.json")
    assert seen.to_dict("list") == {"clip": [1, 2], "x": [pytest.approx(1 / 3, rel=1e-14), 1e-17]}
    with pytest.raises(UserError, match=r"no artifact .*absent\.csv"):
        store.download(run_id, "tables/absent.csv")


def test_dataset_input(store: Store) -> None:
    def body(run: Run) -> None:
        for _ in range(2):
            run.dataset_input("soundtracks", "abc", source={"run": "r"}, profile={"clips": 360})

    run_id = store.perform(SPEC, body).run_id
    (used,) = store.client.get_run(run_id).inputs.dataset_inputs
    assert (used.dataset.name, used.dataset.digest) == ("soundtracks", "abc")
    assert json.loads(used.dataset.profile) == {"clips": 360}


def wrapper(store: Store, monkeypatch: pytest.MonkeyPatch) -> str:
    """Open a run as `mlflow run` does and hand it over in the environment."""
    run_id = store.client.create_run("0", tags={"mlflow.source.type": "PROJECT"}).info.run_id
    store.client.log_param(run_id, "lr", "5e-4")
    monkeypatch.setenv("MLFLOW_RUN_ID", run_id)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", "0")
    return str(run_id)


def test_the_run_of_mlflow_run_is_taken_over_once(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    given = wrapper(store, monkeypatch)
    inside = connect()
    first = inside.perform(SPEC, nothing)
    assert "MLFLOW_RUN_ID" not in os.environ  # nor do child processes inherit it
    second = inside.perform(RunSpec("attack", "A2E s6 | pgd", {"a": 1}), nothing)
    assert first.run_id == given != second.run_id
    record, other = store.get(given), store.get(second.run_id)
    assert (record.name, record.status, record.experiment_id) == ("A2E s6", "FINISHED", "0")
    assert record.params == {"lr": "5e-4", "cfg.lr": "0.0005", "cfg.system": "A2E"}
    assert other.experiment_id == "0"
    assert "mlflow.parentRunId" not in other.tags


@pytest.mark.parametrize("finished", [True, False])
def test_a_wrapper_without_work_of_its_own_points_to_the_run(
    store: Store, monkeypatch: pytest.MonkeyPatch, finished: bool
) -> None:
    old = store.perform(SPEC, nothing).run_id if finished else interrupt(store, SPEC)
    given = wrapper(store, monkeypatch)
    outcome = connect().perform(SPEC, nothing)
    assert (outcome.run_id, outcome.skipped, outcome.resumed) == (old, finished, not finished)
    record = store.get(given)
    assert record.tags[Tag.DUPLICATE_OF] == old
    assert old in record.tags["mlflow.note.content"]
    assert Tag.STAGE not in record.tags
    assert record.status == "FINISHED"
    assert record.name.startswith("A2E s6 (")
    assert [found.run_id for found in store.find("train")] == [old]


def test_bad_parameters_are_told_in_the_run_of_mlflow_run(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = wrapper(store, monkeypatch)
    mark_wrapper_failed(UserError("-1 is out of range", where="parameter lr"))
    record = store.get(given)
    assert (record.status, record.tags[Tag.ERROR]) == ("FAILED", "parameter lr: -1 is out of range")
    mark_wrapper_failed(UserError("again"))
    assert store.get(given).tags[Tag.ERROR] == "parameter lr: -1 is out of range"


LONG_WORK = """
import sys, time
from rmer.tracking import RunSpec, connect

def body(run):
    for step in range(run.logged_step("train/loss") + 1 if run.resumed else 0, 1000):
        run.metrics({"train/loss": step / 3}, step=step)
        time.sleep(.01)

connect().perform(RunSpec("train", "long", {"a": 1}), body)
"""


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_a_killed_process_leaves_a_run_that_goes_on(store: Store, how: signal.Signals) -> None:
    process = start_python(LONG_WORK)
    wait_for(lambda: any(record.metrics for record in store.search({})), "the run logged nothing")
    with pytest.raises(UserError, match=f"process {process.pid} on .* is already at it"):
        store.perform(RunSpec("train", "long", {"a": 1}), nothing)
    process.send_signal(how)
    process.communicate(timeout=30)
    store.replay()  # what it could not send any more: on a slow machine, that it was terminated
    (record,) = store.search({})
    assert record.status == ("KILLED" if how is signal.SIGTERM else "RUNNING")

    def rest(run: Run) -> None:
        last = run.logged_step("train/loss")
        assert run.resumed
        assert last is not None
        for step in range(last + 1, last + 3):
            run.metrics({"train/loss": step / 3}, step=step)

    outcome = store.perform(RunSpec("train", "long", {"a": 1}), rest)
    assert outcome.run_id == record.run_id
    history = store.metric_history(record.run_id, "train/loss")
    assert history == [(step, step / 3) for step in range(len(history))]


def test_runs_of_dead_processes_are_marked(store: Store) -> None:
    process = start_python(LONG_WORK)
    wait_for(lambda: any(record.metrics for record in store.search({})), "the run logged nothing")
    assert store.sync().marked == []
    process.kill()
    process.communicate(timeout=30)
    result = connect().sync()
    (record,) = store.search({})
    assert result.marked == [record.run_id]
    assert record.status == "KILLED"
    assert f"process {process.pid}" in record.tags[Tag.ERROR]


def test_metric_points_are_stored_once_however_often_they_are_sent(store: Store) -> None:
    run_id = store.perform(SPEC, nothing).run_id
    for _ in range(3):
        store.client.log_metric(run_id, "a", 1.5, timestamp=1000, step=2)
        store.client.log_metric(run_id, "b", math.nan, timestamp=1000, step=2)
        store.client.log_metric(run_id, "c", math.inf, timestamp=1000, step=2)
    with sqlite3.connect(store.uri.removeprefix("sqlite:///")) as database:
        rows = database.execute("select key, count(*) from metrics group by key order by key").fetchall()
    assert rows == [("a", 1), ("b", 1), ("c", 1)]


def test_the_console_stays_quiet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    code = "from rmer.tracking import *; connect().perform(RunSpec('train', 'x', {}), lambda run: None)"
    output, errors = start_python(code).communicate(timeout=60)
    assert (output, errors) == ("", "")
