"""How a run ends: finished, failed with its message, or killed."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from mlflow.entities import RunTag

from rmer.tracking import find
from rmer.tracking.delivery.outages import one_line, say
from rmer.tracking.delivery.sender import Sender
from rmer.tracking.locations import home
from rmer.tracking.machine import lack
from rmer.tracking.records import Records
from rmer.tracking.runs import Run
from rmer.tracking.schema import Tag


def close_finished(store: Records, run: Run, sender: Sender) -> int:
    """End a run as FINISHED, and return how many records wait since the store is away."""
    try:
        waiting = sender.close(find.FINISHED, run.digests())
    except OSError as error:  # the journal cannot be written any more
        end_now(store, run.run_id, error)
        raise
    sender.check()
    return waiting


def close_broken(store: Records, run_id: str, sender: Sender, error: BaseException) -> None:
    """End a run whose body raised ``error`` as FAILED or KILLED."""
    try:
        tell_waiting(store, sender.close(*_failure(error)))
    except OSError:  # as above; that may be what broke the run
        end_now(store, run_id, error)


def end_now(store: Records, run_id: str, error: BaseException) -> None:
    """Close a run past the journal, as far as the store lets us."""
    status, tags = _failure(error)
    try:
        store.client.log_batch(run_id, tags=[RunTag(*item) for item in tags.items()])
        store.client.set_terminated(run_id, status)
    except Exception as problem:  # the first error is what the user must see
        say(f"The run {run_id} could not be marked as {status}: {one_line(problem, 200)}")


def tell_changed(run: Run) -> None:
    """Say which scores of a resumed run came out differently than before it was interrupted."""
    changed = run.changed_metrics() if run.resumed else {}
    if changed:
        worst = max(changed, key=lambda key: changed[key])
        what = f"{len(changed)} metrics, most {worst} by {changed[worst]:.3g}"
        say(f"Computed again, these came out differently: {what}. The new values count.")
        run.tags({Tag.RECOMPUTED: what})


def tell_waiting(store: Records, waiting: int) -> None:
    """Say how records that wait will be sent."""
    if waiting:
        say(
            f"{waiting} records wait in {home() / 'spool'}, as {store.name} does not take them now. "
            f"`rmer sync`, or the next run on the same store, sends them."
        )


@contextmanager
def terminable() -> Iterator[None]:
    """Turn SIGTERM into SystemExit, so that the run is closed as KILLED; only in the main thread."""
    main = threading.current_thread() is threading.main_thread()
    if not main or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, _exit)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _failure(error: BaseException) -> tuple[str, dict[str, str]]:
    if isinstance(error, Exception):
        return "FAILED", {Tag.ERROR: one_line(lack(error) or error)}
    return "KILLED", {Tag.ERROR: f"interrupted ({type(error).__name__})"}


def _exit(number: int, frame: object) -> None:
    raise SystemExit(128 + number)
