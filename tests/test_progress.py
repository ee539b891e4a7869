"""Progress in a file is a few lines, and what is left of a whole follows from what was planned and seen."""

from __future__ import annotations

import time

import pytest

from rmer.progress import clock, progress, whole

LONG = 1e6  # seconds that no test takes


def test_a_file_gets_one_line_for_a_piece_of_work(capfd: pytest.CaptureFixture[str]) -> None:
    with progress("training", 30, "epoch") as told:
        for epoch in range(30):
            told.update(note=f"val corr .{epoch}")
    assert capfd.readouterr() == ("", "training: 30 of 30 epochs in 0:00, val corr .29\n")


def test_nothing_is_told_of_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    with progress("Spectrograms", 0, "clip"):
        pass
    assert capfd.readouterr() == ("", "")


def test_a_file_gets_one_line_for_each_part_of_a_whole(capfd: pytest.CaptureFixture[str]) -> None:
    with whole("study", {"A2E s6": 1e-9, "A2M2E s6": 3e-9}) as shown:
        shown.begin("A2E s6")
        with progress("training", 3, "epoch") as told:
            told.update(3)
        shown.end("A2E s6")
        shown.begin("A2M2E s6")
        shown.end("A2M2E s6", "failed")
    out, err = capfd.readouterr()
    assert out == ""
    first, second = err.splitlines()
    assert first.startswith("study: 1 of 2 (25 %, about 0:00 left): A2E s6 done")
    assert second == "study: 2 of 2 (100 %, about 0:00 left): A2M2E s6 failed"
    assert "\r" not in err


def test_before_much_is_done_the_plan_says_what_is_left() -> None:
    with whole("study", {"a": 4 * LONG, "b": 96 * LONG}) as shown:
        assert shown.left() == 100 * LONG
        shown.begin("a")
        with progress("training", 4, "epoch") as told:
            told.update(1)
        assert shown.left() == 99 * LONG
        shown.again("a")
        assert shown.left() == 100 * LONG, "a part whose worker died begins anew"


def test_parts_that_were_done_before_do_not_promise_that_the_rest_is_as_fast() -> None:
    with whole("study", {"a": 60 * LONG, "b": 40 * LONG}) as shown:
        shown.begin("a")
        shown.end("a")
        assert shown.left() == 40 * LONG


def test_parts_side_by_side_take_less_than_their_sum() -> None:
    with whole("study", {"a": 4 * LONG, "b": 96 * LONG}, at_once=2) as shown:
        assert shown.left() == 50 * LONG


def test_without_a_plan_nothing_is_promised_before_something_was_seen(
    capfd: pytest.CaptureFixture[str],
) -> None:
    with whole("sweep", {"a": 1.0, "b": 1.0, "c": 1.0}, timed=False) as shown:
        shown.begin("a")
        assert shown.left() is None
        shown.end("a")  # at once: it had been done before, which says nothing of the others
        assert shown.left() is None
    assert capfd.readouterr().err.splitlines() == ["sweep: 1 of 3 (33 %): a done"]


def test_later_what_was_seen_says_what_is_left() -> None:
    """Half of the work took a while that was planned to be nearly nothing: the other half takes as long."""
    with whole("study", {"a": 1e-6, "b": 1e-6}) as shown:
        shown.begin("a")
        time.sleep(0.01)
        shown.end("a")
        assert shown.left() >= 0.01


def test_a_whole_ends_with_its_block() -> None:
    with pytest.raises(ValueError, match="mine"), whole("study", {"a": 1.0}):
        raise ValueError("mine")
    with progress("training", 1, "epoch") as told:
        told.update()


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0:00"), (187, "3:07"), (3723, "1:02:03"), (59.6, "1:00")]
)
def test_clock(seconds: float, text: str) -> None:
    assert clock(seconds) == text
