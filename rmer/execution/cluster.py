"""The engine that does jobs on a Ray cluster: an existing one, or one made on this machine."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from concurrent.futures import Future
from typing import Any

from rmer.errors import UserError
from rmer.execution.jobs import Failure, Job, Site, do_quietly

# What other nodes must know of the tracking server (login, options), but not what is of one run.
HANDED_ON = "MLFLOW_"
OF_ONE_RUN = ("MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_ID", "MLFLOW_EXPERIMENT_NAME")
END_SECONDS = 30.0


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
        # max_retries=0: the scheduler tries again, once it has closed the run of the worker that died.
        self._work = ray.remote(_work).options(num_cpus=cpus, num_gpus=gpus, max_retries=0)
        self._refs: dict[Future[str | Failure], Any] = {}

    def submit(self, job: Job) -> Future[str | Failure]:
        """Hand a job to Ray."""
        ref = self._work.remote(job, self._site, self._environment)
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


def connect_ray(address: str, site: Site) -> Any:
    """Join a Ray cluster (``RAY_ADDRESS`` where no address is given, else one made here) and return ``ray``.

    Raises UserError where Ray is not installed, nobody answers, or the nodes cannot reach the store.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # as with MLflow: no usage data unless asked for
    try:
        import ray
    except ModuleNotFoundError as error:
        mend = "Install it (pip install 'rmer[ray]'), or choose engine local"
        raise UserError("Ray is not installed", where="engine ray", mend=mend) from error
    try:
        ray.init(
            address or None,
            ignore_reinit_error=True,
            include_dashboard=False if not address else None,
            log_to_driver=False,
            logging_level="error",
        )
    except ConnectionError as error:
        mend = "Start it (ray start --head), or leave ray_address out"
        raise UserError(f"no Ray cluster answers ({error})", where=address, mend=mend) from error
    elsewhere = {node["NodeManagerHostname"] for node in ray.nodes() if node["Alive"]} - {
        socket.gethostname()
    }
    if elsewhere and site.uri.startswith("sqlite"):
        ray.shutdown()
        raise UserError(
            f"{', '.join(sorted(elsewhere))} cannot write to a file of this machine",
            where="tracking store",
            mend="Start `rmer server` and set MLFLOW_TRACKING_URI to its address",
        )
    return ray


def _work(job: Job, site: Site, environment: Mapping[str, str]) -> str | Failure:
    os.environ.update(environment)
    return do_quietly(job, site)
