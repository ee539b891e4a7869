"""Which run of a configuration there is already: done, interrupted, or at work."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from rmer.errors import UserError
from rmer.tracking import find
from rmer.tracking.delivery.journal import Journal, JournalBusyError
from rmer.tracking.delivery.outages import say, seconds
from rmer.tracking.lifecycle.run_spec import RunSpec
from rmer.tracking.lifecycle.wrapper import end_wrapper, take_wrapper
from rmer.tracking.liveness import is_alive, whereabouts
from rmer.tracking.locations import store_key
from rmer.tracking.private import private_folder
from rmer.tracking.records import Records
from rmer.tracking.schema import Tag


@contextmanager
def only_one(store: Records, spec: RunSpec) -> Iterator[None]:
    """Let one process on this machine work on a configuration."""
    folder = private_folder("locks", store_key(store.uri))
    lock = FileLock(folder / f"{spec.digest}.lock", thread_local=False)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        running = [record for record in store.search({Tag.CONFIG: spec.digest}) if record.status == "RUNNING"]
        error = _busy(spec, whereabouts(running[0].tags) if running else "another process on this machine")
        end_wrapper(store, take_wrapper(), error)
        raise error from None
    try:
        yield
    finally:
        Path(lock.lock_file).unlink(missing_ok=True)  # waiting processes notice that the file is another
        lock.release()


def earlier(store: Records, spec: RunSpec) -> tuple[find.RunRecord | None, Journal | None]:
    """Return the run that did this before, or the one to go on with and its journal; else None."""
    same = store.search({Tag.CONFIG: spec.digest})
    # A study has runs of its own; outside of studies any will do.
    before = [record for record in same if spec.study in (None, record.tags.get(Tag.STUDY))]
    done = next((record for record in before if record.status == find.FINISHED), None)
    old = done or _interrupted(before, spec)
    if done is not None or old is None:
        return done, None
    journal = _journal_of(store, spec, old.run_id)
    try:
        old = store.get(old.run_id)
    except BaseException:
        journal.close()
        raise
    if old.status != find.FINISHED:
        return old, journal
    journal.close()  # another process has meanwhile sent how the run ended
    return old, None


def reopen(store: Records, old: find.RunRecord, tags: dict[str, str]) -> None:
    say(f"Going on with the interrupted run {old.name} ({old.run_id}).")
    store.set_tags(old.run_id, tags)
    if Tag.ERROR in old.tags:
        store.delete_tag(old.run_id, Tag.ERROR)
    store.patiently(lambda: store.client.update_run(old.run_id, status="RUNNING"))


def _journal_of(store: Records, spec: RunSpec, run_id: str) -> Journal:
    """Take over a run's journal, waiting for a process that is just sending what it holds."""
    try:
        return Journal(store.uri, run_id, patience=seconds("RMER_WAIT_SECONDS", 60.0))
    except JournalBusyError:
        what = f"another process is still sending what run {run_id} logged before"
        mend = "Try again when it is done, or stop it"
        raise UserError(what, where=f"{spec.stage} {spec.name}", mend=mend) from None


def _interrupted(before: list[find.RunRecord], spec: RunSpec) -> find.RunRecord | None:
    """Return the newest run of this configuration that nobody works on; raise when somebody does."""
    for record in before:
        if record.status == "RUNNING" and is_alive(record.tags):
            raise _busy(spec, whereabouts(record.tags))
    return before[0] if before else None


def _busy(spec: RunSpec, who: str) -> UserError:
    where = f"{spec.stage} {spec.name}"
    return UserError(f"{who} is already at it", where=where, mend="Wait for it, or stop it")
