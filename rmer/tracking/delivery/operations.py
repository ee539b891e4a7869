"""What can be done to a run, one type an operation: how it stands in the journal, and how the store gets it.

Every one may safely be applied twice. Metrics are unique by key, timestamp, step and value in MLflow's
stores, params, tags and artifacts by their name; a LoggedModel is found again by its run and name, and
dataset inputs by name and digest.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from mlflow.entities import Dataset, DatasetInput, InputTag, LoggedModelOutput, Metric
from mlflow.exceptions import MlflowException
from mlflow.models import Model
from mlflow.utils.mlflow_tags import MLFLOW_DATASET_CONTEXT

from rmer.tracking.delivery.destination import Batch, Destination, clear_uploads
from rmer.tracking.delivery.outages import say
from rmer.tracking.liveness import heartbeat

LOGGED_TABLES = "mlflow.loggedArtifacts"


@dataclass(frozen=True)
class Operation(ABC):
    """One operation; its fields are plain JSON values (NaN and infinities are kept).

    ``do`` is its name in the journal.
    """

    do: ClassVar[str]

    @abstractmethod
    def apply(self, to: Destination) -> None:
        """Do it to a run; raises whatever MLflow raises."""

    def as_dict(self) -> dict[str, Any]:
        """Return what :func:`parse` makes it of again."""
        return {"do": self.do, **vars(self)}


@dataclass(frozen=True)
class Batched(Operation):
    """One of those of which many go to the store in one call."""

    values: Mapping[str, Any]

    def add_to(self, batch: Batch, to: Destination) -> None:
        """Put the values into a batch for this run."""
        getattr(batch, self.do).update(self.values)

    def apply(self, to: Destination) -> None:
        apply_together([self], to)


@dataclass(frozen=True)
class LogMetrics(Batched):
    """Metrics of one step; ``time`` in milliseconds, ``model`` the name of the run's model, if of one.

    ``dataset`` is the name and digest of the data set, where that is said.
    """

    do = "metrics"
    time: int
    step: int
    model: str | None = None
    dataset: Sequence[str] | None = None

    def add_to(self, batch: Batch, to: Destination) -> None:
        model_id = to.model_id(self.model) if self.model else None
        name, digest = self.dataset or (None, None)
        of = {"model_id": model_id, "dataset_name": name, "dataset_digest": digest, "run_id": to.run_id}
        batch.metrics += [
            Metric(key, value, self.time, self.step, **of) for key, value in self.values.items()
        ]


@dataclass(frozen=True)
class LogParams(Batched):
    """Parameters."""

    do = "params"


@dataclass(frozen=True)
class SetTags(Batched):
    """Tags."""

    do = "tags"


@dataclass(frozen=True)
class LogArtifact(Operation):
    """A file or folder of the journal, put into the artifact folder ``path``."""

    do = "artifact"
    file: str
    path: str

    def apply(self, to: Destination) -> None:
        to.clear_uploads()
        local = to.folder / self.file
        upload = to.client.log_artifacts if local.is_dir() else to.client.log_artifact
        upload(to.run_id, str(local), self.path or None)


@dataclass(frozen=True)
class LogTable(LogArtifact):
    """A table for the UI, which finds it by its path ``name`` in a tag."""

    do = "table"
    name: str

    def apply(self, to: Destination) -> None:
        super().apply(to)
        tables = json.loads(to.run().data.tags.get(LOGGED_TABLES, "[]"))
        entry = {"path": self.name, "type": "table"}
        if entry not in tables:
            to.set_tags({LOGGED_TABLES: json.dumps([*tables, entry])})


@dataclass(frozen=True)
class LogInput(Operation):
    """The data set that a run works on."""

    do = "dataset"
    dataset: Mapping[str, Any]
    context: str

    def apply(self, to: Destination) -> None:
        tags = [InputTag(MLFLOW_DATASET_CONTEXT, self.context)]
        to.client.log_inputs(to.run_id, datasets=[DatasetInput(Dataset(**self.dataset), tags)])


@dataclass(frozen=True)
class LogModel(Operation):
    """A LoggedModel, whose files lie in the folder ``file`` of the journal."""

    do = "model"
    file: str
    name: str
    step: int
    params: Mapping[str, str]
    tags: Mapping[str, str] = field(default_factory=dict)

    def apply(self, to: Destination) -> None:
        """Create it, unless an earlier try did, upload its files and link it with the run."""
        folder = to.folder / self.file
        model_id = to.model_id(self.name) or to.create_model(self.name, self.params, self.tags)
        model = Model.load(str(folder))
        model.model_id, model.run_id, model.artifact_path = model_id, to.run_id, self.name
        model.save(str(folder / "MLmodel"))
        clear_uploads(to.client.get_logged_model(model_id).artifact_location)
        to.client.log_model_artifacts(model_id, str(folder))
        to.client.finalize_logged_model(model_id, "READY")
        outputs = to.run().outputs
        linked = [output.model_id for output in outputs.model_outputs] if outputs else []
        if model_id not in linked:
            to.client.log_outputs(to.run_id, [LoggedModelOutput(model_id, self.step)])


@dataclass(frozen=True)
class TagOther(Operation):
    """Tags of another run, which link it with this one."""

    do = "tag_other"
    run: str
    tags: Mapping[str, str]

    def apply(self, to: Destination) -> None:
        """Set them, unless the run is somebody else's, which only says so."""
        try:
            to.set_tags(self.tags, self.run)
        except MlflowException as error:
            if error.error_code != "PERMISSION_DENIED":
                raise
            say(f"Run {self.run} may only be read: it gets no link to run {to.run_id}.")


@dataclass(frozen=True)
class Terminate(Operation):
    """The end of a run, with its last tags; ``time`` in milliseconds."""

    do = "terminate"
    status: str
    time: int
    tags: Mapping[str, str]

    def apply(self, to: Destination) -> None:
        if self.tags:
            to.set_tags(self.tags)
        to.client.set_terminated(to.run_id, self.status, end_time=self.time)


@dataclass(frozen=True)
class Beat(Operation):
    """The sign that the run's process lives; sent past the journal."""

    do = "heartbeat"

    def apply(self, to: Destination) -> None:
        to.set_tags(heartbeat())


@dataclass(frozen=True)
class Unreadable(Operation):
    """A line that the disk lost, in a power failure say, or that another version of rmer wrote."""

    do = "unreadable"

    def apply(self, to: Destination) -> None:
        raise ValueError("a line of the journal cannot be read")


KINDS: dict[str, type[Operation]] = {
    kind.do: kind
    for kind in (
        *(LogMetrics, LogParams, SetTags, LogArtifact, LogTable, LogInput, LogModel),
        *(TagOther, Terminate, Unreadable),
    )
}


def parse(line: bytes) -> Operation:
    """Return the operation of a journal's line."""
    try:
        values = json.loads(line)
        return KINDS[values.pop("do")](**values)
    except (ValueError, TypeError, KeyError, AttributeError):
        return Unreadable()


def apply_together(operations: list[Batched], to: Destination) -> None:
    """Send metrics, params and tags of several operations in one call."""
    batch = Batch()
    for operation in operations:
        operation.add_to(batch, to)
    to.log_batch(batch)
