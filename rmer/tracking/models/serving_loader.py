"""What MLflow calls to load a model of rmer for serving; a copy of this file lies in each model's folder.

Nothing is unpickled: the network is an exported program, and the code that reads audio is rmer's own, as it
is installed, or else as it was when the model was logged (``rmer_source.zip``, beside the data).
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import torch
import yaml
from mlflow.exceptions import MlflowException

FOLDER = "RMER_AUDIO_FOLDER"


class Served:
    """What MLflow asks for predictions; the problems of a request are its sender's (HTTP 400)."""

    def __init__(self, folder: Path) -> None:
        from rmer.errors import UserError
        from rmer.evaluation.served_model import ServedModel

        program = torch.export.load(folder / "data" / "model.pt2").module()
        described = yaml.safe_load((folder / "MLmodel").read_text(encoding="utf-8"))["metadata"]
        audio = os.environ.get(FOLDER)
        self._refusal: type[Exception] = UserError
        self._model = ServedModel(program, described, Path(audio) if audio else None)

    def predict(self, rows: Any, params: Any = None) -> Any:
        """Return a table of emotions, one row for each of ``rows``."""
        try:
            return self._model.predict(rows)
        except self._refusal as error:
            raise MlflowException.invalid_parameter_value(str(error)) from error


def _load_pyfunc(data_path: str) -> Served:
    folder = Path(data_path).parent
    try:
        import rmer.evaluation.served_model  # noqa: F401
    except ImportError:
        sys.path.append(str(folder / "rmer_source.zip"))
    return Served(folder)
