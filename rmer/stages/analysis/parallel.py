"""Several questions to a store at a time, since a server answers slowly but to many."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from rmer.tracking import RunRecord, Store
from rmer.tracking.store import AbsentError

READERS = 8

T = TypeVar("T")
R = TypeVar("R")


def in_parallel(function: Callable[[T], R], items: Sequence[T]) -> list[R]:
    """Return ``function`` of every item, in order."""
    with ThreadPoolExecutor(READERS) as pool:
        return list(pool.map(function, items))


def named_runs(store: Store, records: Sequence[RunRecord], tag: str) -> list[RunRecord]:
    """Return the runs that a tag of others names, in their order; those that were deleted are left out."""
    ids = list(dict.fromkeys(record.tags[tag] for record in records if record.tags.get(tag)))

    def find(run_id: str) -> RunRecord | None:
        try:
            return store.get(run_id)
        except AbsentError:
            return None

    return [record for record in in_parallel(find, ids) if record is not None]
