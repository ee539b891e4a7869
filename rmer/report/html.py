"""The report as one HTML file without anything outside it, so that MLflow's artifact viewer can show it."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import jinja2
import pandas as pd
from matplotlib.figure import Figure


@dataclass(frozen=True, eq=False)
class ReportFigure:
    """One figure: its title, what it shows, and the drawing."""

    title: str
    caption: str
    figure: Figure


@dataclass(frozen=True)
class UsedRun:
    """One run that the report rests on; ``url`` is empty where the store has no web address."""

    system: str
    seed: str
    run_id: str
    train_run_id: str
    url: str = ""
    train_url: str = ""


@dataclass(frozen=True, eq=False)
class Report:
    """What the report says.

    Tables are text as it is to be read; ``selection`` maps parameters to values, ``figures`` artifact names
    to figures.
    """

    title: str
    headline: Sequence[str]
    selection: Mapping[str, str]
    systems: pd.DataFrame
    tests: pd.DataFrame
    attacks: pd.DataFrame
    figures: Mapping[str, ReportFigure]
    caveats: Sequence[str]
    runs: Sequence[UsedRun]


def render(report: Report) -> str:
    """Return the report as an HTML document; every text is escaped."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("rmer.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    drawings = [(figure, _data_uri(figure.figure)) for figure in report.figures.values()]
    return environment.get_template("report.html.j2").render(report=report, drawings=drawings)


def _data_uri(figure: Figure) -> str:
    # An image of its own rather than inline SVG: ids of several drawings in one document would clash.
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", bbox_inches="tight", metadata={"Date": None})
    return f"data:image/svg+xml;base64,{base64.b64encode(buffer.getvalue()).decode()}"
