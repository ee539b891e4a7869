"""Jobs without science, to test engines: a module of its own, so that worker processes can import it."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

from rmer.errors import UserError
from rmer.execution.jobs import Job
from rmer.parameters import Parameters, param
from rmer.tracking import Run, RunSpec, Stage, Store

STEPS = 5


@dataclass(frozen=True)
class LightParams(Parameters):
    """What a job does: log, refuse, err, die (once or always), wait (once)."""

    number: int = param(0, "tells jobs apart")
    deed: str = param("log", "what happens before the last step")
    before: str = param("", "run of the job that this one needs")
    folder: str = param("", "where jobs leave marks")


def light(number: int, deed: str = "log", folder: Path | None = None, needs: str = "") -> Job:
    """Return a job called ``job <number>``."""
    params = LightParams(number, deed, folder=str(folder or ""))
    return Job(f"job {number}", work, params, {"before": needs} if needs else {})


def work(store: Store, params: LightParams) -> str:
    """Log some steps, each once, and do the deed before the last."""

    def body(run: Run) -> None:
        for step in range(1, STEPS + 1):
            if step == STEPS:
                _do(params)
            if step > (run.logged_step("val/step") or 0):
                run.metrics({"val/step": step}, step=step)

    config = {"number": params.number, "before": params.before}
    return store.perform(RunSpec(Stage.TRAIN, f"run {params.number}", config), body).run_id


def _do(params: LightParams) -> None:
    mark = Path(params.folder) / f"{params.number}"
    first = params.folder and not mark.exists()
    if params.folder:
        with mark.open("a") as file:
            file.write(f"{os.getpid()}\n")
    if params.deed == "refuse":
        raise UserError("will not", where="job", mend="Ask another")
    if params.deed == "err":
        raise ZeroDivisionError("a bug")
    if params.deed == "die" or (params.deed == "die once" and first):
        os.kill(os.getpid(), signal.SIGKILL)
    if params.deed == "wait once" and first:
        time.sleep(60)
