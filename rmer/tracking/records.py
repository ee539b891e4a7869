"""The runs of a store: found, read, marked, and sent what waits for them; every call waits for the store."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import TypeVar

from mlflow import MlflowClient
from mlflow.entities import RunTag
from mlflow.exceptions import MlflowException

from rmer.errors import UserError
from rmer.redaction import redacted
from rmer.tracking.delivery.journal import left_behind, waiting_runs, waiting_stores
from rmer.tracking.delivery.outages import patiently, say
from rmer.tracking.delivery.replay import SyncResult, replay
from rmer.tracking.find import RunRecord, as_record, search
from rmer.tracking.liveness import is_alive, whereabouts
from rmer.tracking.schema import SCHEMA_VERSIONS, Tag

T = TypeVar("T")
ABSENT = ("RESOURCE_DOES_NOT_EXIST", "NOT_FOUND", "INVALID_PARAMETER_VALUE")


class AbsentError(UserError):
    """The store answered, and has no run or model of this name."""


class Records:
    """The runs of one tracking store; ``tags`` are those that every run opened in it gets."""

    def __init__(self, client: MlflowClient, uri: str, experiment_id: str) -> None:
        self.client, self.uri, self.experiment_id = client, uri, experiment_id
        self.name = redacted(uri)
        self.tags: Mapping[str, str] = {}

    def search(
        self, tags: Mapping[str, str], *, status: str | None = None, most: int | None = None
    ) -> list[RunRecord]:
        """Return every run with these tags, whatever its status, or the newest ``most``, newest first."""
        return self.patiently(lambda: search(self.client, tags, status=status, most=most))

    def get(self, run_id: str) -> RunRecord:
        """Return one run; raises :class:`AbsentError` when there is none with this id."""
        return as_record(self._read(lambda: self.client.get_run(run_id)))

    def metric_history(self, run_id: str, key: str) -> list[tuple[int, float]]:
        """Return every point of a metric as ``(step, value)``, by step and time."""
        points = self._read(lambda: self.client.get_metric_history(run_id, key))
        points = sorted(points, key=lambda point: (point.step, point.timestamp))
        return [(point.step, point.value) for point in points]

    def set_tags(self, run_id: str, tags: Mapping[str, str]) -> None:
        """Set tags of a run at once, past the journal."""
        entities = [RunTag(key, value) for key, value in tags.items()]
        self.patiently(lambda: self.client.log_batch(run_id, tags=entities))

    def delete_tag(self, run_id: str, tag: str) -> None:
        """Delete a tag of a run, if it has it: the reply to an earlier try may have been lost."""

        def delete() -> None:
            if tag in self.client.get_run(run_id).data.tags:
                self.client.delete_tag(run_id, tag)

        self.patiently(delete)

    def replay(self) -> SyncResult:
        """Send what earlier processes left in the spool for this store."""
        result = replay(self.client, self.uri)
        if result.records:
            say(f"Sent {result.records} records of {result.runs} runs that waited for {self.name}.")
        for reason in result.refused:
            say(f"{self.name} refused a record that waited: {reason}")
        return result

    def deliver(self, run_ids: Collection[str]) -> None:
        """Send what these runs, which are done, logged here and what still waits: others are to read it now.

        Waits a while for a store that is away, and for another process that is sending it.
        """

        def some_wait() -> bool:
            return not set(run_ids).isdisjoint(waiting_runs(self.uri))

        def send() -> None:
            problem = self.replay().problem
            if some_wait():
                raise ConnectionError(problem or "another process is sending what waits for it")

        if some_wait():
            self.patiently(send)

    def left_behind(self) -> int:
        """Return how many runs have values waiting in the spool that no process is sending now."""
        return left_behind(self.uri)

    def sync(self) -> SyncResult:
        """Replay the spool, and mark runs whose process is dead as KILLED."""
        result = self.replay()
        if not result.problem:
            result.marked += self.mark_dead()
        result.elsewhere |= {name: runs for name, runs in waiting_stores().items() if name != self.name}
        return result

    def mark_dead(self) -> list[str]:
        """Mark RUNNING runs of this project whose process is dead as KILLED; return their ids."""
        marked = []
        for version in SCHEMA_VERSIONS:
            for record in self.search({Tag.SCHEMA: version}, status="RUNNING"):
                if not is_alive(record.tags):
                    self.end_dead(record)
                    marked.append(record.run_id)
        return marked

    def end_dead(self, record: RunRecord) -> None:
        """Mark a run whose process is known to be dead as KILLED."""
        self.set_tags(record.run_id, {Tag.ERROR: f"{whereabouts(record.tags)} died"})
        self.patiently(lambda: self.client.set_terminated(record.run_id, "KILLED"))

    def patiently(self, call: Callable[[], T]) -> T:
        """Make a call, waiting a while for a store that is away."""
        return patiently(call, store=self.name)

    def _read(self, call: Callable[[], T]) -> T:
        """Make a call that names a run or model: that there is none is the user's mistake."""
        try:
            return self.patiently(call)
        except MlflowException as error:
            if error.error_code not in ABSENT:
                raise
            mend = "Check the id and MLFLOW_TRACKING_URI"
            raise AbsentError(error.message, where=self.name, mend=mend) from error
