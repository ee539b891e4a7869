"""What was probably meant by a name that there is not."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence

MOST_KNOWN = 5000  # names that are looked at
# Likeness, from 0 to 1: of what may have been meant, and of what is told as if it were.
LIKELY, SURE = 0.66, 0.8


def nearest(name: str, known: Iterable[str], *, most: int = 1, cutoff: float = LIKELY) -> list[str]:
    """Return the known names that are most like one, whatever the case, blanks, hyphens and underscores.

    ``cutoff`` is the least likeness (:class:`difflib.SequenceMatcher`). Several names in one are like none.
    """
    if re.search("[,;|]", name):
        return []
    by_form: dict[str, str] = {}
    for candidate in list(known)[:MOST_KNOWN]:
        by_form.setdefault(_form(candidate), candidate)
    return [by_form[form] for form in difflib.get_close_matches(_form(name), by_form, most, cutoff)]


def did_you_mean(names: Sequence[str], known: Iterable[str], rest: str = "", *, most: int = 1) -> str:
    """Return ``Did you mean train?`` and the ``rest``; the rest alone where no known name is like one.

    For each of several names there are at most ``most``.
    """
    known = list(known)
    near = [" or ".join(nearest(name, known, most=most)) for name in names]
    question = f"Did you mean {', '.join(filter(None, near))}?" if any(near) else ""
    return " ".join(filter(None, (question, rest)))


def _form(name: str) -> str:
    return re.sub(r"[\s_-]+", "_", name.strip()).casefold()
