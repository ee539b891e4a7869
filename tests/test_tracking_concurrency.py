"""Many processes that use one fresh store at the same time: all succeed, nothing is lost."""

from __future__ import annotations

from pathlib import Path

import pytest
from servers import mlflow_server, postgresql, start_python

from rmer.tracking import Tag, connect

PROCESSES, STEPS, METRICS = 8, 20, 6

# Forked from one process, so that MLflow is imported once, and all begin at the same time.
WRITERS = f"""
import multiprocessing
from rmer.tracking import RunSpec, connect

def body(run):
    for step in range({STEPS}):
        run.metrics({{f"val/m{{i}}": step + i / 10 for i in range({METRICS})}}, step=step)

def write(number):
    spec = RunSpec("train", f"run {{number}}", {{"number": number}}, {{"rmer.seed": str(number)}})
    connect().perform(spec, body)

context = multiprocessing.get_context("fork")
processes = [context.Process(target=write, args=(number,)) for number in range({PROCESSES})]
for process in processes:
    process.start()
for process in processes:
    process.join()
raise SystemExit(sum(process.exitcode != 0 for process in processes))
"""


@pytest.fixture(params=["sqlite", "postgresql", "server"])
def fresh_store(request: pytest.FixtureRequest, tmp_path: Path):
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'mlflow.db'}"
    elif request.param == "server":
        with mlflow_server(tmp_path / "server") as server:
            yield server.uri
    else:
        with postgresql(tmp_path / "postgresql") as database:
            yield database.uri


@pytest.mark.slow
def test_eight_processes_on_a_fresh_store_lose_nothing(
    fresh_store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    writers = start_python(WRITERS, MLFLOW_TRACKING_URI=fresh_store)
    _, problems = writers.communicate(timeout=120)
    assert writers.returncode == 0, problems

    store = connect(fresh_store)
    records = store.find("train")
    assert sorted(record.tags[Tag.SEED] for record in records) == [str(n) for n in range(PROCESSES)]
    for record in records:
        assert record.params == {"cfg.number": record.tags[Tag.SEED]}
        for metric in range(METRICS):
            expected = [(step, step + metric / 10) for step in range(STEPS)]
            assert store.metric_history(record.run_id, f"val/m{metric}") == expected
