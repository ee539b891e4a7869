"""Area over log epsilon and break-even epsilon, against curves whose values are known."""

from __future__ import annotations

import math

import numpy as np
import pytest

from rmer.evaluation.curves import area_over_log_epsilon, break_even_epsilon


def test_the_area_of_a_constant_is_the_constant() -> None:
    assert area_over_log_epsilon([0.001, 0.01, 0.1], [0.3, 0.3, 0.3]) == pytest.approx(0.3, abs=1e-12)


def test_the_area_of_a_line_over_log_epsilon_is_its_middle() -> None:
    budgets = np.array([0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1])
    assert area_over_log_epsilon(budgets, 0.7 + 0.1 * np.log10(budgets)) == pytest.approx(0.5, abs=1e-12)


def test_epsilon_zero_does_not_count_and_order_does_not_matter() -> None:
    assert area_over_log_epsilon([0.1, 0.0, 0.01, 0.001], [4.0, 99.0, 2.0, 1.0]) == pytest.approx(2.25)


@pytest.mark.parametrize("budgets", [[0.0], [0.01], [0.0, 0.01], []])
def test_one_budget_has_no_area(budgets: list[float]) -> None:
    assert math.isnan(area_over_log_epsilon(budgets, [0.2] * len(budgets)))


def test_a_missing_value_makes_the_area_missing() -> None:
    assert math.isnan(area_over_log_epsilon([0.01, 0.1], [0.2, math.nan]))
    assert area_over_log_epsilon([0.0, 0.01, 0.1], [math.nan, 0.2, 0.2]) == pytest.approx(0.2)


@pytest.mark.parametrize(
    ("errors", "expected"),
    [
        ([0.20, 0.30, 0.40, 0.50], 0.0),  # the clean model is worse than the constant
        ([0.08, 0.24, 0.40, 0.50], 0.001 * 0.5),  # between 0 and the first budget: linear in epsilon
        ([0.08, 0.12, 0.20, 0.50], 0.001 * 10**0.5),  # halfway between .001 and .01 on the log scale
        ([0.08, 0.10, 0.12, 0.24], 0.01 * 10 ** (1 / 3)),
        ([0.08, 0.10, 0.16, 0.24], 0.01),  # reached, but passed only beyond
        ([0.08, 0.20, 0.10, 0.30], 0.001 * (0.08 / 0.12)),  # the first of several passings
        ([0.08, 0.10, 0.12, 0.16], math.inf),
        ([0.08, math.nan, 0.20, 0.30], math.nan),
    ],
)
def test_break_even(errors: list[float], expected: float) -> None:
    found = break_even_epsilon([0.0, 0.001, 0.01, 0.1], errors, 0.16)
    assert found == pytest.approx(expected, rel=1e-12, nan_ok=True)
    assert break_even_epsilon([0.1, 0.001, 0.01, 0.0], [errors[i] for i in (3, 1, 2, 0)], 0.16) == (
        pytest.approx(expected, rel=1e-12, nan_ok=True)
    )


def test_no_constant_predictor_no_break_even() -> None:
    assert math.isnan(break_even_epsilon([0.0, 0.1], [0.1, 0.2], math.nan))


@pytest.mark.parametrize(
    ("budgets", "values"),
    [([0.1, 0.1], [1.0, 2.0]), ([0.0, -0.1], [1.0, 2.0]), ([0.0, math.nan], [1.0, 2.0]), ([0.0, 0.1], [1.0])],
)
def test_budgets_that_make_no_curve(budgets: list[float], values: list[float]) -> None:
    with pytest.raises(ValueError, match="epsilons"):
        area_over_log_epsilon(budgets, values)
    with pytest.raises(ValueError, match="epsilons"):
        break_even_epsilon(budgets, values, 0.16)


def test_break_even_needs_the_clean_score() -> None:
    with pytest.raises(ValueError, match="epsilon 0"):
        break_even_epsilon([0.01, 0.1], [0.1, 0.2], 0.16)
