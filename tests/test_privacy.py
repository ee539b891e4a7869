"""What rmer keeps on disk is for its owner alone."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from rmer.execution.jobs import Job, Site, do_quietly
from rmer.parameters import Parameters
from rmer.tracking import Run, RunSpec, Store, connect
from rmer.tracking.delivery.journal import Journal
from rmer.tracking.delivery.operations import Beat
from rmer.tracking.private import keep_private, private_folder


@pytest.fixture(autouse=True)
def open_umask() -> object:
    before = os.umask(0)
    yield
    os.umask(before)


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.chdir(tmp_path)
    return connect()


def test_a_store_and_what_lies_in_rmer_home(store: Store, tmp_path: Path, isolated_home: Path) -> None:
    seen: dict[str, int] = {}

    def body(run: Run) -> None:
        run.metrics({"a": 1.0})
        (run.work_dir / "last.pt").write_text("weights")
        run.text("x", "a.txt")
        seen.update(modes(isolated_home))

    store.perform(RunSpec("train", "a", {}), body)
    journal = Journal("http://127.0.0.1:1", "run")
    journal.refuse(Beat(), "no")
    seen.update(modes(isolated_home))
    journal.close()
    assert mode(tmp_path / "mlflow.db") == 0o600
    folders = {name: found for name, found in seen.items() if name.endswith("/")}
    assert {name.split("/")[0] for name in folders} == {"", "locks", "spool", "work"}
    own = {
        name: found for name, found in folders.items() if "/files/0" not in name
    }  # closed by what is above
    assert set(own.values()) == {0o700}, own
    values = {name: found for name, found in seen.items() if name.endswith(".jsonl")}
    assert {name.rpartition("/")[2] for name in values} == {"operations.jsonl", "refused.jsonl"}
    assert set(values.values()) == {0o600}, values


def test_folders_and_stores_of_older_versions_are_closed(isolated_home: Path) -> None:
    (isolated_home / "spool").mkdir(parents=True, mode=0o755)
    assert private_folder("spool") == isolated_home / "spool"
    assert mode(isolated_home) == mode(isolated_home / "spool") == 0o700


@pytest.mark.parametrize(("name", "left"), [("mlflow.db", 0o600), ("shared.db", 0o664)])
def test_of_existing_stores_the_default_one_is_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, left: int
) -> None:
    monkeypatch.chdir(tmp_path)
    connect(f"sqlite:///{name}")
    (tmp_path / name).chmod(0o664)
    connect(f"sqlite:///{name}")
    assert mode(tmp_path / name) == left


def test_folders_that_are_not_ours_to_close(tmp_path: Path) -> None:
    (tmp_path / "tmp").mkdir()
    (tmp_path / "tmp").chmod(0o1777)
    keep_private(tmp_path / "tmp")
    assert mode(tmp_path / "tmp") == 0o1777


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give a folder away")
def test_folders_of_others_are_left_as_they_are(tmp_path: Path) -> None:
    (tmp_path / "theirs").mkdir(mode=0o755)
    os.chown(tmp_path / "theirs", 65534, 65534)
    keep_private(tmp_path / "theirs")
    assert mode(tmp_path / "theirs") == 0o755


def test_logs_of_workers(isolated_home: Path) -> None:
    site = Site(uri="nonsense://", experiment="rmer", owner="study")
    do_quietly(Job("A2E s6", lambda store, params: "id", Parameters()), site)
    assert mode(isolated_home / "logs" / "study") == 0o700
    assert mode(site.log_file("A2E s6")) == 0o600


def modes(folder: Path) -> dict[str, int]:
    """Return the modes of a folder and all below, by relative path; folders end in a slash."""
    paths = [folder, *folder.rglob("*")]
    names = ["" if path == folder else str(path.relative_to(folder)) for path in paths]
    return {
        f"{name}/" if path.is_dir() else name: mode(path) for name, path in zip(names, paths, strict=True)
    }


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)
