"""The engine that does jobs on a Ray cluster: an existing one, or one made on this machine."""

from __future__ import annotations

import importlib.util
import os
import socket
from collections.abc import Mapping
from concurrent.futures import Future
from typing import Any, NamedTuple

import rmer
from rmer.errors import UserError
from rmer.execution.jobs import Failure, Job, Site, do_quietly

# What other nodes must know of the tracking server (login, options), but not what is of one run.
HANDED_ON = "MLFLOW_"
OF_ONE_RUN = ("MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_ID", "MLFLOW_EXPERIMENT_NAME")
ANSWER_SECONDS = 4.0  # Ray itself tries for minutes
END_SECONDS = 30.0


class Code(NamedTuple):
    """Which rmer a process runs: a Ray worker looks for it on a path of its own."""

    version: str
    file: str
    host: str


class RayCluster:
    """Hands jobs to Ray, which waits until a node has ``cpus`` cores and ``gpus`` GPUs free."""

    def __init__(self, ray: Any, site: Site, *, cpus: int, gpus: float, slots: int) -> None:
        self.slots = slots
        failures = ("WorkerCrashedError", "NodeDiedError", "OutOfMemoryError", "ObjectLostError")
        self.lost: tuple[type[BaseException], ...] = tuple(getattr(ray.exceptions, name) for name in failures)
        self._ray, self._site = ray, site
        self._environment = {
            name: value
            for name, value in os.environ.items()
            if name.startswith(HANDED_ON) and name not in OF_ONE_RUN
        }
        self._code = _code()
        # max_retries=0: the scheduler tries again, once it has closed the run of the worker that died.
        self._work = ray.remote(_work).options(num_cpus=cpus, num_gpus=gpus, max_retries=0)
        self._refs: dict[Future[str | Failure], Any] = {}

    def submit(self, job: Job) -> Future[str | Failure]:
        """Hand a job to Ray."""
        ref = self._work.remote(job, self._site, self._environment, self._code)
        future: Future[str | Failure] = ref.future()
        self._refs[future] = ref
        return future

    def close(self) -> None:
        """Cancel what runs, whose runs are closed as KILLED, and leave the cluster."""
        unfinished = [ref for future, ref in self._refs.items() if not future.done()]
        for ref in unfinished:
            self._ray.cancel(ref)
        if unfinished:
            self._ray.wait(unfinished, num_returns=len(unfinished), timeout=END_SECONDS)
        self._ray.shutdown()


def find_ray(address: str) -> str:
    """Return where Ray is: the address, else ``RAY_ADDRESS``, else ``local`` for a cluster made here.

    Raises UserError where Ray is not installed, or nobody answers at the address.
    """
    if importlib.util.find_spec("ray") is None:
        mend = "Install it (pip install 'rmer[ray]'), or choose engine local"
        raise UserError("Ray is not installed", where="engine ray", mend=mend)
    # Without "local" Ray would look for the cluster that was last made here, and wait long if it is no more.
    address = address or os.environ.get("RAY_ADDRESS") or "local"
    if address not in ("auto", "local"):
        host, _, port = address.rpartition(":")
        try:
            socket.create_connection((host, int(port)), ANSWER_SECONDS).close()
        except (OSError, ValueError, OverflowError) as error:
            raise _no_answer(address, error) from error
    return address


def _no_answer(address: str, error: Exception) -> UserError:
    mend = "Start it (ray start --head) and give auto or host:port, or leave ray_address out"
    return UserError(f"no Ray cluster answers ({error})", where=f"ray {address}", mend=mend)


def connect_ray(address: str, site: Site) -> Any:
    """Join the Ray cluster that :func:`find_ray` finds and return ``ray``.

    Raises UserError as that does, and where the nodes cannot reach the store.
    """
    address = find_ray(address)
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # as with MLflow: no usage data unless asked for
    import ray

    try:
        ray.init(
            address,
            ignore_reinit_error=True,
            include_dashboard=False if address == "local" else None,
            log_to_driver=False,
            logging_level="error",
        )
    except (OSError, ValueError) as error:
        raise _no_answer(address, error) from error
    hosts = {node["NodeManagerHostname"] for node in ray.nodes() if node["Alive"]}
    if (elsewhere := hosts - {socket.gethostname()}) and site.uri.startswith("sqlite"):
        ray.shutdown()
        what = f"{', '.join(sorted(elsewhere))} cannot write to a file of this machine"
        mend = "Start `rmer server` and set MLFLOW_TRACKING_URI to its address"
        raise UserError(what, where="tracking store", mend=mend)
    return ray


def _work(job: Job, site: Site, environment: Mapping[str, str], code: Code) -> str | Failure:
    own = _code()
    if own.version != code.version or (own.host == code.host and own.file != code.file):
        mine, sent = (f"rmer {one.version} in {one.file}" for one in (own, code))
        return Failure(job.name, f"{own.host} would run {mine}, not {sent}")
    os.environ.update(environment)
    return do_quietly(job, site)


def _code() -> Code:
    return Code(rmer.__version__, str(rmer.__file__), socket.gethostname())
