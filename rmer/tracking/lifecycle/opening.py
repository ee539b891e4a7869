"""Opening a run: skip what is done, go on with what was interrupted, else begin."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from functools import partial
from uuid import uuid4

from mlflow.tracking.context import registry

from rmer.redaction import redacted, redacted_values
from rmer.tracking import find
from rmer.tracking.delivery.journal import Journal
from rmer.tracking.delivery.operations import LogParams, SetTags
from rmer.tracking.delivery.outages import seconds
from rmer.tracking.delivery.points import LoggedPoints
from rmer.tracking.delivery.sender import Sender
from rmer.tracking.git import git_tags
from rmer.tracking.lifecycle import closing
from rmer.tracking.lifecycle.resuming import earlier, only_one, reopen
from rmer.tracking.lifecycle.run_spec import Outcome, RunSpec
from rmer.tracking.lifecycle.wrapper import end_wrapper, mark_duplicate, take_wrapper
from rmer.tracking.liveness import process_tags
from rmer.tracking.locations import home, store_key
from rmer.tracking.records import Records
from rmer.tracking.runs import Run
from rmer.tracking.schema import SCHEMA_VERSION, Origin, Tag
from rmer.tracking.values import as_params, without_digests


def perform(store: Records, spec: RunSpec, body: Callable[[Run], None]) -> Outcome:
    """See :meth:`rmer.tracking.store.Store.perform`."""
    params = as_params(spec.config)
    with only_one(store, spec):
        wrapper = take_wrapper()
        try:
            drain_seconds = seconds("RMER_DRAIN_SECONDS", 10.0)  # found now where it is bad, not at the end
            store.replay()
            old, journal = earlier(store, spec)
        except BaseException as error:
            end_wrapper(store, wrapper, error)
            raise
        if old is None:
            journal = _new_journal(store, _begin(store, spec, wrapper, _tags(store, spec)))
        elif journal is None:
            mark_duplicate(store, wrapper, old.run_id, spec, "was done before")
            _drop_old_work(store, spec)
            return Outcome(old.run_id, skipped=True, metrics=old.metrics, name=old.name)
        else:
            try:
                mark_duplicate(store, wrapper, old.run_id, spec, "goes on")
                reopen(store, old, _tags(store, spec))
            except BaseException:
                journal.close()
                raise
        return _work(store, spec, journal, params, old, body, drain_seconds)


def _work(
    store: Records,
    spec: RunSpec,
    journal: Journal,
    params: dict[str, str],
    old: find.RunRecord | None,
    body: Callable[[Run], None],
    drain_seconds: float,
) -> Outcome:
    """Run the body in a run that is open; ``old`` is the run as it was, where an interrupted one goes on."""
    sender = Sender(store.client, journal, store=store.name, drain_seconds=drain_seconds)
    try:
        with closing.terminable():
            points, known = LoggedPoints(), old.params if old else {}
            if old is not None:
                # In this order: what the sender sends meanwhile is in the store then.
                points.add_waiting(operation for operation, _ in journal.read(sys.maxsize))
                points.add_history(old.metrics, partial(store.metric_history, journal.run_id))
            new = {key: text for key, text in params.items() if key not in known}
            compared, digests = without_digests(new)
            sender.submit(LogParams(compared))
            sender.submit(SetTags(digests))
            work = _work_names(store, spec)
            run = Run(
                journal,
                sender,
                points,
                work=work,
                params={**known, **new},
                resumed=old is not None,
                experiment_id=old.experiment_id if old else store.experiment_id,
            )
            body(run)
            closing.tell_changed(run)
            sender.check()
    except BaseException as error:  # whatever it is, the run must not stay RUNNING; it is raised again
        closing.close_broken(store, journal.run_id, sender, error)
        raise
    waiting = closing.close_finished(store, run, sender)
    _drop_work(store, spec)
    closing.tell_waiting(store, waiting)
    metrics = run.latest_metrics()
    return Outcome(run.run_id, resumed=run.resumed, waiting=waiting, metrics=metrics, name=spec.name)


def _tags(store: Records, spec: RunSpec) -> dict[str, str]:
    tags = {Tag.SCHEMA: SCHEMA_VERSION, Tag.STAGE: spec.stage, Tag.CONFIG: spec.digest}
    if spec.study:
        tags[Tag.STUDY] = spec.study
    tags = {Tag.ORIGIN: Origin.COMPUTED, **tags, **git_tags(), **process_tags(), **store.tags, **spec.tags}
    return {key: redacted(value) for key, value in tags.items()}


def _begin(store: Records, spec: RunSpec, wrapper: str | None, tags: dict[str, str]) -> str:
    if wrapper is not None:
        store.set_tags(wrapper, tags)
        store.patiently(lambda: store.client.update_run(wrapper, name=spec.name))
        return wrapper
    context = redacted_values(registry.resolve_tags())
    return _create(store, spec.name, {**context, **tags, Tag.OPENING: uuid4().hex})


def _new_journal(store: Records, run_id: str) -> Journal:
    try:
        return Journal(store.uri, run_id)
    except BaseException as error:  # the run must not stay RUNNING
        closing.end_now(store, run_id, error)
        raise


def _create(store: Records, name: str, tags: dict[str, str]) -> str:
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


def _work_names(store: Records, spec: RunSpec) -> tuple[str, ...]:
    # The folder of checkpoints belongs to the configuration, and goes when that is done.
    return "work", store_key(store.uri), spec.digest


def _drop_work(store: Records, spec: RunSpec) -> None:
    folder = home().joinpath(*_work_names(store, spec))
    if folder.exists():
        shutil.rmtree(folder)


def _drop_old_work(store: Records, spec: RunSpec) -> None:
    """Drop what a process left that was killed when its run was as good as finished."""
    if home().joinpath(*_work_names(store, spec)).exists():
        statuses = {record.status for record in store.search({Tag.CONFIG: spec.digest})}
        if statuses == {find.FINISHED}:  # else it may belong to a run of another study that is to go on
            _drop_work(store, spec)
