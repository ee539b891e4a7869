"""Damage of one model over the budgets of an attack run."""

from __future__ import annotations

from itertools import cycle

import pandas as pd
from matplotlib.figure import Figure

from rmer.evaluation.metrics import under_attack
from rmer.report.readable import epsilon_in_words
from rmer.report.style import ADVERSARIAL, CLEAN, DIAGONAL, GREY, styled


@styled
def damage_curve(curve: pd.DataFrame, constant: float) -> Figure:
    """Return errors and, beside them, correlation over log epsilon.

    ``curve`` is the table of :func:`rmer.evaluation.budgets.curve_table`; its clean row becomes dotted lines.
    ``constant`` is the MAE of the constant predictor.
    """
    clean, attacked = curve[curve["epsilon"] == 0].iloc[0], curve[curve["epsilon"] > 0]
    figure = Figure(figsize=(6.6, 2.8), layout="constrained")
    errors, correlation = figure.subplots(1, 2)
    for better, axes in ((False, errors), (True, correlation)):
        shown = [metric for metric in under_attack().values() if metric.larger_is_better == better]
        for metric, colour in zip(shown, cycle((ADVERSARIAL, CLEAN, GREY))):
            x, y = attacked["epsilon"], attacked[metric.name]
            axes.plot(x, y, "o-", ms=3.5, color=colour, label=metric.title)
            axes.axhline(clean[metric.name], color=colour, lw=0.9, ls=":")
    errors.axhline(constant, color=DIAGONAL, lw=0.9, ls="--", label="constant predictor")
    errors.set_ylabel("error (dotted: clean)")
    correlation.set_ylabel("score (dotted: clean)")
    errors.set_ylim(bottom=0)
    for axes in (errors, correlation):
        axes.set_xscale("log")
        budgets = attacked["epsilon"].tolist()
        axes.set_xticks(budgets, [epsilon_in_words(budget) for budget in budgets])
        axes.minorticks_off()
        axes.set_xlabel("epsilon (standardised units a cell)")
        axes.legend(frameon=False)
    return figure
