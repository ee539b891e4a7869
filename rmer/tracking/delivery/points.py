"""The metric points that a resumed run has already: no point is sent twice."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterable, Mapping

from rmer.tracking.delivery.operations import LogMetrics, Operation
from rmer.tracking.schema import is_time

ROUNDING = 1e-6


class LoggedPoints:
    """The points of a run, by metric and step: those of earlier processes and those of this one.

    A resumed run computes some points again: epochs after the last checkpoint, scores at the end. What is
    known with the same value (but for rounding) is left out. A score that comes out differently, on another
    machine say, is sent, since the models and tables of the run come from the new computation; MLflow shows
    the latest. Times always differ and say nothing about the result: the first is kept.
    """

    def __init__(self) -> None:
        self._values: dict[str, dict[int, float]] = {}
        self.changed: dict[str, float] = {}  # metric -> largest difference to what was logged before

    def add_history(self, keys: Iterable[str], history: Callable[[str], list[tuple[int, float]]]) -> None:
        """Add what the store holds of these metrics; ``history`` gives their points by step and time.

        Points that wait (:meth:`add_waiting`) are newer, and stay.
        """
        for key in keys:
            self._values[key] = {**dict(history(key)), **self._values.get(key, {})}

    def add_waiting(self, operations: Iterable[Operation]) -> None:
        """Add the points of operations that wait in the journal."""
        for operation in operations:
            if isinstance(operation, LogMetrics):
                for key, value in operation.values.items():
                    self._values.setdefault(key, {})[operation.step] = value

    def take_new(self, values: Mapping[str, float], step: int) -> dict[str, float]:
        """Return those of a step's values that must be sent, and count them as logged."""
        new = {key: value for key, value in values.items() if self._is_new(key, step, value)}
        for key, value in new.items():
            self._values.setdefault(key, {})[step] = value
        return new

    def last_step(self, key: str) -> int | None:
        """Return the largest step of a metric; None where it has no points."""
        return max(self._values.get(key, ()), default=None)

    def latest(self) -> dict[str, float]:
        """Return each metric's value at its largest step."""
        return {key: points[max(points)] for key, points in self._values.items() if points}

    def _is_new(self, key: str, step: int, value: float) -> bool:
        known = self._values.get(key, {})
        if step not in known:
            return True
        if is_time(key) or _same(known[step], value):
            return False
        self.changed[key] = max(abs(value - known[step]), self.changed.get(key, 0.0))
        return True


def _same(one: float, other: float) -> bool:
    one, other = _stored(one), _stored(other)
    return math.isclose(one, other, rel_tol=ROUNDING) or (math.isnan(one) and math.isnan(other))


def _stored(value: float) -> float:
    """Return a value as the store keeps it: the largest number there is for infinity."""
    return math.copysign(sys.float_info.max, value) if math.isinf(value) else value
