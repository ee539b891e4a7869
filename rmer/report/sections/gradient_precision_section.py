"""What gradients in bfloat16 cost the search, over all runs: one row a norm and budget, and a sentence."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from rmer.evaluation.checks.attack_checks import REDUCED_SEARCH
from rmer.evaluation.gradient_precision import PrecisionCheck
from rmer.evaluation.metrics import METRICS
from rmer.report.contents import Contents
from rmer.report.html import ReportTable, Section
from rmer.report.readable import NORM_NAMES, number, tick

TITLE = "Precision of gradients"
ERRORS = ("mae_clipped", "mae")
KINDS = {
    "fp32": "float32",
    "bf16": "bfloat16",
    "loss": "loss (%)",
    "worst_loss": "worst (%)",
    "damage_loss": "of damage (%)",
}
COLUMNS = ("norm", "epsilon", "models", *(f"{metric}_{kind}" for metric in ERRORS for kind in KINDS))
CAPTION = (
    "Attacked MAE, means over models: the same clips and starts under gradients in float32 and in bfloat16, "
    "scored in float32. Loss: share of the float32 search's MAE that the other misses, negative where it "
    "found more; worst: of one model; of damage: as a share of what the attack adds to the clean MAE."
)


@dataclass(frozen=True)
class Loss:
    """A loss as a share of MAE, and where it occurred; ``clips`` were compared."""

    value: float
    run: str
    metric: str
    norm: str
    epsilon: float
    clips: int


def precision_over_runs(runs: Sequence[PrecisionCheck]) -> pd.DataFrame:
    """Return one row a norm and budget (:data:`COLUMNS`), in full precision; losses are shares.

    Of each error: means over models of both searches and of the loss, the largest loss of a model, and the
    loss of the means as a share of what the float32 search adds to the clean MAE.
    """
    if not runs:
        return pd.DataFrame(columns=list(COLUMNS))
    every = pd.concat([run.table.assign(norm=run.norm) for run in runs], ignore_index=True)
    rows = []
    for (norm, epsilon), group in every.groupby(["norm", "epsilon"]):
        row = {"norm": norm, "epsilon": epsilon, "models": len(group)}
        for metric in ERRORS:
            clean, exact, reduced = (group[f"{metric}_{kind}"].mean() for kind in ("clean", "fp32", "bf16"))
            losses = group[f"{metric}_loss"]
            of_damage = (exact - reduced) / (exact - clean) if exact > clean else np.nan
            values = (exact, reduced, losses.mean(), losses.max(skipna=False), of_damage)
            row |= {f"{metric}_{kind}": value for kind, value in zip(KINDS, values, strict=True)}
        rows.append(row)
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    # L-inf first, as everywhere; budgets ascend already.
    return table.sort_values("norm", ascending=False, kind="stable", ignore_index=True)


def largest_loss(runs: Sequence[PrecisionCheck]) -> Loss | None:
    """Return the largest loss of any run, error and budget (one that is no number counts as such)."""
    losses = [
        Loss(row[f"{metric}_loss"], run.name, metric, run.norm, row["epsilon"], int(row["clips"]))
        for run in runs
        for row in run.table.to_dict("records")
        for metric in ERRORS
    ]
    return max(losses, key=lambda loss: math.inf if math.isnan(loss.value) else loss.value, default=None)


def gradient_precision_section(contents: Contents) -> Section:
    """Return the section, with ``tables/precision.csv``; without checks, or gradients, the table alone."""
    runs, reduced = contents.precision_checks, contents.reduced
    table, worst = precision_over_runs(runs), largest_loss(runs)
    if not contents.checks or (contents.by_predictions and not contents.through_gradients):
        return Section(TITLE, data={"precision": table})
    if worst is None:
        nothing = (
            "Gradients were computed in float32, so there is nothing to compare."
            if not reduced
            else "Gradients were computed in bfloat16, and no run was searched again with float32 ones: "
            "attack again to compare."
        )
        return Section(TITLE, [nothing], data={"precision": table})
    older = reduced - len(runs)
    others = f" In {_runs(older)} of an older version it was not." if older else ""
    paragraphs = [
        "Perturbations, comparisons, best iterates and scores are in float32; gradients of "
        f"{_runs(reduced)} were computed in bfloat16. In {_runs(len(runs))} the attack on the error was "
        f"repeated with float32 gradients on the first {worst.clips} clips.{others}",
        _answer(worst),
    ]
    tables = [ReportTable(CAPTION, readable_precision(table))]
    return Section(TITLE, paragraphs, tables, data={"precision": table})


def readable_precision(table: pd.DataFrame) -> pd.DataFrame:
    """Return the table as text, losses in per cent."""
    columns: dict[str, list[str]] = {}
    if len(set(table["norm"])) > 1:
        columns["Norm"] = [NORM_NAMES.get(norm, norm) for norm in table["norm"]]
    columns["ε"] = [tick(value) for value in table["epsilon"]]
    columns["Models"] = table["models"].astype(str).tolist()
    for metric in ERRORS:
        for kind, title in KINDS.items():
            values, score = table[f"{metric}_{kind}"], kind in ("fp32", "bf16")
            found = [number(value, 4) if score else number(100 * value) for value in values]
            columns[f"{METRICS[metric].title}: {title}"] = found
    return pd.DataFrame(columns)


def _answer(worst: Loss) -> str:
    within = worst.value <= REDUCED_SEARCH
    loss = "nothing" if worst.value <= 0 else f"{number(100 * worst.value)} %"
    norm = NORM_NAMES.get(worst.norm, worst.norm)
    return (
        f"At worst, the search with bfloat16 gradients missed {loss} of the {METRICS[worst.metric].phrase} "
        f"({worst.run}, {norm} ε {tick(worst.epsilon)}): {'within' if within else 'beyond'} the limit of "
        f"{tick(100 * REDUCED_SEARCH)} %."
    )


def _runs(count: int) -> str:
    return f"{count} run{'s' if count != 1 else ''}"
