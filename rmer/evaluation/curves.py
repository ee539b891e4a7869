"""Curves over epsilon in one number: area over log epsilon, and the epsilon of break-even."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from rmer.evaluation.endpoints import Floats


def area_over_log_epsilon(epsilons: npt.ArrayLike, values: npt.ArrayLike) -> float:
    """Return the mean of a curve over log10 epsilon (trapezoids, divided by the range), in its own units.

    Both are ``[budgets]``, in any order. Epsilon 0 has no logarithm and is left out. NaN where fewer than two
    budgets are left, or where one of their values is NaN. Raises ValueError when shapes differ, or an epsilon
    is negative, not finite or given twice.
    """
    budgets, heights = _ascending(epsilons, values)
    budgets, heights = budgets[budgets > 0], heights[budgets > 0]
    if len(budgets) < 2:
        return math.nan
    places = np.log10(budgets)
    return float(np.trapezoid(heights, places) / np.ptp(places))


def break_even_epsilon(epsilons: npt.ArrayLike, maes: npt.ArrayLike, constant: float) -> float:
    """Return the smallest epsilon at which the attacked MAE passes the constant predictor's.

    Between the two tested budgets around it, it is interpolated linearly in log epsilon (in epsilon, where
    the lower one is 0). 0 where the clean MAE is above already; infinity where no tested budget passes; NaN
    where the curve or the constant predictor's MAE is NaN. Budgets and MAE are ``[budgets]``, in any order,
    epsilon 0 being the clean MAE. Raises ValueError when shapes differ, epsilon 0 is missing, or an epsilon
    is negative, not finite or given twice.
    """
    budgets, errors = _ascending(epsilons, maes)
    if not len(budgets) or budgets[0] != 0:
        raise ValueError("the curve needs epsilon 0, the clean MAE")
    if np.isnan(errors).any() or math.isnan(constant):
        return math.nan
    passed = np.flatnonzero(errors > constant)
    if not len(passed):
        return math.inf
    above = int(passed[0])
    if above == 0:
        return 0.0
    share = float((constant - errors[above - 1]) / (errors[above] - errors[above - 1]))
    low, high = float(budgets[above - 1]), float(budgets[above])
    return share * high if low == 0 else low * (high / low) ** share


def _ascending(epsilons: npt.ArrayLike, values: npt.ArrayLike) -> tuple[Floats, Floats]:
    budgets, heights = np.asarray(epsilons, dtype=np.float64), np.asarray(values, dtype=np.float64)
    if budgets.ndim != 1 or budgets.shape != heights.shape:
        raise ValueError(f"epsilons are {budgets.shape}, values {heights.shape}: both must be [budgets]")
    if not (np.isfinite(budgets) & (budgets >= 0)).all() or len(np.unique(budgets)) < len(budgets):
        raise ValueError(f"epsilons must be different numbers >= 0, not {budgets.tolist()}")
    order = budgets.argsort()
    return budgets[order], heights[order]
