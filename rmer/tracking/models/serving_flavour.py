"""The flavour by which MLflow serves a model of rmer: audio or spectrograms in, a table out, no pickles."""

from __future__ import annotations

import base64
import importlib.metadata
import io
import shutil
import zipfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import soundfile
import torch
from mlflow import pyfunc
from mlflow.models import Model, ModelSignature
from mlflow.models.utils import _save_example
from mlflow.types import ColSpec, DataType, Schema, TensorSpec
from mlflow.types.schema import Array

import rmer
from rmer.data.audio.decoders import SAMPLE_RATE
from rmer.tracking.models import serving_loader

SOURCE = "rmer_source.zip"
LOADER = "rmer_serving_loader"
# Beside torch and MLflow (which brings numpy, pandas and scipy): what the shipped code imports.
REQUIRED = ("numpy", "pandas", "scipy", "safetensors", "soundfile")
EXAMPLE_SECONDS = 2.0


def requirements() -> list[str]:
    """Return what a model of rmer needs where it is served, in the versions that are installed here."""
    named = [f"{name}=={importlib.metadata.version(name)}" for name in REQUIRED]
    return [f"torch=={torch.__version__.split('+')[0]}", f"mlflow=={mlflow.__version__}", *named]


def add_serving(folder: Path, described: Mapping[str, Any]) -> None:
    """Give a model folder, which has an exported program, the flavour ``python_function``.

    ``described`` is what the training says of the model: targets, concepts, normalisation, front end.
    """
    model = Model.load(str(folder))
    for old in ("input_example.json", "serving_input_example.json"):
        (folder / old).unlink(missing_ok=True)
    model.signature = _signature(described)
    _save_example(model, _example(), str(folder))
    (folder / "code").mkdir(exist_ok=True)
    shutil.copyfile(serving_loader.__file__, folder / "code" / f"{LOADER}.py")
    (folder / SOURCE).write_bytes(_source())
    pyfunc.add_to_model(
        model,
        loader_module=LOADER,
        data="data",
        code="code",
        conda_env="conda.yaml",
        python_env="python_env.yaml",
    )
    model.save(str(folder / "MLmodel"))


def _signature(described: Mapping[str, Any]) -> ModelSignature:
    inputs: list[ColSpec | TensorSpec] = [
        ColSpec(DataType.string, "audio", required=False),
        ColSpec(DataType.string, "path", required=False),
        ColSpec(Array(Array(DataType.double)), "spectrogram", required=False),
    ]
    names = [*described["targets"], *(f"concept_{name}" for name in described["concepts"])]
    return ModelSignature(Schema(inputs), Schema([ColSpec(DataType.double, name) for name in names]))


def _example() -> pd.DataFrame:
    """Return a row of audio: a tone of 220 Hz that swells, as a FLAC file in base64."""
    time = np.arange(int(EXAMPLE_SECONDS * SAMPLE_RATE)) / SAMPLE_RATE
    tone = 0.5 * np.sin(2 * np.pi * 220 * time) * np.sin(np.pi * time / EXAMPLE_SECONDS)
    buffer = io.BytesIO()
    soundfile.write(buffer, tone, SAMPLE_RATE, "PCM_16", format="FLAC")
    return pd.DataFrame({"audio": [base64.b64encode(buffer.getvalue()).decode()]})


@cache
def _source() -> bytes:
    """Return rmer's own code as a zip that Python imports from, the same bytes for the same code."""
    root, buffer = Path(rmer.__file__).parent, io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(root.rglob("*.py")):
            entry = zipfile.ZipInfo(f"rmer/{file.relative_to(root).as_posix()}", (1980, 1, 1, 0, 0, 0))
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, file.read_bytes())
    return buffer.getvalue()
