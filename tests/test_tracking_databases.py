"""New databases are made whole or not at all; one that cannot be used is named, with the mend."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import mlflow
import pytest
from servers import copy_fresh_sqlite, postgresql

from rmer.errors import UserError
from rmer.tracking.databases import UNFINISHED, prepared
from rmer.tracking.locations import sqlite_uri
from rmer.tracking.setup import initialise, tame_mlflow

KILLS = 24


def make(uri: str) -> int:
    """Make a store in a process of its own; return the process's id."""
    child = os.fork()
    if child == 0:
        try:
            tame_mlflow()
            initialise(uri)
        finally:
            os._exit(0 if sys.exc_info()[0] is None else 1)
    return child


def killed(uri: str, after: float) -> None:
    """Make a store in a process that is killed after some seconds, unless it is done by then."""
    child = make(uri)
    time.sleep(after)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)


def seconds_to_make(uri: str) -> float:
    began = time.monotonic()
    assert os.waitpid(make(uri), 0)[1] == 0
    return time.monotonic() - began


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.slow
def test_making_a_store_killed_at_random_moments_leaves_none_or_a_whole_one(tmp_path: Path) -> None:
    whole = seconds_to_make(sqlite_uri(tmp_path / "undisturbed" / "mlflow.db"))
    moments, folder = random.Random(9), tmp_path / "killed"
    file, done, left = folder / "mlflow.db", 0, 0
    for _ in range(KILLS):
        killed(sqlite_uri(file), moments.uniform(0, whole))
        left += len(list(folder.glob(f"*{UNFINISHED}")))
        if file.exists():
            done += 1
            assert os.waitpid(make(sqlite_uri(file)), 0)[1] == 0  # it can be used
            file.unlink()
    assert left > 0  # some were killed at work
    assert done < KILLS
    assert os.waitpid(make(sqlite_uri(file)), 0)[1] == 0
    assert names(folder) == ["mlflow.db"]
    assert [found.name for found in initialise(sqlite_uri(file)).search_experiments()] == ["Default"]


@pytest.mark.slow
def test_postgresql_killed_while_it_is_made_is_made_by_the_next(tmp_path: Path) -> None:
    moments = random.Random(9)
    with postgresql(tmp_path / "postgresql") as database:
        for _ in range(6):
            killed(database.uri, moments.uniform(0.2, 2.0))
        assert os.waitpid(make(database.uri), 0)[1] == 0
        assert [found.name for found in initialise(database.uri).search_experiments()] == ["Default"]


def test_what_a_killed_maker_left_is_cleared_away(tmp_path: Path) -> None:
    (tmp_path / f".mlflow.db.abc{UNFINISHED}").mkdir()
    (tmp_path / f".mlflow.db.abc{UNFINISHED}" / "mlflow.db-journal").write_text("half")
    (tmp_path / f".other.db.abc{UNFINISHED}").mkdir()
    (tmp_path / "mlflow.db").touch()  # sqlite makes an empty file when it opens one
    client = initialise(sqlite_uri(tmp_path / "mlflow.db"))
    assert names(tmp_path) == [f".other.db.abc{UNFINISHED}", "mlflow.db"]
    (default,) = client.search_experiments()
    assert default.artifact_location == str(tmp_path / "mlruns" / "0")


def half_built(file: Path) -> None:
    with closing(sqlite3.connect(file)) as database:
        database.execute("CREATE TABLE runs (run_uuid TEXT)")
        database.execute("CREATE TABLE experiments (experiment_id INTEGER)")


def of_revision(revision: str) -> Callable[[Path], None]:
    def make_store(file: Path) -> None:
        copy_fresh_sqlite(file)
        with closing(sqlite3.connect(file)) as database, database:
            database.execute("UPDATE alembic_version SET version_num = ?", [revision])

    return make_store


def foreign(file: Path) -> None:
    with closing(sqlite3.connect(file)) as database:
        database.execute("CREATE TABLE recipes (title TEXT)")


OLD = "5b0e9adcef9c"


@pytest.mark.parametrize(
    ("make_file", "message"),
    [
        (
            half_built,
            "URI: somebody was interrupted while making this store; it holds no runs and cannot be "
            "completed. Delete FILE and try again",
        ),
        (
            of_revision(OLD),
            f"URI: the store was made by an older MLflow than {mlflow.__version__} (schema {OLD}). "
            "While nothing uses it: `cp FILE FILE.new && mlflow db upgrade URI.new && mv FILE.new FILE`",
        ),
        (
            of_revision("ffffffffffff"),
            f"URI: the store was made by a newer MLflow than {mlflow.__version__} (schema ffffffffffff). "
            "Install that version of MLflow, or newer",
        ),
        (foreign, "URI: the database belongs to another program (tables recipes). Name another database"),
        (
            lambda file: file.write_text("some text" * 1000),
            "URI: cannot be read (file is not a database). "
            "Bring it back from a backup, or name another place",
        ),
        (
            lambda file: file.with_name("mlflow.db-journal").write_text("of a database that was deleted"),
            "FILE-journal: the journal of a database that is gone lies there. "
            "Bring the database back, or move the journal away",
        ),
        (
            lambda file: file.mkdir(),
            "URI: cannot be written (unable to open database file). "
            "Get the right to write there, or choose another place (RMER_HOME is HOME)",
        ),
    ],
)
def test_a_file_that_is_no_whole_store_is_named_and_left_as_it_is(
    tmp_path: Path, isolated_home: Path, make_file: Callable[[Path], object], message: str
) -> None:
    file = tmp_path / "mlflow.db"
    make_file(file)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    with pytest.raises(UserError) as caught:
        initialise(sqlite_uri(file))
    message = message.replace("URI", sqlite_uri(file)).replace("FILE", str(file))
    assert str(caught.value) == message.replace("is HOME", f"is {isolated_home}")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()} == before


def test_a_blank_in_the_folder_makes_no_second_folder(tmp_path: Path) -> None:
    (tmp_path / "my runs").mkdir()
    copy_fresh_sqlite(tmp_path / "my runs" / "mlflow.db")
    with prepared(sqlite_uri(tmp_path / "my runs" / "mlflow.db")):
        pass
    initialise(sqlite_uri(tmp_path / "my runs" / "mlflow.db"))
    assert names(tmp_path) == ["my runs"]
