"""Scores over the budget: a table with intervals, and a figure of one row a norm and one column a metric."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rmer.attacks.sound_budgets import budget_of
from rmer.evaluation.attacked import AttackedModel
from rmer.evaluation.bootstrap import SEED, estimate
from rmer.evaluation.metrics import METRICS
from rmer.report.budget_scales import OF_SOUNDS, OF_SPECTROGRAMS, Scale
from rmer.report.contents import Contents
from rmer.report.html import ReportFigure, ReportTable, Section
from rmer.report.readable import tick
from rmer.report.robustness import ROBUSTNESS_CAPTION, readable_areas, readable_robustness, shown_metrics
from rmer.report.style import DIAGONAL, lines_of, styled
from rmer.report.system_tables import in_order

COLUMNS = ("norm", "system", "metric", "epsilon", "seeds", "mean", "low", "high")
# Percentiles of fewer draws are as smooth as a line can show; the tests take more.
DRAWS = 2000


def curves_section(contents: Contents) -> Section | None:
    """Return curves over epsilon, area and break-even of each norm, with ``tables/curves.csv``.

    None where a model was not attacked at several budgets.
    """
    if not all(model.curve for model in contents.models):
        return None
    table, robustness = curves_table(contents.groups, seed=contents.bootstrap_seed), contents.robustness
    constant = next(iter(robustness.values()))["constant"].mean()
    scale = OF_SOUNDS if contents.on_sound else OF_SPECTROGRAMS
    if contents.on_sound:
        of_rows = zip(table["norm"], table["epsilon"], strict=True)
        table.insert(4, "db", [budget_of(norm, at) if at > 0 else np.nan for norm, at in of_rows])
    others = list(robustness)[1:]
    radius = "The L2 ball of a budget has radius ε x root of the number of cells and contains the L∞ ball."
    figure = ReportFigure(
        "Scores over the budget",
        f"Mean over seeds and clips, each metric attacked for itself; {scale.zero}: clean. Bars: 95 % "
        f"percentile interval of the bootstrap over seeds and {'folds' if contents.folds else 'albums'} "
        f"({DRAWS} draws), too narrow with few "
        "seeds. Dotted: the constant predictor. Grey: the budget of the endpoints.",
        curves_figure(table, constant, contents.reported_epsilon, scale),
    )
    notes = [radius] if others and not contents.on_sound else []
    budgets = table["epsilon"][table["epsilon"] > 0].nunique()
    areas = _areas(contents, table, scale) if budgets > 1 else []  # a point has none
    tables = [*areas, *_other_norms(contents, others)]
    return Section("Over the budget", notes, tables, {"curves": figure}, {"curves": table})


def _areas(contents: Contents, table: pd.DataFrame, scale: Scale) -> list[ReportTable]:
    """Return area and break-even of each norm; ``table`` holds the curves."""
    caption = (
        f"mean of the curve over {scale.mean_over} ({scale.zero} left out), mean ± population standard "
        f"deviation over seeds; break-even: the {scale.unit} at which attacked clipped MAE passes the "
        f"constant predictor's, median over seeds (smallest budget to largest{scale.note})."
    )
    return [
        ReportTable(
            f"{scale.name(norm)}: {caption}",
            readable_areas(
                of_norm,
                float(table.loc[table["norm"] == norm, "epsilon"].max()),
                unit=scale.unit,
                shown=partial(scale.shown, norm),
            ),
        )
        for norm, of_norm in contents.robustness.items()
    ]


def _other_norms(contents: Contents, norms: Sequence[str]) -> list[ReportTable]:
    """Return the scores under norms that are not that of the endpoints."""
    return [
        ReportTable(
            f"Scores within {contents.budget_of(norm)}. {ROBUSTNESS_CAPTION}",
            readable_robustness(contents.robustness[norm]),
        )
        for norm in norms
    ]


def curves_table(groups: Mapping[str, Sequence[AttackedModel]], *, seed: int = SEED) -> pd.DataFrame:
    """Return ``tables/curves.csv``: mean and 95 % percentile interval of every norm, system, metric, epsilon.

    ``groups`` holds norm -> models; those without a curve are left out. Intervals are of the crossed
    bootstrap over seeds and albums. Each metric is under the attack that aims at it; epsilon 0 is clean.
    """
    rows = []
    for norm, models in groups.items():
        for name, members in in_order([model for model in models if model.curve]).items():
            first = members[0]
            alike = [model for model in members if model.clips == first.clips]
            for metric, scored in shown_metrics().items():
                predictions = np.stack([model.curve.worst(metric) for model in alike])  # type: ignore[union-attr]
                for index, epsilon in enumerate(first.curve.epsilons):  # type: ignore[union-attr]
                    units = first.albums, first.folds
                    endpoint = scored.endpoint(first.labels, predictions[:, index], *units)
                    found = estimate(endpoint, draws=DRAWS, seed=seed)
                    low, high = found.percentile()
                    values = (norm, name, metric, epsilon, len(alike), found.value, low, high)
                    rows.append(dict(zip(COLUMNS, values, strict=True)))
    return pd.DataFrame(rows, columns=list(COLUMNS))


@styled
def curves_figure(
    table: pd.DataFrame, constant: float, reported: float | None = None, scale: Scale = OF_SPECTROGRAMS
) -> Figure:
    """Return the curves of :func:`curves_table`, epsilon on a log axis, clean scores apart on its left.

    ``constant`` is the constant predictor's MAE (NaN: unknown), ``reported`` the budget of the endpoints.
    Bars are intervals; systems stand side by side at each budget.
    """
    norms = [norm for norm in scale.names if norm in set(table["norm"])]
    metrics = shown_metrics()
    figure = Figure(figsize=(0.1 + 3.1 * len(metrics), 0.6 + 2.7 * len(norms)), layout="constrained")
    grid = figure.subplots(len(norms), len(metrics), squeeze=False)
    lines = lines_of(list(dict.fromkeys(table["system"])))
    for row, norm in zip(grid, norms, strict=True):
        for axes, (name, metric) in zip(row, metrics.items(), strict=True):
            shown = table[(table["norm"] == norm) & (table["metric"] == name)]
            _draw(axes, shown, lines, scale)
            if metric.against_constant and np.isfinite(constant):
                axes.axhline(constant, color=DIAGONAL, lw=0.9, ls=":", zorder=1, label="constant predictor")
            if reported and norm == norms[0]:
                axes.axvline(reported, color="#dddddd", lw=5, zorder=0)
            axes.set_title(f"{metric.title} ({scale.name(norm)})" if len(norms) > 1 else metric.title)
            if norm == norms[-1] or scale.of_each_norm:
                axes.set_xlabel(scale.axis(norm))
        row[0].set_ylabel("clean or attacked score")
    handles, labels = grid[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=min(len(labels), 8), frameon=False)
    return figure


def _draw(axes: Axes, table: pd.DataFrame, lines: Mapping[str, dict[str, Any]], scale: Scale) -> None:
    attacked = sorted(epsilon for epsilon in set(table["epsilon"]) if epsilon > 0)
    # Zero has no place on a log axis: it stands half a decade left of the smallest budget, behind a gap.
    clean_at = attacked[0] / 10**0.5
    width = 0.5 * (np.log10(attacked[-1] / clean_at) / (2 * len(attacked)))
    names = list(dict.fromkeys(table["system"]))
    for place, name in enumerate(names):
        rows = table[table["system"] == name].sort_values("epsilon")
        aside = 10 ** (width * ((place + 0.5) / len(names) - 0.5))
        x = np.where(rows["epsilon"] > 0, rows["epsilon"], clean_at) * aside
        bars = np.vstack([rows["mean"] - rows["low"], rows["high"] - rows["mean"]]).clip(min=0)
        style = {**lines[name], "linestyle": "none", "ms": 3.5, "lw": 0.9, "mew": 0.8}
        axes.errorbar(x, rows["mean"], yerr=bars, elinewidth=0.7, zorder=3, **style)
        later = rows["epsilon"].to_numpy() > 0
        style = {**lines[name], "ms": 3.5, "lw": 1.1, "mew": 0.8}
        axes.plot(x[later], rows["mean"][later], zorder=2, label=name, **style)
    axes.set_xscale("log")
    norm = table["norm"].iloc[0]
    axes.set_xticks([clean_at, *attacked], [scale.zero, *(scale.shown(norm, at) for at in attacked)])
    axes.tick_params(axis="x", labelsize=7)
    axes.minorticks_off()
    axes.axvline((clean_at * attacked[0]) ** 0.5, color="#999999", lw=0.6, ls=(0, (1, 3)))
    if not METRICS[table["metric"].iloc[0]].larger_is_better:
        # Errors begin at 0, or are on a log axis where the largest would hide all others.
        if table["mean"].max() > 12 * table["mean"].min() > 0:
            axes.set_yscale("log")
        else:
            axes.set_ylim(bottom=0)
    axes.yaxis.set_major_formatter(tick)
    axes.grid(axis="y", linewidth=0.4, color="#eeeeee")
