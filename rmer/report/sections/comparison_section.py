"""The corrected comparison of systems: its table, its figure, and what enters it."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import pandas as pd
from matplotlib.figure import Figure

from rmer.evaluation.comparison import Comparison
from rmer.report.comparing import endpoint_phrase
from rmer.report.contents import Contents
from rmer.report.findings import lower_bounds
from rmer.report.html import ReportFigure, ReportTable, Section
from rmer.report.readable import NO_VALUE, interval, number, p_value, tick
from rmer.report.style import DIAGONAL, GREY, HIGHLIGHT, styled

TITLE = "Corrected comparison"
COMPARISON_PAGE = "docs/statistics.md"
COLUMNS = tuple(field.name for field in dataclasses.fields(Comparison))


def comparison_section(contents: Contents) -> Section:
    """Return what is tested, the table and the intervals as a figure, with ``tables/comparisons.csv``."""
    rows = contents.comparisons
    data = {"comparisons": comparisons_table(rows)}
    if not rows:
        return Section(TITLE, data=data)
    folds = rows[0].folds
    units = "folds" if folds else "albums"
    caption = (
        "Difference, a less b, of what the attack adds to clipped MAE, or takes from correlation (attacked "
        "minus clean; where positive for MAE, or negative for correlation, b is the more robust). Interval "
        f"and p: t test over seeds and {units}; bootstrap: percentile interval, too narrow with few seeds or "
        f"{units}. Holm: corrected for the {len(rows)} rows. TOST: test for equivalence within the margin."
    )
    albums = f"{rows[0].albums} albums with {rows[0].clips} clips"
    if rows[0].albums == rows[0].clips:
        albums = f"{rows[0].clips} clips, each an album of its own, or of one that is not known"
    if folds:
        albums = f"{folds} folds of a cross-validation, of {albums}, each tested once"
    paragraphs = [
        "A claim about systems is about training them again and about other music of the kind: seeds and "
        f"{units} are the units ({albums}). All rows are one family. A large p does not show that systems "
        f"are alike; equivalence is tested for itself. See {COMPARISON_PAGE}."
    ]
    if folds:
        paragraphs.append(
            "Correlations are those of each fold, averaged, as are the attacks on them. The variance "
            "between folds is corrected for what their training clips share (Nadeau and Bengio 2003), so "
            "that few folds show large differences alone."
        )
    if unlike := lower_bounds(contents.by_predictions, contents.through_gradients):
        paragraphs.append(unlike)
    figure = ReportFigure(
        "Differences between systems",
        f"Difference with 95 % interval over seeds and {units}. Shaded: margin of equivalence. Blue: clear "
        "after correction for the number of tests. An arrow: the interval goes on beyond the axis.",
        differences_figure(rows),
    )
    return Section(
        TITLE, paragraphs, [ReportTable(caption, readable_comparisons(rows))], {"differences": figure}, data
    )


def comparisons_table(rows: Sequence[Comparison]) -> pd.DataFrame:
    """Return ``tables/comparisons.csv``, in full precision."""
    return pd.DataFrame([dataclasses.asdict(row) for row in rows], columns=list(COLUMNS))


def readable_comparisons(rows: Sequence[Comparison]) -> pd.DataFrame:
    """Return the comparison as text."""
    return pd.DataFrame(
        {
            "Endpoint": [endpoint_phrase(row.endpoint) for row in rows],
            "a - b": [f"{row.a} - {row.b}" for row in rows],
            "Difference": [number(row.difference, 3) for row in rows],
            "95 % interval": [interval(row.low, row.high) for row in rows],
            "Bootstrap": [interval(row.percentile_low, row.percentile_high) for row in rows],
            "p": [p_value(row.p) for row in rows],
            "Holm p": [p_value(row.p_holm) for row in rows],
            "Hedges' g": [number(row.hedges_g) for row in rows],
            "Cliff's δ": [number(row.cliffs_delta) for row in rows],
            "TOST: margin": [f"±{number(row.margin, 3).rstrip('0')}" for row in rows],
            "TOST: Holm p": [p_value(row.tost_p_holm) for row in rows],
            "TOST: equivalent": [_equivalent(row) for row in rows],
        }
    )


@styled
def differences_figure(rows: Sequence[Comparison]) -> Figure:
    """Return the differences of each endpoint with 95 % intervals; the margin of equivalence is shaded.

    Dark where the difference is clear after Holm's correction. An interval that would squeeze all others ends
    in an arrow where it leaves the axes.
    """
    endpoints = list(dict.fromkeys(row.endpoint for row in rows))
    most = max(sum(row.endpoint == name for row in rows) for name in endpoints)
    figure = Figure(figsize=(3.5 * len(endpoints), 0.9 + 0.26 * most), layout="constrained")
    for axes, endpoint in zip(figure.subplots(1, len(endpoints), squeeze=False)[0], endpoints, strict=True):
        shown = [row for row in rows if row.endpoint == endpoint]
        margin = shown[0].margin
        left, right = _reach(shown, margin)
        axes.axvspan(-margin, margin, color="#e8eef4", lw=0, zorder=0)
        axes.axvline(0, color=DIAGONAL, lw=0.8, zorder=1)
        for place, row in enumerate(shown):
            clear = row.p_holm < 0.05
            style = {"color": HIGHLIGHT if clear else GREY, "zorder": 3}
            axes.plot([row.low, row.high], [place, place], lw=1.6, **style)
            for end, arrow, leaves in ((left, "<", row.low < left), (right, ">", row.high > right)):
                if leaves:
                    axes.plot([end], [place], arrow, ms=6, clip_on=False, **style)
            axes.plot([row.difference], [place], "o" if clear else "D", ms=4.5, **style)
        axes.set_yticks(range(len(shown)), [f"{row.a} - {row.b}" for row in shown])
        axes.set_ylim(len(shown) - 0.5, -0.5)
        axes.set_xlim(left, right)
        axes.set_xlabel(f"difference of Δ {endpoint_phrase(endpoint)}")
        axes.xaxis.set_major_formatter(tick)
        axes.tick_params(axis="y", length=0, pad=8)  # of the arrows
        axes.spines["left"].set_visible(False)
    return figure


def _reach(rows: Sequence[Comparison], margin: float) -> tuple[float, float]:
    """Return limits of the axis that hold zero, margin and differences, and intervals unless far wider."""
    core = max([1.6 * margin, *(1.3 * abs(row.difference) for row in rows if math.isfinite(row.difference))])
    ends = [abs(end) for row in rows for end in (row.low, row.high) if math.isfinite(end)]
    reach = max([core, min(1.05 * max(ends, default=0.0), 4 * core)])
    return -reach, reach


def _equivalent(row: Comparison) -> str:
    if math.isnan(row.tost_p_holm):
        return NO_VALUE
    return "yes" if row.equivalent else "not shown"
