"""Parameters of a stage: declared once, used by MLproject, the command line, MLflow and Python alike.

A stage declares a frozen dataclass whose fields are made with :func:`param`, or is composed of such classes.
The command line is generated from it (``entrypoints/options.py``), roles say what is digested and compared,
and resolved values are what a run logs under ``cfg.*``.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
import os
import re
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import NoneType
from typing import Any, Literal, TypeVar

from rmer.errors import LONGEST_VALUE, UserError, shortened, shown
from rmer.nearest import did_you_mean
from rmer.old_names import told_new_name, told_new_value

P = TypeVar("P", bound="Parameters")

TRUE, FALSE = ("true", "1", "yes", "on"), ("false", "0", "no", "off")
WANTED = {int: "a whole number", float: "a number", str: "text"}
# What a text is: anything, the path of a file or folder, a name that is stored as a tag and searched for,
# or a whole document; and how many characters it may have (MLflow cuts those of more than 6000 in silence).
Kind = Literal["text", "path", "name", "document"]
LONGEST: dict[Kind, int] = {"text": 4000, "path": 4000, "name": 200, "document": 100_000}
# What a parameter does: it determines the result (and is digested and compared), says where files are,
# belongs to the machine, names a model, chooses other runs or their group, or only says what is refused.
Role = Literal["result", "place", "machine", "model", "choice", "guard"]
LONGEST_FILE_NAME = 255  # bytes, of Linux file systems
# Control characters but tab and line ends, and bytes of a command line that are not UTF-8.
UNPRINTABLE = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")


def param(
    default: Any,
    help: str,
    *,
    choices: tuple[Any, ...] = (),
    low: float | None = None,
    high: float | None = None,
    kind: Kind = "text",
    role: Role = "result",
) -> Any:
    """Declare one parameter: default, help text, and the values it may take (``low <= value <= high``).

    ``kind`` says what a text is, ``role`` what the parameter does; one that does not say so determines the
    result.
    """
    metadata = {"help": help, "choices": choices, "low": low, "high": high, "kind": kind, "role": role}
    return dataclasses.field(default=default, metadata=metadata)


place = functools.partial(param, kind="path", role="place")
choice = functools.partial(param, role="choice")
name_choice = functools.partial(choice, kind="name")
model_choice = functools.partial(param, kind="name", role="model")
machine = functools.partial(param, role="machine")


@dataclasses.dataclass(frozen=True)
class Parameters:
    """Base class: checks every field against its declaration when an instance is made."""

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            _check(field, getattr(self, field.name))

    @classmethod
    def from_mapping(cls: type[P], values: Mapping[str, Any], *, where: str = "parameters") -> P:
        """Build from a mapping (a command line, a YAML file); text becomes what the parameter's type says.

        Empty text stands for the default. Unknown names are an error that names the nearest known ones.
        """
        values = {told_new_name(name): told_new_value(name, value) for name, value in values.items()}
        known = {field.name for field in dataclasses.fields(cls)}
        unknown = sorted(set(values) - known)
        if unknown:
            raise unknown_parameters(unknown, known, where=where)
        types = typing.get_type_hints(cls)
        given = {name: value for name, value in values.items() if value != ""}
        return cls(**{name: _typed(name, types[name], value) for name, value in given.items()})

    @classmethod
    def names(cls, *roles: Role) -> tuple[str, ...]:
        """Return the names of the parameters that have one of the roles (all, if none is given)."""
        fields = dataclasses.fields(cls)
        return tuple(field.name for field in fields if not roles or field.metadata.get("role") in roles)

    def as_dict(self, *roles: Role) -> dict[str, Any]:
        """Return the parameters of some roles (all, if none is given) as plain values, as declared."""
        return {name: getattr(self, name) for name in self.names(*roles)}


def taking(names: Iterable[str], source: type[Parameters]) -> Callable[[type[P]], type[P]]:
    """Give a class, before it is made a dataclass, parameters of another one under their names."""
    declared, hints = source.__dataclass_fields__, typing.get_type_hints(source)

    def extend(kind: type[P]) -> type[P]:
        for name in names:
            field = declared[name]
            _declare(kind, name, hints[name], field.default, field.metadata)
        return kind

    return extend


def preset(presets: Mapping[str, Mapping[str, Any]]) -> Callable[[type[P]], type[P]]:
    """Let inherited parameters be None where they are not given; a preset fills them in, as their help says.

    ``presets`` maps each preset's name to parameter -> value.
    """

    def extend(kind: type[P]) -> type[P]:
        hints = typing.get_type_hints(kind)
        for name in dict.fromkeys(itertools.chain(*presets.values())):
            bases: Iterable[type[Parameters]] = kind.__bases__
            field = next(base.__dataclass_fields__[name] for base in bases if name in base.names())
            values = {preset: given[name] for preset, given in presets.items() if given[name] is not None}
            told = ", ".join(f"{preset} {value}" for preset, value in values.items())
            rules = {**field.metadata, "help": f"{field.metadata['help']} ({told})"}
            _declare(kind, name, hints[name] | None, None, rules)
        return kind

    return extend


def _declare(kind: type[Any], name: str, hint: Any, default: Any, rules: Mapping[str, Any]) -> None:
    kind.__annotations__[name] = hint
    setattr(kind, name, dataclasses.field(default=default, metadata=dict(rules)))


def listed(text: str) -> list[str]:
    """Return the names in a text parameter that lists several by commas, without blanks and repeats."""
    return list(dict.fromkeys(filter(None, (part.strip() for part in text.split(",")))))


def unknown_parameters(unknown: Sequence[str], known: Iterable[str], *, where: str) -> UserError:
    """Return the error that names parameters which there are not, with the nearest ones that there are."""
    names = sorted(known)
    said = shortened(", ".join(unknown), LONGEST_VALUE)
    mend = did_you_mean(unknown, names, most=2) or f"Known are: {', '.join(names) or 'none'}"
    return UserError(f"unknown parameter{'s' if len(unknown) > 1 else ''} {said}", where=where, mend=mend)


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
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise _mismatch(name, value, WANTED[kind])
    return str(value) if kind is str else _number(name, kind, value)


def _number(name: str, kind: type[Any], value: Any) -> Any:
    # Python itself reads 1_0 as 10, and digits of all scripts.
    written = not isinstance(value, str) or (value.isascii() and "_" not in value)
    try:
        typed = kind(value) if written else None
    except (ValueError, OverflowError):
        typed = None
    if typed is None or (isinstance(value, float) and kind is int and typed != value):
        raise _mismatch(name, value, WANTED[kind])
    return typed


def _mismatch(name: str, value: Any, wanted: str) -> UserError:
    return UserError(f"{shown(value)} is not {wanted}", where=f"parameter {name}", mend=f"Give {wanted}")


def _check(field: dataclasses.Field[Any], value: Any) -> None:
    rules = field.metadata
    if value is None or not rules:
        return
    where = f"parameter {field.name}"
    if rules["choices"] and value not in rules["choices"]:
        choices = [str(choice) for choice in rules["choices"] if choice != ""]
        mend = did_you_mean([str(value)], choices, f"Choose one of: {', '.join(choices)}")
        raise UserError(f"{shown(value)} is not one of its values", where=where, mend=mend)
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        low = -math.inf if rules["low"] is None else rules["low"]
        high = math.inf if rules["high"] is None else rules["high"]
        if not low <= value <= high or value in (math.inf, -math.inf):
            mend = f"Give a number in [{low}, {high}]"
            raise UserError(f"{shown(value)} is out of range", where=where, mend=mend)
    if isinstance(value, str):
        _check_text(value, rules["kind"], where)


def _check_text(value: str, kind: Kind, where: str) -> None:
    """Raise UserError for text that no file, store or page could take."""
    if UNPRINTABLE.search(value) or (kind == "name" and re.search(r"[\t\n\r]", value)):
        mend = "Leave out control characters and bytes that are not UTF-8"
        raise UserError(f"{shown(value)} cannot be printed", where=where, mend=mend)
    if len(value) > LONGEST[kind]:
        mend = f"Give at most {LONGEST[kind]} characters"
        raise UserError(f"has {len(value)} characters ({shown(value)})", where=where, mend=mend)
    if kind == "name" and "'" in value and '"' in value:
        mend = "Use one kind, or none: it could not be searched for"
        raise UserError(f"{shown(value)} holds both kinds of quotes", where=where, mend=mend)
    if kind == "path":
        _check_path(value, where)


def _check_path(value: str, where: str) -> None:
    longest = max(value.split("/"), key=lambda name: len(os.fsencode(name)))
    if len(os.fsencode(longest)) > LONGEST_FILE_NAME:
        mend = f"Names of files and folders have at most {LONGEST_FILE_NAME} bytes"
        raise UserError(f"{shown(longest)} is too long a name", where=where, mend=mend)
    try:
        Path(value).expanduser()
    except RuntimeError as error:
        mend = "Write ~/ for your own home, ./~ for a folder of such a name"
        what = f"{shown(value)} begins with the home of nobody here"
        raise UserError(what, where=where, mend=mend) from error
