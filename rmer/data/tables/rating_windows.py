"""Ratings over time, averaged over windows."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
STEP = 1e-6  # seconds by which times as text may be off


@dataclass(frozen=True)
class Window:
    """Seconds into the recording where a window starts, and the mean of each target over it, [targets]."""

    start: float
    means: Floats


def windows(times: Floats, ratings: Floats, seconds: float, most: int = 0) -> list[Window]:
    """Return the successive windows of ``seconds`` that ratings fill, from the first rated time on.

    ``times`` [ratings] are seconds into the recording, in any order; ``ratings`` [ratings, targets]. Times
    at which a target is not rated (NaN) do not count. A window holds the ratings from its start to less than
    its end, and counts where its last rating lies at most two usual steps before its end. ``most`` of them
    are returned (0: all). Raises ValueError for windows that last no time.
    """
    if seconds <= 0:
        raise ValueError(f"windows must last more than 0 s, not {seconds}")
    order = np.argsort(times, kind="stable")
    order = order[np.isfinite(times[order]) & np.isfinite(ratings[order]).all(axis=1)]
    times, ratings = times[order], ratings[order]
    if not len(times):
        return []
    step = float(np.median(np.diff(times))) if len(times) > 1 else seconds
    found: list[Window] = []
    for number in range(math.floor((times[-1] - times[0]) / seconds) + 1):
        start = float(times[0]) + number * seconds
        inside = (times >= start - STEP) & (times < start + seconds - STEP)
        if inside.any() and times[inside][-1] + 2 * step >= start + seconds - STEP:
            found.append(Window(start, ratings[inside].mean(axis=0)))
    return found[:most] if most else found
