"""Timing in turn, and what the times come to: rows of a table with ratios and targets."""

from __future__ import annotations

import contextlib
import io
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal

import pandas as pd
import torch
from matplotlib.figure import Figure

# What is timed; one that times itself returns seconds (a float).
Way = Callable[[], object]
Times = Mapping[str, Sequence[float]]


@dataclass(frozen=True)
class Settings:
    """How thorough a benchmark is.

    Attributes
    ----------
    repeats : rounds, in each of which every way is timed once
    seconds : after which a benchmark begins no further round
    reference : clone of the published repository, or None
    quick : measure less
    store, model : tracking store and train run of the model to attack, or empty for a small one made here
    device : of networks and of the products that they are measured by
    """

    repeats: int = 5
    seconds: float = 60.0
    reference: Path | None = None
    quick: bool = False
    store: str = ""
    model: str = ""
    device: torch.device = field(default_factory=partial(torch.device, "cpu"))


@dataclass(frozen=True)
class Target:
    """What a value of a row is to reach: ``published`` and ``limit`` at least, ``value`` at most."""

    column: Literal["published", "limit", "value"]
    bound: float

    def met(self, row: Row) -> bool | None:
        """Return whether a row reaches it; None where it was not measured."""
        value = getattr(row, self.column)
        if value is None:
            return None
        return bool(value <= self.bound if self.column == "value" else value >= self.bound)

    def __str__(self) -> str:
        return {
            "published": f"≥ {self.bound:g} x published",
            "limit": f"≥ {self.bound:.0%} of the limit",
            "value": f"≤ {self.bound:g}",
        }[self.column]


@dataclass(frozen=True)
class Row:
    """One way of doing one thing.

    Attributes
    ----------
    benchmark, way : what is done, and how
    value, unit : median over repeats; a cost (s, MB) or a rate (.../s)
    spread : half the range between the quartiles, as a share of the median; None for single values
    published : how many times cheaper than the published code; above 1 is better
    limit : share of the limit of the machine that is reached
    """

    benchmark: str
    way: str
    value: float
    unit: str
    repeats: int = 1
    spread: float | None = None
    published: float | None = None
    limit: float | None = None
    targets: tuple[Target, ...] = ()


@dataclass(frozen=True)
class Result:
    """What a benchmark found: rows, tables by title, sentences to be read with them, and figures by name."""

    rows: list[Row] = field(default_factory=list)
    tables: dict[str, pd.DataFrame] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    figures: dict[str, Figure] = field(default_factory=dict)


def interleave(
    ways: Mapping[str, Way], *, repeats: int, seconds: float, warm_up: bool = True
) -> dict[str, list[float]]:
    """Time every way once a round, so that what else the machine does hits all of them alike.

    A first round is not counted (``warm_up``). No round begins when ``seconds`` are over, but one is always
    made. Returns way -> seconds of each round.
    """
    started = time.perf_counter()
    times: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(-1 if warm_up else 0, repeats):
        if number > 0 and time.perf_counter() - started > seconds:
            break
        for name, way in ways.items():
            elapsed = timed(way)
            if number >= 0:
                times[name].append(elapsed)
    return times


def timed(way: Way) -> float:
    """Return the seconds that a call took, or those that it says; what it prints is dropped."""
    with silence():
        started = time.perf_counter()
        own = way()
        # What was asked for may not be done yet.
        if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
            torch.cuda.synchronize()
        return own if isinstance(own, float) else time.perf_counter() - started


def compare(
    benchmark: str,
    times: Times,
    *,
    amounts: Mapping[str, float] | float = 1.0,
    unit: str = "s",
    published: str = "published",
    limits: Mapping[str, str] | None = None,
    targets: Mapping[str, Sequence[Target]] | None = None,
) -> list[Row]:
    """Return one row a way.

    Parameters
    ----------
    times : way -> seconds of each round
    amounts : work done by one call of each way, in one unit for all
    unit : ``s`` gives seconds a unit of work, another (``clips/s``) units of work a second
    published : the way that all others are compared with, where it is among them
    limits : way -> the way that is its limit
    """
    costs = {
        way: [value / (amounts if isinstance(amounts, float) else amounts[way]) for value in values]
        for way, values in times.items()
    }
    rows = []
    for way, values in costs.items():
        limit = (limits or {}).get(way)
        median = statistics.median(values)
        rows.append(
            Row(
                benchmark,
                way,
                median if unit == "s" else 1 / median,
                unit,
                len(values),
                spread(values),
                ratio(costs[published], values) if published in costs and way != published else None,
                ratio(costs[limit], values) if limit else None,
                tuple((targets or {}).get(way, ())),
            )
        )
    return rows


def ratio(others: Sequence[float], own: Sequence[float]) -> float:
    """Return how many times larger ``others`` are: the median of the ratios of each round."""
    return statistics.median(other / mine for other, mine in zip(others, own, strict=True))


def spread(values: Sequence[float]) -> float | None:
    """Return half the range between the quartiles as a share of the median; None for fewer than 3 values."""
    if len(values) < 3:
        return None
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return (high - low) / 2 / middle


def added(times: Times, *names: str) -> list[float]:
    """Return the sum of several ways in each round."""
    return [sum(parts) for parts in zip(*(times[name] for name in names), strict=True)]


@contextlib.contextmanager
def silence() -> Iterator[None]:
    """Drop what is printed, progress bars too."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield
