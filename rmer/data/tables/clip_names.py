"""What clips are called: by what identifies them in a data set, in characters that any file may have."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence

from rmer.data.tables.text_tables import clip_name, whole_number

LONGEST_NAME = 120  # characters: sounds of clips are files of their names


def clip_names(identifiers: Sequence[str]) -> list[str]:
    """Return a name for each identifier, all different where the identifiers are.

    A whole number has at least three digits (``7`` -> ``007``). Of other identifiers, letters and digits of
    any script, ``_``, ``-``, ``.`` and blanks stay (as composed Unicode, NFC), and all else becomes ``_``.
    Where two would be called alike, or one is too long, 6 hex digits of its digest are added.
    """
    names = [_name(identifier) for identifier in identifiers]
    count = Counter(names)
    return [
        name if count[name] == 1 and len(name) <= LONGEST_NAME else _with_digest(name, identifier)
        for name, identifier in zip(names, identifiers, strict=True)
    ]


def _name(identifier: str) -> str:
    number = whole_number(identifier)
    if number is not None:
        return clip_name(number)
    name = re.sub(r"[^\w. -]", "_", unicodedata.normalize("NFC", identifier)).strip()
    return name if re.match(r"\w", name) else f"_{name}"


def _with_digest(name: str, identifier: str) -> str:
    digest = hashlib.sha256(unicodedata.normalize("NFC", identifier).encode()).hexdigest()[:6]
    return f"{name[:LONGEST_NAME]}_{digest}"
