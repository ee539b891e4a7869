"""Readers of Soundtracks Set 1: every shipped variant reads alike, and every problem is reported at once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from rmer.data.dataset import EMOTIONS
from rmer.data.readers.audio_files import find_audio
from rmer.data.readers.collection import labels_digest
from rmer.data.readers.soundtracks import Soundtracks
from rmer.data.tables.ratings import inspect_ratings
from rmer.data.tables.tracklist import inspect_tracklist
from rmer.errors import DataErrors

HEADER = "number,valence,energy,tension,anger,fear,happy,sad,tender,TARGET"


def ratings_lines(clips: int = 8) -> list[str]:
    rng = np.random.default_rng(3)
    rows = [
        [f"{number:03d}", *(f"{value:.2f}" for value in rng.uniform(1, 8, 8)), "HAPPY"]
        for number in range(1, clips + 1)
    ]
    return [HEADER, *(",".join(row) for row in rows)]


def write(path: Path, lines: list[str], *, end: str = "\n", encoding: str = "utf-8") -> Path:
    path.write_bytes((end.join(lines) + end).encode(encoding))
    return path


def make_root(root: Path, clips: int = 8) -> Path:
    (root / "Set1").mkdir(parents=True)
    for number in range(1, clips + 1):
        (root / "Set1" / f"{number:03d}.mp3").write_bytes(b"audio")
    write(root / "mean_ratings_set1.csv", ratings_lines(clips))
    tracks = [f"{number:03d},Happy,Album {number % 3},{number},00:10-00:25" for number in range(1, clips + 1)]
    write(root / "set1_tracklist.csv", ["Nro,Emotion,Album name,Track,Min:Sec", *tracks])
    return root


def test_the_real_ratings_read(shared: Path) -> None:
    ratings = inspect_ratings(shared / "soundtracks" / "mean_ratings_set1.csv").checked()
    assert list(ratings.columns) == ["clip", *EMOTIONS]
    assert ratings["clip"].tolist() == [f"{number:03d}" for number in range(1, 361)]
    assert ratings.iloc[0, 1:].tolist() == [x / 10 for x in (4.83, 6.83, 3.17, 1, 1, 7.33, 1, 1)]
    values = ratings[list(EMOTIONS)].to_numpy()
    assert (values.min(), values.max()) == (0.1, 0.783)


def test_copies_of_the_real_ratings_are_the_same_data(shared: Path, tmp_path: Path) -> None:
    original = shared / "soundtracks" / "mean_ratings_set1.csv"
    content = original.read_bytes()
    assert content.startswith(b"\xef\xbb\xbf")
    copy = tmp_path / "copy.csv"
    copy.write_bytes(content.removeprefix(b"\xef\xbb\xbf").replace(b"\r\n", b"\n").rstrip(b"\n"))
    digests = {labels_digest(inspect_ratings(path).checked(), EMOTIONS) for path in (original, copy)}
    assert len(digests) == 1


def variant_number(lines: list[str]) -> list[str]:
    return [lines[0].replace("number", "Number"), *(str(int(line[:3])) + line[3:] for line in lines[1:])]


def variant_unnamed(lines: list[str]) -> list[str]:
    return [lines[0] + ",Unnamed: 10,Unnamed: 11", *(line + ",," for line in lines[1:])]


VARIANTS = {
    "as it is": lambda lines: lines,
    "Number, no leading zeros": variant_number,
    "1.0": lambda lines: [lines[0], *(f"{int(line[:3])}.0{line[3:]}" for line in lines[1:])],
    "Unnamed columns": variant_unnamed,
    "nameless columns": lambda lines: [line + ",," for line in lines],
    "no TARGET": lambda lines: [line.rpartition(",")[0] for line in lines],
    "blank lines": lambda lines: [lines[0], "", *lines[1:], "", ",,,,,,,,,"],
    "blanks in cells": lambda lines: [line.replace(",", " , ") for line in lines],
    "quoted": lambda lines: [",".join(f'"{cell}"' for cell in line.split(",")) for line in lines],
    "other column order": lambda lines: [",".join(line.split(",")[::-1]) for line in lines],
}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("variant", VARIANTS.values(), ids=VARIANTS.keys())
def test_variants_of_a_file_read_alike(tmp_path: Path, variant, end: str, encoding: str) -> None:
    expected = inspect_ratings(write(tmp_path / "a.csv", ratings_lines())).table
    other = inspect_ratings(write(tmp_path / "b.csv", variant(ratings_lines()), end=end, encoding=encoding))
    assert other.problems == ()
    assert other.warnings == ()
    pd.testing.assert_frame_equal(other.table, expected)


def test_rows_keep_the_order_of_the_file_with_a_warning(tmp_path: Path) -> None:
    lines = ratings_lines()
    reading = inspect_ratings(write(tmp_path / "a.csv", [lines[0], *lines[:0:-1]]))
    assert reading.table["clip"].tolist() == [f"{number:03d}" for number in range(8, 0, -1)]
    assert reading.problems == ()
    assert "not in order" in reading.warnings[0]


def replaced(line: int, column: int, cell: str):
    def change(lines: list[str]) -> list[str]:
        cells = lines[line - 1].split(",")
        cells[column] = cell
        return [*lines[: line - 1], ",".join(cells), *lines[line:]]

    return change


def test_every_problem_is_reported_at_once(tmp_path: Path) -> None:
    lines = ratings_lines()
    for change in (replaced(3, 1, "9.5"), replaced(4, 2, "nan"), replaced(5, 0, "1"), replaced(6, 0, "?")):
        lines = change(lines)
    reading = inspect_ratings(write(tmp_path / "ratings.csv", lines))
    assert len(reading.problems) == 4
    assert reading.table["clip"].tolist() == ["001", "002", "003", "006", "007", "008"]


def test_own_targets_and_clip_names_read(tmp_path: Path) -> None:
    path = write(tmp_path / "mine.csv", ["clip,Arousal,note", "intro_1,40,x", "7,100,y", "Älä. nuku,0,z"])
    ratings = inspect_ratings(path, ["arousal"], scale_max=100).checked()
    assert ratings.to_dict("list") == {"clip": ["intro_1", "007", "Älä. nuku"], "arousal": [0.4, 1.0, 0.0]}
    with pytest.raises(DataErrors, match="40, outside 0-10"):
        inspect_ratings(path, ["arousal"]).checked()


def test_a_target_with_any_characters_is_renamed_by_the_rule(tmp_path: Path) -> None:
    root = make_root(tmp_path)
    lines = (root / "mean_ratings_set1.csv").read_text().splitlines()
    lines[0] = lines[0].replace("valence", "Valence (mean)/9").replace("energy", "ärger@")
    write(root / "mean_ratings_set1.csv", lines)
    targets = "Valence (mean)/9,ärger@,wut=anger"
    collected = Soundtracks.from_mapping({"targets": targets})(root).checked()
    assert collected.emotions == ("Valence_mean_9", "ärger", "wut")
    assert collected.titles == {"Valence_mean_9": "Valence (mean)/9", "ärger": "ärger@", "wut": "anger"}
    assert collected.clips.columns.tolist() == ["clip", "file", "album", "track", *collected.emotions]


@pytest.mark.parametrize("place", ["Set1", "Set1/Set1", ""])
def test_audio_is_found_by_number_wherever_it_unzips(tmp_path: Path, place: str) -> None:
    (tmp_path / place).mkdir(parents=True, exist_ok=True)
    for name in ("001.mp3", "._001.mp3", "._002.mp3", "2.WAV", "003.txt", "003.ogg", "003.flac", "004.mp3"):
        (tmp_path / place / name).write_bytes(b"x")
    (tmp_path / place / "004.mp3").write_bytes(b"")
    (tmp_path / place / "005.mp3").mkdir()
    found, problems = find_audio(tmp_path, ["001", "002", "003", "004", "005"])
    assert {clip: path.relative_to(tmp_path / place).as_posix() for clip, path in found.items()} == {
        "001": "001.mp3",
        "002": "2.WAV",
        "003": "003.flac",
    }
    assert problems == ["004.mp3 is empty", "no audio file of clip 005 (looked for 005.mp3 and others)"]


def test_the_real_track_list_has_45_albums(shared: Path) -> None:
    reading = inspect_tracklist(shared / "soundtracks" / "set1_tracklist.csv")
    assert reading.problems == ()
    assert reading.table["clip"].tolist() == [f"{number:03d}" for number in range(1, 361)]
    assert reading.table["album"].nunique() == 45
    assert (reading.table["album"] == "The Portrait of a Lady").sum() == 7
    assert (reading.table["album"] == "The Omen").sum() == 6
    assert [warning.split("clip ")[1][:3] for warning in reading.warnings] == ["056", "087", "354"]


def test_a_track_list_needs_only_clips_and_albums(tmp_path: Path) -> None:
    tracks = inspect_tracklist(write(tmp_path / "tracks.csv", ["clip,album", "song,My album "])).checked()
    assert tracks.to_dict("list") == {"clip": ["song"], "album": ["My album"], "track": [""], "time": [""]}


def test_files_are_joined_on_clips(tmp_path: Path) -> None:
    root = make_root(tmp_path)
    lines = (root / "set1_tracklist.csv").read_text().splitlines()
    write(root / "set1_tracklist.csv", [lines[0], *lines[:0:-1]])
    collected = Soundtracks()(root).checked()
    assert collected.clips.columns.tolist() == ["clip", "file", "album", "track", *EMOTIONS]
    assert collected.clips["file"].tolist() == [f"Set1/{number:03d}.mp3" for number in range(1, 9)]
    assert collected.clips["track"].tolist() == [str(number) for number in range(1, 9)]
    assert collected.audio["003"] == root / "Set1" / "003.mp3"
    assert (collected.concepts, collected.has_albums) == ((), True)


def test_problems_of_all_files_come_in_one_error(tmp_path: Path) -> None:
    root = make_root(tmp_path)
    write(root / "mean_ratings_set1.csv", replaced(3, 1, "12")(ratings_lines()))
    (root / "Set1" / "004.mp3").unlink()
    tracks = (root / "set1_tracklist.csv").read_text().splitlines()
    write(root / "set1_tracklist.csv", tracks[:-2])
    with pytest.raises(DataErrors) as caught:
        Soundtracks()(root).checked()
    assert caught.value.problems == (
        "mean_ratings_set1.csv line 3: valence of clip 002 is 12, outside 1-9",
        "no audio file of clip 004 (looked for 004.mp3 and others)",
        "no album of clips 007, 008",
    )
