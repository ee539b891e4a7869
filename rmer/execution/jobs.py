"""Jobs that any process can do, and how one is done."""

from __future__ import annotations

import os
import re
import socket
import time
import traceback
from collections.abc import Callable, Mapping
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from rmer.errors import UserError
from rmer.parameters import Parameters
from rmer.redaction import redacted
from rmer.threads import torch_threads
from rmer.tracking import Store, Tag, connect
from rmer.tracking.delivery.outages import one_line
from rmer.tracking.locations import digest
from rmer.tracking.machine import lack
from rmer.tracking.private import OWNER_ONLY, private_folder


@dataclass(frozen=True)
class Job:
    """One run to be made: ``work(store, params)`` returns the id of the run that holds its result.

    ``work`` is a function of a module, so that the job can be sent to another process. ``needs`` maps
    parameters to the names of the jobs whose run ids they take.
    """

    name: str
    work: Callable[[Store, Any], str]
    params: Parameters
    needs: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Failure:
    """A job that did not work: a one-line reason, the traceback of a bug, and where its run is, if any."""

    name: str
    reason: str
    traceback: str = ""
    run: str = ""


@dataclass(frozen=True)
class Site:
    """Where jobs log to, the run (``owner``) that they are done for, and their threads (0: as they are)."""

    uri: str
    experiment: str
    owner: str
    threads: int = 0

    def tags(self, name: str) -> dict[str, str]:
        """Return the tag by which the run of a job is found."""
        return {Tag.JOB: f"{self.owner} {name}"}

    def log_file(self, name: str) -> Path:
        """Return where a worker process writes what a job prints."""
        readable = re.sub(r"[^\w.=-]+", "_", name)[:80]
        return private_folder("logs", self.owner) / f"{readable}-{digest(name)[:6]}.log"


def do(job: Job, site: Site) -> str | Failure:
    """Do a job in this process and return its run id, or what went wrong, so that the others go on."""
    try:
        with torch_threads(site.threads):
            store = _store(site.uri, site.experiment).tagged(site.tags(job.name))
            store.deliver([getattr(job.params, parameter) for parameter in job.needs])
            return job.work(store, job.params)
    except Exception as error:  # of the user, a lack of memory or space, or a bug, in one job of many
        mendable = error if isinstance(error, UserError) else lack(error)
        told = "" if mendable else redacted(traceback.format_exc())
        return Failure(job.name, one_line(mendable or error), told)


def do_quietly(job: Job, site: Site) -> str | Failure:
    """Do a job with what it prints in its log file: processes that share a terminal garble it."""
    file = site.log_file(job.name)
    file.touch(OWNER_ONLY)
    with file.open("a", encoding="utf-8") as log, redirect_stdout(log), redirect_stderr(log):
        print(f"{time.strftime('%F %T')} process {os.getpid()} on {socket.gethostname()}", flush=True)
        result = do(job, site)
        print(result if isinstance(result, str) else result.traceback or result.reason)
    return result


@lru_cache(maxsize=1)
def _store(uri: str, experiment: str) -> Store:
    # One connection a process: opening a store takes longer than many a job.
    return connect(uri, experiment)
