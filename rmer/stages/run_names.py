"""Names of runs, short enough to be read in a list of the UI."""

from __future__ import annotations

from rmer.report.readable import epsilon_in_words

LONGEST = 24
_CUT = "…"


def run_name(*parts: str) -> str:
    """Return the name made of some parts, what tells runs apart first; the longest part is cut where needed.

    >>> run_name("aA2B2E", "s2451", "published", ".001")
    'aA2B2E s2451 publi… .001'
    """
    kept = [part for part in parts if part]
    while len(" ".join(kept)) > LONGEST:
        longest = max(range(len(kept)), key=lambda place: len(kept[place]))
        kept[longest] = kept[longest].removesuffix(_CUT)[:-1] + _CUT
    return " ".join(kept)


def budget_name(norm: str, size: float, *, on_sound: bool = False) -> str:
    """Return a budget in a name, with its norm unless it is the usual one: ``.01``, ``L2 .01``, ``-6dB``."""
    if on_sound:
        return f"{'' if norm == 'masking' else f'{norm} '}{size:g}dB"
    return f"{'L2 ' if norm == 'l2' else ''}{epsilon_in_words(size)}"
