"""An open run: what a stage logs to."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rmer.data.csv_tables import write_table
from rmer.figures import save_figure
from rmer.redaction import redacted, redacted_values
from rmer.tracking import integrity
from rmer.tracking.delivery import operations
from rmer.tracking.delivery.journal import Journal
from rmer.tracking.delivery.operations import LogArtifact, Operation
from rmer.tracking.delivery.points import LoggedPoints
from rmer.tracking.delivery.sender import Sender
from rmer.tracking.private import private_folder
from rmer.tracking.ui import View, run_page
from rmer.tracking.values import PREFIX, RESUMED, as_params, as_text, without_digests

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from matplotlib.figure import Figure
    from torch import nn

NOTE = "mlflow.note.content"
DOTS_PER_INCH = 200


class Run:
    """One open run. Every method returns at once: values are written to disk here and sent in the background.

    ``resumed`` tells that an interrupted run goes on.
    """

    def __init__(
        self,
        journal: Journal,
        sender: Sender,
        points: LoggedPoints,
        *,
        work: tuple[str, ...],
        params: dict[str, str],
        resumed: bool,
        experiment_id: str,
    ) -> None:
        self.run_id, self.resumed, self._work, self._params = journal.run_id, resumed, work, params
        self._experiment_id = experiment_id
        self._journal, self._sender, self._points = journal, sender, points
        self._digests: integrity.Digests = {}  # of the artifacts

    @property
    def work_dir(self) -> Path:
        """A local folder for checkpoints that belongs to the configuration.

        It outlives a killed process, and goes when the run is finished.
        """
        return private_folder(*self._work)

    def page(self, artifact: str = "", *, of: str = "") -> str:
        """Return the page of this run, or of the run ``of``, or of one of its files, for descriptions.

        Any experiment in the address will do: the page of a run finds the right one.
        """
        return run_page(self._experiment_id, of or self.run_id, artifact)

    def list_page(self, tags: Mapping[str, str], order: str) -> str:
        """Return the page of the runs with these tags in this experiment, the largest of a metric first."""
        return View("", tags, order).plain_page(self._experiment_id)

    def metrics(
        self,
        values: Mapping[str, float],
        step: int | None = None,
        *,
        model: str | None = None,
        dataset: tuple[str, str] | None = None,
    ) -> None:
        """Log metrics of one step (an epoch, say); ``model`` names a model of this run that they describe.

        ``dataset`` is the name and digest of the data set that they were measured on.
        Points that the run had before it was interrupted are not logged again
        (:class:`rmer.tracking.delivery.points.LoggedPoints`).
        """
        step = 0 if step is None else int(step)
        new = self._points.take_new({key: float(value) for key, value in values.items()}, step)
        if new:
            self._sender.submit(operations.LogMetrics(new, int(time.time() * 1000), step, model, dataset))

    def tags(self, values: Mapping[str, Any]) -> None:
        """Set tags."""
        self._sender.submit(operations.SetTags(_texts(values)))

    def tag_other(self, run_id: str, values: Mapping[str, Any]) -> None:
        """Set tags of another run, to link it with this one."""
        self._sender.submit(operations.TagOther(run_id, _texts(values)))

    def params(self, values: Mapping[str, Any]) -> None:
        """Log parameters as ``cfg.<name>``. A value cannot change: raises ``ValueError`` if it would.

        In a resumed run a changed value is logged as the tag ``cfg.<name>.resumed``.
        """
        params = as_params(values)
        changed = {key: text for key, text in params.items() if self._params.get(key, text) != text}
        if changed and not self.resumed:
            raise ValueError(f"parameters already have other values: {', '.join(sorted(changed))}")
        new = {key: text for key, text in params.items() if key not in self._params}
        if new:
            self._params |= new
            self._sender.submit(operations.LogParams(new))
        if changed:
            self.tags({f"{key}{RESUMED}": text for key, text in changed.items()})

    def note(self, markdown: str) -> None:
        """Set the run's description."""
        self.tags({NOTE: markdown})

    def table(self, frame: pd.DataFrame, path: str) -> None:
        """Log a table as CSV (see :func:`rmer.data.csv_tables.write_table`)."""
        self._write(path, lambda file: write_table(frame, file))

    def ui_table(self, frame: pd.DataFrame, path: str) -> None:
        """Log a table in the form that the UI's artifact comparison pivots (as ``mlflow.log_table`` does)."""
        content = frame.to_json(orient="split", index=False, double_precision=15, force_ascii=False)
        operation = partial(operations.LogTable, name=path)
        self._write(path, lambda file: file.write_text(content, encoding="utf-8"), operation)

    def text(self, content: str, path: str) -> None:
        """Log a text, such as an HTML report; credentials in addresses are taken out."""
        self._write(path, lambda file: file.write_text(redacted(content), encoding="utf-8"))

    def json(self, content: Any, path: str) -> None:
        """Log plain values as JSON."""
        self.text(json.dumps(redacted_values(content), indent=2, ensure_ascii=False), path)

    def figure(self, figure: Figure, path: str, svg: bytes | None = None) -> None:
        """Log a matplotlib figure as ``<path>.png`` (200 dots per inch) and ``<path>.svg``.

        ``svg`` is the second file, where it was drawn already.
        """
        png, drawn = (partial(save_figure, figure, kind=kind, dpi=DOTS_PER_INCH) for kind in ("png", "svg"))
        self._write(f"{path}.png", png)
        self._write(f"{path}.svg", drawn if svg is None else lambda place: place.write_bytes(svg))

    def file(self, local: Path, folder: str = "") -> None:
        """Log a file or a folder under the artifact folder ``folder``; it is copied before this returns."""
        place = self._journal.new_folder() / Path(local).name
        self._note_digests(integrity.copy(Path(local), place), folder)
        if place.is_dir():
            folder = f"{folder}/{place.name}" if folder else place.name
        self._sender.submit(LogArtifact(self._journal.relative(place), folder))

    def model(
        self,
        network: nn.Module,
        example_input: np.ndarray,
        example_outputs: Mapping[str, np.ndarray],
        *,
        name: str = "model",
        step: int = 0,
        params: Mapping[str, Any] | None = None,
        metadata: Mapping[str, Any] | None = None,
        extra_files: Mapping[str, Path] | None = None,
    ) -> str:
        """Log a network as a LoggedModel that loads without pickles; return its URI ``runs:/<run>/<name>``.

        ``example_input`` is float32 ``[batch, 1, frames, bands]``, ``example_outputs`` what the network gives
        for it (name -> array; outputs that are None are left out); ``extra_files`` (name -> local file) are
        put into the model's folder.
        """
        from rmer.tracking.models.export import save_network  # MLflow's PyTorch part takes a second to import

        place, more = self._journal.new_folder() / name, extra_files
        save_network(place, network, example_input, example_outputs, metadata=metadata, extra_files=more)
        written = integrity.of_files(place)
        del written["MLmodel"]  # which gets the model's id when it is delivered
        self._note_digests(written, name)
        compared, _ = without_digests(as_params(params or {}))
        plain = {key.removeprefix(PREFIX): text for key, text in compared.items()}
        file = self._journal.relative(place)
        self._sender.submit(operations.LogModel(file, name, step, plain))
        return f"runs:/{self.run_id}/{name}"

    def dataset_input(
        self,
        name: str,
        digest: str,
        *,
        source: Mapping[str, Any],
        schema: Mapping[str, Any] | None = None,
        profile: Mapping[str, Any] | None = None,
        context: str = "training",
    ) -> None:
        """Log the data set that the run works on as an MLflow dataset input (shown in the UI)."""
        dataset = {
            "name": name,
            "digest": digest,
            "source_type": "rmer",
            "source": json.dumps(redacted_values(source)),
            "schema": json.dumps(schema) if schema else None,
            "profile": json.dumps(profile) if profile else None,
        }
        self._sender.submit(operations.LogInput(dataset, context))

    def digests(self) -> dict[str, str]:
        """Return the tags by which whoever reads the artifacts will know them again."""
        return integrity.as_tags(self._digests)

    def logged_step(self, key: str) -> int | None:
        """Return the largest step at which a metric is already logged; None when it never was."""
        return self._points.last_step(key)

    def latest_metrics(self) -> dict[str, float]:
        """Return the value of every metric at its largest step, whether it has been sent or waits."""
        return self._points.latest()

    def changed_metrics(self) -> dict[str, float]:
        """Return by how much metrics came out differently than before the run was interrupted."""
        return self._points.changed

    def _write(
        self, path: str, write: Callable[[Path], Any], log: Callable[[str, str], Operation] = LogArtifact
    ) -> None:
        folder, _, name = path.rpartition("/")
        place = self._journal.new_folder() / name
        write(place)
        self._note_digests({name: integrity.of_files(place)[""]}, folder)
        self._sender.submit(log(self._journal.relative(place), folder))

    def _note_digests(self, found: Mapping[str, str], folder: str) -> None:
        self._digests |= {f"{folder}/{name}" if folder else name: digest for name, digest in found.items()}


def _texts(values: Mapping[str, Any]) -> dict[str, str]:
    return {key: as_text(value) for key, value in values.items()}
