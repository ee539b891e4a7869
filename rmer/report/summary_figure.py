"""The one figure that a report begins with: the error of every system before and under attack."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from rmer.evaluation.attacked import AttackedModel
from rmer.evaluation.metrics import METRICS
from rmer.report.readable import number, tick
from rmer.report.style import DIAGONAL, lines_of, styled
from rmer.report.system_tables import in_order

WIDTH = 7.4  # inches


@styled
def summary_figure(
    panels: Mapping[str, Sequence[AttackedModel]], metric: str, constant: float = math.nan
) -> Figure:
    """Return one row a system: its clean error, an arrow, its attacked error; small dots are seeds.

    ``panels`` maps the title of a panel to its models; ``constant`` is the error of the constant predictor.
    """
    systems = list(dict.fromkeys(name for models in panels.values() for name in in_order(models)))
    figure = Figure(figsize=(WIDTH, 1.15 + 0.36 * len(systems)), layout="constrained")
    grid = figure.subplots(1, len(panels), sharex=True, sharey=True, squeeze=False)[0]
    for axes, (title, models) in zip(grid, panels.items(), strict=True):
        _draw(axes, models, systems, metric)
        if math.isfinite(constant):
            axes.axvline(constant, color=DIAGONAL, lw=1.0, ls=":", zorder=1)
        axes.set_title(title, loc="left")
        axes.xaxis.set_major_formatter(tick)
        axes.grid(axis="x", linewidth=0.4, color="#e4e4e4")
        axes.set_axisbelow(True)
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
    grid[0].set_yticks(range(len(systems)), systems)
    grid[0].set_ylim(len(systems) - 0.5, -0.5)
    grid[0].set_xlim(left=0)
    figure.supxlabel(f"error ({METRICS[metric].phrase}; 0: none)", fontsize=9)
    _explain(figure, constant)
    return figure


def _draw(axes: Axes, models: Sequence[AttackedModel], systems: Sequence[str], metric: str) -> None:
    rows, lines = in_order(models), lines_of(systems)
    for place, name in enumerate(systems):
        if name not in rows:
            continue
        clean, attacked = (
            np.array([model.scores[f"{kind}/{metric}"] for model in rows[name]]) for kind in ("clean", "adv")
        )
        colour = lines[name]["color"]
        between = {"arrowstyle": "-|>", "color": colour, "lw": 1.6, "shrinkA": 4, "shrinkB": 4}
        axes.annotate(
            "", (attacked.mean(), place), (clean.mean(), place), arrowprops=between, annotation_clip=False
        )
        axes.plot([clean.mean()], [place], "o", ms=7, mfc="w", mec=colour, mew=1.6, zorder=3)
        axes.plot([attacked.mean()], [place], "o", ms=7, mfc=colour, mec=colour, zorder=3)
        for values in (clean, attacked) if len(rows[name]) > 1 else ():
            axes.plot(values, np.full(len(values), place + 0.27), "|", ms=4, color=colour, mew=0.9, zorder=2)
        axes.annotate(
            number(float(attacked.mean()), 3), (attacked.mean(), place), (7, 0), textcoords="offset points",
            va="center", size=8,
        )  # fmt: skip


def _explain(figure: Figure, constant: float) -> None:
    grey = "#555555"
    entries = [
        Line2D([], [], marker="o", ls="none", ms=7, mfc="w", mec=grey, mew=1.6, label="clean"),
        Line2D([], [], marker="o", ls="none", ms=7, color=grey, label="attacked"),
        Line2D([], [], marker="|", ls="none", ms=5, color=grey, label="single seeds"),
    ]
    if math.isfinite(constant):
        entries.append(Line2D([], [], color=DIAGONAL, lw=1.0, ls=":", label="always predicting the mean"))
    figure.legend(handles=entries, loc="outside upper center", ncols=len(entries), frameon=False)
