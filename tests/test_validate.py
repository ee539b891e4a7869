"""``validate`` names every problem of a data set at once: labels, ids and audio."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import soundfile

from rmer.data.demo.files import write_demo_data
from rmer.errors import UserError
from rmer.stages.data_params import DataParams
from rmer.stages.preprocess import PreprocessParams
from rmer.stages.validate import ValidateParams, check_audio, validate


@pytest.fixture
def demo(tmp_path: Path) -> Path:
    return write_demo_data(tmp_path / "data", clips=6, seconds=1.0)


def test_a_sound_data_set_has_no_problems(demo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert validate(ValidateParams(soundtracks_dir=str(demo))) == []
    report = capsys.readouterr().out
    assert "6 rated, 6 with audio" in report
    assert "5 albums" in report
    assert "6 warnings" in report
    assert "001.mp3 lasts 1.0 s: its excerpt repeats it" in report
    assert "No problems" in report


@pytest.mark.parametrize("decode", [False, True])
def test_every_problem_is_named_at_once(demo: Path, capsys: pytest.CaptureFixture[str], decode: bool) -> None:
    ratings = demo / "mean_ratings_set1.csv"
    lines = ratings.read_text("utf-8-sig").splitlines()
    lines[1] = lines[1].replace(lines[1].split(",")[3], "11", 1)
    ratings.write_text("\n".join(lines))
    (demo / "Set1" / "002.mp3").unlink()
    (demo / "Set1" / "003.mp3").write_bytes(b"this is no music" * 100)
    (demo / "Set1" / "004.mp3").write_bytes(b"")
    tracks = demo / "set1_tracklist.csv"
    tracks.write_text("\n".join(tracks.read_text().splitlines()[:-1]))
    annotations = demo / "metadata_annotations" / "annotations.csv"
    annotations.write_text(annotations.read_text().replace("melody", "tune"))

    problems = validate(ValidateParams(soundtracks_dir=str(demo), decode=decode))
    expected = [
        "outside 1-9",
        "no audio file of clip 002",
        "004.mp3 is empty",
        "annotations.csv has no column 'melody'",
        "no album of clip 006",
        "003.mp3 cannot be",
    ]
    assert len(problems) == len(expected)
    for text in expected:
        assert any(text in problem for problem in problems), text
    report = capsys.readouterr().out
    assert "6 problems" in report
    assert all(problem in report for problem in problems)


def test_decoding_finds_what_headers_hide(tmp_path: Path) -> None:
    path = tmp_path / "001.wav"
    soundfile.write(path, np.zeros(22050), 22050)
    assert check_audio([path]) == ([], ["001.wav lasts 1.0 s: its excerpt repeats it"])
    problems, _ = check_audio([path], whole=True)
    assert len(problems) == 1
    assert problems[0].startswith("001.wav is silent")


def test_long_clips_bring_no_warning(tmp_path: Path) -> None:
    path = tmp_path / "001.flac"
    soundfile.write(path, np.random.default_rng(0).uniform(-1, 1, 8000 * 11), 8000)
    assert check_audio([path]) == ([], [])
    assert check_audio([path], whole=True) == ([], [])


def test_validate_and_preprocess_read_files_by_the_same_parameters() -> None:
    names = {
        stage: {f.name for f in dataclasses.fields(stage)} for stage in (ValidateParams, PreprocessParams)
    }
    shared = {field.name for field in dataclasses.fields(DataParams)}
    assert names[ValidateParams] & names[PreprocessParams] == shared
    for stage in names:
        assert issubclass(stage, DataParams)
        assert not shared & set(stage.__annotations__), "declared twice"


def test_a_folder_must_be_given() -> None:
    with pytest.raises(UserError, match="soundtracks_dir"):
        validate(ValidateParams())


def test_a_folder_that_is_not_there_is_reported(tmp_path: Path) -> None:
    problems = validate(ValidateParams(soundtracks_dir=str(tmp_path / "none")))
    assert len(problems) == 2
    assert "mean_ratings_set1.csv cannot be read" in problems[0]
    assert "is not a folder" in problems[1]
