"""Engines: the same jobs in process, on worker processes and on Ray; deaths, failures, interruptions."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import threading
import time
from collections.abc import Iterator
from multiprocessing import forkserver
from pathlib import Path
from typing import Any

import psutil
import pytest
from conftest import ROOT
from light_jobs import STEPS, light
from servers import copy_fresh_sqlite, free_port, start_python, wait_for

from rmer.data.preparation.survey import Survey
from rmer.data.readers.collection import Collected
from rmer.data.readers.soundtracks import Soundtracks
from rmer.errors import UserError
from rmer.execution.engine_params import EngineParams
from rmer.execution.jobs import Failure, Job
from rmer.execution.scheduler import JobsFailed, run_jobs, visible_gpus, worker_gpus
from rmer.stages.analysis.analyze import Analysis
from rmer.stages.data import data_params
from rmer.stages.data.demo_data import DemoParams, make_demo_data
from rmer.stages.data.preprocess import PreprocessParams, preprocess
from rmer.stages.study import study
from rmer.stages.study.grid import GridParams, read_grid
from rmer.stages.study.plan import StudyParams, make_plan
from rmer.stages.study.sweep import SweepParams, run_sweep
from rmer.tracking import Outcome, RunRecord, RunSpec, Stage, Store, Tag, connect

SERIAL = EngineParams()


def run(store: Store, jobs: list[Job], params: EngineParams = SERIAL) -> tuple[dict[str, str], list[Failure]]:
    return run_jobs(store, jobs, params, owner="owner", title="test")


def assert_each_step_is_logged_once(store: Store, record: RunRecord) -> None:
    history = store.metric_history(record.run_id, "val/step")
    assert history == [(step, float(step)) for step in range(1, STEPS + 1)]


def test_a_job_gets_the_run_id_of_the_one_that_it_needs(store: Store) -> None:
    done, failures = run(store, [light(2, needs="job 1"), light(1)])
    assert failures == []
    assert store.get(done["job 2"]).params["cfg.before"] == done["job 1"]


@pytest.mark.parametrize(
    ("params", "order"),
    [(EngineParams(engine="local", jobs_at_once=1), [5, 4, 1, 2, 3, 6]), (SERIAL, [1, 2, 3, 4, 5, 6])],
)
def test_workers_take_the_longest_job_first(params: EngineParams, order: list[int], store: Store) -> None:
    jobs = [light(number) for number in range(1, 6)] + [light(6, needs="job 5")]
    planned = {job.name: 1.0 for job in jobs} | {"job 5": 9.0, "job 4": 5.0}
    done, _ = run_jobs(store, jobs, params, owner="owner", title="test", planned=planned)
    begun = sorted(done, key=lambda name: store.get(done[name]).start_time)
    assert begun == [f"job {number}" for number in order]


def test_failures_of_a_study_are_told_where_the_rest_cannot_be_analysed(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unalike(*_: object) -> Analysis:
        raise UserError("the attack runs found are not alike")

    done = {"A2E s6 | pgd": "id"}, [Failure("A2E s21", "it diverged")]
    monkeypatch.setattr(study, "run_jobs", lambda *_, **__: done)
    monkeypatch.setattr(study, "_analyze", unalike)
    plan = make_plan(StudyParams(systems="A2E", attacks="pgd"))
    spec = RunSpec(Stage.STUDY, "study", {"systems": "A2E"})
    with pytest.raises(JobsFailed, match="1 of 4 jobs failed"):
        store.perform(
            spec, lambda run: study._body(run, store, plan, EngineParams(), lambda: Outcome("data"), dict, "")
        )


def test_a_study_reads_its_data_once_and_tells_all_problems_together(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_demo_data(DemoParams(out_dir=str(tmp_path / "data"), clips=6, seconds=1.0))
    next(folder.rglob("001.*")).unlink()
    collected, surveyed = [], []

    read = Soundtracks.__call__

    def counted(reader: Soundtracks, folder: Path) -> Collected:
        collected.append(read(reader, folder))
        return collected[-1]

    def surveying(found: Collected, *_: object, **__: object) -> Survey:
        surveyed.append(found)
        raise UserError("surveyed")

    monkeypatch.setattr(Soundtracks, "__call__", counted)
    monkeypatch.setattr(data_params, "survey", surveying)
    with pytest.raises(UserError, match="surveyed"):
        study.run_study(store, make_plan(StudyParams(soundtracks_dir=str(folder))), folder)
    assert len(collected) == 1
    assert surveyed == collected
    assert surveyed[0].problems, "the missing clip is told with what decoding finds"


def test_what_is_done_is_not_done_again(store: Store, tmp_path: Path) -> None:
    jobs = [light(number, folder=tmp_path) for number in range(3)]
    first, _ = run(store, jobs)
    again, _ = run(store, jobs)
    assert first == again
    assert (tmp_path / "1").read_text().count("\n") == 1


def test_failures_stop_neither_others_nor_hide_where_they_are(store: Store) -> None:
    jobs = [light(1, "refuse"), light(2, "err"), light(3), light(4, needs="job 1"), light(5, needs="job 3")]
    done, failures = run(store, jobs)
    assert sorted(done) == ["job 3", "job 5"]
    refused, erred = failures
    assert (refused.name, refused.reason, refused.traceback) == ("job 1", "job: will not. Ask another", "")
    assert erred.reason == "ZeroDivisionError: a bug"
    assert "light_jobs.py" in erred.traceback
    for failure in failures:
        record = store.get(failure.run.removeprefix("run "))
        assert record.status == "FAILED"
        assert record.tags[Tag.JOB] == f"owner {failure.name}"
    error = JobsFailed(failures, len(jobs), len(done))
    assert error.exit_code == 1
    head, *lines = str(error).splitlines()
    assert head.startswith("2 of 5 jobs failed, and 1 need them")
    assert lines[0] == f"  - job 1: {refused.reason} ({refused.run})"


@pytest.mark.parametrize(
    ("params", "most", "gpus", "expected"),
    [
        ({"jobs_at_once": 3}, 3, [], ["", "", ""]),
        ({"jobs_at_once": 3, "job_cpus": 10**3}, 3, [], [""]),
        ({}, 5, ["0", "1"], ["0", "1"]),
        ({"job_gpus": 0.5}, 9, ["0", "1"], ["0", "1", "0", "1"]),
        ({"job_gpus": 0.3}, 2, ["4"], ["4", "4"]),
        ({"job_gpus": 2}, 9, ["0", "1", "2", "3", "4"], ["0,1", "2,3"]),
        ({"job_gpus": 0, "jobs_at_once": 2}, 2, ["0"], ["", ""]),
    ],
)
def test_local_workers_share_gpus(
    params: dict[str, Any], most: int, gpus: list[str], expected: list[str]
) -> None:
    assert worker_gpus(EngineParams(engine="local", **params), most, gpus) == expected


def test_only_visible_gpus_are_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    assert visible_gpus() == ["0", "1"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,7")
    assert visible_gpus() == ["5", "7"]


def test_more_gpus_than_there_are() -> None:
    with pytest.raises(UserError, match="there are 1 GPUs here"):
        worker_gpus(EngineParams(engine="local", job_gpus=2), 1, ["0"])


@pytest.mark.parametrize("address", ["127.0.0.1:{port}", "nonsense"])
def test_a_ray_cluster_that_does_not_answer(store: Store, address: str) -> None:
    pytest.importorskip("ray")
    params = EngineParams(engine="ray", ray_address=address.format(port=free_port()))
    with pytest.raises(UserError, match="no Ray cluster answers"):
        run(store, [light(1)], params)


def test_a_grid_is_every_combination_once() -> None:
    grid = read_grid(
        GridParams(
            train="[{system: [A2E, A2M2E], seed: 6, lr: [5e-4, 1e-3]}, {system: A2E, seed: 6}]",
            attack="[{attack: pgd, epsilon: [.01, .02], steps: 3}, {attack: published}]",
            study="mine",
        )
    )
    assert list(grid.models) == [
        f"{system} s6 lr={lr}" for system in ("A2E", "A2M2E") for lr in (0.0005, 0.001)
    ]
    assert list(grid.attacks) == ["pgd epsilon=0.01 steps=3", "pgd epsilon=0.02 steps=3", "published"]
    assert {params.study for params in [*grid.models.values(), *grid.attacks.values()]} == {"mine"}
    assert grid.models["A2M2E s6 lr=0.0005"].lr == 5e-4


def test_a_grid_file_is_read_and_overridden(tmp_path: Path) -> None:
    file = tmp_path / "grid.yaml"
    file.write_text("train: {seed: [6, 21]}\nattack: {attack: pgd}\n")
    grid = read_grid(GridParams(grid=str(file), attack="{attack: bridge}"))
    assert (list(grid.models), list(grid.attacks)) == (["A2M2E s6", "A2M2E s21"], ["bridge"])


@pytest.mark.slow
def test_a_worker_that_dies_costs_its_own_job_one_try(store: Store, tmp_path: Path) -> None:
    jobs = [light(1, "die once", tmp_path), light(2, "die", tmp_path), *(light(n) for n in range(3, 7))]
    done, (failure,) = run(store, jobs, EngineParams(engine="local", jobs_at_once=2, retries=1))
    assert sorted(done) == ["job 1", *(f"job {n}" for n in range(3, 7))]
    assert failure.reason.startswith("its worker died 2 times")
    assert [len((tmp_path / name).read_text().split()) for name in "12"] == [2, 2]
    records = store.search({Tag.STAGE: Stage.TRAIN})
    assert sorted(record.status for record in records) == ["FINISHED"] * 5 + ["KILLED"]
    for record in records:
        if record.status == "FINISHED":
            assert_each_step_is_logged_once(store, record)


def test_workers_are_had_after_an_interruption_while_one_was_asked_for(store: Store) -> None:
    forkserver.ensure_running()
    with socket.socket(socket.AF_UNIX) as asking:
        asking.connect(forkserver._forkserver._forkserver_address)
    done, failures = run(store, [light(1), light(2)], EngineParams(engine="local", jobs_at_once=1))
    assert (sorted(done), failures) == (["job 1", "job 2"], [])


def kill_when_marked(mark: Path, number: int) -> threading.Thread:
    """Send a signal to this process as soon as a job has left its mark."""

    def kill() -> None:
        wait_for(mark.exists, "no job began")
        os.kill(os.getpid(), number)

    thread = threading.Thread(target=kill)
    thread.start()
    return thread


def finish_alone(store: Store, mark: Path, jobs: list[Job]) -> None:
    """Check that the worker is gone and no run left open; then do the rest, each thing once."""
    worker = int(mark.read_text().split()[0])
    wait_for(lambda: not psutil.pid_exists(worker), "the worker lives on")
    (record,) = store.search({Tag.STAGE: Stage.TRAIN})
    assert record.status == "KILLED"
    done, failures = run(store, jobs)
    assert failures == []
    assert done["job 1"] == record.run_id
    records = store.search({Tag.STAGE: Stage.TRAIN})
    assert [record.status for record in records] == ["FINISHED"] * len(jobs)
    for record in records:
        assert_each_step_is_logged_once(store, record)


@pytest.mark.slow
def test_an_interruption_closes_runs_and_the_same_call_goes_on(store: Store, tmp_path: Path) -> None:
    jobs = [light(1, "wait once", tmp_path), light(2)]
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # test processes of xdist ignore it
    try:
        thread = kill_when_marked(tmp_path / "1", signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            run(store, jobs, EngineParams(engine="local", jobs_at_once=1))
        thread.join()
    finally:
        signal.signal(signal.SIGINT, before)
    finish_alone(store, tmp_path / "1", jobs)


@pytest.mark.slow
def test_workers_end_with_the_process_that_started_them(store: Store, tmp_path: Path) -> None:
    code = f"""
import sys
sys.path.insert(0, {str(ROOT / "tests")!r})
from pathlib import Path
from light_jobs import light
from rmer.execution.engine_params import EngineParams
from rmer.execution.scheduler import run_jobs
from rmer.tracking import connect
jobs = [light(1, "wait once", Path({str(tmp_path)!r})), light(2)]
run_jobs(connect({store.uri!r}), jobs, EngineParams(engine="local", jobs_at_once=1), owner="x", title="x")
"""
    process = start_python(code)
    wait_for((tmp_path / "1").exists, "no job began")
    process.send_signal(signal.SIGKILL)
    process.communicate()
    finish_alone(store, tmp_path / "1", [light(1, "wait once", tmp_path), light(2)])


@pytest.fixture
def ray_of_two_nodes(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Address of a Ray cluster of two nodes, one core each, on this machine."""
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    cluster_utils = pytest.importorskip("ray.cluster_utils")
    cluster = cluster_utils.Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    cluster.add_node(num_cpus=1)
    yield cluster.address
    cluster.shutdown()


TRAINING = "{system: A2M2E, epochs: 6, device: cpu}"
ATTACK = "{attack: published, max_iters: 2, device: cpu}"


def sweep(uri: str, **engine: Any) -> Store:
    """Train a model and attack it with one thread a job; return the store."""
    store = connect(uri)
    params = SweepParams(train=TRAINING, attack=ATTACK, job_cpus=1, **engine)
    run_sweep(store, read_grid(params), params)
    return store


def results(store: Store) -> dict[str, dict[str, str]]:
    """Return what train and attack runs found, by configuration."""
    records = [*store.find(Stage.TRAIN), *store.find(Stage.ATTACK)]
    return {
        record.tags[Tag.CONFIG]: {
            name: repr(value) for name, value in record.metrics.items() if "seconds" not in name
        }
        for record in records
    }


def kill_a_worker(store: Store, killed: list[int]) -> None:
    """Kill -9 the first process other than this one that trains."""
    end = time.monotonic() + 60
    while not killed and time.monotonic() < end:
        for record in store.search({Tag.STAGE: Stage.TRAIN}, status="RUNNING"):
            if "train/loss" in record.metrics:
                os.kill(int(record.tags[Tag.PID]), signal.SIGKILL)
                killed.append(int(record.tags[Tag.PID]))
                return
        time.sleep(0.05)


@pytest.mark.slow
def test_results_are_the_same_on_every_engine_even_where_a_worker_is_killed(
    tmp_path: Path, ray_of_two_nodes: str
) -> None:
    copy_fresh_sqlite(tmp_path / "mlflow.db")
    data = make_demo_data(DemoParams(out_dir=str(tmp_path / "data"), clips=16, seconds=3.0))
    prepared = PreprocessParams(soundtracks_dir=str(data), frames=40, workers=1)
    preprocess(connect(f"sqlite:///{tmp_path / 'mlflow.db'}"), prepared)
    uris = {name: f"sqlite:///{tmp_path / name}.db" for name in ("serial", "local", "ray")}
    for name in uris:
        shutil.copyfile(tmp_path / "mlflow.db", tmp_path / f"{name}.db")

    expected = results(sweep(uris["serial"]))
    assert len(expected) == 2
    assert results(sweep(uris["local"], engine="local")) == expected
    killed: list[int] = []
    killer = threading.Thread(target=kill_a_worker, args=(connect(uris["ray"]), killed))
    killer.start()
    store = sweep(uris["ray"], engine="ray", ray_address=ray_of_two_nodes)
    killer.join()
    assert killed
    assert results(store) == expected
    statuses = [record.status for record in store.search({})]
    assert statuses == ["FINISHED"] * 4, "preprocess, train, attack, sweep"
    (trained,) = store.find(Stage.TRAIN)
    assert [step for step, _ in store.metric_history(trained.run_id, "train/loss")] == [1, 2, 3, 4, 5, 6]
