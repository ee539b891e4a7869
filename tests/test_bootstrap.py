"""Intervals and tests over seeds and albums: closed forms, undefined cases, and rates of false positives."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pytest
from scipy import stats

from rmer.evaluation.bootstrap import estimate
from rmer.evaluation.endpoints import correlation_endpoint, mean_endpoint
from rmer.evaluation.metrics import correlations, regression_scores
from rmer.evaluation.statistics import paired_t

TWENTY = (4, 3, 3, 3, 2, 2, 2, 2, 2, 2, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1)
SIX = (12, 8, 8, 3, 3, 3)  # as unequal as the test albums of an album split of Soundtracks Set 1


@dataclass(frozen=True)
class Effects:
    """Standard deviations of what makes up a clip's value, beside what all systems share."""

    seed: float
    album: float  # of a system with an album
    clip: float  # of a system with a clip
    seed_album: float
    noise: float


EVEN = Effects(seed=0.03, album=0.05, clip=0.03, seed_album=0.02, noise=0.05)


def album_names(sizes: tuple[int, ...]) -> list[str]:
    return [f"album {index:02}" for index, size in enumerate(sizes) for _ in range(size)]


def like_systems(
    effects: Effects, sizes: tuple[int, ...], seeds: int, replications: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield values [seeds, clips] of two systems from one distribution, attacked on the same clips."""
    rng = np.random.default_rng(20)
    normal, clips, member = rng.standard_normal, sum(sizes), np.repeat(np.eye(len(sizes)), sizes, axis=1)
    for _ in range(replications):
        shared = 0.4 + 0.05 * normal(len(sizes)) @ member + 0.1 * normal(clips)
        yield tuple(
            shared
            + effects.seed * normal((seeds, 1))
            + (effects.album * normal(len(sizes)) + effects.seed_album * normal((seeds, len(sizes)))) @ member
            + effects.clip * normal(clips)
            + effects.noise * normal((seeds, clips))
            for _ in range(2)
        )


@pytest.mark.parametrize(
    ("seeds", "sizes", "low", "high"),
    [(10, TWENTY, 0.04, 0.06), (5, TWENTY, 0.04, 0.06), (3, TWENTY, 0.03, 0.06), (10, SIX, 0.04, 0.07)],
)
def test_false_positives_under_seed_and_album_effects(
    seeds: int, sizes: tuple[int, ...], low: float, high: float
) -> None:
    """5 +- 1 % of true null hypotheses are rejected; half by the published test; too many by Welch's test."""
    albums, pairs = album_names(sizes), list(like_systems(EVEN, sizes, seeds, 2000))
    crossed = [estimate(*(mean_endpoint(side, albums) for side in pair), draws=0).p for pair in pairs]
    a, b = np.array(pairs).swapaxes(0, 1)  # [replications, seeds, clips]
    welch = stats.ttest_ind(a.mean(axis=2), b.mean(axis=2), axis=1, equal_var=False).pvalue
    pooled = stats.ttest_rel(a.reshape(len(a), -1), b.reshape(len(b), -1), axis=1).pvalue
    assert paired_t(a[0], b[0])[2] == pytest.approx(pooled[0], rel=1e-9)
    assert low <= np.mean(np.array(crossed) < 0.05) <= high
    assert np.mean(welch < 0.05) > 0.06
    assert np.mean(pooled < 0.05) > 0.4


def test_a_shift_of_the_margin_is_called_equivalent_in_at_most_one_case_of_twenty() -> None:
    albums = album_names(TWENTY)
    found = [
        estimate(mean_endpoint(a + 0.1, albums), mean_endpoint(b, albums), draws=0).tost(0.1) < 0.05
        for a, b in like_systems(EVEN, TWENTY, 10, 1000)
    ]
    assert 0.02 <= np.mean(found) <= 0.065


def test_crossed_draws_vary_as_the_pigeonhole_bootstrap_must() -> None:
    """Balanced: effects of seed, album and both add their mean squares over S, G and S x G (Owen 2007)."""
    rng = np.random.default_rng(3)
    seeds, albums = 5, 8
    cells = rng.normal(size=(seeds, 1)) + rng.normal(size=albums) + rng.normal(size=(seeds, albums))
    by_seed, by_album = cells.mean(axis=1, keepdims=True), cells.mean(axis=0)
    rest = cells - by_seed - by_album + cells.mean()
    variance = by_seed.var() / seeds + by_album.var() / albums + (rest**2).mean() / (seeds * albums)
    drawn = estimate(
        mean_endpoint(np.repeat(cells, 3, axis=1), np.repeat(_letters(albums), 3)), draws=100_000
    )
    assert drawn.value == pytest.approx(cells.mean(), abs=1e-12)
    assert drawn.draws.var() == pytest.approx(variance, rel=0.02)
    assert drawn.draws.mean() == pytest.approx(drawn.value, abs=0.01)


def test_standard_error_is_that_of_a_balanced_analysis_of_variance() -> None:
    """Mean squares of seeds and albums less that of the residuals, each over S x G."""
    rng = np.random.default_rng(4)
    seeds, albums = 4, 6
    cells = rng.normal(size=(seeds, 1)) + rng.normal(size=albums) + 0.3 * rng.normal(size=(seeds, albums))
    by_seed, by_album = cells.mean(axis=1, keepdims=True), cells.mean(axis=0, keepdims=True)
    rest = cells - by_seed - by_album + cells.mean()
    seed, album = by_seed.var(ddof=1) / seeds, by_album.var(ddof=1) / albums
    both = (rest**2).sum() / ((seeds - 1) * (albums - 1)) / (seeds * albums)
    result = estimate(mean_endpoint(cells, _letters(albums)), draws=0)
    assert result.se**2 == pytest.approx(seed + album - both, rel=1e-12)
    assert result.df == pytest.approx(
        result.se**4 / (seed**2 / (seeds - 1) + album**2 / (albums - 1)), rel=1e-12
    )


def test_the_test_is_welchs_where_albums_do_not_matter() -> None:
    a, b = np.array([0.1, 0.4, 0.2]), np.array([0.5, 0.3, 0.9, 0.8])
    clips = ["x", "x", "y", "z"]
    result = estimate(
        *(mean_endpoint(np.repeat(side[:, None], 4, axis=1), clips) for side in (a, b)), draws=0
    )
    welch = stats.ttest_ind(a, b, equal_var=False)
    assert (result.p, result.df) == (pytest.approx(welch.pvalue, rel=1e-9), pytest.approx(welch.df, rel=1e-9))
    assert result.interval() == pytest.approx(tuple(welch.confidence_interval(0.95)), rel=1e-9)


def test_one_seed_and_clips_without_albums_are_the_ordinary_bootstrap() -> None:
    values = np.random.default_rng(5).gamma(2.0, size=36)
    ours = estimate(mean_endpoint(values[None], [None, "", float("nan")] * 12), draws=50_000).percentile()
    theirs = stats.bootstrap((values,), np.mean, n_resamples=50_000, method="percentile", random_state=5)
    assert ours == pytest.approx(tuple(theirs.confidence_interval), abs=0.01)


def test_correlation_of_a_draw_is_that_of_its_clips() -> None:
    """Drawing an album twice is the same as having its clips twice; one left out, as not having them."""
    rng = np.random.default_rng(6)
    labels, predictions = rng.random((12, 3)), 5 + rng.random((4, 12, 3))
    labels[6:, 2] = 0.5
    albums = _letters(4).repeat(3)
    weights = np.array([[1, 1, 1, 1], [2, 0, 1, 1], [0, 0, 3, 1], [0, 4, 0, 0]], dtype=np.float64)
    scores = correlation_endpoint(labels, predictions, albums).scores(weights)
    for drawn, row in zip(weights.astype(int), scores, strict=True):
        clips = np.repeat(np.arange(12), np.repeat(drawn, 3))
        expected = [
            regression_scores(labels[clips], of_seed[clips], ["p", "q", "r"]).mean["corr"]
            for of_seed in predictions
        ]
        np.testing.assert_allclose(row, expected, rtol=1e-9)


def test_a_difference_of_correlations_uses_the_same_draws_on_both_sides() -> None:
    rng = np.random.default_rng(7)
    labels, predictions = rng.random((20, 2)), rng.random((3, 20, 2))
    clean = correlation_endpoint(labels, predictions, _letters(20))
    nothing = estimate(clean - clean, draws=200)
    assert nothing.value == 0
    assert nothing.percentile() == (0, 0)
    assert np.isnan([nothing.se, nothing.p]).all()
    mirrored = estimate(correlation_endpoint(labels, -predictions, _letters(20)) - clean, draws=200)
    expected = np.mean([-2 * correlations(labels, of_seed).mean() for of_seed in predictions])
    assert mirrored.value == pytest.approx(expected, abs=1e-12)
    np.testing.assert_allclose(mirrored.draws, -2 * estimate(clean, draws=200).draws, rtol=1e-9)


def test_draws_of_albums_are_shared_those_of_seeds_are_not() -> None:
    """Clips that are hard for both systems cancel; seeds of equal number do not."""
    hard, lucky = np.random.default_rng(8).normal(size=(2, 10))
    albums = _letters(10)
    by_clip = [mean_endpoint(np.tile(hard, (2, 1)) + shift, albums) for shift in (0.0, 1.0)]
    assert estimate(*by_clip, draws=500).draws == pytest.approx(-1, abs=1e-12)
    by_seed = mean_endpoint(np.tile(lucky[:, None], 10), albums)
    assert estimate(by_seed, by_seed, draws=20_000).draws.var() == pytest.approx(
        2 * lucky.var() / 10, rel=0.05
    )


def test_intervals_follow_the_seed_and_the_names_of_albums_not_the_order_of_clips() -> None:
    rng = np.random.default_rng(9)
    values, albums, order = rng.random((3, 12)), _letters(4).repeat(3), rng.permutation(12)
    first = estimate(mean_endpoint(values, albums), draws=300, seed=1)
    moved = estimate(mean_endpoint(values[:, order], albums[order]), draws=300, seed=1)
    other = estimate(mean_endpoint(values, albums), draws=300, seed=2)
    assert moved.percentile() == pytest.approx(first.percentile(), abs=1e-12)
    assert moved.interval() == pytest.approx(first.interval(), abs=1e-12)
    assert other.percentile() != first.percentile()


def test_t_interval_p_and_equivalence_agree() -> None:
    rng = np.random.default_rng(10)
    result = estimate(*(mean_endpoint(rng.random((4, 9)), _letters(9)) for _ in range(2)), draws=0)
    low, high = result.interval(1 - result.p)
    assert min(abs(low), abs(high)) == pytest.approx(0, abs=1e-9)
    margin = np.abs(result.interval(0.9)).max()
    assert result.tost(margin) == pytest.approx(0.05, abs=1e-9)


@pytest.mark.parametrize("broken", [np.nan, np.inf])
def test_a_score_without_a_value_has_no_interval(broken: float) -> None:
    values = np.ones((2, 3))
    values[0, 1] = broken
    result = estimate(mean_endpoint(values, ["x", "y", "z"]), draws=50)
    assert not len(result.draws)
    assert np.isnan([result.se, result.df, result.p, *result.interval(), *result.percentile()]).all()


def test_a_network_that_predicts_a_constant_has_no_correlation() -> None:
    rng = np.random.default_rng(11)
    labels, predictions = rng.random((6, 2)), rng.random((2, 6, 2))
    predictions[1, :, 0] = 0.1 + 0.2
    endpoint = correlation_endpoint(labels, predictions, _letters(6))
    assert np.isfinite(endpoint.per_seed[0])
    assert np.isnan(endpoint.per_seed[1])
    assert np.isnan(estimate(endpoint, draws=10).value)


@pytest.mark.parametrize(("seeds", "albums"), [(1, 4), (3, 1)])
def test_one_seed_or_one_album_gives_draws_but_no_test(seeds: int, albums: int) -> None:
    values = np.random.default_rng(12).random((seeds, 8))
    result = estimate(mean_endpoint(values, _letters(albums).repeat(8 // albums)), draws=50)
    low, high = result.percentile()
    assert low < result.value < high
    assert np.isnan([result.p, *result.interval(), result.tost(0.1)]).all()


def test_without_any_variance_there_is_no_test() -> None:
    result = estimate(*(mean_endpoint(np.full((3, 7), value), _letters(7)) for value in (0.3, 0.1)), draws=9)
    assert result.value == pytest.approx(0.2)
    assert np.isnan([result.se, result.df, result.p]).all()


def test_bad_shapes_are_named() -> None:
    with pytest.raises(ValueError, match=r"\[seeds, 2 clips\]"):
        mean_endpoint(np.zeros((3, 4)), ["x", "y"])
    with pytest.raises(ValueError, match=r"\[2 clips, targets\]"):
        correlation_endpoint(np.zeros((2, 1)), np.zeros((3, 4, 1)), ["x", "y"])
    with pytest.raises(ValueError, match="no clip"):
        mean_endpoint(np.zeros((1, 0)), [])
    one, two = mean_endpoint(np.zeros((2, 3)), ["x", "x", "y"]), mean_endpoint(np.zeros((2, 3)), _letters(3))
    with pytest.raises(ValueError, match="different clips"):
        estimate(one, two)
    with pytest.raises(ValueError, match="margin"):
        estimate(one, draws=1).tost(0)


def _letters(count: int) -> np.ndarray:
    return np.array([f"{index:02}" for index in range(count)], dtype=object)
