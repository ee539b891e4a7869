"""The corrected comparison of systems: its table, its figure, and what enters it."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from rmer.evaluation.attacked import AttackedModel
from rmer.evaluation.bootstrap import SEED
from rmer.evaluation.comparison import (
    Comparison,
    SystemSample,
    compare_systems,
)
from rmer.evaluation.metrics import METRICS, aims
from rmer.report.readable import NO_VALUE, interval, number, p_value
from rmer.report.style import DIAGONAL, GREY, HIGHLIGHT, styled
from rmer.report.system_tables import in_order

COLUMNS = tuple(field.name for field in dataclasses.fields(Comparison))


def system_samples(models: Sequence[AttackedModel]) -> list[SystemSample]:
    """Return the models of each system as one sample, in the order of the tables.

    Empty where they were not all attacked on the same clips with the same ratings: there is nothing to
    compare then.
    """
    first = models[0]
    alike = all(
        model.clips == first.clips
        and model.albums == first.albums
        and np.allclose(model.labels, first.labels, rtol=0, atol=1e-6)
        for model in models
    )
    if not alike:
        return []
    return [
        SystemSample(
            name=name,
            clips=first.clips,
            albums=first.albums,
            labels=first.labels,
            clean=np.stack([model.clean for model in members]),
            adversarial={aim: np.stack([model.worst(aim) for model in members]) for aim in aims()},
        )
        for name, members in in_order(models).items()
    ]


def compare_models(
    models: Sequence[AttackedModel],
    reference: str,
    *,
    margins: Mapping[str, float] | None = None,
    seed: int = SEED,
) -> list[Comparison]:
    """Return the corrected comparison on every endpoint; empty for one system, or for different clips."""
    samples = system_samples(models)
    return compare_systems(samples, reference, margins=margins, seed=seed) if len(samples) > 1 else []


def endpoint_phrase(endpoint: str) -> str:
    """Return the endpoint's metric as in a sentence: ``clipped MAE``."""
    return METRICS[endpoint.split("/")[1]].phrase


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

    Dark where the difference is clear after Holm's correction. An interval reaches beyond the axes where it
    would squeeze all others.
    """
    endpoints = list(dict.fromkeys(row.endpoint for row in rows))
    most = max(sum(row.endpoint == name for row in rows) for name in endpoints)
    figure = Figure(figsize=(3.5 * len(endpoints), 0.9 + 0.26 * most), layout="constrained")
    for axes, endpoint in zip(figure.subplots(1, len(endpoints), squeeze=False)[0], endpoints, strict=True):
        shown = [row for row in rows if row.endpoint == endpoint]
        margin = shown[0].margin
        axes.axvspan(-margin, margin, color="#e8eef4", lw=0, zorder=0)
        axes.axvline(0, color=DIAGONAL, lw=0.8, zorder=1)
        for place, row in enumerate(shown):
            clear = row.p_holm < 0.05
            style = {"color": HIGHLIGHT if clear else GREY, "zorder": 3}
            axes.plot([row.low, row.high], [place, place], lw=1.6, **style)
            axes.plot([row.difference], [place], "o" if clear else "D", ms=4.5, **style)
        axes.set_yticks(range(len(shown)), [f"{row.a} - {row.b}" for row in shown])
        axes.set_ylim(len(shown) - 0.5, -0.5)
        axes.set_xlim(*_reach(shown, margin))
        axes.set_xlabel(f"difference of Δ {endpoint_phrase(endpoint)}")
        axes.tick_params(axis="y", length=0)
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
