"""Applying journalled operations to a run of the tracking store; every one may safely be applied twice.

Metrics are unique by key, timestamp, step and value in MLflow's stores, params, tags and artifacts by their
name; a LoggedModel is found again by its tags, and dataset inputs by name and digest.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, LoggedModelOutput, Metric, Param, RunTag
from mlflow.exceptions import MlflowException
from mlflow.models import Model
from mlflow.utils.mlflow_tags import MLFLOW_DATASET_CONTEXT

from rmer.tracking.delivery.journal import Operation
from rmer.tracking.delivery.outages import say
from rmer.tracking.leftovers import clear_uploads
from rmer.tracking.schema import Tag

BATCH = ("metrics", "params", "tags")
FORBIDDEN = "PERMISSION_DENIED"
LOGGED_TABLES = "mlflow.loggedArtifacts"


class Delivery:
    """Applies operations to one run; raises whatever MLflow raises."""

    def __init__(self, client: MlflowClient, run_id: str, folder: Path) -> None:
        self._client, self._run_id, self._folder = client, run_id, folder
        self._model_ids: dict[str, str] = {}
        self._uploads_cleared = False

    def apply(self, operations: list[Operation]) -> None:
        """Apply operations: metrics, params and tags in one call, anything else alone."""
        if operations[0]["do"] in BATCH:
            self._batch(operations)
        else:
            (operation,) = operations
            getattr(self, f"_{operation['do']}")(operation)

    def set_tags(self, tags: dict[str, str], run_id: str | None = None) -> None:
        """Set tags of the run, or of another one, at once, past the journal."""
        self._client.log_batch(run_id or self._run_id, tags=[RunTag(*item) for item in tags.items()])

    def _batch(self, operations: list[Operation]) -> None:
        metrics: list[Metric] = []
        params: dict[str, str] = {}
        tags: dict[str, str] = {}
        for operation in operations:
            values = operation["values"]
            if operation["do"] == "metrics":
                metrics += self._points(operation)
            elif operation["do"] == "params":
                params |= values
            else:
                tags |= values
        self._client.log_batch(
            self._run_id,
            metrics=metrics,
            params=[Param(*item) for item in params.items()],
            tags=[RunTag(*item) for item in tags.items()],
        )

    def _points(self, operation: Operation) -> list[Metric]:
        name = operation.get("model")
        model_id = self._model_id(name) if name else None
        time, step = operation["time"], operation["step"]
        return [
            Metric(key, value, time, step, model_id=model_id, run_id=self._run_id)
            for key, value in operation["values"].items()
        ]

    def _artifact(self, operation: Operation) -> None:
        self._clear_uploads()
        path = self._folder / operation["file"]
        if path.is_dir():
            self._client.log_artifacts(self._run_id, str(path), operation["path"] or None)
        else:
            self._client.log_artifact(self._run_id, str(path), operation["path"] or None)

    def _clear_uploads(self) -> None:
        if not self._uploads_cleared:
            clear_uploads(self._run().info.artifact_uri)
            self._uploads_cleared = True

    def _table(self, operation: Operation) -> None:
        self._artifact(operation)
        tables = json.loads(self._run().data.tags.get(LOGGED_TABLES, "[]"))
        entry = {"path": operation["name"], "type": "table"}
        if entry not in tables:
            self._client.set_tag(self._run_id, LOGGED_TABLES, json.dumps([*tables, entry]))

    def _dataset(self, operation: Operation) -> None:
        dataset = Dataset(**operation["dataset"])
        tags = [InputTag(MLFLOW_DATASET_CONTEXT, operation["context"])]
        self._client.log_inputs(self._run_id, datasets=[DatasetInput(dataset, tags)])

    def _model(self, operation: Operation) -> None:
        name, folder = operation["name"], self._folder / operation["file"]
        model_id = self._model_id(name) or self._create_model(operation)
        model = Model.load(str(folder))
        model.model_id, model.run_id, model.artifact_path = model_id, self._run_id, name
        model.save(str(folder / "MLmodel"))
        clear_uploads(self._client.get_logged_model(model_id).artifact_location)
        self._client.log_model_artifacts(model_id, str(folder))
        self._client.finalize_logged_model(model_id, "READY")
        outputs = self._run().outputs
        linked = [output.model_id for output in outputs.model_outputs] if outputs else []
        if model_id not in linked:
            self._client.log_outputs(self._run_id, [LoggedModelOutput(model_id, operation["step"])])

    def _create_model(self, operation: Operation) -> str:
        name = operation["name"]
        model = self._client.create_logged_model(
            experiment_id=self._run().info.experiment_id,
            name=name,
            source_run_id=self._run_id,
            tags={**operation["tags"], Tag.TRAIN_RUN_ID: self._run_id},
            params=operation["params"],
            model_type="pytorch",
        )
        self._model_ids[name] = model.model_id
        return str(model.model_id)

    def _model_id(self, name: str) -> str | None:
        if name not in self._model_ids:
            found = self._client.search_logged_models(
                [self._run().info.experiment_id],
                filter_string=f"source_run_id = '{self._run_id}' AND name = '{name}'",
            )
            if not found:
                return None
            self._model_ids[name] = found[0].model_id
        return self._model_ids[name]

    def _tag_other(self, operation: Operation) -> None:
        """Link another run with this one, unless it is somebody else's, which only says so."""
        try:
            self.set_tags(operation["tags"], operation["run"])
        except MlflowException as error:
            if error.error_code != FORBIDDEN:
                raise
            say(f"Run {operation['run']} may only be read: it gets no link to run {self._run_id}.")

    def _terminate(self, operation: Operation) -> None:
        if operation["tags"]:
            self.set_tags(operation["tags"])
        self._client.set_terminated(self._run_id, operation["status"], end_time=operation["time"])

    def _unreadable(self, operation: Operation) -> None:
        raise ValueError("a line of the journal cannot be read")

    def _run(self) -> Any:
        return self._client.get_run(self._run_id)
