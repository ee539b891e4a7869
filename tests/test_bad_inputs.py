"""The table of bad inputs: each is refused with its whole message and exit code 2, and leaves nothing behind.

The rows are in ``bad_inputs/*.yaml``: ``row`` (its name), ``run`` (the command line), ``says`` (the message
after ``rmer: ``) and, where needed, ``files`` (see ``bad_input_files.make_files``), ``env`` (variables) and
``opens`` (true where the problem shows only in a run, which then is FAILED with the message).

In all of them ``{here}`` is the folder that the command runs in, ``{store}`` the tracking store,
``{empty}`` an empty one, ``{dataset_run}`` and ``{train_run}`` runs of the first, ``{shared}`` its
folder, ``{home}`` RMER_HOME, and ``{x*9000}`` 9000 signs x.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from bad_input_files import Shared, make_files, make_shared, repeated
from click.testing import CliRunner, Result
from conftest import ROOT

from entrypoints.cli import COMMANDS, main
from rmer.tracking import Tag

TABLES = sorted((ROOT / "tests" / "bad_inputs").glob("*.yaml"))
ROWS: dict[str, dict[str, Any]] = {
    f"{table.stem}: {row['row']}": row for table in TABLES for row in yaml.safe_load(table.read_text("utf-8"))
}
SAMPLE = 6


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Shared:
    return make_shared(tmp_path_factory.mktemp("shared"))


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shared: Shared) -> Path:
    """The folder that the command runs in, and the environment that it sees."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", shared.store.uri)
    monkeypatch.setenv("RMER_WAIT_SECONDS", "0")
    return folder


def filled(text: str, here: Path, shared: Shared) -> str:
    known = {"here": here, "home": here.parent / "rmer-home", "shared": shared.audio.parent}
    known |= {"store": shared.store.name, "empty": shared.empty.name}
    known |= {"dataset_run": shared.dataset_run, "train_run": shared.train_run}
    for name, value in known.items():
        text = text.replace(f"{{{name}}}", str(value))
    return repeated(text)


def tree(folder: Path) -> list[tuple[str, int]]:
    """Return every file below a folder, with its size."""
    return sorted((str(path), path.lstat().st_size) for path in folder.rglob("*"))


def test_the_table_covers_every_command_and_has_at_least_400_rows() -> None:
    assert len(ROWS) >= 400
    called = {shlex.split(row["run"])[0] for row in ROWS.values() if row["run"]}
    assert set(COMMANDS) <= called


@pytest.mark.timeout(60, func_only=True)
@pytest.mark.parametrize("name", ROWS)
def test_a_bad_input_is_refused(name: str, here: Path, shared: Shared) -> None:
    row = ROWS[name]
    make_files(row.get("files", {}), shared)
    environment, arguments = call_of(row, here, shared)
    before, known = tree(here), set(run_statuses(shared))

    result = CliRunner().invoke(main, arguments, env=environment)

    assert said(result) == f"rmer: {filled(row['says'], here, shared)}".strip()
    assert result.exit_code == 2
    assert tree(here) == before, "nothing is left behind"
    opened = {run: how for run, how in run_statuses(shared).items() if run not in known}
    assert len(opened) == int(row.get("opens", False))
    for status, error in opened.values():
        assert status == "FAILED"
        assert said(result).startswith(f"rmer: {error[:100]}")


def call_of(row: dict[str, Any], here: Path, shared: Shared) -> tuple[dict[str, str], list[str]]:
    """Return the environment variables and the arguments of a row's command."""
    environment = {name: filled(value, here, shared) for name, value in row.get("env", {}).items()}
    return environment, [filled(part, here, shared) for part in shlex.split(row["run"])]


def said(result: Result) -> str:
    """Return the message of a command, or what ``validate`` lists as problems."""
    if "rmer: " not in result.stderr:
        head = result.stdout.rfind("\n", 0, result.stdout.rfind(" problem"))
        return f"rmer: {result.stdout[head:].strip()}"
    return result.stderr[result.stderr.find("rmer: ") :].strip()


def run_statuses(shared: Shared) -> dict[str, tuple[str, str]]:
    """Return run id -> status and error of all runs of the store."""
    store = shared.store
    records = store.search({})
    return {record.run_id: (record.status, record.tags.get(Tag.ERROR, "")) for record in records}


@pytest.mark.parametrize("name", list(ROWS)[:: max(len(ROWS) // SAMPLE, 1)])
def test_a_process_of_its_own_says_the_same(name: str, here: Path, shared: Shared) -> None:
    row = ROWS[name]
    make_files(row.get("files", {}), shared)
    environment, arguments = call_of(row, here, shared)
    done = subprocess.run(
        [sys.executable, "-m", "entrypoints.cli", *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.stderr.strip() == f"rmer: {filled(row['says'], here, shared)}".strip()
    assert done.returncode == 2
