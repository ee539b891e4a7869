"""What a bottleneck's concepts do under attack: weights, effects, shifts, movements and interventions.

Every function draws one or several systems, each given as name -> its models (one a seed), so that a single
run and a study are shown alike: values are averaged over seeds, box plots pool the clips of all seeds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from rmer.evaluation.concepts import AttackedConcepts, movement_table, shift_table
from rmer.evaluation.endpoints import Floats
from rmer.evaluation.interventions import repair_table
from rmer.report.readable import in_words, number, tick
from rmer.report.style import ADVERSARIAL, CLEAN, DIAGONAL, HATCH, STYLE, lines_of, styled

Systems = Mapping[str, Sequence[AttackedConcepts]]

BAND = "#e6e6e6"
ROOM = 0.68  # of the distance between two concepts, for what is drawn side by side

# Input, what its concepts are replaced by (see repair_table), title of the panel.
REPLACEMENTS = (
    ("adversarial", "clean", "attacked concepts → clean values"),
    ("adversarial", "rated", "attacked concepts → ratings"),
    ("clean", "rated", "clean concepts → ratings"),
)


@styled
def concept_weights(systems: Systems) -> Figure:
    """Return heat maps of the weights, plain and times the concept's spread, averaged over seeds.

    Where a sign is not the same in all seeds, the cell says ±.
    """
    first = _first(systems)
    size = (
        max(7.0, 1.6 + 1.15 * len(first.layer.concepts)),
        0.9 + (0.6 + 0.24 * len(first.layer.emotions)) * len(systems),
    )
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.subplots(len(systems), 2, squeeze=False, sharey=True, sharex=True)
    for row, (name, models) in zip(grid, systems.items(), strict=True):
        plain = np.stack([model.layer.weights for model in models])
        scaled = np.stack([model.layer.weights * model.spread for model in models])
        titles = (f"{name}: weight", f"{name}: change per spread of the concept")
        for axes, values, title in zip(row, (plain, scaled), titles, strict=True):
            same = (np.sign(values) == np.sign(values[0])).all(axis=0)
            _heat_map(axes, values.mean(axis=0), "RdBu_r", same_sign=same)
            axes.set_title(title)
        _name_axes(row, grid[-1], first)
    return figure


@styled
def concept_effects(systems: Systems, emotions: Sequence[str]) -> Figure:
    """Return box plots of each concept's centred effect on some emotions, clean and attacked."""
    first = _first(systems)
    columns = min(4, len(emotions)) if len(systems) == 1 else len(emotions)
    rows = -(-len(emotions) // columns) * len(systems)
    size = (1.2 + 1.75 * columns, 0.7 + rows * (0.55 + 0.23 * len(first.layer.concepts)))
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False, sharey=True)
    panels = [(name, models, emotion) for name, models in systems.items() for emotion in emotions]
    for axes in grid.ravel()[len(panels) :]:
        axes.set_visible(False)
    for axes, (name, models, emotion) in zip(grid.ravel(), panels, strict=False):
        index = first.layer.emotions.index(emotion)
        pairs = [
            np.concatenate([model.centred_effects(getattr(model, kind))[:, index] for model in models])
            for kind in ("clean", "adversarial")
        ]
        _draw_boxes(axes, pairs, ((CLEAN, ""), (ADVERSARIAL, "")))
        axes.axvline(0, color=DIAGONAL, lw=0.7, zorder=0)
        _few_ticks(axes)
        axes.set_title(f"{name}: {emotion}" if len(systems) > 1 else emotion)
    _name_concepts(list(grid[:, 0]), first)
    figure.supxlabel("centred effect on the prediction (rating / 10)", fontsize=STYLE["axes.labelsize"])
    _legend(figure, {"clean": (CLEAN, ""), "adversarial": (ADVERSARIAL, "")})
    return figure


@styled
def concept_shift(systems: Systems) -> Figure:
    """Return what the attack does to each concept: its shift per clip, and its share of the movement.

    The grey band is plus and minus the spread of the concept, averaged over all models.
    """
    first, lines = _first(systems), lines_of(list(systems))
    # Colour and hatch of each system, hatched where its line is dashed.
    looks = {name: (of["color"], HATCH if of["linestyle"] == "--" else "") for name, of in lines.items()}
    height = 0.9 + (0.18 + 0.16 * len(systems)) * len(first.layer.concepts)
    figure = Figure(figsize=(6.3, height), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=(1.7, 1))
    spread = np.mean([model.spread for models in systems.values() for model in models], axis=0)
    rows = np.arange(len(spread))
    left.barh(rows, 2 * spread, 0.9, left=-spread, color=BAND, zorder=0)
    shifts = [np.concatenate([model.shift for model in models]) for models in systems.values()]
    _draw_boxes(left, shifts, list(looks.values()))
    left.axvline(0, color=DIAGONAL, lw=0.7, zorder=0.5)
    _few_ticks(left)
    left.set_xlabel("shift of each clip's concept (rating / 10)")
    for place, (name, models) in enumerate(systems.items()):
        shares = 100 * np.stack([shift_table(model)["share"].to_numpy() for model in models])
        positions = rows + _offset(place, len(systems))
        colour, hatch = looks[name]
        bars: dict[str, Any] = {"color": colour, "alpha": 0.75, "ec": "k", "lw": 0.6, "hatch": hatch or None}
        right.barh(positions, shares.mean(axis=0), ROOM / len(systems), **bars)
        if len(models) > 1:
            right.plot(shares.T, positions, "o", ms=2.5, mfc="w", mec="k", mew=0.5, zorder=3)
    right.set_xlabel("share of the movement (%)")
    _name_concepts([left], first)
    _legend(figure, (looks if len(looks) > 1 else {}) | {"± spread of the clean predictions": (BAND, "")})
    return figure


@styled
def concept_movement(systems: Systems) -> Figure:
    """Return heat maps of the mean absolute movement of each emotion through each concept."""
    first = _first(systems)
    size = (
        1.4 + max(2.2, 0.58 * len(first.layer.concepts)) * len(systems),
        1.4 + 0.24 * len(first.layer.emotions),
    )
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.subplots(1, len(systems), squeeze=False, sharey=True)
    shape = first.layer.weights.shape
    means = [
        np.mean([movement_table(model)["moved_abs"].to_numpy().reshape(shape) for model in models], axis=0)
        for models in systems.values()
    ]
    top = max(float(values.max()) for values in means) or 1.0
    for axes, name, values in zip(grid[0], systems, means, strict=True):
        _heat_map(axes, values, "Oranges", top=top)
        axes.set_title(f"{name}: mean absolute movement")
    _name_axes(grid[0], grid[0], first)
    return figure


@styled
def concept_repair(systems: Systems) -> Figure:
    """Return the MAE of the emotions over the concepts that are replaced, a panel each kind of replacement.

    For a single model the axis names the concepts in the order in which they are replaced.
    """
    figure = Figure(figsize=(7.0, 2.9), layout="constrained")
    panels = figure.subplots(1, len(REPLACEMENTS), sharey=True)
    tables = {name: [repair_table(model) for model in models] for name, models in systems.items()}
    for axes, (kind, replaced_by, title) in zip(panels, REPLACEMENTS, strict=True):
        for name, line in lines_of(list(systems)).items():
            curves = [replacement(table, kind, replaced_by) for table in tables[name]]
            clean = [replacement(table, "clean", "rated")["mae"].iloc[0] for table in tables[name]]
            maes = np.stack([curve["mae"].to_numpy() for curve in curves])
            if len(maes) > 1:
                axes.plot(maes.T, color=line["color"], ls=line["linestyle"], lw=0.5, alpha=0.6)
            axes.plot(maes.mean(axis=0), lw=1.4, ms=3.5, label=name, **line)
            axes.axhline(float(np.mean(clean)), color=line["color"], lw=0.8, ls=":")
        axes.set_title(title, size=8)
        axes.grid(axis="y", linewidth=0.4, color="#dddddd")
        _name_steps(axes, curves if len(systems) == 1 else [])
    panels[0].yaxis.set_major_formatter(tick)
    panels[0].set_ylabel("MAE of the emotions")
    handles = panels[0].get_legend_handles_labels()[0] if len(systems) > 1 else []
    handles.append(Line2D([], [], color=DIAGONAL, lw=0.8, ls=":", label="clean, nothing replaced"))
    figure.legend(handles=handles, loc="outside upper center", ncols=len(handles), frameon=False)
    return figure


def _first(systems: Systems) -> AttackedConcepts:
    return next(iter(systems.values()))[0]


def _name_steps(axes: Axes, curves: Sequence[pd.DataFrame]) -> None:
    """Name the concept of each step where there is one curve; count them where there are several."""
    if len(curves) == 1:
        steps = ["none", *(f"+ {in_words(concept)}" for concept in curves[0]["concept"][1:])]
        axes.set_xticks(range(len(steps)), steps, rotation=45, ha="right", rotation_mode="anchor")
    else:
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_xlabel("concepts replaced")


def _heat_map(
    axes: Axes,
    values: Floats,
    colours: str,
    *,
    same_sign: npt.NDArray[np.bool_] | None = None,
    top: float = 0.0,
) -> None:
    """Draw [emotions, concepts] with the number in every cell: signed values, or sizes from 0 to ``top``."""
    signed, top = not top, top or float(np.abs(values).max()) or 1.0
    digits = 2 if top > 0.2 else 3
    axes.imshow(values, cmap=colours, vmin=-top if signed else 0.0, vmax=top, aspect="auto")
    for cell, value in np.ndenumerate(values):
        doubtful = same_sign is not None and not same_sign[cell]
        text = f"±{number(abs(value), digits)}" if doubtful else number(value, digits)
        colour = "w" if abs(value) > 0.6 * top else "k"
        axes.text(cell[1], cell[0], text, ha="center", va="center", size=7, color=colour)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)


def _name_axes(row: Sequence[Axes], last: Sequence[Axes], model: AttackedConcepts) -> None:
    row[0].set_yticks(range(len(model.layer.emotions)), model.layer.emotions)
    names = [in_words(concept) for concept in model.layer.concepts]
    for axes in last:
        axes.set_xticks(range(len(names)), names, rotation=45, ha="right", rotation_mode="anchor")


def _name_concepts(axes: Sequence[Axes], model: AttackedConcepts) -> None:
    names = [in_words(concept) for concept in model.layer.concepts]
    for panel in axes:
        panel.set_yticks(range(len(names)), names)
    axes[0].set_ylim(len(names) - 0.5, -0.5)


def _draw_boxes(axes: Axes, groups: Sequence[Floats], looks: Sequence[tuple[str, str]]) -> None:
    """Draw horizontal box plots of groups [values, concepts] beside each other in each concept's row."""
    for place, (values, (colour, hatch)) in enumerate(zip(groups, looks, strict=True)):
        positions = np.arange(values.shape[1]) + _offset(place, len(groups))
        boxes = axes.boxplot(
            values, positions=positions, widths=0.9 * ROOM / len(groups), orientation="horizontal",
            patch_artist=True, manage_ticks=False, whis=(5, 95), showfliers=False,
        )  # fmt: skip
        for box in boxes["boxes"]:
            box.set(facecolor=colour, alpha=0.75, hatch=hatch or None, linewidth=0.6)
        for line in (*boxes["whiskers"], *boxes["caps"]):
            line.set(linewidth=0.6)
        for median in boxes["medians"]:
            median.set(color="k", linewidth=1.2)


def _few_ticks(axes: Axes) -> None:
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.xaxis.set_major_formatter(tick)


def _offset(place: int, count: int) -> float:
    """Return where a group stands in the row of its concept: groups side by side around 0."""
    return ROOM * ((place + 0.5) / count - 0.5)


def _legend(figure: Figure, looks: Mapping[str, tuple[str, str]]) -> None:
    handles = [
        Patch(facecolor=colour, edgecolor="k", lw=0.5, alpha=0.75, hatch=hatch or None, label=label)
        for label, (colour, hatch) in looks.items()
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=len(handles), frameon=False)


def replacement(table: pd.DataFrame, kind: str, replaced_by: str) -> pd.DataFrame:
    """Return the rows of one of :data:`REPLACEMENTS` of :func:`repair_table`."""
    return table[(table["input"] == kind) & (table["replaced_by"] == replaced_by)]
