"""A tracking store: any MLflow store, by default a sqlite file in this folder."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import quote

import requests
import sqlalchemy
from filelock import FileLock
from mlflow import MlflowClient
from mlflow.entities import RunTag
from mlflow.exceptions import MlflowException

from rmer.errors import UserError
from rmer.tracking import find
from rmer.tracking.downloads import Downloads, read_table
from rmer.tracking.liveness import is_alive, whereabouts
from rmer.tracking.locations import digest, home, redacted, resolve_uri, sqlite_file
from rmer.tracking.opening import Outcome, RunSpec, perform
from rmer.tracking.outages import gone, is_outage, patiently, say
from rmer.tracking.runs import Run
from rmer.tracking.schema import DEFAULT_EXPERIMENT, Tag
from rmer.tracking.sync import SyncResult, replay

if TYPE_CHECKING:
    import pandas as pd
    from torch import nn

T = TypeVar("T")
HEALTH_SECONDS = 4.0


def connect(tracking_uri: str | None = None, experiment: str | None = None) -> Store:
    """Open a tracking store, set it up if it is new, and send what earlier processes left in the spool.

    ``tracking_uri`` defaults to ``MLFLOW_TRACKING_URI``, else ``sqlite:///mlflow.db`` in this folder;
    ``experiment`` to the one of ``mlflow run``, ``MLFLOW_EXPERIMENT_NAME``, else ``rmer``. Safe to be called
    by many processes at once. Raises :class:`UserError` within seconds when nobody answers.
    """
    uri = resolve_uri(tracking_uri)
    _tame_mlflow()
    _check_health(uri)
    with _initialising(uri):
        client = MlflowClient(tracking_uri=uri, registry_uri=uri)
        experiment_id = _experiment(client, uri, experiment)
    store = Store(client, uri, experiment_id)
    store.replay()
    return store


class Store:
    """An open tracking store; made by :func:`connect`."""

    def __init__(self, client: MlflowClient, uri: str, experiment_id: str) -> None:
        self.client, self.uri, self.experiment_id = client, uri, experiment_id
        self.name = redacted(uri)
        self._downloads = Downloads(client, uri)

    def perform(self, spec: RunSpec, body: Callable[[Run], None]) -> Outcome:
        """Do the work of one run, unless it is done already.

        A FINISHED run of the same configuration (in any experiment) is skipped; an interrupted or failed one
        is continued under its id; otherwise a run is opened (the one of ``mlflow run`` if this process was
        started by it, once). The run ends FINISHED, FAILED with the message in ``rmer.error``, or KILLED.
        Raises :class:`UserError` when a live process works on the same configuration, and what ``body``
        raises.
        """
        return perform(self, spec, body)

    def find(
        self, stage: str | None = None, tags: Mapping[str, str] | None = None, study: str | None = None
    ) -> list[find.RunRecord]:
        """Return finished runs with these tags, of all experiments: the newest of each configuration, newest first."""
        wanted = dict(tags or {})
        if stage:
            wanted[Tag.STAGE] = stage
        if study:
            wanted[Tag.STUDY] = study
        return find.newest_per_config(self.search(wanted, status=find.FINISHED))

    def search(self, tags: Mapping[str, str], *, status: str | None = None) -> list[find.RunRecord]:
        """Return every run with these tags, whatever its status, newest first."""
        return self.patiently(lambda: find.search(self.client, tags, status=status))

    def get(self, run_id: str) -> find.RunRecord:
        """Return one run; raises :class:`UserError` when there is none with this id."""
        try:
            return find.as_record(self.patiently(lambda: self.client.get_run(run_id)))
        except MlflowException as error:
            mend = "Check the id and MLFLOW_TRACKING_URI"
            raise UserError(f"no run with id {run_id}", where=self.name, mend=mend) from error

    def metric_history(self, run_id: str, key: str) -> list[tuple[int, float]]:
        """Return every point of a metric as ``(step, value)``, by step and time."""
        points = self.patiently(lambda: self.client.get_metric_history(run_id, key))
        points = sorted(points, key=lambda point: (point.step, point.timestamp))
        return [(point.step, point.value) for point in points]

    def download(self, run_id: str, path: str) -> Path:
        """Return a local path of a run's artifact (file or folder); a server's is copied and kept."""
        return self.patiently(lambda: self._downloads.artifact(run_id, path))

    def read_table(self, run_id: str, path: str) -> pd.DataFrame:
        """Read a table that a run logged; names such as clip ids stay text, empty text stays empty."""
        return read_table(self.download(run_id, path))

    def model_folder(self, uri: str) -> Path:
        """Return a local folder of a logged model: ``models:/...``, ``runs:/<run>/<name>`` or a path."""
        return self.patiently(lambda: self._downloads.model(uri))

    def load_model(self, uri: str) -> nn.Module:
        """Load a logged model on the CPU, without executing pickles (else :class:`UserError`)."""
        from rmer.tracking.models import load_network  # MLflow's PyTorch part takes a second to import

        return load_network(self.model_folder(uri))

    def replay(self) -> SyncResult:
        """Send what earlier processes left in the spool for this store."""
        result = replay(self.client, self.uri)
        if result.records:
            say(f"Sent {result.records} records of {result.runs} runs that waited for {self.name}.")
        for reason in result.refused:
            say(f"{self.name} refused a record that waited: {reason}")
        return result

    def sync(self) -> SyncResult:
        """Replay the spool, and mark runs whose process is dead as KILLED."""
        result = self.replay()
        if not result.problem:
            result.marked += self.mark_dead()
        return result

    def mark_dead(self) -> list[str]:
        """Mark RUNNING runs of this project whose process is dead as KILLED; return their ids."""
        marked = []
        for record in self.search({Tag.SCHEMA: "1"}, status="RUNNING"):
            if not is_alive(record.tags):
                self.set_tags(record.run_id, {Tag.ERROR: f"{whereabouts(record.tags)} died"})
                self.client.set_terminated(record.run_id, "KILLED")
                marked.append(record.run_id)
        return marked

    def set_tags(self, run_id: str, tags: Mapping[str, str]) -> None:
        """Set tags of a run at once, past the journal."""
        entities = [RunTag(key, value) for key, value in tags.items()]
        self.patiently(lambda: self.client.log_batch(run_id, tags=entities))

    def patiently(self, call: Callable[[], T]) -> T:
        """Make a call, waiting a while for a store that is away."""
        return patiently(call, store=self.name)


def _tame_mlflow() -> None:
    """Make MLflow quiet and a dead server quick to notice; what the user set in the environment stays."""
    for variable, value in {
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
        "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
        "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
        "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
        "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    }.items():
        os.environ.setdefault(variable, value)
    for name, level in {
        "mlflow": logging.WARNING,
        "alembic": logging.WARNING,
        "mlflow.store.db.utils": logging.CRITICAL,  # outages of a database are told by us, on one line
        "urllib3.connectionpool": logging.ERROR,
    }.items():
        logging.getLogger(name).setLevel(level)


def _check_health(uri: str) -> None:
    name = redacted(uri)
    try:
        if uri.startswith(("http://", "https://")):
            answer = requests.get(f"{uri}/health", timeout=HEALTH_SECONDS)
            if answer.status_code >= 500:
                answer.raise_for_status()
        elif uri.startswith("postgresql"):
            engine = sqlalchemy.create_engine(uri, connect_args={"connect_timeout": int(HEALTH_SECONDS)})
            with engine.connect():
                pass
            engine.dispose()
    except (requests.RequestException, sqlalchemy.exc.OperationalError) as error:
        raise gone(name, error) from error


def _initialising(uri: str) -> FileLock:
    """Return the lock around the first use of a store: MLflow's set-up breaks when two processes do it."""
    if uri.startswith("sqlite:"):
        folder = sqlite_file(uri).parent
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(str(error), where=uri, mend="Choose a folder that you may write to") from error
    folder = home() / "locks"
    folder.mkdir(parents=True, exist_ok=True)
    return FileLock(folder / f"{digest(uri)}.lock")


def _experiment(client: MlflowClient, uri: str, name: str | None) -> str:
    """Return the id of the experiment to log to, made if needed; inside ``mlflow run`` that run's."""
    run_id, experiment_id = os.environ.get("MLFLOW_RUN_ID"), os.environ.get("MLFLOW_EXPERIMENT_ID")
    try:
        if run_id:
            return str(client.get_run(run_id).info.experiment_id)
        if experiment_id and not name:
            return str(client.get_experiment(experiment_id).experiment_id)
        name = name or os.environ.get("MLFLOW_EXPERIMENT_NAME") or DEFAULT_EXPERIMENT
        found = client.get_experiment_by_name(name)
        if found is None:
            return str(client.create_experiment(name, artifact_location=_artifacts(uri, name)))
    except MlflowException as error:
        if is_outage(error):
            raise gone(redacted(uri), error) from error
        raise UserError(str(error), where=redacted(uri), mend="Check the experiment and the store") from error
    if found.lifecycle_stage == "deleted":
        mend = f"Restore it (`mlflow experiments restore -x {found.experiment_id}`) or name another"
        raise UserError(f"the experiment {name} was deleted", where=redacted(uri), mend=mend)
    return str(found.experiment_id)


def _artifacts(uri: str, experiment: str) -> str | None:
    """Return where a local store keeps artifacts: beside its file. Servers decide for themselves."""
    if not uri.startswith("sqlite:"):
        return None
    return (sqlite_file(uri).parent / "mlruns" / quote(experiment, safe="")).as_uri()
