"""A tracking store: any MLflow store, by default a sqlite file in this folder."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from mlflow import MlflowClient
from mlflow.entities import RunTag
from mlflow.exceptions import MlflowException

from rmer.data.csv_tables import read_table
from rmer.errors import UserError
from rmer.redaction import public_address, redacted
from rmer.tracking.delivery.journal import left_behind, waiting_stores
from rmer.tracking.delivery.outages import patiently, say
from rmer.tracking.delivery.replay import SyncResult, replay
from rmer.tracking.downloads import Downloads
from rmer.tracking.find import FINISHED, RunRecord, as_record, newest_per_config, search
from rmer.tracking.liveness import is_alive, whereabouts
from rmer.tracking.locations import resolve_uri
from rmer.tracking.opening import Outcome, RunSpec, perform
from rmer.tracking.runs import Run
from rmer.tracking.schema import SCHEMA_VERSION, Tag
from rmer.tracking.setup import check_health, experiment_id, initialise, tame_mlflow

if TYPE_CHECKING:
    import pandas as pd
    from torch import nn

T = TypeVar("T")
ABSENT = ("RESOURCE_DOES_NOT_EXIST", "NOT_FOUND", "INVALID_PARAMETER_VALUE")


class AbsentError(UserError):
    """The store answered, and has no run or model of this name."""


def connect(
    tracking_uri: str | None = None, experiment: str | None = None, *, send_waiting: bool = True
) -> Store:
    """Open a tracking store, set it up if it is new, and send what earlier processes left in the spool.

    ``tracking_uri`` defaults to ``MLFLOW_TRACKING_URI``, else ``sqlite:///mlflow.db`` in this folder;
    ``experiment`` to the one of ``mlflow run``, ``MLFLOW_EXPERIMENT_NAME``, else ``rmer``. Safe to be called
    by many processes at once. ``send_waiting=False`` leaves the spool for :meth:`Store.sync`. Raises
    :class:`UserError` within seconds when nobody answers.
    """
    uri = resolve_uri(tracking_uri)
    tame_mlflow()
    check_health(uri)
    client = initialise(uri)
    store = Store(client, uri, experiment_id(client, uri, experiment))
    if send_waiting:
        store.replay()
    return store


class Store:
    """An open tracking store; made by :func:`connect`."""

    def __init__(self, client: MlflowClient, uri: str, experiment_id: str) -> None:
        self.client, self.uri, self.experiment_id = client, uri, experiment_id
        self.name = redacted(uri)
        self.web = public_address(uri)  # of the UI; "" where no server serves one
        self.tags: Mapping[str, str] = {}
        self._downloads = Downloads(client, uri)

    def tagged(self, tags: Mapping[str, str]) -> Store:
        """Return this store, so that every run opened through it gets these tags too."""
        store = copy.copy(self)
        store.tags = {**self.tags, **tags}
        return store

    def perform(self, spec: RunSpec, body: Callable[[Run], None]) -> Outcome:
        """Do the work of one run, unless it is done already.

        A FINISHED run of the same configuration is skipped (in any experiment; of the same study, where
        ``spec`` names one); an interrupted or failed one is continued under its id; otherwise a run is opened
        (the one of ``mlflow run`` if this process was started by it, once). The run ends FINISHED, FAILED
        with the message in ``rmer.error``, or KILLED.
        Raises :class:`UserError` when a live process works on the same configuration, and what ``body``
        raises.
        """
        return perform(self, spec, body)

    def find(
        self, stage: str | None = None, tags: Mapping[str, str] | None = None, study: str | None = None
    ) -> list[RunRecord]:
        """Return the newest finished run of each configuration with these tags, newest first.

        Looks in all experiments, whoever made them.
        """
        wanted = dict(tags or {})
        if stage:
            wanted[Tag.STAGE] = stage
        if study:
            wanted[Tag.STUDY] = study
        return newest_per_config(self.search(wanted, status=FINISHED))

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

    def download(self, run_id: str, path: str) -> Path:
        """Return a local path of a run's artifact (file or folder); a server's is copied and kept."""
        return self._read(lambda: self._downloads.artifact(run_id, path))

    def read_table(self, run_id: str, path: str) -> pd.DataFrame:
        """Read a table that a run logged; names such as clip ids stay text, empty text stays empty.

        Raises :class:`UserError` where it is absent, no table, or not what the run logged.
        """
        return read_table(self.download(run_id, path), where=f"{path} of run {run_id}")

    def model_folder(self, uri: str) -> Path:
        """Return a local folder of a logged model: ``models:/...``, ``runs:/<run>/<name>`` or a path."""
        return self._read(lambda: self._downloads.model(uri))

    def load_model(self, uri: str) -> nn.Module:
        """Load a logged model on the CPU, without executing pickles (else :class:`UserError`)."""
        from rmer.tracking.models.export import load_network  # MLflow's PyTorch part takes a second to import

        return load_network(self.model_folder(uri))

    def run_of_model(self, folder: Path) -> RunRecord | None:
        """Return the run that a model folder says it was logged by, where it names one of this store."""
        from rmer.tracking.models.export import naming_run

        run_id = naming_run(folder)
        if not run_id:
            return None
        try:
            return self.get(run_id)
        except AbsentError:
            return None  # a model brought from another store

    def replay(self) -> SyncResult:
        """Send what earlier processes left in the spool for this store."""
        result = replay(self.client, self.uri)
        if result.records:
            say(f"Sent {result.records} records of {result.runs} runs that waited for {self.name}.")
        for reason in result.refused:
            say(f"{self.name} refused a record that waited: {reason}")
        return result

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
        for record in self.search({Tag.SCHEMA: SCHEMA_VERSION}, status="RUNNING"):
            if not is_alive(record.tags):
                self.end_dead(record)
                marked.append(record.run_id)
        return marked

    def end_dead(self, record: RunRecord) -> None:
        """Mark a run whose process is known to be dead as KILLED."""
        self.set_tags(record.run_id, {Tag.ERROR: f"{whereabouts(record.tags)} died"})
        self.patiently(lambda: self.client.set_terminated(record.run_id, "KILLED"))

    def experiment_name(self) -> str:
        """Return the name of the experiment that this store logs to."""
        return str(self.patiently(lambda: self.client.get_experiment(self.experiment_id)).name)

    def link(self, record: RunRecord) -> str:
        """Return the address of a run in the UI, without login; of a store without a server, its id."""
        if not self.web:
            return f"run {record.run_id}"
        return f"{self.web}/#/experiments/{record.experiment_id}/runs/{record.run_id}"

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

    def _read(self, call: Callable[[], T]) -> T:
        """Make a call that names a run or model: that there is none is the user's mistake."""
        try:
            return self.patiently(call)
        except MlflowException as error:
            if error.error_code not in ABSENT:
                raise
            mend = "Check the id and MLFLOW_TRACKING_URI"
            raise AbsentError(error.message, where=self.name, mend=mend) from error

    def patiently(self, call: Callable[[], T]) -> T:
        """Make a call, waiting a while for a store that is away."""
        return patiently(call, store=self.name)
