"""What targets are called: any heading can be one, and metrics, tags and columns are named by a stated rule.

The rule: letters and digits of any script, ``_``, ``-``, ``.`` and single blanks stay (as composed Unicode,
NFC); every run of other characters, with the blanks around it, becomes one ``_``, and those at either end
go. A name that begins with no letter, or has a meaning in a data set, gets ``target_`` before it. Headings
that would be called alike get ``_`` and 4 hex digits of their digest behind.
"""

from __future__ import annotations

import csv
import hashlib
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence

from rmer.data.clip_table import INTEGER_COLUMNS
from rmer.data.csv_tables import TEXT_COLUMNS
from rmer.data.dataset import CONCEPTS
from rmer.errors import UserError

_MEANT = ("spec_mean", "spec_mean_square", "emotion", "concept")
RESERVED = frozenset({*TEXT_COLUMNS, *INTEGER_COLUMNS, *CONCEPTS, *_MEANT})
_WHERE, _MEND = "targets", "Name columns of the ratings file, such as valence,energy"


def metric_name(heading: str) -> str:
    """Return what a heading's target is called, by the rule above: ``Arousal(mean)`` -> ``Arousal_mean``."""
    text = unicodedata.normalize("NFC", heading)
    text = re.sub(r"\s*[^\w\s.-][^\w.-]*", "_", text)
    text = re.sub(r"\s+", " ", text).strip(" _.-")
    return text if text[:1].isalpha() and text not in RESERVED else f"target_{text}".rstrip("_")


def metric_names(headings: Sequence[str]) -> dict[str, str]:
    """Return heading -> name, all of them different, also for stores that know no difference of case."""
    names = {heading: metric_name(heading) for heading in headings}
    count = Counter(name.casefold() for name in names.values())
    return {
        heading: name if count[name.casefold()] == 1 else f"{name}_{_digest(heading)}"
        for heading, name in names.items()
    }


def asked_for(targets: str) -> dict[str, str]:
    """Return heading -> name of the targets that a text lists: ``heading`` or ``name=heading``, by commas.

    A heading with a comma is put in double quotes. Raises UserError for one that is given twice, no heading,
    and a name that metrics cannot have.
    """
    (row,) = csv.reader([targets], skipinitialspace=True) if targets.strip() else ([],)
    given: dict[str, str] = {}
    for part in filter(None, map(str.strip, row)):
        name, equals, heading = (text.strip() for text in part.partition("="))
        heading = heading if equals else name
        if heading in given:
            raise UserError("one is named twice", where=_WHERE, mend=_MEND)
        if not heading or not name:
            raise UserError(f"{part!r} is half of new=old", where=_WHERE, mend=_MEND)
        if equals and name != metric_name(name):
            what = f"{name!r} cannot be the name of a metric"
            raise UserError(what, where=_WHERE, mend=f"Call it {metric_name(name)}, say")
        given[heading] = name if equals else ""
    unnamed = metric_names([heading for heading, name in given.items() if not name])
    names = {heading: name or unnamed[heading] for heading, name in given.items()}
    if len(set(map(str.casefold, names.values()))) < len(names):
        raise UserError("one is named twice", where=_WHERE, mend=_MEND)
    return names


def _digest(heading: str) -> str:
    return hashlib.sha256(heading.encode()).hexdigest()[:4]
