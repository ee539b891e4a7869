"""The engine that does jobs in this process, one after the other."""

from __future__ import annotations

from concurrent.futures import Future

from rmer.execution.jobs import Failure, Job, Site, do


class InProcess:
    """Does each job when it is submitted."""

    slots = 1
    lost: tuple[type[BaseException], ...] = ()

    def __init__(self, site: Site) -> None:
        self._site = site

    def submit(self, job: Job) -> Future[str | Failure]:
        """Do a job."""
        future: Future[str | Failure] = Future()
        future.set_result(do(job, self._site))
        return future

    def close(self) -> None:
        """Nothing is left to close."""
