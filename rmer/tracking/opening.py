"""Opening a run: skip what is done, go on with what was interrupted, else begin."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from filelock import FileLock, Timeout
from mlflow.entities import RunTag
from mlflow.tracking.context import registry

from rmer.errors import UserError
from rmer.redaction import redacted, redacted_values
from rmer.tracking import find
from rmer.tracking.delivery.journal import Journal, JournalBusyError
from rmer.tracking.delivery.outages import one_line, say, seconds
from rmer.tracking.delivery.points import LoggedPoints
from rmer.tracking.delivery.sender import Sender
from rmer.tracking.git import git_tags
from rmer.tracking.liveness import is_alive, process_tags, whereabouts
from rmer.tracking.locations import home, store_key
from rmer.tracking.machine import lack
from rmer.tracking.private import private_folder
from rmer.tracking.runs import NOTE, Run
from rmer.tracking.schema import SCHEMA_VERSION, Origin, Tag, config_digest
from rmer.tracking.values import as_params

if TYPE_CHECKING:
    from rmer.tracking.store import Store

_WRAPPER = "MLFLOW_RUN_ID"


@dataclass(frozen=True)
class RunSpec:
    """What a run is: ``config`` holds everything that determines its result, ``tags`` help to find it."""

    stage: str
    name: str
    config: Mapping[str, Any]
    tags: Mapping[str, str] = field(default_factory=dict)
    study: str | None = None

    @property
    def digest(self) -> str:
        """The idempotence key, tag ``rmer.config``."""
        return config_digest(self.stage, self.config)


@dataclass(frozen=True)
class Outcome:
    """How a run went: ``skipped`` when it was done before, ``waiting`` records when the store went away.

    ``metrics`` holds the latest value of each, also of those that wait.
    """

    run_id: str
    skipped: bool = False
    resumed: bool = False
    waiting: int = 0
    metrics: Mapping[str, float] = field(default_factory=dict)


def perform(store: Store, spec: RunSpec, body: Callable[[Run], None]) -> Outcome:
    """See :meth:`rmer.tracking.store.Store.perform`."""
    params = as_params(spec.config)
    with _only_one(store, spec):
        wrapper = _take_wrapper()
        try:
            store.replay()
            old, journal = _earlier(store, spec)
        except BaseException as error:
            _end_wrapper(store, wrapper, error)
            raise
        if old is None:
            run_id = _begin(store, spec, wrapper, _tags(store, spec))
            return _work(store, spec, Journal(store.uri, run_id), params, None, body)
        if journal is None:
            _mark_duplicate(store, wrapper, old.run_id, spec, "was done before")
            _drop_old_work(store, spec)
            return Outcome(old.run_id, skipped=True, metrics=old.metrics)
        try:
            _mark_duplicate(store, wrapper, old.run_id, spec, "goes on")
            _reopen(store, old, _tags(store, spec))
        except BaseException:
            journal.close()
            raise
        return _work(store, spec, journal, params, old, body)


def mark_wrapper_failed(error: BaseException) -> None:
    """Say in the run that ``mlflow run`` opened why nothing came of it (bad parameters, say).

    Does nothing outside ``mlflow run`` or once a stage has taken that run over.
    """
    from rmer.tracking.store import connect

    if os.environ.get(_WRAPPER):
        _end_wrapper(connect(), _take_wrapper(), error)


def _work(
    store: Store,
    spec: RunSpec,
    journal: Journal,
    params: dict[str, str],
    old: find.RunRecord | None,
    body: Callable[[Run], None],
) -> Outcome:
    """Run the body in a run that is open; ``old`` is the run as it was, where an interrupted one goes on."""
    sender = Sender(store.client, journal, store=store.name)
    try:
        with _terminable():
            run = _run(store, spec, journal, params, old, sender)
            body(run)
            _tell_changed(run)
            sender.check()
    except BaseException as error:  # whatever it is, the run must not stay RUNNING; it is raised again
        _close_broken(store, journal.run_id, sender, error)
        raise
    waiting = _close_finished(store, run, sender)
    _drop_work(store, spec)
    _tell_waiting(store, waiting)
    return Outcome(run.run_id, resumed=run.resumed, waiting=waiting, metrics=run.latest_metrics())


def _run(
    store: Store,
    spec: RunSpec,
    journal: Journal,
    params: dict[str, str],
    old: find.RunRecord | None,
    sender: Sender,
) -> Run:
    run_id, known, points = journal.run_id, old.params if old else {}, LoggedPoints()
    if old is not None:
        # In this order: what the sender sends meanwhile is in the store then.
        points.add_waiting([operation for operation, _ in journal.read(sys.maxsize)])
        points.add_history(old.metrics, lambda key: store.metric_history(run_id, key))
    new = {key: text for key, text in params.items() if key not in known}
    sender.submit({"do": "params", "values": new})
    return Run(
        run_id,
        resumed=old is not None,
        work=_work_names(store, spec),
        journal=journal,
        sender=sender,
        known_params={**known, **new},
        points=points,
    )


def _work_names(store: Store, spec: RunSpec) -> tuple[str, ...]:
    return "work", store_key(store.uri), spec.digest


def _drop_work(store: Store, spec: RunSpec) -> None:
    folder = home().joinpath(*_work_names(store, spec))
    if folder.exists():
        shutil.rmtree(folder)


def _drop_old_work(store: Store, spec: RunSpec) -> None:
    """Drop what a process left that was killed when its run was as good as finished."""
    if home().joinpath(*_work_names(store, spec)).exists():
        statuses = {record.status for record in store.search({Tag.CONFIG: spec.digest})}
        if statuses == {find.FINISHED}:  # else it may belong to a run of another study that is to go on
            _drop_work(store, spec)


def _close_finished(store: Store, run: Run, sender: Sender) -> int:
    try:
        waiting = sender.close(find.FINISHED, run.digests())
    except OSError as error:  # the journal cannot be written any more
        _end_now(store, run.run_id, error)
        raise
    sender.check()
    return waiting


def _close_broken(store: Store, run_id: str, sender: Sender, error: BaseException) -> None:
    try:
        _tell_waiting(store, sender.close(*_failure(error)))
    except OSError:  # as above; that may be what broke the run
        _end_now(store, run_id, error)


def _failure(error: BaseException) -> tuple[str, dict[str, str]]:
    if isinstance(error, Exception):
        return "FAILED", {Tag.ERROR: one_line(lack(error) or error)}
    return "KILLED", {Tag.ERROR: f"interrupted ({type(error).__name__})"}


def _tell_changed(run: Run) -> None:
    """Say which scores of a resumed run came out differently than before it was interrupted."""
    changed = run.changed_metrics() if run.resumed else {}
    if changed:
        worst = max(changed, key=lambda key: changed[key])
        what = f"{len(changed)} metrics, most {worst} by {changed[worst]:.3g}"
        say(f"Computed again, these came out differently: {what}. The new values count.")
        run.tags({Tag.RECOMPUTED: what})


def _tell_waiting(store: Store, waiting: int) -> None:
    if waiting:
        say(
            f"{waiting} records wait in {home() / 'spool'}, as {store.name} does not take them now. "
            f"`rmer sync`, or the next run on the same store, sends them."
        )


def _tags(store: Store, spec: RunSpec) -> dict[str, str]:
    tags = {Tag.SCHEMA: SCHEMA_VERSION, Tag.STAGE: spec.stage, Tag.CONFIG: spec.digest}
    if spec.study:
        tags[Tag.STUDY] = spec.study
    tags = {Tag.ORIGIN: Origin.COMPUTED, **tags, **git_tags(), **process_tags(), **store.tags, **spec.tags}
    return {key: redacted(value) for key, value in tags.items()}


def _begin(store: Store, spec: RunSpec, wrapper: str | None, tags: dict[str, str]) -> str:
    if wrapper is not None:
        store.set_tags(wrapper, tags)
        store.patiently(lambda: store.client.update_run(wrapper, name=spec.name))
        return wrapper
    context = redacted_values(registry.resolve_tags())
    return _create(store, spec.name, {**context, **tags, Tag.OPENING: uuid4().hex})


def _create(store: Store, name: str, tags: dict[str, str]) -> str:
    """Create one run, also where the reply to an earlier try was lost after the store had created it."""
    tried = False

    def create() -> str:
        nonlocal tried
        found = find.search(store.client, {Tag.OPENING: tags[Tag.OPENING]}) if tried else []
        if found:
            return found[0].run_id
        tried = True
        return str(store.client.create_run(store.experiment_id, run_name=name, tags=tags).info.run_id)

    return store.patiently(create)


def _reopen(store: Store, old: find.RunRecord, tags: dict[str, str]) -> None:
    say(f"Going on with the interrupted run {old.name} ({old.run_id}).")
    store.set_tags(old.run_id, tags)
    if Tag.ERROR in old.tags:
        store.delete_tag(old.run_id, Tag.ERROR)
    store.patiently(lambda: store.client.update_run(old.run_id, status="RUNNING"))


def _earlier(store: Store, spec: RunSpec) -> tuple[find.RunRecord | None, Journal | None]:
    """Return the run that did this before, or the one to go on with and its journal; else None."""
    before = _of_the_study(store.search({Tag.CONFIG: spec.digest}), spec)
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


def _journal_of(store: Store, spec: RunSpec, run_id: str) -> Journal:
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


def _of_the_study(records: list[find.RunRecord], spec: RunSpec) -> list[find.RunRecord]:
    """Keep the runs that count as this one: a study has runs of its own, outside of studies any will do."""
    return [record for record in records if spec.study in (None, record.tags.get(Tag.STUDY))]


def _busy(spec: RunSpec, who: str) -> UserError:
    return UserError(
        f"{who} is already at it", where=f"{spec.stage} {spec.name}", mend="Wait for it, or stop it"
    )


def _take_wrapper() -> str | None:
    # Taken out of the environment, so that neither later runs nor child processes write into it.
    return os.environ.pop(_WRAPPER, None)


def _mark_duplicate(store: Store, wrapper: str | None, run_id: str, spec: RunSpec, what: str) -> None:
    if wrapper is None:
        return
    note = f"This call had nothing of its own to log: the work {what} in run `{run_id}` ({spec.name})."
    store.set_tags(wrapper, {Tag.DUPLICATE_OF: run_id, NOTE: note})
    store.patiently(lambda: store.client.update_run(wrapper, name=f"{spec.name} ({what} in {run_id[:8]})"))
    store.patiently(lambda: store.client.set_terminated(wrapper, find.FINISHED))


def _end_wrapper(store: Store, wrapper: str | None, error: BaseException) -> None:
    if wrapper is not None:
        _end_now(store, wrapper, error)


def _end_now(store: Store, run_id: str, error: BaseException) -> None:
    """Close a run past the journal, as far as the store lets us."""
    status, tags = _failure(error)
    try:
        store.client.log_batch(run_id, tags=[RunTag(*item) for item in tags.items()])
        store.client.set_terminated(run_id, status)
    except Exception as problem:  # the first error is what the user must see
        say(f"The run {run_id} could not be marked as {status}: {one_line(problem, 200)}")


@contextmanager
def _only_one(store: Store, spec: RunSpec) -> Iterator[None]:
    """Let one process on this machine work on a configuration."""
    folder = private_folder("locks", store_key(store.uri))
    lock = FileLock(folder / f"{spec.digest}.lock", thread_local=False)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        running = [record for record in store.search({Tag.CONFIG: spec.digest}) if record.status == "RUNNING"]
        error = _busy(spec, whereabouts(running[0].tags) if running else "another process on this machine")
        _end_wrapper(store, _take_wrapper(), error)
        raise error from None
    try:
        yield
    finally:
        Path(lock.lock_file).unlink(missing_ok=True)  # waiting processes notice that the file is another
        lock.release()


@contextmanager
def _terminable() -> Iterator[None]:
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


def _exit(number: int, frame: object) -> None:
    raise SystemExit(128 + number)
