"""The local folder of a run's checkpoints: it belongs to the configuration, and goes when that is done."""

from __future__ import annotations

import shutil

from rmer.tracking.find import FINISHED
from rmer.tracking.lifecycle.run_spec import RunSpec
from rmer.tracking.locations import home, store_key
from rmer.tracking.records import Records
from rmer.tracking.schema import Tag


def work_names(store: Records, spec: RunSpec) -> tuple[str, ...]:
    """Return the folder's names below the user's own folder."""
    return "work", store_key(store.uri), spec.digest


def drop_work(store: Records, spec: RunSpec) -> None:
    """Remove the folder."""
    folder = home().joinpath(*work_names(store, spec))
    if folder.exists():
        shutil.rmtree(folder)


def drop_old_work(store: Records, spec: RunSpec) -> None:
    """Drop what a process left that was killed when its run was as good as finished."""
    if home().joinpath(*work_names(store, spec)).exists():
        statuses = {record.status for record in store.search({Tag.CONFIG: spec.digest})}
        if statuses == {FINISHED}:  # else it may belong to a run of another study that is to go on
            drop_work(store, spec)
