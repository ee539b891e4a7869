"""Writes docs/parameters.md from the parameter classes of the stages: ``python docs/parameters.py``."""

from __future__ import annotations

import dataclasses
import typing
from pathlib import Path
from types import NoneType
from typing import Any

import click

from entrypoints.server import cli as server
from rmer.parameters import Parameters
from rmer.stages.analysis.analyze_params import AnalyzeParams
from rmer.stages.attack.attack_params import AttackParams
from rmer.stages.data.demo_data import DemoParams
from rmer.stages.data.preprocess import PreprocessParams
from rmer.stages.data.validate import ValidateParams
from rmer.stages.import_published import ImportParams
from rmer.stages.predict.predict_params import PredictParams
from rmer.stages.study.plan import StudyParams
from rmer.stages.study.sweep import SweepParams
from rmer.stages.train_params import TrainParams

# Name, default, values, meaning.
Row = tuple[str, str, str, str]

PAGE = Path(__file__).with_name("parameters.md")
# Those that others take over come first: they are told once.
STAGES: dict[str, type[Parameters]] = {
    "preprocess": PreprocessParams,
    "train": TrainParams,
    "attack": AttackParams,
    "main": StudyParams,
    "analyze": AnalyzeParams,
    "predict": PredictParams,
    "sweep": SweepParams,
    "import_published": ImportParams,
    "demo_data": DemoParams,
    "validate": ValidateParams,
}
INTRODUCTION = """\
# Parameters

Written by `python docs/parameters.py` from the code; edit the code, not this page.

A parameter has the same name everywhere: `mlflow run . -e train -P seed=21`, `rmer train --seed 21`, and
`TrainParams(seed=21)` in Python. An empty value stands for the default. Numbers may be written as `5e-4`;
lists are texts with commas. On the command line, entry points are written with hyphens
(`rmer import-published`), and options with underscores or hyphens. `validate`, `server` and `sync` are
commands only, not entry points of `mlflow run`; `sync` has no parameters.
"""


def render() -> str:
    """Return the page as Markdown."""
    told: dict[Row, str] = {}
    sections = [_section(name, _rows(kind), told) for name, kind in STAGES.items()]
    return "\n".join([INTRODUCTION, *sections, _server()])


def _rows(kind: type[Parameters]) -> list[Row]:
    hints = typing.get_type_hints(kind)
    return [
        (
            f"`{field.name}`",
            _default(field.default),
            _values(field, hints[field.name]),
            field.metadata["help"],
        )
        for field in dataclasses.fields(kind)
    ]


def _section(name: str, rows: list[Row], told: dict[Row, str]) -> str:
    """Return a table of the parameters that no section before tells of (``told``); others by name."""
    elsewhere: dict[str, list[str]] = {}
    for row in rows:
        if row in told:
            elsewhere.setdefault(told[row], []).append(row[0])
    table = _table(name, [row for row in rows if row not in told])
    told |= {row: name for row in rows if row not in told}
    lines = [f"As for [{other}](#{other}): {', '.join(names)}.\n" for other, names in elsewhere.items()]
    return "\n".join([table, *lines])


def _server() -> str:
    options = [option for option in server.params if isinstance(option, click.Option)]
    rows = [
        (f"`{option.name}`", _default(option.default), option.type.name, option.help or "")
        for option in options
    ]
    return _table("server", rows)


def _table(name: str, rows: list[Row]) -> str:
    head = ("parameter", "default", "values", "meaning")
    lines = [f"| {' | '.join(cell.replace('|', '/') for cell in row)} |" for row in [head, *rows]]
    lines.insert(1, "|---|---|---|---|")
    return "\n".join([f"## {name}", "", *lines, ""])


def _default(value: Any) -> str:
    if value is None or value == "":
        return ""
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def _values(field: dataclasses.Field[Any], hint: Any) -> str:
    kinds = [kind for kind in (typing.get_args(hint) or (hint,)) if kind is not NoneType]
    rules = field.metadata
    choices = [f"`{choice}`" for choice in rules["choices"] if choice != ""]
    if choices:
        return ", ".join(choices)
    if kinds[0] is bool:
        return "`true`, `false`"
    if kinds[0] is str:
        return "text"
    name = {int: "whole number", float: "number"}[kinds[0]]
    low, high = rules["low"], rules["high"]
    limits = [f"from {low:g}" if low is not None else "", f"to {high:g}" if high is not None else ""]
    return " ".join([name, *filter(None, limits)])


if __name__ == "__main__":
    PAGE.write_text(render(), encoding="utf-8")
