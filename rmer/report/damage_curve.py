"""Damage of one model over the budgets of an attack run."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from rmer.report.style import ADVERSARIAL, CLEAN, DIAGONAL, styled

LINES = {"mae": ("MAE", ADVERSARIAL), "mae_clipped": ("MAE, predictions clipped to 0-1", CLEAN)}


@styled
def damage_curve(curve: pd.DataFrame, constant: float) -> Figure:
    """Return MAE and correlation over log epsilon.

    ``curve`` is the table of :func:`rmer.evaluation.budgets.curve_table`; its clean row becomes dotted lines.
    ``constant`` is the MAE of the constant predictor.
    """
    clean, attacked = curve[curve["epsilon"] == 0].iloc[0], curve[curve["epsilon"] > 0]
    figure = Figure(figsize=(6.6, 2.8), layout="constrained")
    errors, correlation = figure.subplots(1, 2)
    for metric, (label, colour) in LINES.items():
        errors.plot(attacked["epsilon"], attacked[metric], "o-", ms=3.5, color=colour, label=label)
        errors.axhline(clean[metric], color=colour, lw=0.9, ls=":")
    errors.axhline(constant, color=DIAGONAL, lw=0.9, ls="--", label="constant predictor")
    correlation.plot(attacked["epsilon"], attacked["corr"], "o-", ms=3.5, color=ADVERSARIAL)
    correlation.axhline(clean["corr"], color=CLEAN, lw=0.9, ls=":", label="clean")
    errors.set_ylabel("MAE")
    correlation.set_ylabel("correlation over clips")
    errors.set_ylim(bottom=0)
    for axes in (errors, correlation):
        axes.set_xscale("log")
        budgets = attacked["epsilon"].tolist()
        axes.set_xticks(budgets, [f"{budget:g}".removeprefix("0") for budget in budgets])
        axes.minorticks_off()
        axes.set_xlabel("epsilon (standardised units a cell)")
        axes.legend(frameon=False)
    return figure
