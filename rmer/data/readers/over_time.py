"""Options of data sets that are rated over time: windows of a song as clips."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rmer.data.readers.rated_clips import RatedClips
from rmer.data.tables.rating_windows import Floats, windows
from rmer.parameters import Parameters, param


@dataclass(frozen=True)
class OverTime(Parameters):
    """How ratings over time are used: not at all (""), ``window`` (a song's first one), or ``windows``."""

    over_time: str = param(
        "", "ratings over time instead of those of songs", choices=("", "window", "windows")
    )
    window_seconds: float = param(
        10.0, "length of a window over which they are averaged", low=0.5, high=600.0
    )

    def add_windows(
        self,
        clips: RatedClips,
        song: str,
        times: Floats,
        ratings: Floats,
        targets: Sequence[str],
        *,
        line: str,
        group: str,
        cell: str = "",
        part: str = "",
    ) -> None:
        """Add the windows of a song as clips of one group, called ``2 at 15 s``, labelled by their means.

        The excerpt of such a clip starts where the window does, so that sound and ratings are of the same
        time.
        """
        most = 1 if self.over_time == "window" else 0
        found = windows(np.asarray(times, np.float64), ratings, self.window_seconds, most)
        for window in found:
            clips.add(
                f"{song} at {window.start:g} s",
                dict(zip(targets, window.means.tolist(), strict=True)),
                line=line,
                cell=cell or song,
                group=group,
                track=song,
                part=part,
                start=window.start,
            )
        if not found:
            clips.warnings.append(f"song {song} has no ratings over {self.window_seconds:g} s, left out")
