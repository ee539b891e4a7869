"""Descriptions of runs, as the UI shows them: what a run is, its result in a line, and where to go on."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import pandas as pd

from rmer.evaluation.metrics import clip_errors
from rmer.report.html import Report
from rmer.report.readable import number

CONSTANT = "constant/mae"
MAIN_SCORE = "test/emotion/corr"


def description(what: str, result: str, links: Mapping[str, str], more: Sequence[str] = ()) -> str:
    """Return a description as Markdown; ``links`` are name -> page.

    The UI folds what is longer than four lines, and lets one click in the first two: links come first.
    """
    linked = " · ".join(f"[{name}]({page})" for name, page in links.items())
    head = f"**{what}.** {linked}".rstrip()
    return "\n\n".join([f"{head}  \n{result}", *more]) + "\n"


def answer_of(report: Report) -> str:
    """Return the answer of an analysis in a sentence or two."""
    return report.answer[0]


def trained_result(metrics: Mapping[str, float]) -> str:
    """Return how well a trained model predicts the test clips, from its metrics."""
    corr, mae = (_value(metrics, f"test/emotion/{name}") for name in ("corr", "mae"))
    beside = beside_constant(_value(metrics, CONSTANT))
    return f"Test clips: correlation {number(corr)}, MAE {number(mae, 3)}{beside}."


def attacked_result(metrics: Mapping[str, float]) -> str:
    """Return what an attack did to a model, from its metrics."""
    changes = [
        f"{title} "
        + " → ".join(number(_value(metrics, f"{kind}/{name}"), digits) for kind in ("clean", "adv"))
        for title, name, digits in (("MAE", "mae", 3), ("correlation", "corr", 2))
    ]
    return f"{', '.join(changes)}{beside_constant(_value(metrics, CONSTANT))}."


def worst_clip(table: pd.DataFrame, emotions: Sequence[str]) -> str:
    """Return a sentence on the clip whose error grew most, from the per-clip table of an attack run."""
    rated, clean, attacked = (
        table[[f"{kind}_{emotion}" for emotion in emotions]].to_numpy() for kind in ("label", "clean", "adv")
    )
    before, after = clip_errors(rated, clean), clip_errors(rated, attacked)
    place = int((after - before).argmax())
    name = table["clip"].iloc[place]
    return f"Suffers most: clip {name}, MAE {number(before[place], 3)} → {number(after[place], 3)}."


def beside_constant(mae: float) -> str:
    """Return the error of the constant predictor in brackets, nothing where it is not known."""
    return f" (always predicting the mean: MAE {number(mae, 3)})" if math.isfinite(mae) else ""


def _value(metrics: Mapping[str, float], name: str) -> float:
    return metrics.get(name, math.nan)
