"""The run that ``mlflow run`` opens around an entry point: taken over by the first run, once, or ended."""

from __future__ import annotations

import os

from rmer.tracking.find import FINISHED
from rmer.tracking.lifecycle.closing import end_now
from rmer.tracking.lifecycle.run_spec import RunSpec
from rmer.tracking.records import Records
from rmer.tracking.runs import NOTE
from rmer.tracking.schema import Tag

WRAPPER = "MLFLOW_RUN_ID"


def take_wrapper() -> str | None:
    """Return the id of that run, if there is one that nobody has taken yet.

    It is taken out of the environment, so that neither later runs nor child processes write into it.
    """
    return os.environ.pop(WRAPPER, None)


def mark_duplicate(store: Records, wrapper: str | None, run_id: str, spec: RunSpec, what: str) -> None:
    """End that run, saying that the work was or is done in another one."""
    if wrapper is None:
        return
    note = f"This call had nothing of its own to log: the work {what} in run `{run_id}` ({spec.name})."
    store.set_tags(wrapper, {Tag.DUPLICATE_OF: run_id, NOTE: note})
    store.patiently(lambda: store.client.update_run(wrapper, name=f"{spec.name} ({what} in {run_id[:8]})"))
    store.patiently(lambda: store.client.set_terminated(wrapper, FINISHED))


def end_wrapper(store: Records, wrapper: str | None, error: BaseException) -> None:
    """End that run, if there is one, saying what went wrong."""
    if wrapper is not None:
        end_now(store, wrapper, error)
