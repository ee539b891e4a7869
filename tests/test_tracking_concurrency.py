"""Many processes that use one fresh store at the same time: all succeed, nothing is lost."""

from __future__ import annotations

from pathlib import Path

import pytest
from servers import postgresql, start_python

from rmer.tracking import Tag, connect

PROCESSES, STEPS, METRICS = 8, 20, 6

WORKER = f"""
import os
from rmer.tracking import RunSpec, connect

def body(run):
    for step in range({STEPS}):
        run.metrics({{f"val/m{{i}}": step + i / 10 for i in range({METRICS})}}, step=step)

number = os.environ["NUMBER"]
spec = RunSpec("train", f"run {{number}}", {{"number": int(number)}}, {{"rmer.seed": number}})
connect().perform(spec, body)
"""


@pytest.fixture(params=["sqlite", "postgresql"])
def fresh_store(request: pytest.FixtureRequest, tmp_path: Path):
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'mlflow.db'}"
    else:
        with postgresql(tmp_path / "postgresql") as database:
            yield database.uri


@pytest.mark.slow
def test_eight_processes_on_a_fresh_store_lose_nothing(
    fresh_store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    workers = [
        start_python(WORKER, MLFLOW_TRACKING_URI=fresh_store, NUMBER=str(number))
        for number in range(PROCESSES)
    ]
    endings = [(worker.communicate(timeout=120)[1], worker.returncode) for worker in workers]
    assert [code for _, code in endings] == [0] * PROCESSES, [text for text, _ in endings]

    store = connect(fresh_store)
    records = store.find("train")
    assert sorted(record.tags[Tag.SEED] for record in records) == [str(n) for n in range(PROCESSES)]
    for record in records:
        assert record.params == {"cfg.number": record.tags[Tag.SEED]}
        for metric in range(METRICS):
            expected = [(step, step + metric / 10) for step in range(STEPS)]
            assert store.metric_history(record.run_id, f"val/m{metric}") == expected
