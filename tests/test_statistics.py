"""Tests between systems: values by hand, effects, families, undefined cases."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from rmer.evaluation.statistics import (
    cliffs_delta,
    comparisons,
    hedges_g,
    holm,
    paired_t,
    tost_welch,
    welch_seeds,
)


def test_paired_t_by_hand() -> None:
    # differences 1, 2, 3, 2: mean 2, standard error sqrt(2/3) / 2
    n, statistic, p = paired_t([[2, 4], [6, 6]], [[1, 2], [3, 4]])
    assert (n, statistic) == (4, pytest.approx(2 / (np.sqrt(2 / 3) / 2), abs=1e-12))
    assert p == pytest.approx(2 * stats.t.sf(statistic, 3), rel=1e-9)


def test_welch_by_hand() -> None:
    # variances 1 and 4 over 3 values each: standard error sqrt(1/3 + 4/3)
    n, statistic, p = welch_seeds([1, 2, 3], [2, 4, 6])
    assert (n, statistic) == (6, pytest.approx(-2 / np.sqrt(5 / 3), abs=1e-12))
    freedom = (5 / 3) ** 2 / ((1 / 3) ** 2 / 2 + (4 / 3) ** 2 / 2)
    assert p == pytest.approx(2 * stats.t.sf(-statistic, freedom), rel=1e-9)


def test_welch_with_one_constant_side() -> None:
    _, statistic, p = welch_seeds([1, 1, 1], [2, 4, 6])
    assert np.isfinite([statistic, p]).all()


@pytest.mark.parametrize(
    ("a", "b"), [([1.0], [2.0, 3.0]), ([], []), ([1.0, np.nan], [2.0, 3.0]), ([1.0, 1.0], [2.0, 2.0])]
)
def test_welch_without_a_value(a: list[float], b: list[float]) -> None:
    n, statistic, p = welch_seeds(a, b)
    assert n == len(a) + len(b)
    assert np.isnan([statistic, p]).all()


@pytest.mark.parametrize(
    ("a", "b"), [([[1.0]], [[2.0]]), ([[1.0, np.inf]], [[0.0, 1.0]]), ([[1.0, 2.0]], [[0.0, 1.0]])]
)
def test_paired_t_without_a_value(a: list[list[float]], b: list[list[float]]) -> None:
    assert np.isnan(paired_t(a, b)[1:]).all()


def test_pairs_need_equal_shapes() -> None:
    with pytest.raises(ValueError, match="equal shapes"):
        paired_t(np.zeros((2, 3)), np.zeros((3, 2)))


def test_comparisons_are_with_the_reference_or_among_all() -> None:
    assert comparisons(["A2E", "A2B2E", "A2M2E"], "A2M2E") == [("A2E", "A2M2E"), ("A2B2E", "A2M2E")]
    assert comparisons(["A2E", "A2B2E", "aA2E"], "A2M2E") == [
        ("A2E", "A2B2E"),
        ("A2E", "aA2E"),
        ("A2B2E", "aA2E"),
    ]
    assert comparisons(["A2M2E"], "A2M2E") == []


def test_hedges_g_by_hand() -> None:
    # Cohen's d is -2 / sqrt(2.5); with 4 degrees of freedom the factor is gamma(2) / (sqrt(2) gamma(3/2))
    assert hedges_g([1, 2, 3], [2, 4, 6]) == pytest.approx(-2 / np.sqrt(2.5) / np.sqrt(np.pi / 2), rel=1e-12)


def test_hedges_g_is_unbiased_where_cohens_d_is_not() -> None:
    samples = np.random.default_rng(1).normal(loc=[[0.8], [0.0]], size=(20_000, 2, 4))
    found = np.mean([hedges_g(a, b) for a, b in samples])
    assert found == pytest.approx(0.8, abs=0.02)


def test_cliffs_delta_by_hand() -> None:
    # of nine pairs seven are lower, one is equal, one is higher
    assert cliffs_delta([1, 2, 3], [2, 4, 6]) == pytest.approx((1 - 7) / 9)
    assert cliffs_delta([5, 6], [1, 2, 3]) == 1


@pytest.mark.parametrize(
    ("a", "b"), [([], [1.0, 2.0]), ([1.0, np.nan], [2.0, 3.0]), ([np.nan], [1.0]), ([1.0, np.nan], [])]
)
def test_effects_without_a_value(a: list[float], b: list[float]) -> None:
    assert np.isnan([hedges_g(a, b), cliffs_delta(a, b), tost_welch(a, b, 1.0)]).all()


def test_hedges_g_needs_variance() -> None:
    assert np.isnan(hedges_g([1, 1], [2, 2]))


def test_tost_by_hand() -> None:
    # difference -2, standard error sqrt(5/3) as above: 2 units lie between it and a margin of 4
    freedom = (5 / 3) ** 2 / ((1 / 3) ** 2 / 2 + (4 / 3) ** 2 / 2)
    expected = stats.t.sf(2 / np.sqrt(5 / 3), freedom)
    assert tost_welch([1, 2, 3], [2, 4, 6], 4) == pytest.approx(expected, rel=1e-9)
    assert tost_welch([2, 4, 6], [1, 2, 3], 4) == pytest.approx(expected, rel=1e-9)
    assert tost_welch([1, 2, 3], [2, 4, 6], 1) > 0.5
    with pytest.raises(ValueError, match="margin"):
        tost_welch([1, 2], [3, 4], 0)


def test_tost_accepts_where_the_90_percent_interval_lies_within_the_margin() -> None:
    a, b = [0.11, 0.15, 0.12, 0.19], [0.14, 0.1, 0.13]
    low, high = stats.ttest_ind(a, b, equal_var=False).confidence_interval(0.9)
    assert tost_welch(a, b, max(-low, high)) == pytest.approx(0.05, abs=1e-9)


def test_holm_by_hand() -> None:
    # .005 x 4, .01 x 3, .03 x 2, and .04, which may not fall below its predecessor
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.7]) == pytest.approx([1, 1])
    assert not len(holm([]))


def test_holm_counts_a_test_without_a_value() -> None:
    np.testing.assert_allclose(holm([0.01, np.nan, 0.02]), [0.03, np.nan, 0.04])


def test_holm_holds_the_rate_of_a_family() -> None:
    """Of families of eight true null hypotheses, 5 % have a rejection at all; uncorrected, a third."""
    families = np.random.default_rng(2).random((4000, 8))
    assert np.mean([holm(family).min() <= 0.05 for family in families]) == pytest.approx(0.05, abs=0.01)
    assert np.mean(families.min(axis=1) <= 0.05) > 0.3
