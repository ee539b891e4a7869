"""Values as MLflow parameters: plain decimals, nested keys joined with dots."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from rmer.redaction import redacted

PREFIX = "cfg."
RESUMED = ".resumed"
ABSENT = "(none)"
# MLflow cuts longer parameter values without a word.
LONGEST = 6000
# What says nothing where runs are compared: digests, and how an attacked model was trained, in words.
_DIGESTS = re.compile(r"[0-9a-f]{12,}(,[0-9a-f]{12,})*")
_IN_WORDS = ("training", "adversarial_training")


def as_params(values: Mapping[str, Any]) -> dict[str, str]:
    """Return a resolved configuration as MLflow parameters ``cfg.<name>`` (nested: ``cfg.<name>.<name>``).

    Numbers are plain decimals (``0.0005``, never ``5e-4``; ``1.0`` and ``1`` are both ``1``), truth values
    ``true`` and ``false``, nothing ``none``, lists joined with commas. The prefix keeps them apart from the
    text that ``mlflow run`` logs under the bare names. Raises ``ValueError`` for a value of more than 6000
    characters and ``TypeError`` for one that is no plain value.
    """
    params = {}
    for key, value in _flat(values, PREFIX):
        text = as_text(value)
        if len(text) > LONGEST:
            raise ValueError(f"{key} is {len(text)} characters long; a parameter holds {LONGEST}")
        params[key] = text
    return params


def without_digests(params: Mapping[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    """Return what is logged as parameters, and what as tags of the same names.

    MLflow shows and compares every parameter that differs, which digests always do.
    """
    tags = {
        key: text
        for key, text in params.items()
        if _DIGESTS.fullmatch(text) or key.removeprefix(PREFIX) in _IN_WORDS
    }
    return {key: text for key, text in params.items() if key not in tags}, tags


def from_tags(tags: Mapping[str, str]) -> dict[str, str]:
    """Return the parameters among the tags of a run (:func:`without_digests`)."""
    return {key: text for key, text in tags.items() if key.startswith(PREFIX) and not key.endswith(RESUMED)}


def as_text(value: Any) -> str:
    """Return one value as the text of a parameter or tag, without credentials."""
    if value is None:
        return "none"
    if isinstance(value, (bool, np.bool_)):
        return "true" if value else "false"
    if isinstance(value, (float, np.floating)):
        return np.format_float_positional(value, trim="-") if np.isfinite(value) else str(float(value))
    if isinstance(value, str):
        return redacted(value)
    if isinstance(value, (int, np.integer)):
        return str(value)
    if isinstance(value, (list, tuple)):
        return ",".join(as_text(item) for item in value)
    raise TypeError(f"a parameter must be a plain value, not {type(value).__name__}")


def _flat(values: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
