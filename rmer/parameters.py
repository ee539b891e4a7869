"""Parameters of a stage: declared once, used by MLproject, the command line, MLflow and Python alike.

A stage declares a frozen dataclass whose fields are made with :func:`param`. The command line is generated
from it (``entrypoints/cli.py``), a test compares ``MLproject`` with it, and its resolved values are what a
run logs under ``cfg.*``.
"""

from __future__ import annotations

import dataclasses
import math
import typing
from collections.abc import Mapping
from types import NoneType
from typing import Any, TypeVar

from rmer.errors import UserError

P = TypeVar("P", bound="Parameters")

TRUE, FALSE = ("true", "1", "yes", "on"), ("false", "0", "no", "off")
WANTED = {int: "a whole number", float: "a number", str: "text"}


def param(
    default: Any,
    help: str,
    *,
    choices: tuple[Any, ...] = (),
    low: float | None = None,
    high: float | None = None,
) -> Any:
    """Declare one parameter: default, help text, and the values it may take (``low <= value <= high``)."""
    metadata = {"help": help, "choices": choices, "low": low, "high": high}
    return dataclasses.field(default=default, metadata=metadata)


@dataclasses.dataclass(frozen=True)
class Parameters:
    """Base class: checks every field against its declaration when an instance is made."""

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            _check(field, getattr(self, field.name))

    @classmethod
    def from_mapping(cls: type[P], values: Mapping[str, Any], *, where: str = "parameters") -> P:
        """Build from a mapping (a command line, a YAML file); text becomes what the parameter's type says.

        Empty text stands for the default. Unknown names are an error that lists the known ones.
        """
        known = {field.name for field in dataclasses.fields(cls)}
        unknown = sorted(set(values) - known)
        if unknown:
            raise UserError(
                f"unknown parameter{'s' if len(unknown) > 1 else ''} {', '.join(unknown)}",
                where=where,
                mend=f"Known are: {', '.join(sorted(known))}",
            )
        types = typing.get_type_hints(cls)
        given = {name: value for name, value in values.items() if value != ""}
        return cls(**{name: _typed(name, types[name], value) for name, value in given.items()})

    def as_dict(self) -> dict[str, Any]:
        """Return the fields as plain values, in order of declaration."""
        return dataclasses.asdict(self)


def listed(text: str) -> list[str]:
    """Return the names in a text parameter that lists several by commas, without blanks and repeats."""
    return list(dict.fromkeys(filter(None, (part.strip() for part in text.split(",")))))


def _typed(name: str, hint: Any, value: Any) -> Any:
    """Return a value as the type of its parameter, from text where need be (YAML reads 5e-4 as text)."""
    kinds = typing.get_args(hint) or (hint,)
    kind = kinds[0]
    if value is None and NoneType in kinds:
        return None
    if kind is bool:
        if isinstance(value, str) and value.lower() in TRUE + FALSE:
            return value.lower() in TRUE
        if not isinstance(value, bool):
            raise _mismatch(name, value, "true or false")
        return value
    if isinstance(value, (bool, NoneType, list, dict)):
        raise _mismatch(name, value, WANTED[kind])
    try:
        typed = kind(value)
    except ValueError:
        raise _mismatch(name, value, WANTED[kind]) from None
    if kind is int and typed != float(value):
        raise _mismatch(name, value, WANTED[kind])
    return typed


def _mismatch(name: str, value: Any, wanted: str) -> UserError:
    return UserError(f"{value!r} is not {wanted}", where=f"parameter {name}", mend=f"Give {wanted}")


def _check(field: dataclasses.Field[Any], value: Any) -> None:
    rules = field.metadata
    if value is None or not rules:
        return
    where = f"parameter {field.name}"
    if rules["choices"] and value not in rules["choices"]:
        choices = ", ".join(str(choice) for choice in rules["choices"] if choice != "")
        raise UserError(f"{value!r} is not one of its values", where=where, mend=f"Choose one of: {choices}")
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        low = -math.inf if rules["low"] is None else rules["low"]
        high = math.inf if rules["high"] is None else rules["high"]
        if not (low <= value <= high) or not math.isfinite(value):
            raise UserError(f"{value} is out of range", where=where, mend=f"Give a number in [{low}, {high}]")
