"""A machine that lacks space, rights or memory: one line, no traceback, and the same command goes on."""

from __future__ import annotations

import errno
import sqlite3
import subprocess
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from servers import copy_fresh_sqlite
from small_disks import small_disk

from entrypoints.options import run as run_command
from rmer.errors import UserError
from rmer.tracking import Run, RunSpec, Tag, connect
from rmer.tracking.machine import lack

SPEC = RunSpec("train", "A2E s6", {"system": "A2E"})
STEPS = 50


def fill(folder: Path) -> Path:
    """Use up what is free on a disk."""
    file = folder / "filler"
    with file.open("wb", buffering=0) as out, suppress(OSError):
        while True:
            out.write(bytes(4096))
    return file


def make_read_only(folder: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)


def log_steps(run: Run) -> None:
    for step in range(STEPS):
        run.metrics({"train/loss": step / 3}, step=step)


def test_a_home_that_fills_up_in_a_run_is_one_line_and_the_run_goes_on_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    copy_fresh_sqlite(tmp_path / "mlflow.db")
    with small_disk(tmp_path / "small", "256k") as home:
        monkeypatch.setenv("RMER_HOME", str(home))
        monkeypatch.setenv("TMPDIR", str(tmp_path))
        store = connect()
        fillers: list[Path] = []

        def body(run: Run) -> None:
            log_steps(run)
            if not run.resumed:
                fillers.append(fill(home))
            run.text("x" * 100_000, "report.html")

        assert run_command(lambda: store.perform(SPEC, body) and 0) == 2
        told = capfd.readouterr().err.splitlines()
        assert told[-1].startswith("rmer: RMER_HOME: no space is left. Free some (RMER_HOME is ")
        assert not any("Traceback" in line for line in told)
        (record,) = store.search({Tag.CONFIG: SPEC.digest})
        assert record.status == "FAILED"
        assert "no space is left" in record.tags[Tag.ERROR]

        fillers[0].unlink()
        assert store.perform(SPEC, body).run_id == record.run_id
        assert store.metric_history(record.run_id, "train/loss") == [
            (step, step / 3) for step in range(STEPS)
        ]
        assert store.get(record.run_id).status == "FINISHED"


def test_a_run_whose_journal_cannot_be_made_is_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    copy_fresh_sqlite(tmp_path / "mlflow.db")
    store = connect()

    def full(uri: str, run_id: str) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(tmp_path))

    with monkeypatch.context() as patch:
        patch.setattr("rmer.tracking.lifecycle.opening.Journal", full)
        assert run_command(lambda: store.perform(SPEC, pytest.fail) and 0) == 2
    (record,) = store.search({Tag.CONFIG: SPEC.digest})
    assert record.status == "FAILED"
    assert "no space is left" in record.tags[Tag.ERROR]
    assert store.perform(SPEC, log_steps).run_id == record.run_id


def test_a_store_on_a_full_disk_loses_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with small_disk(tmp_path / "small", "4m") as disk:
        copy_fresh_sqlite(disk / "mlflow.db")
        store = connect(f"sqlite:///{disk}/mlflow.db")
        fillers: list[Path] = []

        def body(run: Run) -> None:
            fillers.append(fill(disk))
            log_steps(run)

        outcome = store.perform(SPEC, body)
        assert outcome.waiting > 0
        assert f"{store.name}: no space is left" in capfd.readouterr().err
        fillers[0].unlink()
        assert store.sync().left == 0
        assert store.metric_history(outcome.run_id, "train/loss") == [
            (step, step / 3) for step in range(STEPS)
        ]
        assert store.get(outcome.run_id).status == "FINISHED"


def test_a_new_store_on_a_full_disk_leaves_nothing_half_made(tmp_path: Path) -> None:
    with small_disk(tmp_path / "small", "300k") as disk:
        with pytest.raises(UserError, match=r"mlflow\.db: no space is left\. Free some"):
            connect(f"sqlite:///{disk}/mlflow.db")
        assert [path.name for path in disk.iterdir() if not path.name.endswith(".lock")] == []


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("store", "STORE: cannot be written (attempt to write a readonly database)."),
        ("home", "HOME: cannot be written (Read-only file system)."),
    ],
)
def test_read_only_places_are_one_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    what: str,
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    with small_disk(tmp_path / "small", "4m") as disk:
        place = disk if what == "store" else tmp_path
        copy_fresh_sqlite(place / "mlflow.db")
        if what == "home":
            monkeypatch.setenv("RMER_HOME", str(disk))
        make_read_only(disk)
        uri = f"sqlite:///{place}/mlflow.db"
        assert run_command(lambda: connect(uri).perform(SPEC, log_steps) and 0) == 2
        (told,) = capfd.readouterr().err.splitlines()
        message = message.replace("STORE", uri)
        message = message.replace("HOME", str(disk / "locks"))
        assert told.startswith(f"rmer: {message} Get the right to write there, or choose another place")


def failing(call: Callable[[], object]) -> BaseException:
    try:
        call()
    except Exception as error:
        return error
    raise AssertionError("nothing failed")


@pytest.mark.parametrize(
    ("error", "what"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "/a/b"), "/a/b: no space is left"),
        (OSError(errno.EDQUOT, "Disk quota exceeded", "/a/b"), "/a/b: no space is left"),
        (OSError("1000 requested and 0 written"), "no space is left"),  # numpy
        (RuntimeError("basic_ios::clear: iostream error"), "no space is left"),  # torch, here and below
        (
            RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 482752 vs 482648"),
            "no space is left",
        ),
        (
            OSError(errno.EROFS, "Read-only file system", "/a"),
            "/a: cannot be written (Read-only file system)",
        ),
        (PermissionError(errno.EACCES, "denied", "/a"), "/a: cannot be written ([Errno 13] denied: '/a')"),
        (OSError(errno.EIO, "Input/output error", "/a"), "/a: cannot be read (Input/output error)"),
        (MemoryError(), "there is not enough memory (MemoryError)"),
        (
            RuntimeError(
                "[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes"
            ),
            "there is not enough memory (can't allocate memory)",
        ),
        (
            torch.OutOfMemoryError("CUDA out of memory. Tried to"),
            "there is not enough memory (out of memory)",
        ),
    ],
)
def test_what_a_machine_lacks(error: BaseException, what: str) -> None:
    lacking = lack(error)
    assert lacking is not None
    assert (f"{lacking.where}: " if lacking.where else "") + lacking.what == what


def test_real_libraries_are_understood(tmp_path: Path) -> None:
    huge = failing(lambda: torch.empty(1 << 60, dtype=torch.uint8))
    vast = failing(lambda: np.empty(1 << 60, dtype=np.uint8))
    absent = failing(lambda: sqlite3.connect(tmp_path / "no" / "such.db"))
    assert [lack(error) is not None for error in (huge, vast, absent)] == [True] * 3


@pytest.mark.parametrize("error", [ValueError("x"), FileNotFoundError(2, "no", "/a"), UserError("no space")])
def test_other_errors_are_not_the_machines(error: BaseException) -> None:
    assert lack(error) is None
