"""What the engines of studies and sweeps cost a job, and how throughput grows with workers.

Start-up is left out: the clock runs from the moment at which every worker has begun its first job.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec

import pandas as pd
import torch
from matplotlib.figure import Figure

from benchmarks.measuring import Result, Row, Settings, Target, silence
from benchmarks.stores import scratch_store
from rmer.execution.engine_params import EngineParams
from rmer.execution.jobs import Job
from rmer.execution.scheduler import run_jobs
from rmer.parameters import Parameters, param
from rmer.report.style import GREY, HIGHLIGHT, styled
from rmer.tracking import RunSpec, Store

SIDE = 512
JOBS, PRODUCTS = 12, 200
WORKERS = (1, 2)
LONGEST = 0.3  # seconds


@dataclass(frozen=True)
class Load(Parameters):
    """What a job does."""

    number: int = param(0, "tells jobs apart")
    products: int = param(0, "matrix products")


def empty(store: Store, load: Load) -> str:
    """Do nothing: all time is the engine's."""
    return _now()


def log(store: Store, load: Load) -> str:
    """Open a run, log one value, close it."""
    now, spec = _now(), RunSpec("benchmark", "job", {"number": load.number})
    store.perform(spec, lambda run: run.metrics({"value": 1.0}))
    return now


def compute(store: Store, load: Load) -> str:
    """Multiply matrices."""
    now, matrix = _now(), torch.rand(SIDE, SIDE)
    for _ in range(load.products):
        matrix = torch.mm(matrix, matrix) / SIDE
    return now


def scheduling(settings: Settings) -> Result:
    """Measure every engine that is installed."""
    names = ["serial", "local", *(["ray"] if find_spec("ray") else [])]
    jobs, repeats = (JOBS // 2, 1) if settings.quick else (JOBS, max(1, settings.repeats // 2))
    with silence():
        rows, throughput = measure(names, jobs, repeats)
    notes = [] if "ray" in names else ["Ray is not installed and was not measured."]
    notes.append(
        "An engine's start-up is left out: a study pays it once. Jobs that compute use one thread each, so "
        "that two workers can at best be twice as fast as one on two idle cores."
    )
    return Result(
        rows, {"Throughput of workers": throughput}, notes, {"worker-scaling": scaling_figure(throughput)}
    )


def measure(names: list[str], jobs: int, repeats: int) -> tuple[list[Row], pd.DataFrame]:
    """Return seconds a job of each engine with the gain of a second worker, and the throughput of workers."""
    rows, throughput = [], []
    with scratch_store() as store:
        for what, work in {"empty job": empty, "job that logs a run": log}.items():
            costs = _medians({name: _cost(store, work, jobs, _one_worker(name)) for name in names}, repeats)
            targets = (Target("value", LONGEST),) if work is empty else ()
            rows += [Row(what, name, cost, "s", repeats, targets=targets) for name, cost in costs.items()]
        for name in names:
            if name == "serial":
                continue
            calls = {
                str(count): _cost(store, compute, jobs, _workers(name, count), products=PRODUCTS)
                for count in WORKERS
            }
            costs = _medians(calls, repeats)
            throughput += [(name, count, 1 / costs[str(count)]) for count in WORKERS]
            gain = costs["1"] / costs["2"]
            rows.append(Row("throughput of 2 workers over 1", name, gain, "x", repeats))
    return rows, pd.DataFrame(throughput, columns=["engine", "workers", "jobs/s"])


@styled
def scaling_figure(throughput: pd.DataFrame) -> Figure:
    """Draw the throughput of each engine against its workers; dashed, in proportion to one worker."""
    engines = list(dict.fromkeys(throughput["engine"]))
    figure = Figure(figsize=(1.9 * len(engines), 2.0), layout="constrained")
    grid = figure.subplots(1, len(engines), sharey=True, squeeze=False)[0]
    for engine, axes in zip(engines, grid, strict=True):
        rows = throughput[throughput["engine"] == engine]
        workers, jobs = rows["workers"].to_numpy(), rows["jobs/s"].to_numpy()
        axes.plot(workers, jobs[0] * workers, "--", color=GREY, linewidth=0.8)
        axes.plot(workers, jobs, "o-", color=HIGHLIGHT, markersize=3, linewidth=1)
        axes.set_title(engine)
        axes.set_xticks(workers)
        axes.set_xlabel("workers")
        axes.set_ylim(bottom=0)
    grid[0].set_ylabel("jobs/s")
    return figure


def _one_worker(engine: str) -> EngineParams:
    return EngineParams(job_cpus=1) if engine == "serial" else _workers(engine, 1)


def _workers(engine: str, count: int) -> EngineParams:
    return EngineParams(engine=engine, jobs_at_once=count, job_cpus=1)


def _cost(
    store: Store, work: Callable[[Store, Load], str], jobs: int, engine: EngineParams, products: int = 0
) -> Callable[[], float]:
    """Return a call that measures seconds a job, from the start of one to the start of the next."""

    def seconds() -> float:
        first = time.time_ns() % 10**9  # what was done before would be skipped
        todo = [Job(str(n), work, Load(first + n, products)) for n in range(jobs)]
        done, failures = run_jobs(store, todo, engine, owner="benchmark", title="benchmark")
        assert not failures, failures
        starts = sorted((float(start), worker) for start, worker in map(str.split, done.values()))
        begun = max({worker: start for start, worker in reversed(starts)}.values())
        counted = [start for start, _ in starts if start >= begun]
        return (counted[-1] - counted[0]) / (len(counted) - 1)

    return seconds


def _now() -> str:
    return f"{time.time()} {os.getpid()}"


def _medians(calls: dict[str, Callable[[], float]], repeats: int) -> dict[str, float]:
    """Return the median of each call, repeated in turn."""
    times = [{name: call() for name, call in calls.items()} for _ in range(repeats)]
    return {name: statistics.median(time[name] for time in times) for name in calls}
