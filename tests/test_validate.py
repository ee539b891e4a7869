"""``validate`` names every problem of a data set at once: labels, ids and audio."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import numpy as np
import pytest
import soundfile

from rmer.data.demo.demo_files import write_demo_data
from rmer.errors import DataErrors
from rmer.stages.data.data_params import DataParams
from rmer.stages.data.preprocess import PreprocessParams, preprocess
from rmer.stages.data.validate import ValidateParams, validate
from rmer.tracking import connect


@pytest.fixture
def demo(tmp_path: Path) -> Path:
    return write_demo_data(tmp_path / "data", clips=6, seconds=1.5)


def test_a_sound_data_set_has_no_problems(demo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert validate(ValidateParams(soundtracks_dir=str(demo))) == []
    report = capsys.readouterr().out.splitlines()
    assert re.fullmatch("  labels    [0-9a-f]{16}", report.pop(5))
    assert report[1:] == [
        "  clips     6 rated, 6 with audio",
        "  targets   valence, energy, tension, anger, fear, happy, sad, tender",
        "  concepts  melody, articulation, rhythm_complexity, rhythm_stability, dissonance, atonality, mode",
        "  albums    5 albums",
        "8 warnings",
        *(f"  - 00{number}.mp3 lasts 1.5 s: its excerpt repeats it" for number in range(1, 7)),
        *(
            f"  - split {name}, over which no correlation has an interval; a correlation over fewer than 14 "
            "says little"
            for name in ("published: 1 test clip", "album: 2 test clips")
        ),
        "No problems",
    ]


def test_every_problem_is_named_at_once(demo: Path, capsys: pytest.CaptureFixture[str]) -> None:
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

    soundfile.write(demo / "Set1" / "001.mp3", np.zeros(22050), 22050)
    soundfile.write(demo / "Set1" / "005.wav", np.ones(5), 22050)
    (demo / "Set1" / "005.mp3").unlink()

    problems = validate(ValidateParams(soundtracks_dir=str(demo), workers=1))
    assert problems == [
        "mean_ratings_set1.csv line 2: tension of clip 001 is 11, outside 1-9",
        "004.mp3 is empty",
        "no audio file of clip 002 (looked for 002.mp3 and others)",
        "annotations.csv has no column 'melody' (it has: song id, tune, articulation, rhythm complexity, "
        "rhythm stability, dissonance, atonality, mode)",
        "no album of clip 006",
        "001.mp3 is silent throughout",
        "003.mp3 cannot be decoded (its header makes no sense)",
        "005.wav lasts 0.00023 s: at least 1 s are needed",
        "005.wav holds a constant (DC) and no sound",
    ]
    store = connect(f"sqlite:///{demo}/mlflow.db")
    with pytest.raises(DataErrors) as caught:
        preprocess(store, PreprocessParams(soundtracks_dir=str(demo), workers=1))
    assert list(caught.value.problems) == problems
    assert capsys.readouterr().out.count("9 problems\n") == 1


def test_validate_and_preprocess_read_files_by_the_same_parameters() -> None:
    names = {
        stage: {f.name for f in dataclasses.fields(stage)} for stage in (ValidateParams, PreprocessParams)
    }
    shared = {field.name for field in dataclasses.fields(DataParams)}
    assert names[ValidateParams] == shared
    assert names[PreprocessParams] == shared | {"study"}
    for stage in names:
        assert issubclass(stage, DataParams)
        assert not shared & set(stage.__annotations__), "declared twice"
