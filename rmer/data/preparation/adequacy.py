"""Whether labels, albums and parts of a data set can mean anything, whatever its audio."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from rmer.data.splits import PARTS
from rmer.data.tables.text_tables import counted, some

# A true correlation of .7, which the published systems have, is told from none (two-sided, 5 %) in four of
# five test sets from this many clips on: n = 3 + ((1.960 + .842) / artanh .7)^2 = 13.4, by Fisher's z (Fisher
# 1921; Cohen 1988).
FEWEST_TEST_CLIPS = 14
_PUBLISHED_CORRELATION = 0.7


def constant_labels(
    clips: pd.DataFrame, emotions: Sequence[str], concepts: Sequence[str]
) -> tuple[list[str], list[str]]:
    """Return problems, emotions that are the same for all clips, and warnings, concepts that are.

    Without variance there is no correlation, for which training stops and by which systems are compared.
    """
    problems = [
        f"{name} has the same rating for all clips, and no correlation: leave it out of targets"
        for name in _constant(clips, emotions)
    ]
    warnings = [
        f"concept {name} has the same rating for all clips: no bottleneck can learn it"
        for name in _constant(clips, concepts)
    ]
    return problems, warnings


def late_starts(starts: Mapping[str, float], seconds: Mapping[str, float]) -> dict[str, list[str]]:
    """Return clip -> what is wrong, of those whose excerpt would start after the recording ends."""
    return {
        clip: [f"lasts {seconds[clip]:.1f} s: clip {clip} would start at {start:g} s"]
        for clip, start in starts.items()
        if clip in seconds and start >= seconds[clip]
    }


def too_few_groups(albums: Sequence[str], groups: Sequence[str]) -> list[str]:
    """Return why clips of these ``albums``, which duplicates join to ``groups``, cannot be split."""
    names = sorted(set(groups))
    if len(names) >= len(PARTS):
        return []
    what = "album" if len(set(albums)) == len(names) else "group of albums with common recordings"
    return [
        f"all clips are of {counted(len(names), what)} ({some(names)}): the album split needs {len(PARTS)}; "
        "name more, or leave the track list out, and only the published split is made"
    ]


def weak_parts(
    clips: pd.DataFrame, emotions: Sequence[str], splits: Mapping[str, Sequence[str]]
) -> list[str]:
    """Return a warning for each split whose test clips are too few, or a part of which has constant ratings.

    ``splits`` maps names to the part of each clip.
    """
    warnings = []
    for name, column in splits.items():
        parts = np.asarray(column)
        tested = int((parts == "test").sum())
        if tested < FEWEST_TEST_CLIPS:
            warnings.append(
                f"split {name}: {counted(tested, 'test clip')}{_interval(tested)}; "
                f"a correlation over fewer than {FEWEST_TEST_CLIPS} says little"
            )
        warnings += [
            f"split {name}: {some(constant)} the same for all {part} clips, so without a correlation there"
            for part in PARTS
            if (parts == part).sum() > 1 and (constant := _constant(clips[parts == part], emotions))
        ]
    return warnings


def _constant(clips: pd.DataFrame, names: Sequence[str]) -> list[str]:
    return [name for name in names if len(clips) > 1 and (clips[name] == clips[name].iloc[0]).all()]


def _interval(clips: int) -> str:
    """Return how far off a correlation of .7 over so many clips may be: its 95 % interval by Fisher's z."""
    if clips <= 3:
        return ", over which no correlation has an interval"
    z, spread = math.atanh(_PUBLISHED_CORRELATION), 1.959964 / math.sqrt(clips - 3)
    low, high = math.tanh(z - spread), math.tanh(z + spread)
    return f", over which a correlation of {_PUBLISHED_CORRELATION} has the interval {low:.2f} to {high:.2f}"
