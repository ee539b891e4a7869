"""Making a store usable: a quick check that it answers, its database made once, its experiment."""

from __future__ import annotations

import logging
import os
from contextlib import nullcontext
from pathlib import Path
from urllib.parse import quote, urlsplit

import requests
import sqlalchemy
from mlflow import MlflowClient
from mlflow.entities import Experiment
from mlflow.exceptions import MlflowException
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
from mlflow.utils.credentials import get_default_host_creds

from rmer.errors import UserError
from rmer.redaction import redacted
from rmer.tracking.databases import prepared
from rmer.tracking.delivery.outages import SERVER_ERROR, gone, is_outage, one_line, patiently
from rmer.tracking.locations import check_usable, sqlite_file
from rmer.tracking.machine import lack
from rmer.tracking.private import keep_private
from rmer.tracking.schema import DEFAULT_EXPERIMENT

HEALTH_SECONDS = 4


def tame_mlflow() -> None:
    """Make MLflow quiet and a dead server quick to notice; what the user set in the environment stays."""
    for variable, value in {
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",  # the sender and `patiently` try again
        "MLFLOW_HTTP_REQUEST_TIMEOUT": "60",
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


def check_health(uri: str) -> None:
    """Raise :class:`UserError` when nobody answers at the address of a server or database.

    Where somebody listens, an error of its is waited for as at any later call.
    """
    patiently(lambda: _knock(uri), store=redacted(uri))


def _knock(uri: str) -> None:
    try:
        if uri.startswith(("http://", "https://")):
            verify = get_default_host_creds(uri).verify  # type: ignore[no-untyped-call]
            answer = requests.get(f"{uri}/health", timeout=HEALTH_SECONDS, verify=verify)
            if answer.status_code >= SERVER_ERROR:
                answer.raise_for_status()
        elif uri.startswith("postgresql"):
            engine = sqlalchemy.create_engine(uri, connect_args={"connect_timeout": HEALTH_SECONDS})
            with engine.connect():
                pass
            engine.dispose()
    except (requests.RequestException, sqlalchemy.exc.OperationalError) as error:
        answered = isinstance(error, (requests.HTTPError, requests.exceptions.ChunkedEncodingError))
        if answered or "Connection aborted" in str(error):  # somebody is there
            raise
        raise gone(redacted(uri), error) from error
    except ModuleNotFoundError as error:
        mend = "Install psycopg (for postgresql://) or psycopg2-binary (for postgresql+psycopg2://)"
        what = f"the database driver is missing ({error})"
        raise UserError(what, where=redacted(uri), mend=mend) from error


def initialise(uri: str, artifacts: str = "") -> MlflowClient:
    """Return a client of the store, its database made if it is new.

    ``artifacts`` is where the experiment ``Default`` of a new database keeps them, for a server to decide.
    """
    return patiently(lambda: _client(uri, artifacts), store=redacted(uri))


def _client(uri: str, artifacts: str) -> MlflowClient:
    try:
        with prepared(uri, artifacts) if "sql" in urlsplit(uri).scheme else nullcontext():
            if artifacts:
                SqlAlchemyStore(uri, artifacts).engine.dispose()  # type: ignore[no-untyped-call]
            if uri.startswith("sqlite:") and sqlite_file(uri) == Path.cwd() / "mlflow.db":
                keep_private(sqlite_file(uri))  # older versions left it open; others may be meant for many
            client = MlflowClient(tracking_uri=uri, registry_uri=uri)
            client.search_experiments(max_results=1)
    except (MlflowException, sqlalchemy.exc.SQLAlchemyError) as error:
        if is_outage(error) or lack(error):
            raise
        what = f"cannot be used ({one_line(error, 300)})"
        raise UserError(what, where=redacted(uri), mend="Check MLFLOW_TRACKING_URI") from error
    return client


def experiment_id(client: MlflowClient, uri: str, name: str | None) -> str:
    """Return the id of the experiment to log to, made if needed; inside ``mlflow run`` that run's."""
    named = name or os.environ.get("MLFLOW_EXPERIMENT_NAME") or DEFAULT_EXPERIMENT
    try:
        found = patiently(lambda: _given(client, name) or _named(client, uri, named), store=redacted(uri))
    except MlflowException as error:
        mend = "Check MLFLOW_TRACKING_URI (a relative sqlite file depends on the folder) and the experiment"
        raise UserError(error.message, where=redacted(uri), mend=mend) from error
    if found.lifecycle_stage == "deleted":
        mend = f"Restore it (`mlflow experiments restore -x {found.experiment_id}`) or name another"
        raise UserError(f"the experiment {found.name} was deleted", where=redacted(uri), mend=mend)
    check_usable(found.artifact_location, f"artifacts of experiment {found.name}")
    return str(found.experiment_id)


def _given(client: MlflowClient, name: str | None) -> Experiment | None:
    run_id, given = os.environ.get("MLFLOW_RUN_ID"), os.environ.get("MLFLOW_EXPERIMENT_ID")
    if run_id:
        given = client.get_run(run_id).info.experiment_id
    elif name:
        return None
    return client.get_experiment(given) if given else None


def _named(client: MlflowClient, uri: str, name: str) -> Experiment:
    found = client.get_experiment_by_name(name)
    if found is None:
        try:
            return client.get_experiment(client.create_experiment(name, _artifacts(uri, name)))
        except MlflowException as error:
            found = client.get_experiment_by_name(name)
            if found is None:  # else another process made it in this moment
                raise error from None
    return found


def _artifacts(uri: str, experiment: str) -> str | None:
    """Return where a local store keeps artifacts: beside its file. Servers decide for themselves."""
    if not uri.startswith("sqlite:"):
        return None
    return (sqlite_file(uri).parent / "mlruns" / quote(experiment, safe="")).as_uri()
