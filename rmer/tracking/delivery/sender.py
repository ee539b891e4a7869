"""The background thread that sends a run's journal, and the same work done later by a replay."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import replace

from mlflow import MlflowClient

from rmer.tracking.delivery.destination import Destination
from rmer.tracking.delivery.journal import Journal
from rmer.tracking.delivery.operations import (
    Batched,
    Beat,
    LogArtifact,
    LogModel,
    Operation,
    Terminate,
    apply_together,
)
from rmer.tracking.delivery.outages import is_outage, one_line, refusal, say
from rmer.tracking.liveness import HEARTBEAT_SECONDS
from rmer.tracking.machine import lack
from rmer.tracking.schema import Tag

MOST_OPERATIONS = 200
MOST_POINTS = 1000
FIRST_PAUSE, LONGEST_PAUSE = 0.25, 5.0


class StoreRefusedError(RuntimeError):
    """The store will never take a value that the code handed over: a bug, not a matter for the user."""


class Courier:
    """Carries a journal's operations to the store, some at a time, and records how far it came."""

    def __init__(self, client: MlflowClient, journal: Journal) -> None:
        self.journal = journal
        self._run = Destination(client, journal.run_id, journal.folder)
        self._last_beat = time.monotonic()

    def carry(self) -> int:
        """Send the next operations; return how many were sent (0: none are left).

        Raises what MLflow raises when the store is away (:func:`rmer.tracking.delivery.outages.is_outage`);
        what it refuses for good is kept aside in the journal.
        """
        waiting = self.journal.read(MOST_OPERATIONS)
        if not waiting:
            return 0
        group = _together(waiting)
        operations = [self._honest(operation) for operation, _ in group]
        try:
            together = [operation for operation in operations if isinstance(operation, Batched)]
            if together:
                apply_together(together, self._run)
            else:
                operations[0].apply(self._run)
        except Exception as error:  # an outage goes to the caller; otherwise find the operation at fault
            if is_outage(error):
                raise
            self._one_by_one(operations)
        files = [item.file for item in operations if isinstance(item, (LogArtifact, LogModel))]
        self.journal.acknowledge(group[-1][1], files)
        return len(group)

    def beat(self) -> None:
        """Renew the run's heartbeat tag when it is due."""
        if time.monotonic() - self._last_beat >= HEARTBEAT_SECONDS:
            self._last_beat = time.monotonic()
            self._one_by_one([Beat()])

    def _honest(self, operation: Operation) -> Operation:
        """Return the operation, but a run that lost values does not end as FINISHED."""
        if not isinstance(operation, Terminate) or not self.journal.refusals:
            return operation
        return replace(operation, status="FAILED", tags={Tag.ERROR: self.journal.refusals[0]})

    def _one_by_one(self, operations: Sequence[Operation]) -> None:
        for operation in operations:
            try:
                operation.apply(self._run)
            except Exception as error:  # as above
                if is_outage(error):
                    raise
                self.journal.refuse(operation, one_line(error))


class Sender:
    """Sends what a journal holds, in order, in the background; keeps what cannot be sent now."""

    def __init__(self, client: MlflowClient, journal: Journal, *, store: str, drain_seconds: float) -> None:
        self._journal, self._store, self._drain_seconds = journal, store, drain_seconds
        self._courier = Courier(client, journal)
        self._wake, self._closing, self._give_up = threading.Event(), threading.Event(), threading.Event()
        self._away_since: float | None = None
        self._refused = False  # or space or rights are missing: it will not pass within seconds
        self._thread = threading.Thread(target=self._work, name=f"rmer-{journal.run_id}", daemon=True)
        self._thread.start()

    def submit(self, operation: Operation) -> None:
        """Put an operation into the journal and return; raises if an earlier one was refused for good."""
        self.check()
        self._journal.append(operation)
        self._wake.set()

    def check(self) -> None:
        """Raise :class:`StoreRefusedError` when a value was refused for good, or the journal is lost."""
        if self._journal.refusals:
            first = self._journal.refusals[0]
            raise StoreRefusedError(f"the tracking store refused what was logged: {first}")

    def close(self, status: str, tags: dict[str, str]) -> int:
        """Send the rest and end the run; return how many operations stay because the store is away.

        Waits as long as the store takes operations, and ``drain_seconds`` after it stopped; not for a store
        that refuses. Raises ``OSError`` where the journal cannot be written any more, after what it holds has
        been sent.
        """
        now = int(time.time() * 1000)
        try:
            self._journal.append(Terminate(status, now, tags))
            self._journal.flush()
        finally:
            self._drain()
        return self._journal.count_waiting()

    def _drain(self) -> None:
        self._closing.set()
        self._wake.set()
        began = time.monotonic()
        while self._thread.is_alive():
            self._thread.join(0.2)
            away = self._away_since
            if away is not None and (
                self._refused or time.monotonic() - max(away, began) > self._drain_seconds
            ):
                self._give_up.set()
                self._thread.join(1.0)
                break

    def _work(self) -> None:
        pause = FIRST_PAUSE
        try:
            while not self._give_up.is_set():
                closing = self._closing.is_set()
                self._wake.clear()
                try:
                    sent = self._courier.carry()
                    if not closing:
                        self._courier.beat()
                except Exception as error:  # an outage is waited for; else the journal is lost: see `check`
                    if not is_outage(error):
                        self._journal.refusals.append(one_line(error))
                        break
                    self._note_away(error)
                    pause = self._rest(pause)
                    continue
                self._note_back()
                pause = FIRST_PAUSE
                if sent == 0:
                    if closing:
                        break
                    self._wake.wait(HEARTBEAT_SECONDS)
        finally:
            self._journal.close()

    def _rest(self, pause: float) -> float:
        """Wait before the next try, not for long when the run wants to close; return the next pause."""
        if self._closing.is_set():
            self._give_up.wait(FIRST_PAUSE)
        elif self._closing.wait(pause):
            return FIRST_PAUSE
        return min(2 * pause, LONGEST_PAUSE)

    def _note_away(self, error: Exception) -> None:
        problem = refusal(error, self._store) or lack(error, self._store)
        self._refused = problem is not None
        if self._away_since is None:
            self._away_since = time.monotonic()
            what = problem or f"The tracking store {self._store} does not answer ({one_line(error, 120)})"
            say(f"{what}. The work goes on; values are kept in {self._journal.folder} and sent later.")

    def _note_back(self) -> None:
        if self._away_since is not None:
            away = time.monotonic() - self._away_since
            say(f"The tracking store {self._store} answers again after {away:.0f} s.")
            self._away_since = None


def _together(waiting: list[tuple[Operation, int]]) -> list[tuple[Operation, int]]:
    """Return the first operations that can go to the store in one call."""
    group, points = waiting[:1], 0
    for operation, offset in waiting:
        points += len(operation.values) if isinstance(operation, Batched) else MOST_POINTS + 1
        if points > MOST_POINTS:
            break
        group.append((operation, offset))
    return group[1:] or group
