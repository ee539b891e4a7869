"""The engine that does jobs on worker processes of this machine."""

from __future__ import annotations

import gc
import multiprocessing
import os
import signal
import threading
import time
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext

from tqdm import tqdm

from rmer.execution.jobs import Failure, Job, Site, do_quietly

TERMINATED = 128 + signal.SIGTERM
DYING_SECONDS = 30.0  # it may still import what workers are forked with, before it is dead
# What takes seconds to import is imported once, in the process that workers are forked from. Nothing of our
# own: that process does not know which clone of it this one runs.
PRELOADED = [
    "matplotlib.figure",
    "mlflow.pyfunc",
    "mlflow.store.tracking.sqlalchemy_store",
    "mlflow.tracking",
    "pandas",
    "scipy.signal",
    "sklearn.feature_selection",
    "sklearn.model_selection",
    "torch",
    "torch._dynamo",  # which optimisers import at their first step
    "torch._functorch.aot_autograd",  # and exports
]


class LocalWorkers:
    """One worker process a slot; ``gpus`` says for each which GPUs it sees, as CUDA_VISIBLE_DEVICES does.

    Every worker has a pool of its own, because a pool ends all its workers when one of them dies.
    """

    lost: tuple[type[BaseException], ...] = (BrokenProcessPool,)

    def __init__(self, site: Site, gpus: list[str]) -> None:
        self.slots = len(gpus)
        self._site, self._gpus = site, gpus
        self._context = _context()
        self._alarm, self._lifeline = self._context.Pipe(duplex=False)
        self._pools = [self._pool(slot) for slot in range(self.slots)]
        self._latest: list[Future[str | Failure] | None] = [None] * self.slots

    def submit(self, job: Job) -> Future[str | Failure]:
        """Start a job on a free worker; there must be one."""
        slot = next(slot for slot, latest in enumerate(self._latest) if latest is None or latest.done())
        end = time.monotonic() + DYING_SECONDS
        while True:
            try:
                future = self._pools[slot].submit(_work, job, self._site)
            except (BrokenProcessPool, ConnectionError, EOFError):
                # Its worker died, that of the last job or an idle one. Or what workers are forked from did,
                # interrupted while it was asked for one: Python starts another as soon as it is dead.
                if time.monotonic() > end:
                    raise
                time.sleep(0.1)
                self._pools[slot] = self._pool(slot)
            else:
                self._latest[slot] = future
                return future

    def close(self) -> None:
        """End all workers; those at work close their runs as KILLED."""
        if not all(latest is None or latest.done() for latest in self._latest):
            self._lifeline.close()
        for pool in self._pools:
            pool.shutdown(cancel_futures=True)
        self._lifeline.close()
        self._alarm.close()

    def _pool(self, slot: int) -> ProcessPoolExecutor:
        environment = {**os.environ, "CUDA_VISIBLE_DEVICES": self._gpus[slot]}
        return ProcessPoolExecutor(1, self._context, initializer=_begin, initargs=(self._alarm, environment))


def prepare_workers() -> None:
    """Begin to import what workers are forked with, beside what this process does next."""
    _context()
    forkserver.ensure_running()


def _context() -> ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    return context


def _begin(alarm: Connection, environment: dict[str, str]) -> None:
    """Set up a worker process; CUDA looks at its variable when it is first used."""
    os.environ.clear()
    os.environ.update(environment)
    gc.freeze()  # what it is forked with stays: that is not to be looked through for garbage
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to all; the parent says what becomes of it
    tqdm.set_lock(threading.RLock())  # its own one is for several processes, and leaks where one is killed
    threading.Thread(target=_end_with_parent, args=(alarm,), daemon=True).start()


def _end_with_parent(alarm: Connection) -> None:
    """Terminate this process when the parent closes its end of the pipe, or is no more."""
    alarm.poll(None)
    os.kill(os.getpid(), signal.SIGTERM)


def _work(job: Job, site: Site) -> str | Failure:
    gc.collect()
    gc.freeze()  # what jobs imported is not looked through again
    try:
        return do_quietly(job, site)
    except SystemExit:  # SIGTERM: the run is closed by now; the pool would keep this process
        os._exit(TERMINATED)
