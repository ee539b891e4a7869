"""The track list of Soundtracks Set 1: from which album and track each clip was cut."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd

from rmer.data.tables.text_tables import Reading, clip_from_cell, read_text_table

TRACKLIST_FILE = "set1_tracklist.csv"
ALBUM_ALIASES = {"The Portait of a Lady": "The Portrait of a Lady"}
LONGEST_CLIP_SECONDS = 60

_COLUMNS = {
    "clip": ("nro", "number", "clip"),
    "album": ("album name", "album"),
    "track": ("track",),
    "time": ("min:sec", "time"),
}


def inspect_tracklist(path: Path) -> Reading:
    """Read the track list: columns ``clip`` ("001"), ``album``, ``track`` and ``time``, all text.

    Album names are trimmed and one known misspelling is mended, which makes 45 albums of the original's 47.
    Hands back every problem of the file. Malformed times are warnings only: nothing depends on them.
    """
    table = read_text_table(path, ",", _COLUMNS, optional=("track", "time"))
    lines: dict[str, int] = {}
    rows, malformed = [], []
    for line, cells in table:
        clip, album = clip_from_cell(cells["clip"]), ALBUM_ALIASES.get(cells["album"], cells["album"])
        if not clip:
            table.add(line, f"{cells['clip']!r} is not a clip number")
        elif clip in lines:
            table.add(line, f"clip {clip} is already on line {lines[clip]}")
        elif not album:
            table.add(line, f"clip {clip} has no album")
        else:
            lines[clip] = line
            time = cells.get("time", "")
            rows.append({"clip": clip, "album": album, "track": cells.get("track", ""), "time": time})
            if time and not _is_time(time):
                malformed.append(f"{table.path.name} line {line}: clip {clip} has the time {time!r}")
    frame = pd.DataFrame(rows, columns=["clip", "album", "track", "time"])
    return Reading(frame, tuple(table.problems), tuple(malformed))


def _is_time(text: str) -> bool:
    """Say whether ``text`` is minutes and seconds of an excerpt's start and end, such as ``02:02-02:17``."""
    match = re.fullmatch(r"(\d+):(\d\d)-(\d+):(\d\d)", text)
    if not match:
        return False
    start_minutes, start_seconds, end_minutes, end_seconds = map(int, match.groups())
    return 0 < 60 * (end_minutes - start_minutes) + end_seconds - start_seconds <= LONGEST_CLIP_SECONDS
