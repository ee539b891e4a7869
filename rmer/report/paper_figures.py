"""The paper's displays: Table 1 as a picture, the loss of performance per system, label versus prediction.

Every function returns a figure that no global state holds; sizes are those of a printed column or page.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.patches import Patch
from matplotlib.ticker import MultipleLocator

from rmer.data.dataset import RATING_SCALE
from rmer.evaluation.attacked import AttackedModel
from rmer.report.readable import REPORTED_2019, mean_and_std, number
from rmer.report.style import ADVERSARIAL, BLACK_BOX, CLEAN, DIAGONAL, HATCH, INTERPRETABLE, STYLE, styled
from rmer.report.system_tables import in_order, is_adversarial, is_interpretable, twin


@styled
def performance_table(systems: pd.DataFrame, reported: Mapping[str, float] = REPORTED_2019) -> Figure:
    """Return Table 1 of the paper: clean correlation and MAE of every system, below the values of 2019."""
    blocks = [[(f"{system} (2019)", f"{number(value)}*", "-") for system, value in reported.items()]]
    for adversarial in (False, True):
        rows = systems[[is_adversarial(name) == adversarial for name in systems["system"]]]
        scores = [(rows[score], rows[f"{score}_std"]) for score in ("clean_corr", "clean_mae")]
        blocks.append(list(zip(rows["system"], *(map(mean_and_std, *pair) for pair in scores), strict=True)))
    return _booktabs(("System", "Avg. corr.", "MAE"), [block for block in blocks if block])


@styled
def performance_difference(models: Sequence[AttackedModel], metric: str = "delta/mae") -> Figure:
    """Return the paper's box plot of adversarial minus clean MAE per system, one point a seed.

    The axis is broken where, and only where, outliers would squeeze everything else (:func:`axis_break`).
    """
    rows = _beside_their_twins(in_order(models))
    values = {name: np.array([model.scores[metric] for model in members]) for name, members in rows.items()}
    values = {name: column[np.isfinite(column)] for name, column in values.items()}
    layout = ConstrainedLayoutEngine(hspace=0.0, h_pad=0.03)
    figure = Figure(figsize=(max(3.4, 0.75 * len(rows) + 1.2), 3.2), layout=layout)
    for axes in _broken_axes(figure, list(values.values())):
        _draw_boxes(axes, values)
    slant: dict[str, Any] = {"rotation": 25, "ha": "right"} if max(map(len, values)) > 8 else {}
    figure.axes[-1].set_xticks(range(len(values)), list(values), **slant)
    figure.supylabel("ΔMAE (adversarial - clean)", fontsize=STYLE["axes.labelsize"])
    _explain_colours(figure.axes[0], list(values))
    return figure


@styled
def label_versus_prediction(models: Mapping[str, AttackedModel], emotions: Sequence[str]) -> Figure:
    """Return scatter plots of labels against clean and adversarial predictions.

    ``models`` maps the title of a column to the model it shows; each of ``emotions`` is a row.
    """
    figure = Figure(figsize=(0.6 + 2.2 * len(models), 0.6 + 2.0 * len(emotions)), layout="constrained")
    grid = figure.subplots(len(emotions), len(models), sharex=True, sharey="row", squeeze=False)
    for row, emotion in zip(grid, emotions, strict=True):
        for axes, (title, model) in zip(row, models.items(), strict=True):
            _scatter(axes, model, model.targets.index(emotion))
            if axes in grid[0]:
                axes.set_title(title, fontweight="bold")
        row[0].set_ylabel(f"predicted {emotion}")
        # Stretched downwards, so that the insets hide no point.
        bottom, top = row[0].get_ylim()
        row[0].set_yticks([tick for tick in row[0].get_yticks() if bottom <= tick <= top])
        row[0].set_ylim(bottom - 0.6 * (top - bottom), top)
    figure.supxlabel("rated emotion (rating / 10)", fontsize=STYLE["axes.labelsize"])
    handles, labels = grid[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(labels), frameon=False)
    return figure


def axis_break(groups: Sequence[np.ndarray]) -> tuple[float, float] | None:
    """Return (top of the lower part, bottom of the upper part) of a broken axis, None where none is needed.

    Needed where the largest gap between neighbouring values is over a quarter of the axis (from 0), and
    every value above it is an outlier of its own group (beyond 1.5 interquartile ranges over the third
    quartile).
    """
    values = np.sort(np.concatenate([*groups, [0.0]]))
    if len(values) < 3:
        return None
    gaps = np.diff(values)
    lower = int(gaps.argmax())
    low, high = float(values[lower]), float(values[lower + 1])
    if low <= 0 or high - low <= 0.25 * (values[-1] - min(values[0], 0.0)):
        return None
    if any((group >= high).any() and high <= _fence(group) for group in groups):
        return None
    return low, high


def _fence(group: np.ndarray) -> float:
    if not len(group):
        return np.inf
    first, third = np.percentile(group, [25, 75])
    return float(third + 1.5 * (third - first))


def _beside_their_twins(rows: dict[str, list[AttackedModel]]) -> dict[str, list[AttackedModel]]:
    """Put every adversarially trained system right of the one that is trained without."""
    beside = {name: twin(name) if twin(name) in rows else name for name in rows}
    names = sorted(rows, key=lambda name: (list(rows).index(beside[name]), is_adversarial(name)))
    return {name: rows[name] for name in names}


def _broken_axes(figure: Figure, groups: Sequence[np.ndarray]) -> list[Axes]:
    """Return one axes, or an upper and a lower one with the marks of a break between them."""
    everything = np.concatenate([*groups, [0.0]])
    bottom, top = float(everything.min()), float(everything.max())
    margin = 0.06 * (top - bottom) or 1.0
    bottom = bottom - margin if bottom < 0 else 0.0
    gap = axis_break(groups)
    if gap is None:
        axes = figure.subplots()
        axes.set_ylim(bottom, top + margin)
        return [axes]
    low, high = gap
    margin = 0.06 * (low - bottom)
    spans = (top - high + 4 * margin, low + 2 * margin - bottom)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=spans)
    upper.set_ylim(high - 2 * margin, top + 2 * margin)
    lower.set_ylim(bottom, low + 2 * margin)
    upper.spines["bottom"].set_visible(False)
    upper.tick_params(bottom=False)
    upper.yaxis.set_major_locator(MultipleLocator(float(np.diff(lower.get_yticks()[:2])[0])))
    slanted: dict[str, Any] = {"marker": [(-1, -0.5), (1, 0.5)], "markersize": 7, "linestyle": "none"}
    for axes, height in ((upper, 0), (lower, 1)):
        axes.plot([0], [height], transform=axes.transAxes, color="k", clip_on=False, **slanted)
    return [upper, lower]


def _draw_boxes(axes: Axes, values: Mapping[str, np.ndarray]) -> None:
    for position, (name, column) in enumerate(values.items()):
        if not len(column):
            continue
        boxes = axes.boxplot(column, positions=[position], widths=0.6, patch_artist=True, showfliers=False)
        colour = INTERPRETABLE if is_interpretable(name) else BLACK_BOX
        boxes["boxes"][0].set(facecolor=colour, alpha=0.75, hatch=HATCH if is_adversarial(name) else None)
        boxes["medians"][0].set(color="k", linewidth=1.6)
        jitter = np.linspace(-0.16, 0.16, len(column)) if len(column) > 1 else np.zeros(1)
        axes.plot(position + jitter, column, "o", ms=3, mfc="w", mec="k", mew=0.6, zorder=3)
    axes.set_xlim(-0.6, len(values) - 0.4)
    axes.grid(axis="y", linewidth=0.4, color="#dddddd")
    axes.set_axisbelow(True)


def _explain_colours(axes: Axes, names: Sequence[str]) -> None:
    entries = []
    if not all(is_interpretable(name) for name in names):
        entries.append(Patch(facecolor=BLACK_BOX, edgecolor="k", alpha=0.75, label="black box"))
    if any(is_interpretable(name) for name in names):
        entries.append(Patch(facecolor=INTERPRETABLE, edgecolor="k", alpha=0.75, label="interpretable"))
    if any(is_adversarial(name) for name in names):
        entries.append(Patch(facecolor="w", edgecolor="k", hatch=HATCH, label="adversarially trained"))
    axes.figure.legend(handles=entries, loc="outside upper center", ncols=len(entries), frameon=False)


def _scatter(axes: Axes, model: AttackedModel, target: int) -> None:
    labels, clean = model.labels[:, target], model.clean[:, target]
    axes.axhspan(*RATING_SCALE, color="#f0f0f0", lw=0, zorder=0, label="rating scale")
    axes.plot(RATING_SCALE, RATING_SCALE, "--", color=DIAGONAL, lw=0.9, zorder=1, label="label = prediction")
    axes.plot(labels, clean, "x", color=CLEAN, ms=4.5, mew=1.0, zorder=3, label="clean")
    adversarial: dict[str, Any] = {"mfc": "none", "mec": ADVERSARIAL, "ms": 4.5, "mew": 1.0, "zorder": 2}
    axes.plot(labels, model.adversarial[:, target], "o", label="adversarial", **adversarial)
    inset = axes.inset_axes((0.62, 0.04, 0.36, 0.32), xticks=[], yticks=[])
    inset.plot(RATING_SCALE, RATING_SCALE, "--", color=DIAGONAL, lw=0.7)
    inset.plot(labels, clean, "x", color=CLEAN, ms=2.5, mew=0.7)
    inset.spines[:].set(visible=True, linewidth=0.5)
    axes.set_xlim(-0.03, 1.03)
    axes.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0", ".25", ".5", ".75", "1"])


def _booktabs(header: tuple[str, ...], blocks: Sequence[Sequence[tuple[str, ...]]]) -> Figure:
    """Draw a table with rules above, below and between blocks, as LaTeX's booktabs does."""
    lines = 1 + sum(len(block) for block in blocks)
    height = 0.24 * lines + 0.1 * (len(blocks) + 1) + 0.05
    names = max(1.4, 0.3 + 0.07 * max(len(row[0]) for block in blocks for row in block))
    width = names + 2.0
    figure = Figure(figsize=(width, height))
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(height, 0))
    axes.set_axis_off()
    columns = [(0.12, "left"), (names + 0.55, "center"), (names + 1.45, "center")]
    top = 0.05
    axes.plot([0.05, width - 0.05], [top, top], "k", lw=1.3)
    for index, block in enumerate([[header], *blocks]):
        for row in block:
            for (x, align), cell in zip(columns, row, strict=True):
                axes.text(
                    x, top + 0.13, cell, ha=align, va="center", weight="bold" if row is header else None
                )
            top += 0.24
        top += 0.05
        axes.plot([0.05, width - 0.05], [top, top], "k", lw=1.3 if index == len(blocks) else 0.6)
        top += 0.05
    return figure
