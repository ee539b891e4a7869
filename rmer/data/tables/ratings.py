"""Ratings of Soundtracks Set 1 (Eerola & Vuoskoski 2011), or of one's own data in the same form."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from rmer.data.dataset import EMOTIONS
from rmer.data.tables.target_names import RESERVED
from rmer.data.tables.text_tables import (
    Reading,
    TextTable,
    clip_from_cell,
    heading,
    no_clip,
    number_in,
    read_text_table,
)
from rmer.errors import UserError

RATINGS_FILE = "mean_ratings_set1.csv"
SCALE_MAX = 10.0
SOUNDTRACKS_SCALE = (1.0, 9.0)


def inspect_ratings(
    path: Path, targets: Sequence[str] = EMOTIONS, *, scale_max: float = SCALE_MAX
) -> Reading:
    """Read mean ratings in file order: ``clip`` ("001") and the ``targets``, rating / ``scale_max`` (0-1).

    Hands back every problem of the file; raises UserError where ``targets`` cannot be used. The file is
    comma-separated with a column ``number`` (or ``clip``, which may hold file stems) and one column a target.
    The eight Soundtracks emotions must lie on its documented scale 1-9, other targets on 0-``scale_max``.
    Rows with a problem keep NaN; rows without a usable, new clip name are left out.
    """
    check_targets(targets)
    columns = {"clip": ("number", "clip")} | {target: (heading(target),) for target in targets}
    table = read_text_table(path, ",", columns)
    studied = tuple(targets) == EMOTIONS and scale_max == SCALE_MAX
    low, high = SOUNDTRACKS_SCALE if studied else (0.0, scale_max)
    lines: dict[str, int] = {}
    rows = []
    for line, cells in table:
        clip = clip_from_cell(cells["clip"])
        numbered = table.headings["clip"] == "number"
        if not clip or (numbered and not clip.isdecimal()):
            table.add(line, no_clip(cells["clip"], numbered=numbered))
        elif clip in lines:
            table.add(line, f"clip {clip} is already on line {lines[clip]}")
        else:
            lines[clip] = line
            rows.append({"clip": clip} | _targets(table, line, cells, targets, (low, high, scale_max)))
    ratings = pd.DataFrame(rows, columns=["clip", *targets])
    unordered = f"{table.path.name}: rows are not in order of clips, which the published split follows"
    warnings = () if list(lines) == sorted(lines) else (unordered,)
    return Reading(ratings, tuple(table.problems), warnings)


def check_targets(targets: Sequence[str]) -> None:
    """Raise UserError unless ``targets`` may stand beside the other columns of a data set."""
    where, mend = "targets", "Name columns of the ratings file, such as valence,energy"
    taken = [name for name in targets if name in RESERVED]
    if not targets:
        raise UserError("none are given", where=where, mend=mend)
    if taken:
        raise UserError(f"{', '.join(taken)} already has a meaning in a data set", where=where, mend=mend)
    if len({heading(name) for name in targets}) < len(targets):
        raise UserError("one is named twice", where=where, mend=mend)


def _targets(
    table: TextTable,
    line: int,
    cells: dict[str, str],
    targets: Sequence[str],
    scale: tuple[float, float, float],
) -> dict[str, float]:
    low, high, divisor = scale
    values = {}
    for target in targets:
        value, problem = number_in(cells[target], low, high)
        values[target] = value / divisor
        if problem:
            table.add(line, f"{target} of clip {clip_from_cell(cells['clip'])} {problem}")
    return values
