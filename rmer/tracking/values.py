"""Values as MLflow parameters: plain decimals, nested keys joined with dots."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from rmer.redaction import redacted

PREFIX = "cfg."
ABSENT = "(none)"
# MLflow cuts longer parameter values without a word.
LONGEST = 6000


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
