"""Intervals and tests for scores that vary with the seed of the training and with the music.

Units
-----
Seeds and albums are drawn; clips come with their album. An endpoint (:mod:`rmer.evaluation.endpoints`) is one
system's score in each of its seeds as a function of how much each album counts, so that drawing albums again,
leaving one out, or taking all is the same call with other weights. Systems are attacked on the same clips:
the weights of albums are shared, those of seeds are each system's own.

Two answers
-----------
* **Percentile interval** of the crossed bootstrap: seeds and albums are drawn with replacement, each
  independently of the other (Owen, "The pigeonhole bootstrap", Annals of Applied Statistics 2007). It assumes
  no shape of the distribution, but with few seeds or albums it is too narrow, as percentile intervals are
  (Davison and Hinkley, "Bootstrap methods and their application", 1997).
* **t interval and test**: the variances over seeds (Welch's) and over albums (delete-one jackknife) are
  added, what both contain (seed x album) is subtracted, and the result is never taken smaller than either (as
  by MacKinnon, Nielsen and Webb, "Jackknife inference with two-way clustering", arXiv 2406.08880). Degrees of
  freedom are Satterthwaite's, from S - 1 for the seeds of each system and G* - 1 for albums, where
  G* = (sum n)^2 / sum n^2 is the effective number of albums of n clips.

Cross-validation
----------------
Folds stand where else albums do, which lie within them. As the models of any two folds learnt from much the
same clips, folds are not independent: their variance, the jackknife's, is multiplied by 1 + k o, where ``o``
is the share of tested to learnt clips, 1 / (k - 1) for k folds. So with one seed and folds of one size the
test is the corrected resampled t-test, with the variance (1 / k + o) S^2 and k - 1 degrees of freedom (Nadeau
and Bengio, "Inference for the generalization error", Machine Learning 52, 2003, section 4). With one seed
nothing is said of other seeds, but each fold's models were trained for themselves.

Measured false-positive rates at 5 %
------------------------------------
In per cent, for two like systems and a mean over 36 clips in 20 albums, or 37 in 6 (of 12, 8, 8, 3, 3, 3).
Three figures a cell: seeds and albums matter alike, seeds outweigh the rest, albums (by system) do. From
10 000 simulated studies each (standard error .2), 2000 for the percentile interval.

=====  ======  =================  ====================  ================  ============
seeds  albums  t test             percentile            Welch over seeds  pooled pairs
=====  ======  =================  ====================  ================  ============
10     20      4.7 / 4.7 / 5.3    6.5 / 8.2 / 8.6       22 / 4.8 / 78     61 / 75 / 68
5      20      4.6 / 4.2 / 5.2    7.8 / 11.7 / 9.2      12 / 4.2 / 66     53 / 77 / 55
3      20      4.4 / 3.7 / 5.1    9.9 / 19.8 / 7.2      6 / 3.6 / 47      49 / 79 / 45
10     6       5.8 / 4.3 / 5.2    12.2 / 8.6 / 16.1     41 / 4.6 / 88     76 / 75 / 84
5      6       4.8 / 4.4 / 5.3    10.2 / 12.2 / 14.2    25 / 4.4 / 81     68 / 77 / 78
3      6       3.5 / 4.1 / 4.8    10.6 / 21.6 / 14.6    12 / 3.9 / 68     62 / 80 / 71
=====  ======  =================  ====================  ================  ============

So the t test is the one to decide by. It errs on the side of caution with 3 seeds; where little varies but
noise (with variances as in the published logs 4.6 for 10 seeds, 3.1 for 3, and over 6 albums 4.3 and 1.8;
with noise alone .3-2.0); and for differences of correlations (3.5-4.6; over 6 albums 2.0-4.4). At a true
difference of exactly the margin, at most 5.0 were called equivalent.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from rmer.evaluation.endpoints import QUIET, ROUNDING, Endpoint, Floats, check_albums

DRAWS = 10_000
SEED = 42
LEVEL = 0.95


@dataclass(frozen=True, eq=False)
class Estimate:
    """A mean score over seeds, or the difference of two systems' mean scores.

    ``se`` and ``df`` are the standard error and the degrees of freedom of the t test over seeds and albums,
    ``draws`` the draws of the crossed bootstrap that have a value. Where ``value`` is not finite, there are
    no draws and the rest is NaN; ``se`` and ``df`` also with fewer than two seeds of a system (unless there
    are folds) or two albums, and without any variance.
    """

    value: float
    se: float
    df: float
    draws: Floats

    @property
    def p(self) -> float:
        """Two-sided p of the t test that the true value is 0."""
        return float(2 * stats.t.sf(abs(self.value) / self.se, self.df))

    def interval(self, level: float = LEVEL) -> tuple[float, float]:
        """Return the t interval; it contains 0 exactly where ``p`` is above 1 - ``level``."""
        reach = float(stats.t.ppf((1 + level) / 2, self.df)) * self.se
        return self.value - reach, self.value + reach

    def percentile(self, level: float = LEVEL) -> tuple[float, float]:
        """Return the percentile interval of the crossed bootstrap."""
        if not len(self.draws):
            return math.nan, math.nan
        low, high = np.quantile(self.draws, [(1 - level) / 2, (1 + level) / 2])
        return float(low), float(high)

    def tost(self, margin: float) -> float:
        """Return p of the two one-sided t tests that the true value lies within +- ``margin``.

        It is below .05 exactly where the 90 % t interval lies within the margin (Schuirmann 1987).
        """
        if not margin > 0:
            raise ValueError(f"a margin of equivalence is positive, not {margin}")
        return float(stats.t.sf((margin - abs(self.value)) / self.se, self.df))


@QUIET
def estimate(a: Endpoint, b: Endpoint | None = None, *, draws: int = DRAWS, seed: int = SEED) -> Estimate:
    """Estimate the mean score of one system, or how much higher the score of ``a`` is than that of ``b``.

    ``a`` and ``b`` are over the same clips (ValueError where their albums differ in number or size). Equal
    ``seed`` and numbers of albums and seeds give equal draws. With one seed, or one album, the bootstrap says
    nothing about the other seeds, or albums.
    """
    sides = [a] if b is None else [a, b]
    check_albums(*sides)
    value = float(_difference([side.per_seed.mean() for side in sides]))
    se, df = _standard_error(sides) if math.isfinite(value) else (math.nan, math.nan)
    drawn = _draw(sides, draws, np.random.default_rng(seed)) if math.isfinite(value) else np.empty(0)
    return Estimate(value, se, df, drawn[np.isfinite(drawn)])


def _standard_error(sides: Sequence[Endpoint]) -> tuple[float, float]:
    sizes, overlap = sides[0].sizes, sides[0].overlap
    full, albums = [side.per_seed for side in sides], len(sizes)
    if albums < 2 or (min(map(len, full)) < 2 and not overlap):
        return math.nan, math.nan
    effects = [
        side.scores(1 - np.eye(albums)) - scores for side, scores in zip(sides, full, strict=True)
    ]  # of leaving out one album, [albums, seeds]
    over_seeds = np.array([_spread(scores) / len(scores) for scores in full])
    over_albums = (albums - 1) * _difference([effect.mean(axis=1) for effect in effects]).var()
    over_albums *= 1 + albums * overlap
    both = (albums - 1) * sum(_spread(effect).mean() / effect.shape[1] for effect in effects)
    variance = max(over_seeds.sum() + over_albums - both, over_seeds.sum(), over_albums)
    if not variance > (ROUNDING * max(np.abs(scores).max() for scores in full)) ** 2:
        return math.nan, math.nan
    freedom = np.array([max(len(scores) - 1, 1) for scores in full])
    effective = sizes.sum() ** 2 / (sizes**2).sum()
    df = variance**2 / ((over_seeds**2 / freedom).sum() + over_albums**2 / (effective - 1))
    return math.sqrt(variance), float(df)


def _spread(scores: Floats) -> Floats:
    """Return the variance over seeds, the last axis; 0 of a single one, which has none to say."""
    return np.asarray(scores.var(axis=-1, ddof=1) if scores.shape[-1] > 1 else np.zeros(scores.shape[:-1]))


def _draw(sides: Sequence[Endpoint], draws: int, rng: np.random.Generator) -> Floats:
    weights = _multinomial(len(sides[0].sizes), draws, rng)
    means = []
    for side in sides:
        scores = side.scores(weights)
        chosen = _multinomial(scores.shape[1], draws, rng)
        # A seed that was not drawn has no say, also where its score has no value.
        means.append(np.where(chosen > 0, chosen * scores, 0).sum(axis=1) / scores.shape[1])
    return _difference(means)


def _multinomial(units: int, draws: int, rng: np.random.Generator) -> Floats:
    """Return how often each of ``units`` is drawn in ``units`` draws with replacement, ``[draws, units]``."""
    return rng.multinomial(units, np.full(units, 1 / units), size=draws).astype(np.float64)


def _difference(values: Sequence[Floats | np.floating]) -> Floats:
    """Return the first less the second, or the only one."""
    return np.asarray(values[0] if len(values) == 1 else values[0] - values[1], dtype=np.float64)
