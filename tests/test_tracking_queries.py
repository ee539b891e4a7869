"""Finding runs, naming stores, telling the living from the dead."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from pathlib import Path

import psutil
import pytest

from rmer.errors import UserError
from rmer.tracking import Store, Tag, connect
from rmer.tracking.liveness import is_alive, process_tags
from rmer.tracking.locations import resolve_uri


def add(store: Store, status: str = "FINISHED", experiment: str = "0", **tags: str) -> str:
    """Put a run into the store directly, as an older version or a user's own code would."""
    tags = {f"rmer.{name}": value for name, value in tags.items()}
    run = store.client.create_run(experiment, tags=tags, start_time=int(time.time() * 1000))
    store.client.set_terminated(run.info.run_id, status)
    time.sleep(0.002)  # start times in ms order the runs
    return str(run.info.run_id)


def test_newest_finished_run_of_each_configuration_in_all_experiments(store: Store) -> None:
    other = store.client.create_experiment("another")
    add(store, stage="attack", system="A2E", config="a")
    newest = add(store, experiment=other, stage="attack", system="A2E", config="a")
    add(store, "FAILED", stage="attack", system="A2E", config="a")
    add(store, stage="train", system="A2E", config="b")
    second = add(store, stage="attack", system="A2E", config="c", study="thesis")
    external = [add(store, stage="attack", system="A2E") for _ in range(2)]
    add(store, stage="attack", system="A2M2E", config="d")
    found = [record.run_id for record in store.find("attack", {Tag.SYSTEM: "A2E"})]
    assert found == [*external[::-1], second, newest]
    assert [record.run_id for record in store.find("attack", study="thesis")] == [second]
    assert len(store.find()) == 6


def test_deleted_runs_are_not_found(store: Store) -> None:
    store.client.delete_run(add(store, stage="train", config="a"))
    assert store.find("train") == []


def test_results_of_many_pages_are_joined(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rmer.tracking.find.PAGE", 3)
    runs = [add(store, stage="train", config=str(number)) for number in range(8)]
    assert [record.run_id for record in store.find("train")] == runs[::-1]


@pytest.mark.parametrize("value", ["it's", 'a "name"', "50 %", "a_b", ""])
def test_any_tag_value_is_matched_exactly(store: Store, value: str) -> None:
    add(store, stage="train", system=f"{value}x")
    run_id = add(store, stage="train", system=value)
    assert [record.run_id for record in store.find("train", {Tag.SYSTEM: value})] == [run_id]


def test_a_value_with_both_quotes_is_a_user_error(store: Store) -> None:
    with pytest.raises(UserError, match="quotes"):
        store.find("train", {Tag.SYSTEM: 'it\'s "x"'})


def test_history_is_ordered_by_step(store: Store) -> None:
    run_id = add(store)
    for step in (3, 1, 2):
        store.client.log_metric(run_id, "a", step / 3, step=step)
    assert store.metric_history(run_id, "a") == [(1, 1 / 3), (2, 2 / 3), (3, 1.0)]
    assert store.metric_history(run_id, "absent") == []


@pytest.mark.parametrize(
    ("given", "resolved"),
    [
        (None, "sqlite:///{cwd}/mlflow.db"),
        ("sqlite:///a/b.db", "sqlite:///{cwd}/a/b.db"),
        ("sqlite:////abs/b.db", "sqlite:////abs/b.db"),
        ("http://host:5000/", "http://host:5000"),
        ("postgresql://u:p@host/db", "postgresql://u:p@host/db"),
    ],
)
def test_store_uris_are_absolute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str | None, resolved: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert resolve_uri(given) == resolved.format(cwd=tmp_path)
    if given:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", given)
        assert resolve_uri() == resolved.format(cwd=tmp_path)


@pytest.mark.parametrize("uri", ["mlruns", "file:///tmp/mlruns", "sqlite://", "sqlite:///", "sqlite:a.db"])
def test_unusable_store_uris(uri: str) -> None:
    with pytest.raises(UserError, match=r"sqlite:///"):
        resolve_uri(uri)


WRITE_SIGNS = "Write such signs of a password as %40 (@), %20 (blank), %22 (double quote), %3C (<), %3E (>)"
PLAIN = (
    "a server's address has neither ? nor #. Give http://host:port, the login in MLFLOW_TRACKING_USERNAME "
    "and MLFLOW_TRACKING_PASSWORD"
)


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("postgresql://me:s3@cret@host/db", f"holds @ twice before the database's name. {WRITE_SIGNS}"),
        ("http://me:s3 cret@host", f"holds a blank, a quote or an angle bracket. {WRITE_SIGNS}"),
        ('postgresql://me:s3"cret@host/db', f"holds a blank, a quote or an angle bracket. {WRITE_SIGNS}"),
        ("http://host:5000?user=me&password=s3cret", PLAIN),
        ("http://host:5000/#/experiments/1", PLAIN),
    ],
)
def test_addresses_that_could_show_their_password_are_refused(uri: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        resolve_uri(uri)
    assert str(caught.value) == f"the tracking store's address: {message}"


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("sqlite:///{}/file", r"sqlite:///{}/file: cannot be read \(file is not a database\)\. Bring"),
        ("sqlite:///{}/file/x.db", r"{}/file/x\.db: its folder cannot be made \(File exists\)\. Name"),
        ("sqlite:///{}/file/a/x.db", r"{}/file/a/x\.db: its folder cannot be made \(Not a directory\)\."),
        ("nonsense://host/db", "nonsense://host/db: addresses of kind nonsense are not supported"),
    ],
)
def test_an_unwritable_or_broken_store_is_a_user_error(tmp_path: Path, uri: str, message: str) -> None:
    (tmp_path / "file").write_text("not a database, but long enough to be looked at as one" * 100)
    with pytest.raises(UserError, match=f"^{message.format(tmp_path)}"):
        connect(uri.format(tmp_path))


def test_a_deleted_experiment_is_a_user_error(store: Store) -> None:
    store.client.delete_experiment(store.experiment_id)
    with pytest.raises(UserError, match=r"was deleted.*restore"):
        connect()


@pytest.mark.parametrize(
    ("change", "alive"),
    [
        ({}, True),
        ({Tag.PROCESS_STARTED: "1000.00"}, False),  # the id was given to another process since
        ({Tag.PID: "x"}, False),
        ({Tag.PROCESS_STARTED: ""}, False),
        ({Tag.HEARTBEAT: "0"}, True),  # on this host the process itself is looked up
        ({Tag.HOST: "elsewhere"}, True),
        ({Tag.HOST: "elsewhere", Tag.HEARTBEAT: -200}, True),
        ({Tag.HOST: "elsewhere", Tag.HEARTBEAT: -330}, False),
        ({Tag.HOST: "elsewhere", Tag.HEARTBEAT: "soon"}, False),
    ],
)
def test_liveness(change: dict[str, str | int], alive: bool) -> None:
    change = {
        tag: str(time.time() + value) if isinstance(value, int) else value for tag, value in change.items()
    }
    assert is_alive({**process_tags(), **change}) is alive


def test_dead_processes_and_zombies_are_not_alive() -> None:
    child = subprocess.Popen(["sleep", "60"])
    started = psutil.Process(child.pid).create_time()
    tags = {Tag.HOST: socket.gethostname(), Tag.PID: str(child.pid), Tag.PROCESS_STARTED: f"{started:.2f}"}
    assert is_alive(tags)
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # a zombie: dead, not yet collected
    assert not is_alive(tags)
    child.wait()
    assert not is_alive(tags)
