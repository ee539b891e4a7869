"""Mid-level Perceptual Features (Aljanaki & Soleymani 2018): concept ratings of the Soundtracks clips."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from rmer.data.dataset import CONCEPTS
from rmer.data.tables.text_tables import (
    Reading,
    TextTable,
    clip_name,
    heading,
    number_in,
    read_text_table,
    some,
    whole_number,
)

METADATA_FILE = "metadata.csv"
ANNOTATIONS_FILE = "annotations.csv"
ANNOTATIONS_FOLDER = "metadata_annotations"
SOURCE = "soundtracks"
SCALE = (1.0, 10.0)

_METADATA_COLUMNS = {
    "song id": ("song id", "songid"),
    "Source": ("source",),
    "ID at file source": ("id at file source", "id at source", "file id at source"),
}


def inspect_midlevel(folder: Path) -> Reading:
    """Read the concepts of the Soundtracks clips: columns ``clip`` ("001") and the seven concepts (0-1).

    ``folder`` holds ``metadata.csv`` (``;``) and ``annotations.csv`` (``,``), itself or in
    ``metadata_annotations``. Only rows whose ``Source`` is ``soundtracks`` count (other sources hold ids that
    are no numbers); songs are joined on ids, never on row order; values 1-10 are divided by 10.
    Hands back every problem of both files.
    """
    folder = Path(folder)
    if (folder / ANNOTATIONS_FOLDER).is_dir() and not (folder / METADATA_FILE).is_file():
        folder = folder / ANNOTATIONS_FOLDER
    metadata = read_text_table(folder / METADATA_FILE, ";", _METADATA_COLUMNS)
    annotations = read_text_table(
        folder / ANNOTATIONS_FILE,
        ",",
        {"song_id": ("song id", "songid")} | {c: (heading(c),) for c in CONCEPTS},
    )
    songs = _soundtracks_songs(metadata)
    warnings = _strangers(metadata, annotations)
    values = _values(annotations, songs)
    if annotations.rows:
        for song, clip in songs.items():
            if song not in values:
                metadata.problems.append(f"{ANNOTATIONS_FILE} has no row of song {song} (clip {clip})")
    rows = [{"clip": clip, **values[song]} for song, clip in songs.items() if song in values]
    table = pd.DataFrame(rows, columns=["clip", *CONCEPTS]).sort_values("clip", ignore_index=True)
    return Reading(table, (*metadata.problems, *annotations.problems), tuple(warnings))


def _soundtracks_songs(metadata: TextTable) -> dict[str, str]:
    """Return {song id: clip} of the Soundtracks rows; notes ids that are unusable or occur twice."""
    songs: dict[str, str] = {}
    lines: dict[str, int] = {}
    for line, cells in metadata:
        if cells["Source"].casefold() != SOURCE:
            continue
        song, number = _song(cells["song id"]), whole_number(cells["ID at file source"])
        if number is None:
            metadata.add(line, f"ID at file source {cells['ID at file source']!r} is not a clip number")
            continue
        clip = clip_name(number)
        if not song:
            metadata.add(line, f"clip {clip} has no song id")
        elif song in songs:
            metadata.add(line, f"song id {song} is already on line {lines[songs[song]]}")
        elif clip in lines:
            metadata.add(line, f"clip {clip} is already on line {lines[clip]}")
        else:
            songs[song], lines[clip] = clip, line
    if metadata.rows and not songs and not metadata.problems:
        sources = sorted({cells["Source"] for _, cells in metadata})
        metadata.problems.append(f"{METADATA_FILE} has no row of Source {SOURCE!r} (it has: {some(sources)})")
    return songs


def _values(annotations: TextTable, songs: Mapping[str, str]) -> dict[str, dict[str, float]]:
    """Return {song id: {concept: value}} of ``songs``; notes unusable values and songs given twice."""
    values: dict[str, dict[str, float]] = {}
    lines: dict[str, int] = {}
    for line, cells in annotations:
        song = _song(cells["song_id"])
        if song not in songs:
            continue
        if song in lines:
            annotations.add(line, f"song {song} (clip {songs[song]}) is already on line {lines[song]}")
            continue
        lines[song], values[song] = line, {}
        for concept in CONCEPTS:
            value, problem = number_in(cells[concept], *SCALE)
            values[song][concept] = value / 10
            if problem:
                annotations.add(line, f"{concept} of song {song} (clip {songs[song]}) {problem}")
    return values


def _strangers(metadata: TextTable, annotations: TextTable) -> list[str]:
    """Return a warning where songs are annotated that the metadata does not know."""
    known = {_song(cells["song id"]) for _, cells in metadata}
    strangers = [song for _, cells in annotations if (song := _song(cells["song_id"])) not in known]
    if not known or not strangers:
        return []
    return [f"{ANNOTATIONS_FILE} has songs that {METADATA_FILE} lacks: {some(strangers)}"]


def _song(cell: str) -> str:
    number = whole_number(cell)
    return cell if number is None else str(number)
