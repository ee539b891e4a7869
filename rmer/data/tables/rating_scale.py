"""The scale that listeners rated on, which labels between 0 and 1 stand for."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from rmer.data.tables.ratings import SCALE_MAX

Floats = npt.NDArray[np.float64]


class RatingScale(NamedTuple):
    """The ratings that labels of 0 and of 1 stand for."""

    low: float = 0.0
    high: float = SCALE_MAX

    @property
    def span(self) -> float:
        """The rating points of a difference of 1."""
        return self.high - self.low

    def ratings(self, labels: npt.ArrayLike) -> Floats:
        """Return the ratings that labels stand for."""
        ratings: Floats = self.low + self.span * np.asarray(labels, np.float64)
        return ratings
