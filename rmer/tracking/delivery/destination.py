"""The run of a tracking store that operations are applied to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag
from mlflow.utils.file_utils import local_file_uri_to_path

from rmer.tracking.schema import Tag


@dataclass
class Batch:
    """Metrics, params and tags that go to a run in one call."""

    metrics: list[Metric] = field(default_factory=list)
    params: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)


class Destination:
    """One run, and the folder of the files that wait for it; its methods raise whatever MLflow raises."""

    def __init__(self, client: MlflowClient, run_id: str, folder: Path) -> None:
        self.client, self.run_id, self.folder = client, run_id, folder
        self._model_ids: dict[str, str] = {}
        self._uploads_cleared = False

    def log_batch(self, batch: Batch) -> None:
        """Log metrics, params and tags."""
        self.client.log_batch(
            self.run_id,
            metrics=batch.metrics,
            params=[Param(*item) for item in batch.params.items()],
            tags=[RunTag(*item) for item in batch.tags.items()],
        )

    def set_tags(self, tags: Mapping[str, str], run_id: str | None = None) -> None:
        """Set tags of the run, or of another one."""
        self.client.log_batch(run_id or self.run_id, tags=[RunTag(*item) for item in tags.items()])

    def run(self) -> Any:
        """Return the run as MLflow has it."""
        return self.client.get_run(self.run_id)

    def clear_uploads(self) -> None:
        """Remove, once, what broken uploads have left among the run's artifacts."""
        if not self._uploads_cleared:
            clear_uploads(self.run().info.artifact_uri)
            self._uploads_cleared = True

    def model_id(self, name: str) -> str | None:
        """Return the id of the run's LoggedModel of a name; None where there is none yet."""
        if name not in self._model_ids:
            found = self.client.search_logged_models(
                [self.run().info.experiment_id],
                filter_string=f"source_run_id = '{self.run_id}' AND name = '{name}'",
            )
            if not found:
                return None
            self._model_ids[name] = found[0].model_id
        return self._model_ids[name]

    def create_model(self, name: str, params: Mapping[str, str], tags: Mapping[str, str]) -> str:
        """Create a LoggedModel of the run, and return its id."""
        model = self.client.create_logged_model(
            experiment_id=self.run().info.experiment_id,
            name=name,
            source_run_id=self.run_id,
            tags={**tags, Tag.TRAIN_RUN_ID: self.run_id},
            params=dict(params),
            model_type="pytorch",
        )
        self._model_ids[name] = model.model_id
        return str(model.model_id)


def clear_uploads(uri: str) -> None:
    """Delete unfinished uploads from a folder of artifacts; of servers' folders, that is not ours to do.

    For the one process that may write there: a process that was killed while it uploaded left them.
    """
    if urlsplit(uri).scheme in ("", "file"):
        folder = Path(local_file_uri_to_path(uri))  # type: ignore[no-untyped-call]
        for path in folder.rglob(".artifact.uploading.*"):  # MLflow copies to such a name and renames then
            path.unlink(missing_ok=True)
