"""Demo data: the layout of the real data sets, deterministic, restartable, with something to learn in it."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile

from rmer.data.audio.decoders import SAMPLE_RATE
from rmer.data.dataset import CONCEPTS, EMOTIONS
from rmer.data.demo.demo_files import write_demo_data
from rmer.data.demo.design import CUES, draw_design
from rmer.data.demo.synthesis import synthesise
from rmer.data.readers.collection import Collected
from rmer.data.readers.soundtracks import Soundtracks
from rmer.data.splits import album_split
from rmer.errors import UserError
from rmer.stages.data.demo_data import DemoParams, make_demo_data

CLIPS = 8
FILES = ["Set1", "demo.json", "mean_ratings_set1.csv", "metadata_annotations", "set1_tracklist.csv"]


def make(folder: Path, **changes: float) -> Path:
    return write_demo_data(folder, **{"clips": CLIPS, "seconds": 1.5, "seed": 7} | changes)


def contents(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("demo") / "data")


def test_names_agree_with_the_study() -> None:
    assert CUES[:7] == CONCEPTS


def test_the_readers_of_the_real_data_read_it(demo: Path) -> None:
    assert sorted(path.name for path in demo.iterdir()) == FILES
    collected = Soundtracks()(demo).checked()
    assert collected.warnings == ()
    clips = collected.clips
    assert clips["clip"].tolist() == [f"{number:03d}" for number in range(1, CLIPS + 1)]
    assert clips["file"].tolist() == [f"Set1/{number:03d}.mp3" for number in range(1, CLIPS + 1)]
    assert (collected.emotions, collected.concepts) == (EMOTIONS, CONCEPTS)
    assert clips[list(EMOTIONS)].to_numpy().min() >= 0.1
    assert clips[list(EMOTIONS)].to_numpy().max() <= 0.9
    sizes = [
        len(rows) for rows in album_split(clips["album"].tolist(), clips[list(EMOTIONS)].to_numpy()).values()
    ]
    assert min(sizes) >= 1


def test_files_have_the_form_of_the_real_ones(demo: Path) -> None:
    ratings = (demo / "mean_ratings_set1.csv").read_bytes()
    assert ratings.startswith(
        b"\xef\xbb\xbfnumber,valence,energy,tension,anger,fear,happy,sad,tender,TARGET\r\n001,"
    )
    tracks = (demo / "set1_tracklist.csv").read_text().splitlines()
    assert tracks[0] == "Nro,Emotion,Album name,Track,Min:Sec"
    metadata = pd.read_csv(demo / "metadata_annotations" / "metadata.csv", sep=";", keep_default_na=False)
    annotations = pd.read_csv(demo / "metadata_annotations" / "annotations.csv")
    assert len(metadata) == len(annotations) == 2 * CLIPS
    assert (metadata["Source"] == "soundtracks").sum() == CLIPS
    others = metadata.loc[metadata["Source"] != "soundtracks", "ID at file source"]
    assert not others.str.isdecimal().any()
    assert list(annotations.columns) == ["song_id", *CONCEPTS]


def test_clips_are_mp3_of_the_length_asked_for(demo: Path) -> None:
    for number in range(1, CLIPS + 1):
        info = soundfile.info(demo / "Set1" / f"{number:03d}.mp3")
        assert (info.format, info.channels, info.samplerate) == ("MP3", 1, SAMPLE_RATE)
        assert info.duration == pytest.approx(1.5, abs=0.06)
        samples, _ = soundfile.read(demo / "Set1" / f"{number:03d}.mp3")
        assert 0.5 < np.abs(samples).max() <= 1


def test_another_seed_gives_other_clips_and_ratings(demo: Path, tmp_path: Path) -> None:
    before, after = contents(demo), contents(make(tmp_path / "other", seed=8))
    assert set(before) == set(after)
    assert not [name for name in before if before[name] == after[name]]


def test_an_interrupted_run_goes_on_where_it_was(demo: Path, tmp_path: Path) -> None:
    folder = make(tmp_path / "data")
    kept, lost = folder / "Set1" / "002.mp3", folder / "Set1" / "003.mp3"
    times = kept.stat().st_mtime_ns
    lost.unlink()
    (folder / "mean_ratings_set1.csv").unlink()
    make(folder)
    assert kept.stat().st_mtime_ns == times
    assert contents(folder) == contents(demo)


def test_other_parameters_replace_demo_data(demo: Path, tmp_path: Path) -> None:
    folder = make(tmp_path / "data", clips=9, seed=1)
    make(folder)
    assert contents(folder) == contents(demo)


@pytest.mark.parametrize("target", ["folder", "file"])
def test_data_that_is_not_demo_data_is_never_touched(tmp_path: Path, target: str) -> None:
    place = tmp_path / "mine"
    precious = place / "001.mp3" if target == "folder" else place
    precious.parent.mkdir(exist_ok=True)
    precious.write_bytes(b"mine")
    with pytest.raises(UserError, match="not empty and not demo data"):
        make(place)
    assert precious.read_bytes() == b"mine"
    assert contents(tmp_path).keys() == {precious.relative_to(tmp_path).as_posix()}


def test_a_folder_must_be_named() -> None:
    with pytest.raises(UserError):
        make_demo_data(DemoParams(out_dir=""))


def test_the_stage_writes_what_its_parameters_say(demo: Path, tmp_path: Path) -> None:
    folder = make_demo_data(DemoParams(out_dir=str(tmp_path / "x"), clips=CLIPS, seconds=1.5, seed=7))
    assert folder == tmp_path / "x"
    assert contents(folder) == contents(demo)


def spread(samples: np.ndarray, low: float, high: float) -> float:
    """Return the share of a clip's power between two frequencies in Hz."""
    power = np.abs(np.fft.rfft(samples)) ** 2
    frequencies = np.fft.rfftfreq(len(samples), 1 / SAMPLE_RATE)
    return float(power[(frequencies >= low) & (frequencies < high)].sum() / power.sum())


def sounding(samples: np.ndarray) -> float:
    """Return the share of 50 ms blocks whose level is within 20 dB of the loudest one's."""
    blocks = samples[: len(samples) // 1102 * 1102].reshape(-1, 1102)
    level = np.sqrt(np.square(blocks).mean(1))
    return float((level > level.max() / 10).mean())


@pytest.mark.parametrize(
    ("cue", "measure", "sign"),
    [
        ("articulation", sounding, -1),  # staccato leaves silence
        ("melody", lambda samples: spread(samples, 1500, 6000), -1),  # texture is a band of noise
        ("dissonance", lambda samples: spread(samples, 1250, 1900), +1),  # clusters
        ("mode", lambda samples: spread(samples, 0, 150), +1),  # minor is lower
    ],
)
def test_a_cue_can_be_heard(cue: str, measure, sign: int) -> None:
    palettes = draw_design(40, 0).palettes
    differences = []
    for number, palette in enumerate(palettes[:6]):
        cues = np.array([0.9, 0.2, 0.3, 0.5, 0.1, 0.1, 0.3, 0.5])
        values = []
        for value in (0.05, 0.95):
            cues[CUES.index(cue)] = value
            values.append(measure(synthesise(cues, palette, 4.0, np.random.default_rng(number))))
        differences.append(values[1] - values[0])
    assert sign * float(np.mean(differences)) > 0.01
    assert np.sum(sign * np.array(differences) > 0) >= 5


def features(path: Path) -> np.ndarray:
    """Return plain statistics of a clip's log spectrogram: levels, changes, their rhythm, intervals."""
    samples, _ = soundfile.read(path)
    frames = np.lib.stride_tricks.sliding_window_view(samples, 2048)[::704]
    power = np.abs(np.fft.rfft(frames * np.hanning(2048)))
    edges = np.unique(np.round(30 * 2 ** (np.arange(180) / 24) * 2048 / SAMPLE_RATE).astype(int))
    edges = edges[edges < power.shape[1]]
    bands = np.log10(1 + np.add.reduceat(power, edges, axis=1))
    rises = np.maximum(np.diff(bands, axis=0), 0)
    flux = rises.sum(1) - rises.sum(1).mean()
    rhythm = np.correlate(flux, flux, "full")[len(flux) - 1 :][:48] / np.square(flux).sum()
    centred = bands - bands.mean()
    intervals = [np.mean(centred[:, lag:] * centred[:, :-lag]) for lag in range(1, 40)]
    return np.concatenate([bands.mean(0), bands.std(0), rises.mean(0), rhythm, intervals])


def cross_validated(inputs: np.ndarray, labels: np.ndarray, albums: pd.Series) -> np.ndarray:
    """Return the correlation per label of ridge regression, with folds that no album straddles."""
    inputs = (inputs - inputs.mean(0)) / (inputs.std(0) + 1e-9)
    folds = albums.astype("category").cat.codes.to_numpy() % 5
    predictions = np.zeros_like(labels)
    for fold in range(5):
        train, test = folds != fold, folds == fold
        mean = labels[train].mean(0)
        kernel = inputs[train] @ inputs[train].T + 1000 * np.eye(train.sum())
        weights = inputs[train].T @ np.linalg.solve(kernel, labels[train] - mean)
        predictions[test] = mean + inputs[test] @ weights
    return np.array([np.corrcoef(predictions[:, k], labels[:, k])[0, 1] for k in range(labels.shape[1])])


@pytest.fixture(scope="module")
def learnable(tmp_path_factory: pytest.TempPathFactory) -> tuple[Collected, np.ndarray]:
    folder = write_demo_data(tmp_path_factory.mktemp("learn") / "data", clips=160, seconds=4.0)
    collected = Soundtracks()(folder).checked()
    return collected, np.array([features(path) for path in collected.audio.values()])


@pytest.mark.slow
@pytest.mark.parametrize("what", ["concepts", "emotions"])
def test_labels_can_be_learnt_across_albums(learnable: tuple[Collected, np.ndarray], what: str) -> None:
    collected, inputs = learnable
    names = list(getattr(collected, what))
    labels = collected.clips[names].to_numpy()
    correlations = cross_validated(inputs, labels, collected.clips["album"])
    assert correlations.mean() > 0.5, dict(zip(names, correlations.round(2), strict=True))
    assert correlations.min() > 0.1
    shuffled = np.random.default_rng(0).permutation(labels)
    assert cross_validated(inputs, shuffled, collected.clips["album"]).mean() < 0.2


@pytest.mark.slow
def test_emotions_follow_from_concepts(learnable: tuple[Collected, np.ndarray]) -> None:
    clips = learnable[0].clips
    correlations = cross_validated(
        clips[list(CONCEPTS)].to_numpy(), clips[list(EMOTIONS)].to_numpy(), clips["album"]
    )
    assert correlations.min() > 0.5
