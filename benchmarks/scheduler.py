"""What the engines of studies and sweeps cost a job, and how throughput grows with workers.

    python -m benchmarks.scheduler [--jobs 12] [--engines serial,local,ray]

Start-up is left out: the clock runs from the moment at which every worker has begun its first job. Medians of
interleaved repeats; on a busy machine the ratios mean little.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec

import click
import torch

from benchmarks.measuring import Result, Row, Settings, Target, silence
from benchmarks.stores import scratch_store
from rmer.execution.jobs import Job
from rmer.execution.params import EngineParams
from rmer.execution.scheduler import run_jobs
from rmer.parameters import Parameters, param
from rmer.tracking import RunSpec, Store

SIDE = 512
JOBS, PRODUCTS = 20, 200
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


@click.command()
@click.option("--jobs", default=JOBS, help="jobs of a measurement")
@click.option("--engines", default="serial,local,ray", help="engines, by commas")
@click.option("--repeats", default=3, help="repeats of every measurement")
@click.option("--products", default=PRODUCTS, help="matrix products of a job that computes")
def main(jobs: int, engines: str, repeats: int, products: int) -> None:
    """Print seconds a job and ratios."""
    for row in measure(engines.split(","), jobs, repeats, products):
        print(f"{row.benchmark}, {row.way}: {row.value:.4f} {row.unit}")


def scheduling(settings: Settings) -> Result:
    """Measure every engine that is installed."""
    names = ["serial", "local", *(["ray"] if find_spec("ray") else [])]
    jobs, repeats = (JOBS // 2, 1) if settings.quick else (JOBS, max(1, settings.repeats // 2))
    with silence():
        rows = measure(names, jobs, repeats, PRODUCTS)
    notes = [] if "ray" in names else ["Ray is not installed and was not measured."]
    return Result(rows, notes=[*notes, "An engine's start-up is left out: a study pays it once."])


def measure(names: list[str], jobs: int, repeats: int, products: int) -> list[Row]:
    """Return seconds a job of each engine, and what a second worker adds to its throughput."""
    rows = []
    with scratch_store() as store:
        for what, work in {"empty job": empty, "job that logs a run": log}.items():
            costs = _medians({name: _cost(store, work, jobs, _one_worker(name)) for name in names}, repeats)
            targets = (Target("value", LONGEST),) if work is empty else ()
            rows += [Row(what, name, cost, "s", repeats, targets=targets) for name, cost in costs.items()]
        for name in names:
            if name == "serial":
                continue
            calls = {
                str(count): _cost(store, compute, jobs, _workers(name, count), products=products)
                for count in (1, 2)
            }
            costs = _medians(calls, repeats)
            gain = costs["1"] / costs["2"]
            rows.append(Row("throughput of 2 workers over 1", name, gain, "x", repeats))
    return rows


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


if __name__ == "__main__":
    main()
