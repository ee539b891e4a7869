"""A tracking store: any MLflow store, by default a sqlite file in this folder."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from rmer.data.csv_tables import read_table
from rmer.errors import UserError
from rmer.redaction import public_address
from rmer.tracking.downloads import Downloads
from rmer.tracking.find import FINISHED, RunRecord, newest_per_config
from rmer.tracking.lifecycle import wrapper
from rmer.tracking.lifecycle.opening import perform
from rmer.tracking.lifecycle.run_spec import Outcome, RunSpec
from rmer.tracking.locations import resolve_uri
from rmer.tracking.records import AbsentError, Records
from rmer.tracking.runs import Run
from rmer.tracking.schema import Tag
from rmer.tracking.setup import check_health, experiment_id, initialise, tame_mlflow
from rmer.tracking.ui import LOCAL, SHARED, View, run_page

if TYPE_CHECKING:
    import pandas as pd
    from torch import nn


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


class Store(Records):
    """An open tracking store; made by :func:`connect`."""

    def __init__(self, client: MlflowClient, uri: str, experiment_id: str) -> None:
        super().__init__(client, uri, experiment_id)
        self.web = public_address(uri)  # of the UI; "" where no server serves one
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
        given = {Tag.STAGE: stage, Tag.STUDY: study}
        wanted = {**(tags or {}), **{tag: value for tag, value in given.items() if value}}
        return newest_per_config(self.search(wanted, status=FINISHED))

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

    def model_description(self, folder: Path) -> dict[str, Any]:
        """Return what a model folder of rmer says of its model (targets, normalisation, ...); else empty."""
        from rmer.tracking.models.export import metadata_of

        return metadata_of(folder)

    def run_of_model(self, folder: Path) -> RunRecord | None:
        """Return the run that a model folder says it was logged by, where it names one of this store."""
        from rmer.tracking.models.export import naming_run

        run_id = naming_run(folder)
        try:
            return self.get(run_id) if run_id else None
        except AbsentError:
            return None  # a model brought from another store

    def register(self, run_id: str, name: str, alias: str) -> int:
        """Register the one model of a run under ``name``, point the alias at it, and return its version.

        Raises :class:`UserError` where the run has no model, or several, or MLflow refuses the name.
        """
        from rmer.tracking.models.registration import register_model

        return self.patiently(lambda: register_model(self.client, run_id, name, alias))

    def experiment_name(self) -> str:
        """Return the name of the experiment that this store logs to."""
        return str(self.patiently(lambda: self.client.get_experiment(self.experiment_id)).name)

    def link(self, record: RunRecord) -> str:
        """Return the address of a run in the UI, without login; of a store without a server, its id."""
        return self.page_of(record) if self.web else f"run {record.run_id}"

    def page_of(self, record: RunRecord, artifact: str = "", *, run_id: str = "") -> str:
        """Return the address of a run in the UI, or of one of its files; ``run_id`` is of another run."""
        return self.in_ui(run_page(record.experiment_id, run_id or record.run_id, artifact))

    def in_ui(self, page: str) -> str:
        """Return the address of a page of the UI; without a server, as ``mlflow ui`` serves it."""
        return f"{self.web or LOCAL}/{page}"

    def prepare(self, view: View, experiment_id: str) -> str:
        """Return the address of a list of runs, with its columns if the experiment may get a tag for it."""
        tag = f"{SHARED}{view.key}"
        try:
            known = self.patiently(lambda: self.client.get_experiment(experiment_id)).tags
            if known.get(tag) != view.state:
                self.patiently(lambda: self.client.set_experiment_tag(experiment_id, tag, view.state))
        except (MlflowException, UserError):  # whoever may only read sees the same runs, without the columns
            return self.in_ui(view.plain_page(experiment_id))
        return self.in_ui(view.shared_page(experiment_id))


def mark_wrapper_failed(error: BaseException) -> None:
    """Say in the run that ``mlflow run`` opened why nothing came of it (bad parameters, say).

    Does nothing outside ``mlflow run`` or once a stage has taken that run over.
    """
    if os.environ.get(wrapper.WRAPPER):
        wrapper.end_wrapper(connect(), wrapper.take_wrapper(), error)
