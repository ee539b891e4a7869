"""Networks as MLflow LoggedModels, in a form that loads without executing pickles (``torch.export``, pt2)."""

from __future__ import annotations

import copy
import os
import shutil
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import torch
import yaml
from mlflow.models import Model, ModelSignature
from mlflow.types import Schema, TensorSpec
from torch import nn

from rmer.errors import UserError
from rmer.systems.audio_model import hearing
from rmer.tracking.machine import lack
from rmer.tracking.models.archive_check import check_archive, damaged, refused
from rmer.tracking.models.serving_flavour import add_serving, requirements

_PICKLES = "MLFLOW_ALLOW_PICKLE_DESERIALIZATION"


class ExportedNetwork(nn.Module):
    """A network loaded from the store: evaluation mode only, input gradients work."""

    def __init__(self, program: nn.Module) -> None:
        super().__init__()
        self.program = program
        self.training = False

    def forward(self, inputs: torch.Tensor) -> Any:
        """Return what the logged network returns for what it takes, such as ``[batch, 1, frames, bands]``."""
        return self.program(inputs)

    def train(self, mode: bool = True) -> ExportedNetwork:
        """Accept evaluation mode; raise :class:`UserError` for training mode, which is not exported."""
        if mode:
            raise UserError("a model from the store cannot be trained", mend="Rebuild it from its weights")
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> ExportedNetwork:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # torch copies its own deprecated classes
            return ExportedNetwork(copy.deepcopy(self.program, memo))


def save_network(
    folder: Path,
    network: nn.Module,
    example_input: np.ndarray,
    example_outputs: Mapping[str, np.ndarray],
    *,
    metadata: Mapping[str, Any] | None = None,
    extra_files: Mapping[str, Path] | None = None,
) -> None:
    """Write a network as an MLflow model folder: exported program, signature, input example.

    ``example_input`` is float32 ``[batch, 1, frames, bands]``; the batch size stays free. The network is
    exported from a copy on the CPU in evaluation mode. ``extra_files`` go beside it under these names. Where
    ``metadata`` says what the network predicts of what, MLflow can serve it
    (:mod:`rmer.tracking.models.serving_flavour`).
    """
    example = np.ascontiguousarray(example_input, dtype=np.float32)
    if len(example) < 2:  # a batch of one would be frozen into the exported program
        example = np.concatenate([example, example])
    signature = ModelSignature(
        inputs=Schema([TensorSpec(np.dtype(np.float32), (-1, *example.shape[1:]))]),
        outputs=Schema(
            [TensorSpec(value.dtype, (-1, *value.shape[1:]), name) for name, value in example_outputs.items()]
        ),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # hints about serving, which the exported program does not use
        mlflow.pytorch.save_model(
            copy.deepcopy(network).cpu().eval(),
            str(folder),
            signature=signature,
            input_example=example,
            pip_requirements=requirements(),
            metadata=dict(metadata or {}),
            serialization_format="pt2",
        )
    _drop_serving(folder)
    if described := metadata_of(folder):
        add_serving(folder, described)
    for name, path in (extra_files or {}).items():
        shutil.copyfile(path, folder / name)


def load_network(folder: Path) -> nn.Module:
    """Load a model folder on the CPU, executing nothing that the folder brings.

    Before torch or MLflow open anything, models with Python code of their own, pickles, and programs that are
    more than arithmetic of PyTorch's own operators are refused with :class:`UserError`; what is guaranteed of
    the others is said in :func:`rmer.tracking.models.archive_check.check_archive`. MLflow checks for pickles
    once more. Damaged files are a UserError, too. A model whose metadata say that it takes audio becomes an
    :class:`rmer.systems.audio_model.AudioModel`.
    """
    program = _program(folder)
    check_archive(program)
    try:
        with _no_pickles():
            network = ExportedNetwork(mlflow.pytorch.load_model(str(folder)))
    except Exception as error:  # torch raises many kinds for a graph or for weights that do not fit together
        raise lack(error, str(program)) or damaged(program, type(error).__name__) from error
    described = _description(folder).get("metadata")
    return hearing(network, described if isinstance(described, dict) else {}, where=str(folder))


def naming_run(folder: Path) -> str:
    """Return the id of the run that a model folder says it was logged by, empty where it names none."""
    return str(_description(folder).get("run_id") or "")


def metadata_of(folder: Path) -> dict[str, Any]:
    """Return what a model folder of rmer says of its model (targets, concepts, ...); empty of others."""
    found = _description(folder).get("metadata")
    known = isinstance(found, dict) and {"targets", "concepts", "normalisation", "frontend"} <= set(found)
    return dict(found) if known else {}  # type: ignore[arg-type]


def _description(folder: Path) -> dict[str, Any]:
    """Return what the MLmodel file of a folder says; raises :class:`UserError` for anything but a mapping."""
    file = folder / "MLmodel"
    if not file.is_file():
        raise _not_ours(folder, "it has no MLmodel file")
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (yaml.YAMLError, ValueError, RecursionError, OSError) as error:  # dates, numbers, brackets, bytes
        raise _not_ours(folder, f"{type(error).__name__} in its MLmodel file") from error
    if not isinstance(content, dict):
        raise _not_ours(folder, "its MLmodel file holds no names with values")
    return content


def _program(folder: Path) -> Path:
    """Return the pt2 file of a model folder; raises :class:`UserError` for any other kind of model."""
    flavours = _description(folder).get("flavors")
    if not isinstance(flavours, dict) or not isinstance(flavours.get("pytorch"), dict):
        kinds = ", ".join(map(str, flavours)) if isinstance(flavours, dict) else ""
        raise _not_ours(folder, f"it is of kind {kinds[:100] or 'none'}")
    if flavours["pytorch"].get("code"):
        raise refused(folder, "it brings Python code of its own (code_paths)")
    data = folder / str(flavours["pytorch"].get("model_data")).replace("\0", "")
    if not data.resolve().is_relative_to(folder.resolve()):
        raise _not_ours(folder, "its model_data lies outside")
    if (data / "model.pth").exists():  # which MLflow prefers
        raise refused(folder, "it is stored as a pickle")
    if not (data / "model.pt2").is_file():
        raise _not_ours(folder, "it has no file model.pt2")
    return data / "model.pt2"


def _not_ours(folder: Path, reason: str) -> UserError:
    mend = "Log it with mlflow.pytorch.log_model(..., serialization_format='pt2')"
    return UserError(f"this is no PyTorch model ({reason})", where=str(folder), mend=mend)


def _drop_serving(folder: Path) -> None:
    # MLflow serves, and loads as "python_function", networks that return one tensor; ours return several, and
    # are served by a loader of rmer's.
    model = Model.load(str(folder))
    model.flavors.pop("python_function", None)
    example = (model.saved_input_example_info or {}).pop("serving_input_path", None)
    if example:
        (folder / example).unlink()
    model.save(str(folder / "MLmodel"))


@contextmanager
def _no_pickles() -> Iterator[None]:
    before = os.environ.get(_PICKLES)
    os.environ[_PICKLES] = "false"
    try:
        yield
    finally:
        if before is None:
            del os.environ[_PICKLES]
        else:
            os.environ[_PICKLES] = before
