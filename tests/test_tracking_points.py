"""A resumed run that computes points again logs each once; what came out differently is said."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable

import pytest
from servers import interrupt

from rmer.tracking import Run, RunSpec, Store, Tag
from rmer.tracking.delivery.operations import LogMetrics, LogParams
from rmer.tracking.delivery.points import LoggedPoints

SPEC = RunSpec("attack", "A2E s6 | suite", {"system": "A2E"})


def log(run: Run, epochs: int, mae: float, seconds: float) -> None:
    """Log what a training and an attack log: epochs, a curve over budgets, scores, times."""
    for epoch in range(1, epochs + 1):
        run.metrics({"train/loss": 1 / epoch, "cost/epoch_seconds": seconds}, step=epoch)
    for step in (0, 25, 100):
        run.metrics({"curve/mae": step / 7, "curve/corr": math.nan}, step=step)
    run.metrics({"adv/mae": mae, "breakeven/epsilon": math.inf, "cost/seconds": seconds})


def interrupted_then_resumed(
    store: Store, first: Callable[[Run], None], second: Callable[[Run], None]
) -> str:
    interrupt(store, SPEC, first)
    outcome = store.perform(SPEC, second)
    assert outcome.resumed
    return outcome.run_id


def test_a_resumed_run_logs_each_point_once(store: Store, capfd: pytest.CaptureFixture[str]) -> None:
    run_id = interrupted_then_resumed(
        store,
        lambda run: log(run, epochs=3, mae=0.5, seconds=1.0),
        lambda run: log(run, epochs=5, mae=0.5 * (1 + 1e-9), seconds=2.0),
    )
    assert store.metric_history(run_id, "train/loss") == [(epoch, 1 / epoch) for epoch in range(1, 6)]
    times = [1.0, 1.0, 1.0, 2.0, 2.0]
    assert store.metric_history(run_id, "cost/epoch_seconds") == list(enumerate(times, start=1))
    assert store.metric_history(run_id, "curve/mae") == [(step, step / 7) for step in (0, 25, 100)]
    assert [step for step, _ in store.metric_history(run_id, "curve/corr")] == [0, 25, 100]
    assert store.metric_history(run_id, "adv/mae") == [(0, 0.5)]
    assert store.metric_history(run_id, "breakeven/epsilon") == [(0, sys.float_info.max)]
    assert store.metric_history(run_id, "cost/seconds") == [(0, 1.0)]
    assert Tag.RECOMPUTED not in store.get(run_id).tags
    assert "differently" not in capfd.readouterr().err


def test_a_score_that_comes_out_differently_counts_and_is_said(
    store: Store, capfd: pytest.CaptureFixture[str]
) -> None:
    run_id = interrupted_then_resumed(
        store,
        lambda run: log(run, epochs=3, mae=0.5, seconds=1.0),
        lambda run: log(run, epochs=3, mae=0.75, seconds=1.0),
    )
    record = store.get(run_id)
    assert record.metrics["adv/mae"] == 0.75
    assert record.tags[Tag.RECOMPUTED] == "1 metrics, most adv/mae by 0.25"
    assert (
        "Computed again, these came out differently: 1 metrics, most adv/mae by 0.25. The new values count."
        in capfd.readouterr().err
    )


def test_an_outcome_knows_the_latest_value_of_each_metric(store: Store) -> None:
    outcome = store.perform(SPEC, lambda run: log(run, epochs=3, mae=0.5, seconds=1.0))
    assert outcome.metrics["train/loss"] == 1 / 3
    assert outcome.metrics["curve/mae"] == 100 / 7
    assert store.perform(SPEC, lambda run: pytest.fail("done twice")).metrics["adv/mae"] == 0.5


@pytest.mark.parametrize(
    ("known", "again", "sent"),
    [
        (0.5, 0.5, False),
        (0.5, 0.5 * (1 + 1e-7), False),
        (0.5, 0.5 * (1 + 1e-5), True),
        (0.0, 1e-12, True),
        (math.nan, math.nan, False),
        (math.nan, 0.5, True),
        (0.5, math.nan, True),
        (sys.float_info.max, math.inf, False),
        (-sys.float_info.max, -math.inf, False),
        (sys.float_info.max, -math.inf, True),
    ],
)
def test_which_values_are_the_same(known: float, again: float, sent: bool) -> None:
    points = LoggedPoints()
    points.add_history(["val/corr"], lambda key: [(1, 0.1), (2, known)])
    assert points.take_new({"val/corr": again}, 2) == (
        {"val/corr": pytest.approx(again, nan_ok=True)} if sent else {}
    )
    assert points.take_new({"val/corr": 0.1}, 1) == {}
    assert points.take_new({"val/corr": 0.1}, 3) == {"val/corr": 0.1}
    assert (points.last_step("val/corr"), points.last_step("val/mae")) == (3, None)


def test_points_that_wait_in_the_journal_are_known() -> None:
    points = LoggedPoints()
    points.add_waiting([LogParams({"cfg.lr": "1"}), LogMetrics({"val/corr": 0.5}, time=0, step=7)])
    assert points.take_new({"val/corr": 0.5, "val/mae": 0.5}, 7) == {"val/mae": 0.5}


@pytest.mark.parametrize("value", [0.75, math.inf])
def test_a_point_that_waits_is_newer_than_that_of_the_store(value: float) -> None:
    points = LoggedPoints()
    points.add_waiting([LogMetrics({"adv/mae": value}, time=0, step=0)])
    points.add_history(["adv/mae"], lambda key: [(0, 0.5), (1, 0.25)])
    assert points.take_new({"adv/mae": value}, 0) == {}
    assert points.take_new({"adv/mae": 0.25}, 1) == {}
    assert points.changed == {}
