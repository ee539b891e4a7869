"""Classes and tags as targets: one column each, 1 where a clip has it and 0 where not."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal

# What labels are: ratings on a scale, one class a clip (one-hot, or probabilities that add up to 1), or any
# number of tags a clip.
LabelKind = Literal["ratings", "classes", "tags"]
FEWEST_VALUES, MOST_CLASSES = 2, 10
_OF_CLASSES = re.compile(r"4q|quadrant|class|label|cluster|genre|categor|mood|emotion", re.IGNORECASE)


def one_hot(labels: Sequence[Sequence[str]]) -> dict[str, list[float]]:
    """Return class or tag -> 1 or 0 of each clip, in alphabetical order, from those that each clip has."""
    names = sorted({name for of_clip in labels for name in of_clip})
    return {name: [float(name in of_clip) for of_clip in labels] for name in names}


def like_classes(heading: str, cells: Sequence[str]) -> str:
    """Return a warning where a column that is read as a scale looks like numbers of classes; else "".

    It does where it holds few whole numbers from 0 or 1 on without a gap and is called like classes, or where
    these are the four quadrants: class 4 is not twice class 2, so that a regression on them means nothing.
    """
    try:
        values = sorted({float(cell) for cell in cells if cell})
    except ValueError:
        return ""
    whole = all(value.is_integer() for value in values)
    if not whole or not FEWEST_VALUES <= len(values) <= MOST_CLASSES or values[0] not in (0, 1):
        return ""
    if values != [values[0] + step for step in range(len(values))]:
        return ""
    binary, quadrants = values == [0, 1], values == [1, 2, 3, 4]
    if binary or not (quadrants or _OF_CLASSES.search(heading)):
        return ""
    named = ", ".join(f"{value:g}" for value in values)
    return f"{heading} holds only {named} and is read as a scale: if these are classes, give class_column"
