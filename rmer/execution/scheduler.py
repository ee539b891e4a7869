"""Runs jobs on an engine: what others need first, again where a worker died, and on past what fails."""

from __future__ import annotations

import dataclasses
import os
import re
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence, Sized
from concurrent.futures import FIRST_COMPLETED, Future, wait
from typing import Protocol

import joblib
import torch
from tqdm import tqdm

from rmer.errors import UserError
from rmer.execution.cluster import RayCluster, connect_ray, find_ray
from rmer.execution.engine_params import EngineParams
from rmer.execution.jobs import Failure, Job, Site
from rmer.execution.local import LocalWorkers
from rmer.execution.serial import InProcess
from rmer.progress import Whole, whole
from rmer.systems.devices import resolve_device
from rmer.tracking import Run, Store
from rmer.tracking.delivery.outages import one_line


class Engine(Protocol):
    """Does jobs: ``slots`` at a time. A future raises one of ``lost`` where the worker died, not the job."""

    @property
    def slots(self) -> int: ...

    @property
    def lost(self) -> tuple[type[BaseException], ...]: ...

    def submit(self, job: Job) -> Future[str | Failure]: ...

    def close(self) -> None: ...


class JobsFailed(UserError):
    """Some jobs failed, each with its reason and its run; the rest is done."""

    exit_code = 1

    def __init__(self, failures: Sequence[Failure], jobs: int, done: int) -> None:
        self.failures = tuple(failures)
        waiting = jobs - done - len(failures)
        more = f", and {waiting} need them" if waiting else ""
        mend = "Mend the cause; the same command then goes on with what is missing"
        super().__init__(f"{len(failures)} of {jobs} jobs failed{more}", mend=mend)

    def __str__(self) -> str:
        lines = [f"{f.name}: {f.reason}" + (f" ({f.run})" if f.run else "") for f in self.failures]
        return "\n  - ".join([super().__str__(), *lines])


class TimeIsUp(KeyboardInterrupt):
    """The time that jobs were given is over: all ends as after Ctrl-C, and the same jobs go on from there."""


def run_jobs(
    store: Store,
    jobs: Sequence[Job],
    params: EngineParams,
    *,
    owner: str,
    title: str,
    planned: Mapping[str, float] | None = None,
    seconds: float | None = None,
) -> tuple[dict[str, str], list[Failure]]:
    """Run jobs for the run ``owner``; return name -> run id of those that worked, and the failures.

    A job starts as soon as those that it needs are done; one that needs a failed one is left out. Where a
    worker dies its run is closed and the job goes on elsewhere, up to ``retries`` times. However this ends,
    no run stays open. ``planned`` are the seconds that jobs will take, by their names; without them, all
    count alike. Of several jobs that could start, workers take the longest first, lest it be left over at
    the end, and of equals the earlier of the list. Raises TimeIsUp where they take more than ``seconds`` and
    are done by workers.
    """
    end = None if seconds is None else time.monotonic() + seconds
    site = Site(store.uri, store.experiment_name(), owner)
    engine = open_engine(params, site, jobs)
    counted = planned or {job.name: 1.0 for job in jobs}
    with whole(title, counted, timed=bool(planned), at_once=engine.slots) as shown:
        in_turn = jobs if params.engine == "serial" else sorted(jobs, key=lambda job: -counted[job.name])
        schedule = _Schedule(store, site, in_turn, engine, params.retries, shown)
        try:
            schedule.run(end)
        finally:
            engine.close()
            schedule.close_runs()
    return schedule.done, schedule.failures


def raise_failures(run: Run, jobs: Sequence[Job], done: Sized, failures: Sequence[Failure]) -> None:
    """Log what failed, with tracebacks, as ``failures.txt`` and raise JobsFailed, if anything did."""
    if failures:
        texts = [f"{failure.name}\n{failure.traceback or failure.reason}" for failure in failures]
        run.text("\n\n".join(texts), "failures.txt")
        raise JobsFailed(failures, len(jobs), len(done))


def open_engine(params: EngineParams, site: Site, jobs: Sequence[Job]) -> Engine:
    """Start the engine that the parameters name; raises UserError where it cannot give what they ask for."""
    may_use_gpu = any(getattr(job.params, "device", "cpu") != "cpu" for job in jobs)
    most = min(params.jobs_at_once or len(jobs), len(jobs))
    if params.engine == "serial":
        return InProcess(dataclasses.replace(site, threads=params.job_cpus))
    if params.engine == "local":
        places = local_places(params, most, may_use_gpu=may_use_gpu)
        threads = params.job_cpus or max(1, joblib.cpu_count() // len(places))
        return LocalWorkers(dataclasses.replace(site, threads=threads), places)
    ray = connect_ray(params.ray_address, site)
    share = params.job_gpus
    if share is None:
        share = min(1.0, ray.cluster_resources().get("GPU", 0.0)) if may_use_gpu else 0.0
    cpus = params.job_cpus or 1
    return RayCluster(ray, dataclasses.replace(site, threads=cpus), cpus=cpus, gpus=share, slots=most)


def local_places(params: EngineParams, most: int, *, may_use_gpu: bool) -> list[str]:
    """Return what each local worker sees of the GPUs here, of at most ``most`` workers."""
    gpus = visible_gpus() if params.job_gpus or (params.job_gpus is None and may_use_gpu) else []
    return worker_gpus(params, most, gpus)


def check_engine(params: EngineParams, devices: Iterable[str]) -> None:
    """Raise UserError, before anything is done, where the engine or a device that jobs ask for is not there.

    Which devices the nodes of a Ray cluster have is not known before jobs get there.
    """
    if params.engine == "ray":
        find_ray(params.ray_address)
        return
    seen = visible_gpus()
    if params.engine == "local":
        seen = [name for name in worker_gpus(params, 1, seen)[0].split(",") if name]
    for device in devices:
        of_worker = re.fullmatch(r"cuda(?::(\d+))?", device) if params.engine == "local" else None
        if of_worker is None:
            resolve_device(device)
        elif int(of_worker[1] or 0) >= len(seen):
            mend = "Give job_gpus, cuda without a number, or another device"
            raise UserError(f"a job sees {len(seen)} GPUs", where=f"device {device}", mend=mend)


def worker_gpus(params: EngineParams, most: int, gpus: Sequence[str]) -> list[str]:
    """Return what each local worker sees of these GPUs (as CUDA_VISIBLE_DEVICES); ``most`` workers or fewer.

    Raises UserError where a job asks for more GPUs than there are.
    """
    share = (1.0 if gpus else 0.0) if params.job_gpus is None else params.job_gpus
    if params.job_cpus or not (share or params.jobs_at_once):
        most = max(1, min(most, joblib.cpu_count() // max(1, params.job_cpus)))
    if not share:
        return [""] * most
    whole = max(1, int(share))
    groups = [",".join(gpus[i : i + whole]) for i in range(0, len(gpus) - whole + 1, whole)]
    if not groups:
        mend = "Give less, or leave it out"
        raise UserError(f"there are {len(gpus)} GPUs here", where="parameter job_gpus", mend=mend)
    return (groups * max(1, int(1 / share)))[:most]


def visible_gpus() -> list[str]:
    """Return the GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them."""
    count = torch.cuda.device_count()
    named = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
    return (named or [str(number) for number in range(count)])[:count]


class _Schedule:
    """The state of a run of jobs: waiting, running, done, failed."""

    def __init__(
        self, store: Store, site: Site, jobs: Sequence[Job], engine: Engine, retries: int, shown: Whole
    ) -> None:
        self.done: dict[str, str] = {}
        self.failures: list[Failure] = []
        self._store, self._site, self._engine = store, site, engine
        self._retries, self._shown = retries, shown
        self._waiting = list(jobs)
        self._running: dict[Future[str | Failure], Job] = {}
        self._deaths: Counter[str] = Counter()

    def run(self, end: float | None) -> None:
        """Run everything that can be run; raises TimeIsUp at this second of the monotonic clock."""
        self._start_ready()
        while self._running:
            left = None if end is None else max(0.0, end - time.monotonic())
            finished, _ = wait(self._running, left, return_when=FIRST_COMPLETED)
            if not finished:
                raise TimeIsUp
            for future in finished:
                self._settle(self._running.pop(future), future)
            self._start_ready()
        self.failures = [dataclasses.replace(failure, run=self._link(failure)) for failure in self.failures]

    def close_runs(self) -> None:
        """Close the runs of jobs that were cut off."""
        for job in self._running.values():
            self._close_run(job)

    def _start_ready(self) -> None:
        ready = [job for job in self._waiting if all(name in self.done for name in job.needs.values())]
        for job in ready[: self._engine.slots - len(self._running)]:
            self._waiting.remove(job)
            found = {parameter: self.done[name] for parameter, name in job.needs.items()}
            self._shown.begin(job.name)
            params = dataclasses.replace(job.params, **found)
            self._running[self._engine.submit(dataclasses.replace(job, params=params))] = job

    def _settle(self, job: Job, future: Future[str | Failure]) -> None:
        try:
            result = future.result()
        except self._engine.lost as error:
            self._close_run(job)
            self._deaths[job.name] += 1
            if self._deaths[job.name] <= self._retries:
                tqdm.write(f"{job.name}: its worker died; it goes on with another")
                self._waiting.insert(0, job)
                self._shown.again(job.name)
                return
            why = f"its worker died {self._deaths[job.name]} times: {one_line(error, 200)}"
            result = Failure(job.name, why)
        if isinstance(result, Failure):
            tqdm.write(f"{job.name} failed: {result.reason}")
            self.failures.append(result)
        else:
            self.done[job.name] = result
        self._shown.end(job.name, "failed" if isinstance(result, Failure) else "done")

    def _close_run(self, job: Job) -> None:
        self._store.replay()  # what the worker logged, and perhaps that it was just done
        for record in self._store.search(self._site.tags(job.name), status="RUNNING"):
            self._store.end_dead(record)

    def _link(self, failure: Failure) -> str:
        records = self._store.search(self._site.tags(failure.name))
        return self._store.link(records[0]) if records else ""
