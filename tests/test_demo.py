"""Demo data: the layout of the real data sets, deterministic, restartable, with something to learn in it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
from sklearn.dummy import DummyRegressor
from sklearn.linear_model import RidgeCV
from sklearn.model_selection import GroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from rmer.data.audio.decoders import SAMPLE_RATE
from rmer.data.audio.frontend import File2Spect
from rmer.data.dataset import CONCEPTS, EMOTIONS
from rmer.data.demo.demo_files import write_demo_data
from rmer.data.demo.design import CUES, EMOTION_CENTRES, EMOTION_MAP, RATERS, draw_design, rate_emotions
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


def test_cues_are_independent() -> None:
    """No cue tells another, within chance, but for what the clips of an album have in common."""
    cues = draw_design(2000, 3).cues
    others = np.corrcoef(cues.T) - np.eye(len(CUES))
    assert np.abs(others).max() < 0.1
    assert cues.min() >= 0
    assert cues.max() <= 1
    assert cues.std(0) == pytest.approx(np.full(len(CUES), 0.28), abs=0.03)


def test_the_hidden_truth() -> None:
    """Ratings without noise are linear in the cues; docs/demo-music.md says what listeners can score."""
    cues = draw_design(2000, 3).cues
    silent, noisy = (rate_emotions(cues, noise, np.random.default_rng(1)) for noise in (0.0, 0.3))
    expected = EMOTION_CENTRES + (cues - 0.5) @ EMOTION_MAP
    np.testing.assert_allclose(silent, expected.clip(1, 9), atol=0.5 / RATERS + 1e-9)
    constant = np.abs(noisy - noisy.mean(0)).mean()
    assert np.abs(noisy - expected.clip(1, 9)).mean() / constant == pytest.approx(0.15, abs=0.02)
    heard = np.hstack([cues[:, :7], np.ones((len(cues), 1))])  # the seven concepts without tempo
    by_concepts = heard @ np.linalg.lstsq(heard, noisy, rcond=None)[0]
    assert np.abs(noisy - by_concepts).mean() / constant == pytest.approx(0.25, abs=0.03)


def bands(samples: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return magnitudes [frames, bins] every 32 ms, and the frequency of each bin in Hz."""
    frames = np.lib.stride_tricks.sliding_window_view(samples, 2048)[::704]
    return np.abs(np.fft.rfft(frames * np.hanning(2048))), np.fft.rfftfreq(2048, 1 / SAMPLE_RATE)


def level(low: float, high: float) -> Callable[[np.ndarray], float]:
    """Return the mean magnitude between two frequencies in Hz, as a function of a clip."""

    def measure(samples: np.ndarray) -> float:
        magnitudes, frequencies = bands(samples)
        return float(magnitudes[:, (frequencies >= low) & (frequencies < high)].mean())

    return measure


def strokes(low: float, high: float) -> Callable[[np.ndarray], float]:
    """Return the mean rise from frame to frame between two frequencies in Hz, as a function of a clip."""

    def measure(samples: np.ndarray) -> float:
        magnitudes, frequencies = bands(samples)
        loudness = magnitudes[:, (frequencies >= low) & (frequencies < high)].mean(1)
        return float(np.maximum(np.diff(loudness), 0).mean())

    return measure


@pytest.mark.parametrize(
    ("cue", "measure", "sign"),
    [
        ("melody", level(1200, 2600), -1),  # texture is a band of noise
        ("articulation", level(150, 1000), -1),  # staccato leaves silence
        ("rhythm_complexity", strokes(6000, 11000), +1),  # hats
        ("rhythm_stability", strokes(1000, 1400), +1),  # knocks
        ("dissonance", level(3100, 4300), +1),  # a cluster
        ("atonality", level(40, 80), -1),  # a pedal on the tonic
        ("mode", level(100, 145), +1),  # a held minor third is low
        ("tempo", strokes(150, 1000), +1),  # more notes a second
    ],
)
def test_a_cue_can_be_heard_in_its_own_layer(
    cue: str, measure: Callable[[np.ndarray], float], sign: int
) -> None:
    """Of a cue's two ends in six albums, the one with more of its layer is told by any of them."""
    palettes = draw_design(40, 0).palettes
    ends: list[list[float]] = [[], []]
    for number, palette in enumerate(palettes[:6]):
        cues = np.array([0.7, 0.3, 0.3, 0.6, 0.3, 0.2, 0.5, 0.5])
        for end, value in zip(ends, (0.05, 0.95), strict=True):
            cues[CUES.index(cue)] = value
            end.append(measure(synthesise(cues, palette, 4.0, np.random.default_rng(number))))
    less, more = ends if sign > 0 else ends[::-1]
    assert min(np.array(more) / np.array(less)) > 1.1


def features(path: Path) -> np.ndarray:
    """Return mean, standard deviation and change of each band of an excerpt as systems see it: 64 frames."""
    spectrogram = File2Spect(frontend="torch")(path)[16:80]
    changes = np.abs(np.diff(spectrogram, axis=0))
    return np.concatenate([spectrogram.mean(0), spectrogram.std(0), changes.mean(0)])


def share_of_constant(inputs: np.ndarray, labels: np.ndarray, albums: pd.Series) -> np.ndarray:
    """Return the MAE of ridge regression as a share of the mean's, by label; no album straddles the folds."""
    folds = GroupKFold(5)
    ridge = make_pipeline(StandardScaler(), RidgeCV(np.logspace(1, 5, 9)))
    constant = DummyRegressor()
    ridged, mean = (
        cross_val_predict(model, inputs, labels, groups=albums, cv=folds) for model in (ridge, constant)
    )
    return np.abs(ridged - labels).mean(0) / np.abs(mean - labels).mean(0)


@pytest.fixture(scope="module")
def learnable(tmp_path_factory: pytest.TempPathFactory) -> tuple[Collected, np.ndarray]:
    folder = write_demo_data(tmp_path_factory.mktemp("learn") / "data", clips=240, seconds=3.1)
    collected = Soundtracks()(folder).checked()
    return collected, np.array([features(path) for path in collected.audio.values()])


@pytest.mark.slow
@pytest.mark.parametrize(("what", "mean", "worst"), [("concepts", 0.5, 0.7), ("emotions", 0.5, 0.6)])
def test_labels_can_be_learnt_across_albums(
    learnable: tuple[Collected, np.ndarray], what: str, mean: float, worst: float
) -> None:
    """A linear model of plain statistics of two seconds has half the error of the mean rating, or less."""
    collected, inputs = learnable
    names = list(getattr(collected, what))
    labels, albums = collected.clips[names].to_numpy(), collected.clips["album"]
    shares = share_of_constant(inputs, labels, albums)
    assert shares.mean() < mean, dict(zip(names, shares.round(2), strict=True))
    assert shares.max() < worst
    shuffled = np.random.default_rng(0).permutation(labels)
    assert share_of_constant(inputs, shuffled, albums).mean() > 0.95


@pytest.mark.slow
def test_emotions_follow_from_concepts(learnable: tuple[Collected, np.ndarray]) -> None:
    clips = learnable[0].clips
    concepts, emotions = clips[list(CONCEPTS)].to_numpy(), clips[list(EMOTIONS)].to_numpy()
    assert share_of_constant(concepts, emotions, clips["album"]).max() < 0.5
