"""YAML of plain values only, as settings are written; whatever else a text holds is the user's mistake."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from rmer.errors import UserError
from rmer.files import read_bytes

LONGEST_FILE = 200_000
MOST_VALUES = 100_000
MOST_BITS = 63


def read_yaml_file(path: Path, *, mend: str) -> Any:
    """Return the values of a YAML file; or raise UserError as :func:`parse_yaml` does, too."""
    try:
        content = read_bytes(path)
    except OSError as error:
        raise UserError(f"cannot be read ({error.strerror})", where=str(path), mend=mend) from error
    if len(content) > LONGEST_FILE:
        what = f"has {len(content)} bytes, settings at most {LONGEST_FILE}"
        raise UserError(what, where=str(path), mend=mend)
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _not_yaml(f"{error.reason} at byte {error.start}, not UTF-8", str(path)) from error
    return parse_yaml(text, str(path))


def parse_yaml(text: str, where: str) -> Any:
    """Return the values of a text: mappings, lists, text, numbers, truth values and nothing.

    Raises UserError for what is not YAML, brings tags of its own, gives a key twice, nests too deeply, holds
    dates or other values that no setting has, or grows out of all proportion by its aliases.
    """
    try:
        values = yaml.load(text, _Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise _not_yaml(f"{place}{error.problem}", where) from error
    except RecursionError:
        raise _not_yaml("it is nested too deeply", where) from None
    except (yaml.YAMLError, ValueError) as error:  # ValueError: a date or number that cannot be
        raise _not_yaml(" ".join(str(error).split()), where) from error
    _check_plain(values, where)
    return values


class _Loader(yaml.SafeLoader):
    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value in seen:
                problem = f"{key.value} is given twice"
                raise yaml.constructor.ConstructorError(None, None, problem, key.start_mark)
            seen.add(str(key.value))
        return super().construct_mapping(node, deep)


def _check_plain(values: Any, where: str) -> None:
    waiting, count = [values], 0
    while waiting:
        value = waiting.pop()
        count += 1
        if count > MOST_VALUES:
            raise _not_yaml(f"its aliases stand for more than {MOST_VALUES} values", where)
        if isinstance(value, Mapping):
            waiting += [*value.keys(), *value.values()]
        elif isinstance(value, list):
            waiting += value
        elif isinstance(value, int) and value.bit_length() > MOST_BITS:
            raise _not_yaml(f"it holds a whole number of {value.bit_length()} bits", where)
        elif value is not None and not isinstance(value, (str, int, float)):
            mend = "Put it in quotes if it is meant as text"
            raise UserError(f"holds a {type(value).__name__} ({value})", where=where, mend=mend)


def _not_yaml(reason: str, where: str) -> UserError:
    return UserError(f"is not YAML ({reason})", where=where, mend="Mend it")
