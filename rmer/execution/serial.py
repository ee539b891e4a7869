"""Jobs one after the other in this process, with progress; a failing job does not stop the others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tqdm import tqdm

from rmer.errors import UserError


@dataclass(frozen=True)
class Job:
    """A named piece of work; ``call`` returns the id of the run that holds its result."""

    name: str
    call: Callable[[], str]


@dataclass(frozen=True)
class Failure:
    """A job that raised, with its one-line reason."""

    name: str
    reason: str


def run_jobs(jobs: Sequence[Job], title: str) -> tuple[dict[str, str], list[Failure]]:
    """Run every job; return name -> run id of those that worked, and the failures.

    Only user errors count as failures; a bug stops everything with its traceback.
    """
    done: dict[str, str] = {}
    failures: list[Failure] = []
    with tqdm(jobs, desc=title, unit="run") as bar:
        for job in bar:
            bar.set_postfix_str(job.name)
            try:
                done[job.name] = job.call()
            except UserError as error:
                failures.append(Failure(job.name, str(error)))
                tqdm.write(f"{job.name} failed: {error}")
    return done, failures
