"""Models that are known by their predictions alone: any callable, or a server that answers for one."""

from __future__ import annotations

import json
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from rmer.errors import UserError, shown
from rmer.redaction import redacted
from rmer.systems.network import Prediction

# Standardised spectrograms, float32 [batch, 1, frames, bands] -> targets [batch, targets].
Predict = Callable[[npt.NDArray[np.float32]], npt.ArrayLike]
SECONDS = 120.0  # that a server may take for a batch
WITHOUT_GRADIENTS = "suite, square, noise and transfer"


class BlackBox(nn.Module):
    """A model of the contract around a callable, which no gradient passes.

    Attacks that need none work on it. Others raise UserError, as does a callable that returns anything but
    numbers [batch, targets].
    """

    needs_float32: ClassVar[bool] = True  # what it computes with is its own

    def __init__(self, predict: Predict, name: str) -> None:
        super().__init__()
        self.predict, self.name = predict, name

    def forward(self, spectrograms: Tensor) -> Prediction:
        """Map [batch, 1, frames, bands] to ``output`` [batch, targets]; ``c_prob`` is None."""
        if spectrograms.requires_grad and torch.is_grad_enabled():
            mend = f"Attack it by {WITHOUT_GRADIENTS}, which need no gradient"
            raise UserError("is known by its predictions alone", where=self.name, mend=mend)
        found = self.predict(spectrograms.detach().cpu().float().numpy())
        try:
            values = np.asarray(found, np.float32)
        except (TypeError, ValueError) as error:
            raise UserError("predicts something else than numbers", where=self.name) from error
        if values.ndim != 2 or len(values) != len(spectrograms):
            what = f"predicts {list(values.shape)} for {len(spectrograms)} clips"
            raise UserError(what, where=self.name, mend="Return a row of targets for each clip")
        return {"output": torch.from_numpy(values).to(spectrograms), "c_prob": None}


def is_black_box(model: nn.Module) -> bool:
    """Tell whether a model, or a part of it, is known by its predictions alone."""
    return any(isinstance(part, BlackBox) for part in model.modules())


class PlainOutput(nn.Module):
    """A model of the contract around a network that returns its targets as a plain tensor."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.training = network.training

    def forward(self, spectrograms: Tensor) -> Prediction:
        """Map [batch, 1, frames, bands] to ``output`` [batch, targets]; ``c_prob`` is None."""
        return {"output": self.network(spectrograms), "c_prob": None}


def adapted(model: nn.Module, example: Tensor) -> nn.Module:
    """Return a model that returns what the contract asks for, where that of ``example`` is a plain tensor."""
    with torch.no_grad():
        found: Any = model(example)
    return PlainOutput(model) if isinstance(found, Tensor) else model


def is_address(uri: str) -> bool:
    """Tell whether a model is given by the address of a server."""
    return urllib.parse.urlsplit(uri).scheme in ("http", "https")


def served(address: str) -> BlackBox:
    """Return the model that answers at an address by the protocol of ``mlflow models serve``.

    Batches are sent as ``{"inputs": [batch, 1, frames, bands]}`` to ``<address>/invocations``; the answer is
    ``{"predictions": ...}`` with a list of numbers, or a mapping of names to numbers, for each clip.
    """
    url = address if address.rstrip("/").endswith("/invocations") else f"{address.rstrip('/')}/invocations"
    name = redacted(url)

    def ask(spectrograms: npt.NDArray[np.float32]) -> npt.ArrayLike:
        body = json.dumps({"inputs": spectrograms.tolist()}).encode()
        request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=SECONDS) as answer:
                rows = json.load(answer)["predictions"]
            return [list(row.values()) if isinstance(row, dict) else row for row in rows]
        except urllib.error.HTTPError as error:
            said = error.read(2000).decode(errors="replace")
            what = f"the server refuses spectrograms {list(spectrograms.shape)}: {shown(said)}"
            raise UserError(what, where=name, mend="Serve a model that takes them as inputs") from error
        except OSError as error:
            mend = "Start it, or correct the address"
            raise UserError(f"no model answers ({error})", where=name, mend=mend) from error
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(
                "the answer holds no predictions", where=name, mend="Serve it by MLflow"
            ) from error

    return BlackBox(ask, name)
