"""Readers of the Mid-level annotations: joined on ids whatever their form and order."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from rmer.data.dataset import CONCEPTS
from rmer.data.readers.soundtracks import Soundtracks
from rmer.data.tables.midlevel import inspect_midlevel

METADATA = ["song id", "Source", "ID at file source", "Song title", "Artist", "Album"]
ANNOTATIONS = ["song_id", *CONCEPTS]


def tables(clips: int = 6, others: int = 9, seed: int = 0) -> tuple[list[list[str]], list[list[str]]]:
    """Return metadata and annotations in the real form: sources mixed, ids in an order of their own."""
    rng = np.random.default_rng(seed)
    songs = rng.permutation(clips + others) + 1
    numbers = rng.permutation(clips) + 1
    metadata = [METADATA] + [
        [str(song), "soundtracks", str(numbers[i]), "Main; title", "", "An album"]
        if i < clips
        else [str(song), ("jamendo", "magnatune")[i % 2], f"tr-{song}/x", "Title", "Somebody", ""]
        for i, song in enumerate(songs)
    ]
    metadata[1:] = sorted(metadata[1:], key=lambda row: int(row[0]))
    values = {song: [f"{value:.2f}" for value in rng.uniform(1, 10, 7)] for song in map(str, songs)}
    annotations = [ANNOTATIONS, *([song, *values[song]] for song in map(str, range(1, clips + others + 1)))]
    return metadata, annotations


def write(folder: Path, metadata: list[list[str]], annotations: list[list[str]], end: str = "\n") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, separator, rows in (("metadata.csv", ";", metadata), ("annotations.csv", ",", annotations)):
        quoted = [[f'"{cell}"' if separator in cell else cell for cell in row] for row in rows]
        (folder / name).write_bytes("".join(separator.join(row) + end for row in quoted).encode("utf-8"))
    return folder


def expected_concepts(metadata: list[list[str]], annotations: list[list[str]]) -> pd.DataFrame:
    values = {row[0]: row[1:] for row in annotations[1:]}
    rows = [
        [f"{int(row[2]):03d}", *(float(x) / 10 for x in values[row[0]])]
        for row in metadata
        if row[1] == "soundtracks"
    ]
    return pd.DataFrame(sorted(rows), columns=["clip", *CONCEPTS])


def test_concepts_are_joined_on_ids(tmp_path: Path) -> None:
    metadata, annotations = tables()
    read = inspect_midlevel(write(tmp_path, metadata, annotations)).checked()
    pd.testing.assert_frame_equal(read, expected_concepts(metadata, annotations), check_dtype=False)
    assert read["clip"].tolist() == ["001", "002", "003", "004", "005", "006"]


def test_files_of_the_real_size_read(tmp_path: Path) -> None:
    metadata, annotations = tables(clips=360, others=4640)
    reading = inspect_midlevel(write(tmp_path, metadata, annotations, end="\r\n"))
    assert (reading.problems, reading.warnings) == ((), ())
    pd.testing.assert_frame_equal(reading.table, expected_concepts(metadata, annotations), check_dtype=False)
    assert len(reading.table) == 360


def spelled(change):
    return lambda m, a: ([[change(cell) if i == 0 else cell for cell in row] for i, row in enumerate(m)], a)


VARIANTS = {
    "annotations in another order": lambda m, a: (m, [a[0], *a[:0:-1]]),
    "metadata in another order": lambda m, a: ([m[0], *m[:0:-1]], a),
    "headings with blanks": lambda m, a: (m, [[f" {cell} " for cell in a[0]], *a[1:]]),
    "blanks in cells": lambda m, a: ([[f" {cell} " for cell in row] for row in m], a),
    "other case": spelled(str.upper),
    "underscores": spelled(lambda cell: cell.replace(" ", "_")),
    "001": lambda m, a: ([[*r[:2], r[2].zfill(3) if r[1] == "soundtracks" else r[2], *r[3:]] for r in m], a),
    "1.0": lambda m, a: ([[*r[:2], r[2] + ".0" if r[1] == "soundtracks" else r[2], *r[3:]] for r in m], a),
    "song ids as 1.0": lambda m, a: (m, [a[0], *([row[0] + ".0", *row[1:]] for row in a[1:])]),
    "Soundtracks": lambda m, a: (
        [[r[0], r[1].capitalize() if i else r[1], *r[2:]] for i, r in enumerate(m)],
        a,
    ),
    "fewer columns": lambda m, a: ([row[:3] for row in m], a),
    "NaN of another source": lambda m, a: (
        m,
        [[*r[:1], "nan", *r[2:]] if r[0] in others(m) else r for r in a],
    ),
}


def others(metadata: list[list[str]]) -> set[str]:
    return {row[0] for row in metadata[1:] if row[1] != "soundtracks"}


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("variant", VARIANTS.values(), ids=VARIANTS.keys())
def test_variants_read_alike(tmp_path: Path, variant, end: str) -> None:
    expected = inspect_midlevel(write(tmp_path / "a", *tables())).checked()
    reading = inspect_midlevel(write(tmp_path / "b", *variant(*tables()), end=end))
    assert reading.problems == ()
    assert reading.warnings == ()
    pd.testing.assert_frame_equal(reading.table, expected)


def test_the_folder_may_be_the_one_above(tmp_path: Path) -> None:
    write(tmp_path / "metadata_annotations", *tables())
    assert len(inspect_midlevel(tmp_path).checked()) == 6


def test_annotations_that_the_metadata_lacks_are_a_warning(tmp_path: Path) -> None:
    metadata, annotations = tables()
    reading = inspect_midlevel(write(tmp_path, metadata, [*annotations, ["999", *"5555555"]]))
    assert reading.problems == ()
    assert reading.warnings == ("annotations.csv has songs that metadata.csv lacks: 999",)


def test_rated_clips_without_concepts_are_a_problem(tmp_path: Path) -> None:
    header = "number,valence,energy,tension,anger,fear,happy,sad,tender"
    rows = [f"{number},2,2,2,2,2,2,2,2" for number in range(1, 9)]
    (tmp_path / "mean_ratings_set1.csv").write_text("\n".join([header, *rows]))
    for number in range(1, 9):
        (tmp_path / f"{number:03d}.mp3").write_bytes(b"x")
    write(tmp_path / "metadata_annotations", *tables(6))
    collected = Soundtracks()(tmp_path)
    assert collected.problems == ("no concepts of clips 007, 008",)
    assert collected.concepts == CONCEPTS

    write(tmp_path / "other", *tables(9))
    collected = Soundtracks(midlevel_dir=str(tmp_path / "other"))(tmp_path)
    assert collected.problems == ()
    assert collected.warnings == ("concepts but no ratings of clip 009",)
    assert collected.clips["melody"].notna().all()
