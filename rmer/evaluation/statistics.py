"""Tests of differences between systems.

Conventions
-----------
A system is a set of trained models, one a seed. A test compares system ``a`` with system ``b``; a positive
statistic says that ``a`` has the larger mean. p values are two-sided and not corrected for their number.

Tests
-----
* ``paired_t_pooled``: the published test. Student's t over the pairs of all clips of all seeds, as if these
  were independent; they are not (10 models see the same clips), so its p is far too small.
* ``paired_t_seeds``: the same test over one score a seed, the smallest change to the published one.
* ``welch_seeds``: Welch's t over one score a seed, not paired, since networks of different architecture share
  no random stream and so equal seeds have nothing in common. Seeds are what a replication draws anew.
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
    """Return n, t and p of Student's t-test over pairs.

    Parameters
    ----------
    a, b
        Scores of two systems in the same order: ``[seeds, clips]`` for the pooled (published) form,
        ``[seeds]`` for the form over seeds.

    Raises
    ------
    ValueError
        When the shapes differ.
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


def comparisons(systems: Sequence[str], reference: str) -> list[tuple[str, str]]:
    """Return the pairs (a, b) to test: all others with ``reference``; every pair where that is absent."""
    if reference in systems:
        return [(system, reference) for system in systems if system != reference]
    return [(a, b) for index, a in enumerate(systems) for b in systems[index + 1 :]]
