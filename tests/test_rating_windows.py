"""Ratings over time, averaged over windows: closed forms."""

from __future__ import annotations

import numpy as np
import pytest

from rmer.data.tables.rating_windows import windows


def test_windows_follow_each_other_from_the_first_rating_on() -> None:
    times = 15 + np.arange(60) / 2
    found = windows(times, np.stack([times, -times], axis=1), 10)
    assert [window.start for window in found] == [15, 25, 35]
    assert np.array([window.means for window in found]) == pytest.approx(
        np.array([[19.75, -19.75], [29.75, -29.75], [39.75, -39.75]])
    )


def test_a_window_that_ratings_do_not_fill_does_not_count() -> None:
    times = np.arange(19.0)
    assert [window.start for window in windows(times, times[:, None], 10)] == [0, 10]
    assert [window.start for window in windows(times[:18], times[:18, None], 10)] == [0]


def test_order_and_missing_ratings_do_not_matter() -> None:
    times, ratings = np.arange(20.0), np.arange(20.0)[:, None].repeat(2, 1)
    ratings[3, 1] = np.nan
    shuffled = np.random.default_rng(1).permutation(20)
    first, second = (windows(times[rows], ratings[rows], 10) for rows in (np.arange(20), shuffled))
    assert [w.means.tolist() for w in first] == [w.means.tolist() for w in second]
    assert first[0].means.tolist() == pytest.approx([42 / 9, 42 / 9])


def test_the_first_alone_or_none() -> None:
    times = np.arange(40.0)
    assert len(windows(times, times[:, None], 10, most=1)) == 1
    assert windows(times[:5], times[:5, None], 10) == []
    assert windows(np.zeros(0), np.zeros((0, 2)), 10) == []
    with pytest.raises(ValueError, match="more than 0 s"):
        windows(times, times[:, None], 0)
