"""Robust Music Emotion Recognition: train, attack, compare and explain MER models on MLflow."""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

# What users import from here. Each is fetched when it is asked for: torch and MLflow take seconds.
_OFFERED = {"File2Emotions": "rmer.stages.predict.file2emotions"}


def __getattr__(name: str) -> Any:
    if name not in _OFFERED:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_OFFERED[name]), name)
