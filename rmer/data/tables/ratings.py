"""Ratings and audio of Soundtracks Set 1 (Eerola & Vuoskoski 2011), or of one's own data in the same form."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import pandas as pd

from rmer.data.dataset import CONCEPTS, EMOTIONS, INTEGER_COLUMNS
from rmer.data.tables.text_tables import (
    TEXT_COLUMNS,
    Reading,
    TextTable,
    clip_name,
    heading,
    number_in,
    read_text_table,
    whole_number,
)
from rmer.errors import UserError

RATINGS_FILE = "mean_ratings_set1.csv"
AUDIO_FOLDERS = ("Set1", "Set1/Set1", "")
AUDIO_EXTENSIONS = (
    *(
        ".mp3",
        ".wav",
        ".flac",
        ".ogg",
        ".oga",
        ".opus",
        ".aiff",
        ".aif",
        ".aifc",
        ".au",
        ".caf",
        ".w64",
        ".rf64",
    ),
    *(".m4a", ".mp4", ".aac", ".wma"),
)
SCALE_MAX = 10.0
SOUNDTRACKS_SCALE = (1.0, 9.0)
_RESERVED = {
    *TEXT_COLUMNS,
    *INTEGER_COLUMNS,
    *CONCEPTS,
    "spec_mean",
    "spec_mean_square",
    "emotion",
    "concept",
}


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
        if not clip or (table.headings["clip"] == "number" and not clip.isdecimal()):
            table.add(line, f"{cells['clip']!r} is not a clip number")
        elif clip in lines:
            table.add(line, f"clip {clip} is already on line {lines[clip]}")
        else:
            lines[clip] = line
            rows.append({"clip": clip} | _targets(table, line, cells, targets, (low, high, scale_max)))
    ratings = pd.DataFrame(rows, columns=["clip", *targets])
    warnings = []
    if list(lines) != sorted(lines):
        warnings.append(
            f"{table.path.name}: rows are not in order of clips, which the published split follows"
        )
    return Reading(ratings, tuple(table.problems), tuple(warnings))


def find_audio(folder: Path, clips: Iterable[str]) -> tuple[dict[str, Path], list[str]]:
    """Return the audio file of each clip and what is wrong (missing or empty files).

    Files are found by number (``001.mp3``; else another audio format, in the order of AUDIO_EXTENSIONS) in
    ``Set1/``, ``Set1/Set1/`` or ``folder`` itself; hidden ones such as ``._001.mp3`` are not audio.
    """
    folder = Path(folder)
    if not folder.is_dir():
        return {}, [f"{folder} is not a folder"]
    files = _audio_files(folder)
    found: dict[str, Path] = {}
    missing, problems = [], []
    for clip in clips:
        if clip not in files:
            missing.append(clip)
        elif files[clip].stat().st_size == 0:
            problems.append(f"{files[clip].name} is empty")
        else:
            found[clip] = files[clip]
    if missing and not found and not problems:
        problems.append(f"no audio of any clip in {folder}, {folder / 'Set1'} or {folder / 'Set1/Set1'}")
    else:
        problems += [f"no audio file of clip {clip} (looked for {clip}.mp3 and others)" for clip in missing]
    return found, problems


def check_targets(targets: Sequence[str]) -> None:
    """Raise UserError unless ``targets`` are usable as columns and as names of metrics."""
    where, mend = "targets", "Name columns of the ratings file, such as valence,energy"
    bad = [name for name in targets if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_. -]*", name)]
    taken = [name for name in targets if name in _RESERVED]
    if not targets:
        raise UserError("none are given", where=where, mend=mend)
    if bad:
        raise UserError(f"{', '.join(map(repr, bad))} cannot be the name of a metric", where=where, mend=mend)
    if taken:
        raise UserError(f"{', '.join(taken)} already has a meaning in a data set", where=where, mend=mend)
    if len({heading(name) for name in targets}) < len(targets):
        raise UserError("one is named twice", where=where, mend=mend)


def clip_from_cell(cell: str) -> str:
    """Return a clip's name: ``1``, ``001`` and ``1.0`` give ``001``, a file stem itself, all else ""."""
    number = whole_number(cell)
    if number is not None:
        return clip_name(number)
    return cell if re.fullmatch(r"\w[\w. -]*", cell) and cell.casefold() != "nan" else ""


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


def _audio_files(folder: Path) -> dict[str, Path]:
    """Index audio by clip name; the likelier format, then the likelier folder, wins."""
    candidates = []
    for place, name in enumerate(AUDIO_FOLDERS):
        if not (folder / name).is_dir():
            continue
        for path in sorted((folder / name).iterdir()):
            extension = path.suffix.lower()
            if extension in AUDIO_EXTENSIONS and not path.name.startswith(".") and path.is_file():
                candidates.append((AUDIO_EXTENSIONS.index(extension), place, path))
    files: dict[str, Path] = {}
    for *_, path in sorted(candidates):
        files.setdefault(clip_from_cell(path.stem), path)
    return files
