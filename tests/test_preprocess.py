"""Stage preprocess: files in, one logged data set out; restartable, and every bad file named at once."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from zlib import crc32

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch

from rmer.data.audio.frontend import File2Spect, audio2spect
from rmer.data.audio.soundness import Soundness
from rmer.data.audio.spectrograms import compute_spectrograms
from rmer.data.dataset import EMOTIONS, Dataset
from rmer.data.preparation.preparation import prepare
from rmer.data.preparation.survey import Survey, survey
from rmer.data.readers.collection import Collected
from rmer.data.readers.soundtracks import Soundtracks
from rmer.data.splits import largest_difference
from rmer.errors import DataErrors, UserError
from rmer.parameters import param
from rmer.stages.data import preprocess as stage
from rmer.stages.data.preprocess import PreprocessParams, preprocess, preprocess_spec
from rmer.tracking import RunRecord, Store

CLIPS = 12
FRAMES = 40
RATE = 22050


def write_clip(path: Path, seed: int, seconds: float = 1.6) -> None:
    rng, time_axis = np.random.default_rng(seed), np.arange(int(seconds * RATE)) / RATE
    tone = np.sin(2 * np.pi * rng.uniform(200, 900) * time_axis)
    soundfile.write(path, 0.4 * tone + 0.02 * rng.normal(size=len(time_axis)), RATE)


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


@pytest.fixture
def store(lasting_store: Store) -> Store:
    """One store for all: every test has a data set of its own."""
    return lasting_store


@pytest.fixture
def root(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """A data set of 12 clips, of which 003 is shorter than an excerpt, with ratings and a track list."""
    folder, seed = tmp_path / "music", crc32(request.node.name.encode())
    (folder / "Set1").mkdir(parents=True)
    rng = np.random.default_rng(seed)
    ratings, tracks = ["number," + ",".join(EMOTIONS)], ["Nro,Emotion,Album name,Track,Min:Sec"]
    for number in range(1, CLIPS + 1):
        write_clip(folder / "Set1" / f"{number:03d}.mp3", seed + number, 0.7 if number == 3 else 1.6)
        ratings.append(f"{number},{number % 8 + 1}.00," + ",".join(f"{x:.2f}" for x in rng.uniform(1, 8, 7)))
        tracks.append(f"{number},Happy,Album {number % 4},{number},00:10-00:25")
    (folder / "mean_ratings_set1.csv").write_text("\n".join(ratings) + "\n")
    (folder / "set1_tracklist.csv").write_text("\n".join(tracks) + "\n")
    return folder


def params(root: Path, **values: object) -> PreprocessParams:
    given = {"soundtracks_dir": str(root), "frames": FRAMES, "workers": 1, "min_seconds": 0.5} | values
    return PreprocessParams.from_mapping(given)


def runs(store: Store) -> int:
    return len(store.client.search_runs([store.experiment_id]))


def run_of(store: Store, root: Path, **values: object) -> tuple[RunRecord, Dataset]:
    outcome = preprocess(store, params(root, **values))
    return store.get(outcome.run_id), Dataset.load(store.download(outcome.run_id, "dataset"))


def test_data_set_is_what_the_published_code_would_cut(store: Store, root: Path) -> None:
    record, dataset = run_of(store, root)
    assert dataset.clips["clip"].tolist() == [f"{n:03d}" for n in range(1, CLIPS + 1)]
    file2spect = File2Spect()
    torch.manual_seed(42)
    for row, clip in enumerate(dataset.clips["clip"]):
        full = file2spect(root / "Set1" / f"{clip}.mp3")
        longer = np.concatenate([full, full])[: max(len(full), FRAMES)]
        start = int(torch.randint(0, len(longer) - FRAMES + 1, (1,)))
        np.testing.assert_array_equal(dataset.spectrograms[row], longer[start : start + FRAMES])
        stored = dataset.clips.iloc[row]
        assert (stored["excerpt_start"], stored["spec_frames"]) == (start, len(full))
        assert stored["spec_mean"] == pytest.approx(full.mean(dtype=np.float64), rel=1e-12)
        assert stored["spec_mean_square"] == pytest.approx(np.square(full, dtype=np.float64).mean(), rel=1e-9)
    assert (dataset.clips["spec_frames"] < FRAMES).sum() == 1
    assert record.tags["rmer.dataset"] == dataset.digest
    assert record.metrics["preprocess/clips"] == CLIPS
    assert record.metrics["preprocess/computed"] == CLIPS
    assert record.metrics["preprocess/clips_per_second"] > 0
    assert record.params["cfg.decoder"] == "soundfile"
    assert float(record.params["cfg.scale_max"]) == 10


def test_run_names_its_data_set_as_input_and_holds_normalisation(store: Store, root: Path) -> None:
    record, dataset = run_of(store, root)
    (entered,) = store.client.get_run(record.run_id).inputs.dataset_inputs
    assert (entered.dataset.name, entered.dataset.digest) == ("music", dataset.digest)
    text = (store.download(record.run_id, "dataset") / "normalisation.json").read_text()
    assert '"all"' in text
    assert '"album train"' in text
    assert set(dataset.split("album")["test"]).isdisjoint(dataset.split("album")["train"])


def test_note_says_how_like_the_parts_are(store: Store, root: Path) -> None:
    record, dataset = run_of(store, root)
    for scheme in ("published", "album"):
        differences = largest_difference(dataset.split(scheme), dataset.emotion_labels())
        (line,) = [x for x in record.tags["mlflow.note.content"].splitlines() if f"Split {scheme}" in x]
        for part, difference in differences.items():
            assert re.search(rf"\d+ {part} \({difference:.2f}\)", line), line


def test_names_of_files_leave_the_data_set_as_it_is(root: Path, tmp_path: Path) -> None:
    renamed = shutil.copytree(root, tmp_path / "renamed")
    for number in (1, 4, 10):
        (renamed / "Set1" / f"{number:03d}.mp3").rename(renamed / "Set1" / f"{number}.mp3")
    how: dict[str, Any] = {"frames": FRAMES, "workers": 1, "min_seconds": 0.5}
    first, second = (
        prepare(survey(Soundtracks()(folder), File2Spect(), tmp_path / "cache", **how))
        for folder in (root, renamed)
    )
    assert first.clips["file"].tolist() != second.clips["file"].tolist()
    assert first.clips["excerpt_start"].tolist() == second.clips["excerpt_start"].tolist()
    assert first.digest == second.digest


def test_another_version_of_the_decoder_computes_anew(
    store: Store, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record, _ = run_of(store, root)
    monkeypatch.setattr(soundfile, "__libsndfile_version__", "9.9.9")
    outcome = preprocess(store, params(root))
    assert not outcome.skipped
    upgraded = store.get(outcome.run_id)
    assert upgraded.metrics["preprocess/computed"] == CLIPS
    assert upgraded.params["cfg.decoder_version"] != record.params["cfg.decoder_version"]
    assert "9.9.9" in upgraded.params["cfg.decoder_version"]


def test_speed_is_that_of_the_clips_computed(store: Store, root: Path) -> None:
    run_of(store, root)
    record, _ = run_of(store, root, split_seed=5)
    assert record.metrics["preprocess/computed"] == 0
    assert "preprocess/clips_per_second" not in record.metrics
    write_clip(root / "Set1" / "005.mp3", 1)
    record, _ = run_of(store, root)
    speed = record.metrics["preprocess/clips_per_second"]
    assert speed == pytest.approx(1 / record.metrics["preprocess/seconds"], rel=1e-9)


def test_same_contents_are_prepared_once_wherever_they_lie(store: Store, root: Path, tmp_path: Path) -> None:
    first = preprocess(store, params(root))
    moved = shutil.copytree(root, tmp_path / "elsewhere")
    again = preprocess(store, params(moved, workers=2, cache_dir=str(tmp_path / "cache")))
    assert again.skipped
    assert again.run_id == first.run_id


FILE_CHANGES: dict[str, Callable[[Path], None]] = {
    "audio": lambda root: write_clip(root / "Set1" / "005.mp3", 1),
    "label": lambda root: edit(root / "mean_ratings_set1.csv", "\n4,5.00,", "\n4,1.23,"),
    "album": lambda root: edit(root / "set1_tracklist.csv", "Album 1", "Album 0"),
}
PARAMETER_CHANGES: dict[str, dict[str, object]] = {
    "frames": {"frames": 30},
    "decoder": {"decoder": "pyav"},
    "front end": {"frontend": "torch"},
    "seed of the album split": {"split_seed": 7},
}


@pytest.mark.parametrize("change", [*FILE_CHANGES, *PARAMETER_CHANGES])
def test_anything_that_changes_the_data_set_is_a_new_run(change: str, store: Store, root: Path) -> None:
    first = preprocess(store, params(root))
    if change in FILE_CHANGES:
        FILE_CHANGES[change](root)
    second = preprocess(store, params(root, **PARAMETER_CHANGES.get(change, {})))
    assert not second.skipped
    assert second.run_id != first.run_id


def test_torch_front_end_gives_the_same_data_set_to_2e_6(store: Store, root: Path) -> None:
    _, by_madmom = run_of(store, root)
    record, by_torch = run_of(store, root, frontend="torch")
    assert record.metrics["preprocess/computed"] == CLIPS
    assert np.abs(by_madmom.spectrograms - by_torch.spectrograms).max() <= 2e-6


def test_every_bad_clip_is_named_at_once_and_the_others_are_kept(store: Store, root: Path) -> None:
    (root / "Set1" / "002.mp3").write_bytes(b"no audio here" * 100)
    soundfile.write(root / "Set1" / "007.mp3", np.zeros(30000), RATE)
    (root / "Set1" / "011.mp3").write_bytes((root / "Set1" / "010.mp3").read_bytes()[:50])
    with pytest.raises(DataErrors) as caught:
        preprocess(store, params(root))
    assert [problem.split(".mp3")[0][-3:] for problem in caught.value.problems] == ["002", "007", "011"]
    for number in (2, 7, 11):
        write_clip(root / "Set1" / f"{number:03d}.mp3", number)
    record, dataset = run_of(store, root)
    assert record.metrics["preprocess/computed"] == 3
    assert len(dataset) == CLIPS


def test_copies_of_a_recording_are_kept_together_and_told(
    store: Store, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plain, _ = run_of(store, root)
    assert "cfg.duplicates" not in plain.params
    warnings = (store.download(plain.run_id, "dataset") / "warnings.txt").read_text().splitlines()
    assert [line for line in warnings if "recording" in line] == []
    samples, rate = soundfile.read(root / "Set1" / "001.mp3")
    soundfile.write(root / "Set1" / "002.mp3", samples / 2, rate, bitrate_mode="CONSTANT")
    edit(root / "set1_tracklist.csv", "3,Happy,Album 3", "3,Happy,Album 9")
    record, dataset = run_of(store, root)
    clips = dataset.clips.set_index("clip")
    assert clips.loc["001", "split_album"] == clips.loc["002", "split_album"]
    assert clips.loc["001", "album"] != clips.loc["002", "album"]
    folder = store.download(record.run_id, "dataset")
    table = pd.read_csv(folder / "duplicates.csv", dtype=str)
    assert table[["first", "second"]].to_numpy().tolist() == [["001", "002"]]
    torn = {clips.loc["001", "split_published"], clips.loc["002", "split_published"]}
    warnings = (folder / "warnings.txt").read_text().splitlines()
    (told,) = [line for line in warnings if line.startswith("clips 001 and 002")]
    assert told.startswith("clips 001 and 002 are the same recording, rated differently: valence 0.2/0.3, ")
    count = f"split published: {len(torn) - 1} of 1 pair of duplicates"
    assert [line for line in warnings if line.startswith(count)]
    assert f"Note: {told}." in record.tags["mlflow.note.content"]
    assert f"Note: {told}\n" in capsys.readouterr().err
    assert record.metrics["preprocess/duplicates"] == 1


SAME_RATING = "valence has the same rating for all clips, and no correlation: leave it out of targets"
ONE_ALBUM = (
    "all clips are of 1 album (One): the album split needs 3; name more, or leave the track list out, and "
    "only the published split is made"
)


@pytest.mark.parametrize(
    ("file", "pattern", "instead", "message"),
    [
        ("mean_ratings_set1.csv", r"(?m)^(\d+),[\d.]+,", r"\1,5.00,", SAME_RATING),
        ("set1_tracklist.csv", r"Album \d", "One", ONE_ALBUM),
    ],
)
def test_labels_or_albums_that_say_nothing_are_refused(
    store: Store, root: Path, file: str, pattern: str, instead: str, message: str
) -> None:
    (root / file).write_text(re.sub(pattern, instead, (root / file).read_text()))
    with pytest.raises(DataErrors) as caught:
        preprocess(store, params(root))
    assert caught.value.problems == (message,)


@pytest.mark.parametrize(
    "values", [{"decoder": "pyav"}, {"decoder": "madmom"}, {"frontend": "madmom"}], ids=str
)
def test_library_that_is_absent_is_one_problem_and_no_run(
    values: dict[str, object], store: Store, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = runs(store)
    audio2spect.cache_clear()
    for name in ("av", "madmom", "madmom.audio", "madmom.io.audio"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(UserError, match="not installed"):
        preprocess(store, params(root, **values))
    assert runs(store) == before


def test_processes_give_what_one_gives_and_progress_is_shown(
    root: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    files = sorted((root / "Set1").iterdir())
    one = compute_spectrograms(files, File2Spect(), tmp_path / "one", workers=1)
    two = compute_spectrograms(files, File2Spect(), tmp_path / "two", workers=2)
    for a, b in zip(one, two, strict=True):
        np.testing.assert_array_equal(a.load(), b.load())
        assert (a.path.name, a.mean, a.mean_square) == (b.path.name, b.mean, b.mean_square)
    assert f"Spectrograms: {CLIPS} of {CLIPS} clips" in capfd.readouterr().err


@pytest.mark.parametrize(
    "damaged",
    [
        lambda content: content[:999],
        lambda content: content[:-32],  # as an older version wrote it
        lambda content: content[:-1000] + bytes(4) + content[-996:],
        lambda content: b"PK\x03\x04" + content,
        lambda content: b"",
    ],
)
def test_damaged_cache_is_computed_again(
    root: Path, tmp_path: Path, damaged: Callable[[bytes], bytes]
) -> None:
    files = sorted((root / "Set1").iterdir())[:3]
    first = compute_spectrograms(files, File2Spect(), tmp_path / "cache", workers=1)
    expected = np.array(first[1].load())
    first[1].path.write_bytes(damaged(first[1].path.read_bytes()))
    again = compute_spectrograms(files, File2Spect(), tmp_path / "cache", workers=1)
    assert [item.computed for item in again] == [False, True, False]
    np.testing.assert_array_equal(again[1].load(), expected)


@dataclass(frozen=True)
class DeadlyDecoder(File2Spect):
    """A decoder that takes its process with it."""

    def with_soundness(self, path: Path) -> tuple[np.ndarray, Soundness]:
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError


def test_death_of_a_worker_is_reported(root: Path, tmp_path: Path) -> None:
    files = sorted((root / "Set1").iterdir())
    with pytest.raises(UserError, match="worker process died"):
        compute_spectrograms(files, DeadlyDecoder(), tmp_path / "cache", workers=2)


@pytest.mark.slow
def test_killed_in_the_middle_it_keeps_what_is_done_and_leaves_no_run(store: Store, root: Path) -> None:
    for number in range(1, CLIPS + 1):
        write_clip(root / "Set1" / f"{number:03d}.mp3", number, 40)
    before = runs(store)
    code = (
        "import sys\nfrom rmer.stages.data.preprocess import *\nfrom rmer.tracking import connect\n"
        "preprocess(connect(sys.argv[1]), "
        f"PreprocessParams(soundtracks_dir=sys.argv[2], frames={FRAMES}, workers=1, min_seconds=0.5))"
    )
    command = [sys.executable, "-c", code, store.uri, str(root)]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent.parent)}
    killed = subprocess.Popen(command, env=environment, start_new_session=True)
    cache = Path(os.environ["RMER_HOME"]) / "spectrograms"
    while len(list(cache.glob("*.npy"))) < 2:
        assert killed.poll() is None, "finished before it could be killed"
        time.sleep(0.01)
    killed.kill()
    killed.wait()
    outcome = preprocess(store, params(root))
    record = store.get(outcome.run_id)
    assert not outcome.resumed
    assert 0 < record.metrics["preprocess/computed"] <= CLIPS - 2
    assert runs(store) == before + 1


@pytest.fixture
def surveyed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Survey:
    """One clip, on a machine whose libraries have the version 1."""
    monkeypatch.setattr(stage, "decoder_version", lambda decoder: "1")
    monkeypatch.setattr(stage, "FRONTEND_VERSION", 1)
    (tmp_path / "a.mp3").write_bytes(b"sound")
    clips = pd.DataFrame({"clip": ["001"], "tension": [0.5]})
    collected = Collected(clips, {"001": tmp_path / "a.mp3"}, emotions=("tension",))
    return cast(Survey, SimpleNamespace(collected=collected, duplicates=()))


@pytest.mark.parametrize(
    ("given", "digest"),
    [
        ({}, "83ddca25b8c380b7"),
        (
            {"frames": 80, "decoder": "pyav", "frontend": "torch", "split_seed": 7, "scale_max": 10.0,
             "targets": "tension", "min_seconds": 2.0},
            "21a4b427a5c55a0e",
        ),
        ({"dataset_options": "{a: 1}", "soundtracks_dir": "x", "study": "s"}, "d202ef0063f723ac"),
    ],
)  # fmt: skip
def test_a_data_set_is_digested_as_it_always_was(
    surveyed: Survey, given: dict[str, Any], digest: str
) -> None:
    assert preprocess_spec(PreprocessParams(**given), surveyed).digest == digest


@dataclass(frozen=True)
class LaterParams(PreprocessParams):
    """Parameters with one that runs of before did not have."""

    gain: float = param(1.0, "the waveform is multiplied by this")


def test_a_parameter_that_is_new_is_digested_where_it_is_given(surveyed: Survey) -> None:
    before, usual, other = (PreprocessParams(), LaterParams(), LaterParams(gain=2.0))
    assert preprocess_spec(before, surveyed).digest == preprocess_spec(usual, surveyed).digest
    assert preprocess_spec(other, surveyed).config["gain"] == 2.0
