"""Progress on standard error: bars on a terminal, single lines in a file; one bar for the work of a whole."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import NoReturn

from tqdm import tqdm

# A part that took less than this share of what was planned for it had been done before.
FOUND_DONE = 0.05
# The same, in seconds, where nothing was planned.
FOUND_DONE_SECONDS = 2.0
# Until this share of a whole is done, what was planned tells more of the time left than what was seen.
TOLD_BY_PLAN = 0.1


@contextmanager
def progress(title: str, total: float, unit: str) -> Iterator[Progress]:
    """Show how far a piece of work is, as the ``with`` block tells by ``update``.

    On a terminal it is a bar, in a file one line at the end. Within a :func:`whole` it moves that one's bar.
    """
    told = Progress(title, total, unit)
    try:
        yield told
    finally:
        told.close()


class Progress:
    """How far a piece of work is, of ``total`` steps."""

    def __init__(self, title: str, total: float, unit: str) -> None:
        self._title, self._total, self._unit = title, total, unit
        self._done, self._note, self._started = 0.0, "", time.monotonic()
        self._bar: tqdm[NoReturn] | None = None
        if _Shown.whole is None:
            self._bar = tqdm(total=total, desc=title, unit=unit, leave=False, disable=None if total else True)

    def update(self, steps: float = 1, note: str = "") -> None:
        """Say that so many more steps are done, and what is to be read beside them."""
        self._done, self._note = self._done + steps, note or self._note
        if self._bar is not None:
            self._bar.set_postfix_str(self._note, refresh=False)
            self._bar.update(steps)
        elif _Shown.whole is not None and self._total:
            _Shown.whole.within(self._done / self._total, self._title)

    def close(self) -> None:
        """End the bar, or write the line."""
        if self._bar is None:
            return
        self._bar.close()
        if self._total and not sys.stderr.isatty():
            took, note = clock(time.monotonic() - self._started), self._note and f", {self._note}"
            print(
                f"{self._title}: {self._done:g} of {self._total:g} {self._unit}s in {took}{note}",
                file=sys.stderr,
            )


@contextmanager
def whole(
    title: str, planned: Mapping[str, float], *, timed: bool = True, at_once: int = 1
) -> Iterator[Whole]:
    """Show how far parts are, together, and how long the rest will take.

    ``planned`` are the seconds of each part by its name or, unless it is ``timed``, what each counts;
    ``at_once`` of them are worked on side by side. Only one whole can be shown at a time.
    """
    _Shown.whole = shown = Whole(title, planned, timed=timed, at_once=at_once)
    try:
        yield shown
    finally:
        _Shown.whole = None
        shown.close()


class Whole:
    """How far parts of known cost are."""

    def __init__(
        self, title: str, planned: Mapping[str, float], *, timed: bool = True, at_once: int = 1
    ) -> None:
        self._title, self._planned = title, planned
        self._timed, self._at_once = timed, at_once
        self._total = sum(planned.values())
        self._finished: set[str] = set()
        self._seconds_done = self._found_done = 0.0  # as planned
        self._running: dict[str, float] = {}  # when each began
        self._share = 0.0
        self._started = time.monotonic()
        form = "{desc}: {percentage:3.0f} % |{bar}| {elapsed}{postfix}"
        self._bar: tqdm[NoReturn] = tqdm(
            total=self._total, desc=title, bar_format=form, miniters=0, disable=None
        )

    def begin(self, part: str) -> None:
        """Say that a part is worked on."""
        self._running[part] = time.monotonic()
        self._share = 0.0
        self._show()

    def within(self, share: float, doing: str) -> None:
        """Say how much of the only part that is worked on is done."""
        if len(self._running) == 1:
            self._share = max(self._share, min(share, 1.0))
            self._show(doing)

    def end(self, part: str, result: str = "done") -> None:
        """Say that a part is worked on no more, whatever came of it."""
        seconds, planned = time.monotonic() - self._running.pop(part), self._planned[part]
        self._finished.add(part)
        self._seconds_done += planned
        self._share = 0.0
        if seconds < (FOUND_DONE * planned if self._timed else FOUND_DONE_SECONDS):
            self._found_done += planned
        self._show()
        if not sys.stderr.isatty():
            count = f"{len(self._finished)} of {len(self._planned)}"
            share = f"{100 * self._seconds_done / (self._total or 1):.0f} %"
            told = ", ".join(filter(None, [share, self._left()]))
            print(f"{self._title}: {count} ({told}): {part} {result}", file=sys.stderr)

    def again(self, part: str) -> None:
        """Say that a part is worked on no more, and will be from its start."""
        del self._running[part]

    def left(self) -> float | None:
        """Return the seconds that the rest will take: as planned at first, then by what was seen.

        None where nothing is planned and nothing was seen yet.
        """
        here = self._share * sum(self._planned[part] for part in self._running)
        rest = self._total - self._seconds_done - here
        worked = self._seconds_done - self._found_done + here
        if self._timed and worked < TOLD_BY_PLAN * self._total:
            return rest / self._at_once
        return rest * (time.monotonic() - self._started) / worked if worked else None

    def close(self) -> None:
        """End the bar."""
        self._bar.close()

    def _left(self) -> str:
        left = self.left()
        return "" if left is None else f"about {clock(left)} left"

    def _show(self, doing: str = "") -> None:
        names = list(self._running)
        told = ", ".join(names[:2]) + (f" and {len(names) - 2} more" if names[2:] else "")
        told += f": {doing}" if doing else ""
        here = self._share * sum(self._planned[part] for part in self._running)
        self._bar.set_postfix_str(", ".join(filter(None, [self._left(), told])), refresh=False)
        self._bar.update(self._seconds_done + here - self._bar.n)


class _Shown:
    """The whole that is shown in this process, if any."""

    whole: Whole | None = None


def clock(seconds: float) -> str:
    """Return minutes and seconds, with hours where there are any: ``3:07``, ``1:02:03``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
