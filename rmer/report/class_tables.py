"""Scores of classes and tags before and under attack, in full precision and as text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from rmer.evaluation.attacked import AttackedModel
from rmer.report.readable import NO_VALUE, over_seeds
from rmer.report.system_tables import in_order

TITLES = {"accuracy": "Accuracy", "macro_f1": "Macro F1", "auc": "AUC", "pr_auc": "PR AUC"}
KINDS = {"clean": "clean", "adv": "attacked", "delta": "Δ"}
COLUMNS = ("system", "seeds", "metric", *(f"{kind}{end}" for kind in KINDS for end in ("", "_std")))


def classification_table(
    models: Sequence[AttackedModel], metrics: Mapping[str, Mapping[str, float]]
) -> pd.DataFrame:
    """Return one row for each system and metric of :data:`TITLES`; empty where targets are ratings.

    ``metrics`` holds run id -> logged metrics. Means and population standard deviations are over seeds.
    """
    rows = []
    for name, members in in_order(models).items():
        logged = [metrics[model.run_id] for model in members]
        for metric in TITLES:
            if not any(f"clean/{metric}" in found for found in logged):
                continue
            row: dict[str, object] = {"system": name, "seeds": len(members), "metric": metric}
            for kind in KINDS:
                values = np.array([found.get(f"{kind}/{metric}", np.nan) for found in logged])
                row |= {kind: values.mean(), f"{kind}_std": values.std()}
            rows.append(row)
    return pd.DataFrame(rows, columns=list(COLUMNS))


def readable_classification(table: pd.DataFrame) -> pd.DataFrame:
    """Return one row a system: clean, attacked and difference of every metric, as text."""
    rows = []
    for name, group in table.groupby("system", sort=False):
        cells = {"System": str(name), "Seeds": str(group["seeds"].iloc[0])}
        for row in group.to_dict("records"):
            for kind, title in KINDS.items():
                value = over_seeds(row[kind], row[f"{kind}_std"], row["seeds"], 3)
                cells[f"{TITLES[row['metric']]}: {title}"] = value
        rows.append(cells)
    return pd.DataFrame(rows).fillna(NO_VALUE)


def with_classification(systems: pd.DataFrame, table: pd.DataFrame) -> pd.DataFrame:
    """Return the readable table of systems with accuracy, where there is any, as its last columns."""
    accuracy = table[table["metric"] == "accuracy"]
    if accuracy.empty:
        return systems
    cells = readable_classification(accuracy).drop(columns="Seeds")
    return systems.merge(cells, on="System", how="left").fillna(NO_VALUE)
