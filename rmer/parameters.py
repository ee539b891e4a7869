"""Parameters of a stage: declared once, used by MLproject, the command line, MLflow and Python alike.

A stage declares a frozen dataclass whose fields are made with :func:`param`. The command line is generated
from it (``entrypoints/cli.py``), a test compares ``MLproject`` with it, and its resolved values are what a
run logs under ``cfg.*``.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, TypeVar

from rmer.errors import UserError

P = TypeVar("P", bound="Parameters")


def param(
    default: Any,
    help: str,
    *,
    choices: tuple[Any, ...] = (),
    low: float | None = None,
    high: float | None = None,
    hidden: bool = False,
) -> Any:
    """Declare one parameter: its default, help text, and the values it may take (``low <= value <= high``)."""
    metadata = {"help": help, "choices": choices, "low": low, "high": high, "hidden": hidden}
    return dataclasses.field(default=default, metadata=metadata)


@dataclasses.dataclass(frozen=True)
class Parameters:
    """Base class: checks every field against its declaration when an instance is made."""

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            _check(field, getattr(self, field.name))

    @classmethod
    def from_mapping(cls: type[P], values: Mapping[str, Any], *, where: str = "parameters") -> P:
        """Build from a mapping (a YAML file, say); unknown names are an error that lists the known ones."""
        known = {field.name for field in dataclasses.fields(cls)}
        unknown = sorted(set(values) - known)
        if unknown:
            raise UserError(
                f"unknown parameter{'s' if len(unknown) > 1 else ''} {', '.join(unknown)}",
                where=where,
                mend=f"Known are: {', '.join(sorted(known))}",
            )
        return cls(**values)

    def as_dict(self) -> dict[str, Any]:
        """Return the fields as plain values, in order of declaration."""
        return dataclasses.asdict(self)


def _check(field: dataclasses.Field[Any], value: Any) -> None:
    rules = field.metadata
    if value is None or not rules:
        return
    where = f"parameter {field.name}"
    if rules["choices"] and value not in rules["choices"]:
        choices = ", ".join(str(choice) for choice in rules["choices"])
        raise UserError(f"{value!r} is not one of its values", where=where, mend=f"Choose one of: {choices}")
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        low = -math.inf if rules["low"] is None else rules["low"]
        high = math.inf if rules["high"] is None else rules["high"]
        if not (low <= value <= high) or not math.isfinite(value):
            raise UserError(f"{value} is out of range", where=where, mend=f"Give a number in [{low}, {high}]")
