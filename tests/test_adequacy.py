"""Too few test clips, constant ratings and common recordings of albums: what is said, word for word."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm

from rmer.data.preparation.adequacy import FEWEST_TEST_CLIPS, constant_labels, too_few_groups, weak_parts


def test_fewest_test_clips_follow_from_power() -> None:
    z = (norm.ppf(0.975) + norm.ppf(0.8)) / np.arctanh(0.7)
    assert int(np.ceil(3 + z**2)) == FEWEST_TEST_CLIPS


@pytest.mark.parametrize(
    ("tested", "message"),
    [
        (
            1,
            "split published: 1 test clip, over which no correlation has an interval; "
            "a correlation over fewer than 14 says little",
        ),
        (
            6,
            "split published: 6 test clips, over which a correlation of 0.7 has the interval -0.26 to 0.96; "
            "a correlation over fewer than 14 says little",
        ),
        (14, None),
    ],
)
def test_few_test_clips(tested: int, message: str | None) -> None:
    parts = ["test"] * tested + ["train"] * 20 + ["validation"] * 5
    clips = pd.DataFrame({"valence": np.linspace(0, 1, len(parts))})
    assert weak_parts(clips, ["valence"], {"published": parts}) == ([message] if message else [])


def test_constant_ratings_of_a_part() -> None:
    clips = pd.DataFrame({"valence": np.r_[np.full(20, 0.5), np.linspace(0, 1, 20)], "anger": np.arange(40)})
    parts = ["test"] * 20 + ["train"] * 20
    assert weak_parts(clips, ["valence", "anger"], {"album": parts}) == [
        "split album: valence the same for all test clips, so without a correlation there"
    ]


def test_constant_concepts_are_odd_and_constant_targets_wrong() -> None:
    clips = pd.DataFrame({"valence": [0.5, 0.5], "mode": [0.1, 0.1], "melody": [0.1, 0.2]})
    problems, warnings = constant_labels(clips, ["valence"], ["mode", "melody"])
    assert problems == [
        "valence has the same rating for all clips, and no correlation: leave it out of targets"
    ]
    assert warnings == ["concept mode has the same rating for all clips: no bottleneck can learn it"]


def test_albums_that_share_recordings_are_one_group() -> None:
    assert too_few_groups(["a", "b", "c"], ["a", "b", "c"]) == []
    assert too_few_groups(["a", "b", "c"], ["a", "a", "c"]) == [
        "all clips are of 2 groups of albums with common recordings (a, c): the album split needs 3; name "
        "more, or leave the track list out, and only the published split is made"
    ]
