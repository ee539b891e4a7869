"""Tests of differences between systems over seeds, sizes of effects, and correction for the number of tests.

Conventions
-----------
A system is a set of trained models, one a seed. A test compares system ``a`` with system ``b``; a positive
statistic says that ``a`` has the larger mean. p values are two-sided and, but for :func:`holm`, not corrected
for their number. Tests that draw the music anew, too, are in :mod:`rmer.evaluation.bootstrap`.

Tests
-----
* ``paired_t_pooled``: the published test, kept to reproduce it and for nothing else. Student's t over the
  pairs of all clips of all seeds, as if these were independent; they are not (10 models see the same clips),
  so its p is far too small.
* ``paired_t_seeds``: the same test over one score a seed, the smallest change to the published one.
* ``welch_seeds``: Welch's t over one score a seed, not paired, since networks of different architecture share
  no random stream and so equal seeds have nothing in common. Seeds are what a replication draws anew; the
  clips are taken as given.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

PAIRED_T_POOLED = "paired_t_pooled"
PAIRED_T_SEEDS = "paired_t_seeds"
WELCH_SEEDS = "welch_seeds"


@dataclass(frozen=True)
class TestResult:
    """One row of ``tables/tests.csv``: ``n`` is the number of pairs, or of values of both sides together.

    ``statistic`` and ``p`` are NaN where a test has no value: fewer than two pairs, or than two values on
    either side, a score that is not finite, or no variance at all.
    """

    __test__ = False  # not a test case, whatever its name suggests to pytest

    test: str
    metric: str
    a: str
    b: str
    n: int
    statistic: float
    p: float


def paired_t(a: npt.ArrayLike, b: npt.ArrayLike) -> tuple[int, float, float]:
    """Return n, t and p of Student's t-test over pairs; raises ValueError when the shapes differ.

    ``a`` and ``b`` are scores of two systems in the same order: ``[seeds, clips]`` for the pooled (published)
    form, ``[seeds]`` for the form over seeds.
    """
    x, y = np.asarray(a, dtype=np.float64).ravel(), np.asarray(b, dtype=np.float64).ravel()
    if np.shape(a) != np.shape(b):
        raise ValueError(f"pairs need equal shapes, not {np.shape(a)} and {np.shape(b)}")
    difference = x - y
    if len(x) < 2 or not np.isfinite(difference).all() or np.ptp(difference) == 0:
        return len(x), math.nan, math.nan
    result = stats.ttest_rel(x, y)
    return len(x), float(result.statistic), float(result.pvalue)


def welch_seeds(a: npt.ArrayLike, b: npt.ArrayLike) -> tuple[int, float, float]:
    """Return n, t and p of Welch's t-test between scores ``[seeds of a]`` and ``[seeds of b]``."""
    x, y = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    count = len(x) + len(y)
    if min(len(x), len(y)) < 2 or not (np.isfinite(x).all() and np.isfinite(y).all()):
        return count, math.nan, math.nan
    if np.ptp(x) == 0 and np.ptp(y) == 0:
        return count, math.nan, math.nan
    with warnings.catch_warnings():
        # One side without variance is a valid case of Welch's test, about which scipy warns.
        warnings.simplefilter("ignore", RuntimeWarning)
        result = stats.ttest_ind(x, y, equal_var=False)
    return count, float(result.statistic), float(result.pvalue)


def tost_welch(a: npt.ArrayLike, b: npt.ArrayLike, margin: float) -> float:
    """Return p of two one-sided Welch tests that the means of two systems differ by less than ``margin``.

    ``a`` and ``b`` are scores over seeds, as for :func:`welch_seeds`; p is the larger of the two (Schuirmann
    1987), NaN where Welch's test has no value. Raises ValueError when the margin is not positive.
    """
    if not margin > 0:
        raise ValueError(f"a margin of equivalence is positive, not {margin}")
    x, y = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if math.isnan(welch_seeds(x, y)[2]):
        return math.nan
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        above = stats.ttest_ind(x + margin, y, equal_var=False, alternative="greater")
        below = stats.ttest_ind(x - margin, y, equal_var=False, alternative="less")
    return float(max(above.pvalue, below.pvalue))


def hedges_g(a: npt.ArrayLike, b: npt.ArrayLike) -> float:
    """Return the difference of means in pooled standard deviations, free of small-sample bias.

    ``a`` and ``b`` are scores over seeds. Cohen's d times Hedges' exact factor (Hedges 1981, equation 6e),
    about 1 - 3 / (4 df - 1). NaN with fewer than two values on a side, values that are not finite, or no
    variance.
    """
    x, y = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    freedom = len(x) + len(y) - 2
    if min(len(x), len(y)) < 2 or not (np.isfinite(x).all() and np.isfinite(y).all()):
        return math.nan
    pooled = math.sqrt(((len(x) - 1) * x.var(ddof=1) + (len(y) - 1) * y.var(ddof=1)) / freedom)
    if pooled == 0:
        return math.nan
    log_factor = math.lgamma(freedom / 2) - math.lgamma((freedom - 1) / 2) - math.log(freedom / 2) / 2
    return float((x.mean() - y.mean()) / pooled * math.exp(log_factor))


def cliffs_delta(a: npt.ArrayLike, b: npt.ArrayLike) -> float:
    """Return how much more often a value of ``a`` exceeds one of ``b`` than the other way round, -1 to 1.

    Over all pairs of seeds (Cliff 1993); 0 where both are alike, 1 where every value of ``a`` is larger. NaN
    without values, or where one is NaN.
    """
    x, y = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if not (len(x) and len(y)) or np.isnan(x).any() or np.isnan(y).any():
        return math.nan
    return float(np.sign(x[:, None] - y).mean())


def holm(p: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Return the p values ``[tests]`` of one family, adjusted by Holm's step-down method (Holm 1979).

    Those at or below alpha are rejected with a chance of at most alpha that any of them is a false positive,
    whatever the tests have in common. A NaN stays NaN and *counts as a member*: a family is stated before its
    tests are known to have values.
    """
    values = np.asarray(p, dtype=np.float64)
    order = np.argsort(values)  # NaN last
    steps = values[order] * np.arange(len(values), 0, -1)
    adjusted = np.empty_like(values)
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return adjusted


def comparisons(systems: Sequence[str], reference: str) -> list[tuple[str, str]]:
    """Return the pairs (a, b) to test: all others with ``reference``; every pair where that is absent."""
    if reference in systems:
        return [(system, reference) for system in systems if system != reference]
    return [(a, b) for index, a in enumerate(systems) for b in systems[index + 1 :]]
