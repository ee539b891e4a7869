"""Models that are given by an address: of MLflow, of a checkpoint file, of a server, or of a Python file."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import torch
from torch import Tensor, nn

from rmer.data.standardised import Standardised
from rmer.digests import file_digest, text_digest
from rmer.errors import UserError
from rmer.redaction import redacted
from rmer.systems.audio_model import AudioModel, example_samples
from rmer.systems.black_box import is_address, served
from rmer.systems.code_model import code_file, is_code, model_of_code
from rmer.systems.network import load_checkpoint
from rmer.tracking import RunRecord, Store

CHECKPOINT_SUFFIXES = (".pt", ".pth", ".safetensors")


@dataclass(frozen=True, eq=False)
class GivenModel:
    """A model, what stands for its weights, and what it may be called.

    ``folder`` is that of a model of MLflow, ``run`` the run that logged it, where this store knows it.
    """

    model: nn.Module
    digest: str
    name: str
    folder: Path | None = None
    run: RunRecord | None = None


def given_model(store: Store | None, uri: str) -> GivenModel:
    """Load a model by its address; raises UserError where there is none, or a store is needed."""
    if is_address(uri):
        # Nothing is known of its weights.
        return GivenModel(served(uri), text_digest(redacted(uri)), urlsplit(uri).hostname or uri)
    if is_code(uri):
        model = model_of_code(uri)
        return GivenModel(model, _digest_of_code(uri, model), uri.rpartition(":")[2])
    if uri.endswith(CHECKPOINT_SUFFIXES):
        path = Path(uri.removeprefix("file://")).expanduser()
        return GivenModel(load_checkpoint(path), digest_of(path), path.stem)
    if store is None:
        raise UserError("there is no store", where=uri, mend="Set MLFLOW_TRACKING_URI")
    folder = store.model_folder(uri)
    run = store.run_of_model(folder)
    name = run.name if run is not None else uri.removeprefix("models:/").split("/")[0]
    return GivenModel(store.load_model(str(folder)), digest_of(folder), name, folder, run)


def digest_of(path: Path) -> str:
    """Return 16 hex digits over a file, or over the weights among the files of a model folder."""
    if path.is_file():
        return file_digest(path)[:16]
    content = hashlib.sha256()
    for file in filter(Path.is_file, sorted((path / "data").rglob("*"))):
        content.update(file.read_bytes())
    return content.hexdigest()[:16]


def example_of(model: nn.Module, data: Standardised) -> Tensor:
    """Return what a model takes of two clips: of the data set's, or of noise where it takes audio."""
    frames = data.test.inputs.shape[2]
    return example_samples(frames) if isinstance(model, AudioModel) else data.test.inputs[:2]


def digest_with_predictions(digest: str, model: nn.Module, data: Standardised) -> str:
    """Return what stands for a model of code: what its file loads is seen in its predictions alone."""
    with torch.no_grad():
        found = model(example_of(model, data))["output"]
    predictions = np.round(found.double().cpu().numpy(), 4) + 0.0
    return hashlib.sha256(digest.encode() + predictions.tobytes()).hexdigest()[:16]


def _digest_of_code(uri: str, model: nn.Module) -> str:
    content = hashlib.sha256(uri.rpartition(":")[2].encode() + code_file(uri).read_bytes())
    for name, values in model.state_dict().items():
        content.update(name.encode())
        # NumPy knows no bfloat16, but its bytes.
        content.update(values.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return content.hexdigest()[:16]
