"""The drill on a small scale: after kills, faults and full disks everything is there, once.

``python tests/drill.py`` does it as often as one likes, and prints a table.
"""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from census import Census, Differences, compare, store_problems, take_census
from drill import (
    Peace,
    Tally,
    drill_creation,
    drill_full_disk,
    drill_proxy,
    drill_spool,
    drill_stages,
    study_in_peace,
)
from faulty_proxy import Fault, FaultyProxy
from servers import new_store

from rmer.tracking import Run, RunSpec

SEED = 20261126
# Seconds; a busy machine takes several times as long as an idle one.
PATIENCE = 1800


@pytest.fixture(scope="module")
def peace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Peace]:
    """The study, undisturbed."""
    return study_in_peace(tmp_path_factory.mktemp("drill") / "peace")


@pytest.fixture
def draw(request: pytest.FixtureRequest) -> random.Random:
    return random.Random(f"{SEED} {request.node.name}")


def assert_all_there(tally: Tally) -> None:
    assert str(tally.differences) == ""


@pytest.mark.slow
@pytest.mark.timeout(PATIENCE)
def test_a_new_store_is_whole_whenever_its_maker_is_killed(tmp_path: Path, draw: random.Random) -> None:
    tally = drill_creation(tmp_path, 3, draw)
    assert tally.kills > 0
    assert_all_there(tally)


@pytest.mark.slow
@pytest.mark.timeout(PATIENCE)
def test_kills_in_every_stage_lose_double_and_break_nothing(
    tmp_path: Path, peace: Peace, draw: random.Random
) -> None:
    tallies = drill_stages(tmp_path / "drill", peace, 1, draw)
    assert sum(tally.kills for tally in tallies.values()) > 0
    for tally in tallies.values():
        assert_all_there(tally)


@pytest.mark.slow
@pytest.mark.timeout(PATIENCE)
@pytest.mark.parametrize("drill", [drill_proxy, drill_spool])
def test_a_faulty_server_and_kills_lose_double_and_break_nothing(
    drill: Callable[..., Tally], tmp_path: Path, peace: Peace, draw: random.Random
) -> None:
    tally = drill(tmp_path, peace, 1, draw)
    assert tally.faults > 0
    assert_all_there(tally)


@pytest.mark.slow
@pytest.mark.timeout(PATIENCE)
def test_a_full_disk_loses_doubles_and_breaks_nothing(
    tmp_path: Path, peace: Peace, draw: random.Random
) -> None:
    tally = drill_full_disk(tmp_path / "small", peace, 2, draw)
    assert tally.faults > 0
    assert_all_there(tally)


def log_something(run: Run) -> None:
    run.metrics({"test/mae": 0.5}, step=1)
    run.metrics({"test/mae": 0.25}, step=2)
    run.text("a,b\n", "tables/a.csv")


def censused(folder: Path) -> tuple[Path, Census]:
    """Make a store with a run; return its file and what it holds."""
    store = new_store(folder)
    store.perform(RunSpec("train", "A2E s6", {"lr": 0.5}), log_something)
    return folder / "mlflow.db", take_census(store.uri, folder / "mlflow.db")


DELETE = "DELETE FROM metrics WHERE step = 1"
AGAIN = (
    "INSERT INTO metrics SELECT key, value, timestamp + 1, run_uuid, step, is_nan FROM metrics WHERE step = 2"
)


@pytest.mark.parametrize(
    ("harm", "expected"),
    [
        (DELETE, "lost: NAME: points Point(metric='test/mae', step=1, value=0.5, model='')"),
        (AGAIN, "doubled: NAME: points Point(metric='test/mae', step=2, value=0.25, model='') 2 times"),
        (
            "UPDATE metrics SET value = 0.75 WHERE step = 1",
            "lost: NAME: points Point(metric='test/mae', step=1, value=0.5, model='')\n"
            "broken: NAME: points Point(metric='test/mae', step=1, value=0.75, model='')",
        ),
        ("UPDATE runs SET status = 'RUNNING'", "broken: NAME: RUNNING instead of FINISHED"),
        ("DELETE FROM params", "lost: NAME: values param cfg.lr"),
        (
            "UPDATE tags SET value = 'analyze' WHERE key = 'rmer.stage'",
            "lost: run NAME\ndoubled: run analyze | A2E s6 | : 1 (FINISHED)",
        ),
    ],
)
def test_the_census_sees_what_is_lost_doubled_or_broken(tmp_path: Path, harm: str, expected: str) -> None:
    database, before = censused(tmp_path)
    with closing(sqlite3.connect(database)) as connection:
        connection.execute(harm)
        connection.commit()
    found = compare(take_census(f"sqlite:///{database}", database), before)
    assert str(found) == expected.replace("NAME", "train | A2E s6 | ")
    assert store_problems(database) == []


def test_the_census_sees_files_that_are_gone_or_other(tmp_path: Path) -> None:
    database, before = censused(tmp_path)
    (table,) = (tmp_path / "mlruns").rglob("a.csv")
    table.write_text("a,c\n")
    (line,) = compare(take_census(f"sqlite:///{database}", database), before).broken
    assert line.startswith("train | A2E s6 | : files tables/a.csv: ")
    table.unlink()
    found = compare(take_census(f"sqlite:///{database}", database), before)
    assert found == Differences(lost=["train | A2E s6 | : files tables/a.csv"])


def test_what_the_proxy_harms_is_drawn_by_its_seed() -> None:
    def chosen(seed: int) -> list[str]:
        proxy = FaultyProxy("http://127.0.0.1:1", [Fault("drop", path="runs", share=0.5, times=5)], seed)
        try:
            for number in range(40):
                proxy.choose("POST", "/runs/create" if number % 2 else "/health")
            return [call.fault for call in proxy.calls]
        finally:
            proxy.close()

    assert chosen(1) == chosen(1) != chosen(2)
    assert set(chosen(1)[::2]) == {""}
    assert chosen(1).count("drop") == 5
