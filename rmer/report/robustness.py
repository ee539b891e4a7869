"""Scores before and under attack, side by side, with the constant predictor's: what every report shows."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd

from rmer.evaluation.attacked import AttackedModel
from rmer.evaluation.comparison import PRIMARY
from rmer.evaluation.metrics import METRICS, Metric, under_attack
from rmer.report.readable import NO_VALUE, number, over_seeds, tick
from rmer.report.system_tables import in_order

ROBUSTNESS_CAPTION = (
    "Mean ± population standard deviation over seeds. MAE: over clips and emotions; clipped: predictions "
    "limited to the rating scale, 0-1. Correlation: Pearson over clips, averaged over emotions. Δ: attacked "
    "minus clean."
)
# The metric that stands first, and whose curve breaks even.
FIRST = PRIMARY.removeprefix("delta/")
KINDS = {"clean": "clean", "adv": "attacked", "delta": "Δ"}
COLUMNS = (
    "system", "seeds", "metric",
    "clean", "clean_std", "adv", "adv_std", "delta", "delta_std",
    "constant", "auc", "auc_std",
    "breakeven", "breakeven_low", "breakeven_high",
)  # fmt: skip


def shown_metrics() -> dict[str, Metric]:
    """Return the metrics by which attacked models are judged, in the order of tables and figures."""
    metrics = under_attack()
    return {FIRST: metrics[FIRST], **metrics}


def robustness_table(
    models: Sequence[AttackedModel], metrics: Mapping[str, Mapping[str, float]]
) -> pd.DataFrame:
    """Return one row for each system and metric, in full precision.

    ``metrics`` holds run id -> logged metrics. Means and population standard deviations are over seeds.
    ``constant`` is the score of the constant predictor (it has no correlation), ``auc`` the mean over log
    epsilon, ``breakeven`` the median over seeds, with the smallest and largest, of the epsilon at which the
    attacked MAE passes the constant predictor's (infinity: at none that was tried). What runs do not say is
    NaN.
    """
    rows = []
    for name, members in in_order(models).items():
        logged = pd.DataFrame([metrics[model.run_id] for model in members])
        for metric in shown_metrics():
            row: dict[str, object] = {"system": name, "seeds": len(members), "metric": metric}
            for kind in ("clean", "adv", "delta"):
                values = np.array([model.scores[f"{kind}/{metric}"] for model in members])
                row |= {kind: values.mean(), f"{kind}_std": values.std()}
            area = _logged(logged, f"auc/{metric}")
            row |= {"auc": area.mean(), "auc_std": area.std()}
            if METRICS[metric].against_constant:
                row["constant"] = _logged(logged, "constant/mae").mean()
            if metric == FIRST:
                row |= _break_even(logged)
            rows.append(row)
    return pd.DataFrame(rows, columns=list(COLUMNS))


def readable_robustness(table: pd.DataFrame, reported: Mapping[str, float] | None = None) -> pd.DataFrame:
    """Return one row a system: clean, attacked and difference of every metric, as text.

    The constant predictor stands first; ``reported`` clean correlations of 2019, if any, follow.
    """
    rows = []
    constant = table["constant"].mean()
    if math.isfinite(constant):
        cells = {
            f"{metric.title}: {kind}": number(constant, 3)
            for metric in shown_metrics().values()
            if metric.against_constant
            for kind in ("clean", "attacked")
        }
        rows.append({"System": "constant predictor", **cells})
    for system, value in (reported or {}).items():
        rows.append({"System": f"{system} (2019)", f"{METRICS['corr'].title}: clean": number(value)})
    for name, group in table.groupby("system", sort=False):
        rows.append({"System": str(name), **score_cells(group, 3)})
    columns = ["System", "Seeds"]
    columns += [f"{metric.title}: {kind}" for metric in shown_metrics().values() for kind in KINDS.values()]
    return pd.DataFrame(rows, columns=columns).fillna(NO_VALUE)


def score_cells(rows: pd.DataFrame, digits: int) -> dict[str, str]:
    """Return one system's cells, from its rows for each metric: seeds, clean, attacked and difference."""
    cells = {"Seeds": str(rows["seeds"].iloc[0])}
    for row in rows.to_dict("records"):
        for kind, title in KINDS.items():
            value = over_seeds(row[kind], row[f"{kind}_std"], row["seeds"], digits)
            cells[f"{METRICS[row['metric']].title}: {title}"] = value
    return cells


def readable_areas(
    table: pd.DataFrame, largest: float, *, unit: str = "ε", shown: Callable[[float], str] = tick
) -> pd.DataFrame:
    """Return area over log epsilon and break-even as text; ``largest`` is the largest epsilon tried.

    ``shown`` tells an epsilon in ``unit``: a level in dB, say.
    """
    over = unit if unit == "dB" else f"log {unit}"
    rows = []
    for name, group in table.groupby("system", sort=False):
        cells = {"System": str(name)}
        for row in group.to_dict("records"):
            title = METRICS[row["metric"]].title
            cells[f"Mean over {over}: {title}"] = over_seeds(row["auc"], row["auc_std"], row["seeds"], 3)
            if row["metric"] == FIRST:
                ends = [_epsilon(row[f"breakeven{end}"], largest, shown) for end in ("", "_low", "_high")]
        cells[f"Break-even {unit}"] = ends[0] if ends[1] == ends[2] else f"{ends[0]} ({ends[1]} to {ends[2]})"
        rows.append(cells)
    return pd.DataFrame(rows)


def _logged(logged: pd.DataFrame, name: str) -> np.ndarray:
    column = logged[name] if name in logged else pd.Series(np.nan, index=logged.index)
    return column.to_numpy(np.float64)


def _break_even(logged: pd.DataFrame) -> dict[str, float]:
    values = _logged(logged, "breakeven/epsilon").copy()
    # A run with a curve that no budget breaks logs no break-even.
    values[np.isnan(values) & ~np.isnan(_logged(logged, "curve/mae"))] = np.inf
    # Of an even number the upper middle one: a mean with infinity says nothing.
    ordered = np.sort(values)
    middle = ordered[len(ordered) // 2]
    return {"breakeven": middle, "breakeven_low": ordered[0], "breakeven_high": ordered[-1]}


def _epsilon(value: float, largest: float, shown: Callable[[float], str]) -> str:
    if math.isnan(value):
        return NO_VALUE
    if math.isinf(value):
        return f"> {shown(largest)}"
    return shown(float(f"{value:.2g}"))
