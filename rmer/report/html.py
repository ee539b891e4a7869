"""The report as one HTML file without anything outside it, so that MLflow's artifact viewer can show it."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import pandas as pd
from matplotlib.figure import Figure

from rmer.figures import save_figure
from rmer.report.readable import grouped
from rmer.report.templates import template

# What a report has besides its sections, and shows before the folded ones.
OWN_PARTS = ("Findings in full", "Scores of the systems", "What limits these numbers", "What was analysed")
INTRODUCTION = (
    "Models predict from music which emotions listeners hear in it. An attack changes a clip a little, so "
    "that a model errs as much as can be: how much does each system lose?"
)
# The artifact name of the figure that a report begins with.
SUMMARY = "summary"


@dataclass(frozen=True, eq=False)
class ReportFigure:
    """One figure: its title, what it shows, and the drawing."""

    title: str
    caption: str
    figure: Figure

    @cached_property
    def svg(self) -> bytes:
        """The drawing as a file, which is in the page and beside it."""
        buffer = io.BytesIO()
        save_figure(self.figure, buffer, "svg")
        return buffer.getvalue()


@dataclass(frozen=True, eq=False)
class ReportTable:
    """One table of text as it is to be read, and what its numbers are."""

    caption: str
    frame: pd.DataFrame


@dataclass(frozen=True)
class Link:
    """What to open, and, where it has no web address (``url`` is empty), where to find it."""

    title: str
    url: str
    where: str


@dataclass(frozen=True)
class ReportSound:
    """A clip to be listened to, clean and attacked, each as a data URI, and what is to be said of it."""

    title: str
    clean: str
    adversary: str


@dataclass(frozen=True, eq=False)
class Section:
    """One part of a report: sentences, then figures (artifact name -> figure), then tables.

    ``data`` are the tables behind it in full precision, by the name of their artifact, also where there is
    nothing to be shown; ``sounds`` and ``links`` stand below the sentences. All but ``open`` ones are folded.
    """

    title: str
    paragraphs: Sequence[str] = ()
    tables: Sequence[ReportTable] = ()
    figures: Mapping[str, ReportFigure] = field(default_factory=dict)
    data: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    links: Sequence[Link] = ()
    sounds: Sequence[ReportSound] = ()
    open: bool = False


@dataclass(frozen=True)
class UsedRun:
    """One run that the report rests on; ``url`` is empty where the store has no web address."""

    system: str
    seed: str
    run_id: str
    train_run_id: str
    url: str = ""
    train_url: str = ""
    fold: str = ""


@dataclass(frozen=True, eq=False)
class SoundScores:
    """The table of systems under attacks on the sound, text as it is to be read, and the budget in words."""

    budget: str
    systems: pd.DataFrame


@dataclass(frozen=True, eq=False)
class Report:
    """What the report says.

    It begins with ``answer``, ``summary`` (its figure) and ``legend``, (row, what that system is);
    ``expectations`` say whether controls behave as theory says. ``about`` says in words what was analysed,
    ``selection`` maps parameters to values; ``headline`` are the findings in full, ``systems`` the table of
    scores, text as it is to be read; ``tables`` are all tables in full precision, by the name of their
    artifact. ``sound`` are scores of attacks on the sound beside those on spectrograms.
    """

    title: str
    headline: Sequence[str]
    selection: Mapping[str, str]
    systems: pd.DataFrame
    systems_caption: str
    sections: Sequence[Section]
    caveats: Sequence[str]
    runs: Sequence[UsedRun]
    tables: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    sound: SoundScores | None = None
    answer: Sequence[str] = ()
    summary: ReportFigure | None = None
    legend: Sequence[tuple[str, str]] = ()
    expectations: Sequence[str] = ()
    about: Mapping[str, str] = field(default_factory=dict)

    @property
    def figures(self) -> dict[str, ReportFigure]:
        """Artifact name -> figure: the summary, and those of all sections."""
        first = {SUMMARY: self.summary} if self.summary else {}
        return first | {name: drawn for section in self.sections for name, drawn in section.figures.items()}


def render(report: Report) -> str:
    """Return the report as an HTML document; every text is escaped."""
    drawings = {name: _data_uri(drawn.svg) for name, drawn in report.figures.items()}
    opened, folded = ([part for part in report.sections if part.open == is_open] for is_open in (True, False))
    shared = {"grouped": grouped, "anchor": anchor, "drawings": drawings}
    return template("report.html.j2", **shared).render(
        report=report, introduction=INTRODUCTION, opened=opened, folded=folded, own=OWN_PARTS
    )


def anchor(title: str) -> str:
    """Return a title as a name for files and for the part of a page below it."""
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")


def _data_uri(svg: bytes) -> str:
    # An image of its own rather than inline SVG: ids of several drawings in one document would clash.
    return f"data:image/svg+xml;base64,{base64.b64encode(svg).decode()}"
