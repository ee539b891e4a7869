"""The paper's figures: the loss of performance per system, and label versus prediction.

Every function returns a figure that no global state holds; sizes are those of a printed column or page.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.patches import Patch
from matplotlib.ticker import MultipleLocator

from rmer.data.dataset import RATING_SCALE
from rmer.evaluation.attacked import AttackedModel
from rmer.report.readable import tick
from rmer.report.style import ADVERSARIAL, BLACK_BOX, CLEAN, DIAGONAL, HATCH, INTERPRETABLE, STYLE, styled
from rmer.report.system_tables import in_order, is_adversarial, is_interpretable, twin

# Predictions beyond this would squeeze the rating scale, 0-1.
FAR_OFF = 2.5
MARGIN = 0.05


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

    ``models`` maps the title of a column to the model it shows; each of ``emotions`` is a row. Predictions
    are on a logarithmic axis beyond -1 and 1 where some would squeeze all others.
    """
    figure = Figure(figsize=(0.6 + 2.2 * len(models), 0.6 + 2.0 * len(emotions)), layout="constrained")
    grid = figure.subplots(len(emotions), len(models), sharex=True, sharey="row", squeeze=False)
    for row, emotion in zip(grid, emotions, strict=True):
        for axes, (title, model) in zip(row, models.items(), strict=True):
            _scatter(axes, model, model.targets.index(emotion))
            if axes in grid[0]:
                axes.set_title(title, fontweight="bold")
        row[0].set_ylabel(f"predicted {emotion}")
        place = next(iter(models.values())).targets.index(emotion)
        shown = [(model.labels, model.clean, model.adversarial) for model in models.values()]
        _fit_predictions(row[0], np.concatenate([values[:, place] for kinds in shown for values in kinds]))
    rated = np.concatenate([model.labels.ravel() for model in models.values()])
    grid[0][0].set_xlim(rated.min() - MARGIN * np.ptp(rated), rated.max() + MARGIN * np.ptp(rated))
    grid[0][0].xaxis.set_major_formatter(tick)
    figure.supxlabel("rated emotion (rating / 10)", fontsize=STYLE["axes.labelsize"])
    handles, labels = grid[0][0].get_legend_handles_labels()
    columns = min(len(labels), 2 * len(models))
    figure.legend(handles, labels, loc="outside upper center", ncols=columns, frameon=False)
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
    axes.yaxis.set_major_formatter(tick)
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


def _fit_predictions(axes: Axes, values: npt.NDArray[np.floating[Any]]) -> None:
    """Show all values, and let those far off the rating scale leave room for those on it.

    The axis is logarithmic beyond -1 and 1 where some would squeeze all others.
    """
    low, high = float(values.min()), float(values.max())
    if max(-low, high) > FAR_OFF:
        axes.set_yscale("symlog", linthresh=1.0, linscale=1.5)
        ticks = [at for at in (-100, -10, -5, -2, -1, 0, 0.5, 1, 2, 5, 10, 100) if low <= at <= high]
        axes.set_yticks(ticks)
        axes.minorticks_off()
    # A margin of the length of the axis, whatever its scale is.
    scale = axes.yaxis.get_transform()
    ends = scale.transform(np.array([low, high]))
    axes.set_ylim(*scale.inverted().transform(ends + MARGIN * np.ptp(ends) * np.array([-1, 1])))
    axes.yaxis.set_major_formatter(tick)
