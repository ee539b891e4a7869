"""The data set in memory and on disk: what is written comes back exactly, what is damaged is refused."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from noise_data import published_parts

from rmer.data.dataset import CONCEPTS, EMOTIONS, Dataset, fit_normalisation
from rmer.data.splits import published_split
from rmer.errors import UserError


def make_dataset(clips: int = 12, *, concepts: tuple[str, ...] = CONCEPTS, seed: int = 0) -> Dataset:
    rng = np.random.default_rng(seed)
    spectrograms = rng.gamma(1.0, 0.2, (clips, 6, 5)).astype(np.float32)
    table = pd.DataFrame(
        {
            "clip": [f"{number:03d}" for number in range(1, clips + 1)],
            "file": [f"{number:03d}.mp3" for number in range(1, clips + 1)],
            "album": ["", "NA", 'The "Best", vol. 2', "nan"] * (clips // 4),
            "track": ["1", "02", "", "3.0"] * (clips // 4),
            **{name: rng.uniform(0, 1, clips) for name in EMOTIONS + concepts},
            "spec_mean": rng.uniform(0.1, 0.5, clips),
            "spec_mean_square": rng.uniform(0.3, 0.6, clips),
            "spec_frames": np.arange(400, 400 + clips),
            "excerpt_start": np.arange(clips),
            "split_published": published_parts(clips),
        }
    )
    return Dataset(spectrograms, table, EMOTIONS, concepts, {"decoder": "soundfile", "bands": 5})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    make_dataset().save(tmp_path / "dataset")
    return tmp_path / "dataset"


@pytest.mark.parametrize("concepts", [CONCEPTS, ()])
def test_a_saved_data_set_comes_back_exactly(tmp_path: Path, concepts: tuple[str, ...]) -> None:
    saved = make_dataset(concepts=concepts)
    saved.save(tmp_path / "dataset")
    loaded = Dataset.load(tmp_path / "dataset")

    assert loaded.spectrograms.dtype == np.float32
    np.testing.assert_array_equal(loaded.spectrograms, saved.spectrograms)
    assert list(loaded.clips.columns) == list(saved.clips.columns)
    for name in saved.clips:
        assert loaded.clips[name].tolist() == saved.clips[name].tolist(), name
    assert (loaded.emotions, loaded.concepts) == (EMOTIONS, concepts)
    assert loaded.frontend == saved.frontend
    assert loaded.digest == saved.digest
    names = sorted(path.name for path in (tmp_path / "dataset").iterdir())
    assert names == ["clips.csv", "dataset.json", "spectrograms.npy"]


def test_labels_in_single_precision_come_back_exactly(tmp_path: Path) -> None:
    saved = make_dataset()
    labels = saved.clips[list(EMOTIONS)].astype(np.float32)
    saved = dataclasses.replace(saved, clips=saved.clips.assign(**labels))
    saved.save(tmp_path)
    assert Dataset.load(tmp_path).clips["fear"].tolist() == labels["fear"].tolist()


def test_labels_have_one_column_a_target() -> None:
    dataset = make_dataset()
    labels, concepts = dataset.emotion_labels(), dataset.concept_labels()
    assert labels.shape == (12, 8)
    assert labels.dtype == np.float32
    assert concepts is not None
    assert concepts.shape == (12, 7)
    np.testing.assert_array_equal(concepts[:, 6], dataset.clips["mode"].to_numpy(np.float32))
    assert make_dataset(concepts=()).concept_labels() is None


def test_digest_counts_values_and_not_file_names() -> None:
    dataset = make_dataset()
    renamed = dataclasses.replace(dataset, clips=dataset.clips.assign(file="elsewhere.wav"))
    assert renamed.digest == dataset.digest

    label, cell = dataset.clips.copy(), dataset.spectrograms.copy()
    label.loc[3, "fear"] = np.nextafter(label.loc[3, "fear"], 1)
    cell[3, 2, 1] = np.nextafter(cell[3, 2, 1], np.float32(1))
    assert dataclasses.replace(dataset, clips=label).digest != dataset.digest
    assert dataclasses.replace(dataset, spectrograms=cell).digest != dataset.digest
    assert dataclasses.replace(dataset, clips=dataset.clips.assign(album="x")).digest != dataset.digest


def test_published_parts_keep_the_order_of_the_draw() -> None:
    dataset = make_dataset(12)
    expected = published_split(12)
    parts = dataset.split("published")
    assert list(parts) == ["train", "validation", "test"]
    for part, rows in parts.items():
        np.testing.assert_array_equal(rows, expected[part])


@pytest.mark.parametrize("scheme", ["album", "artist"])
def test_a_split_that_is_not_there_is_named(scheme: str) -> None:
    with pytest.raises(UserError, match=rf"no split '{scheme}'.*published"):
        make_dataset().split(scheme)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-40])


def drop_row(path: Path) -> None:
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))


def spoil_cell(path: Path) -> None:
    path.write_text(path.read_text().replace("001.mp3,", "001.mp3,oops,", 1))


def other_label(path: Path) -> None:
    description = json.loads(path.read_text())
    path.write_text(json.dumps(description | {"emotions": ["joy"]}))


def pickled(path: Path) -> None:
    np.save(path, np.array([{"a": 1}], dtype=object), allow_pickle=True)


def changed(path: Path) -> None:
    array = np.load(path)
    array[0, 0, 0] += 1
    np.save(path, array)


@pytest.mark.parametrize(
    ("name", "damage", "message"),
    [
        ("spectrograms.npy", Path.unlink, "No such file"),
        ("clips.csv", Path.unlink, "No such file"),
        ("dataset.json", Path.unlink, "not a data set"),
        ("spectrograms.npy", truncate, "not a whole array"),
        ("clips.csv", truncate, "unequal length"),
        ("dataset.json", truncate, "not a description"),
        ("dataset.json", lambda path: path.write_text("[]"), "not a description"),
        ("dataset.json", lambda path: path.write_text('{"format": 99}'), "format 1"),
        ("dataset.json", other_label, "lacks joy"),
        ("clips.csv", drop_row, "12 spectrograms but 11 clips"),
        ("clips.csv", spoil_cell, "unequal length"),
        ("clips.csv", lambda path: path.write_bytes(b"\xff\xfe\x00"), "not a table"),
        ("spectrograms.npy", pickled, "not a whole array"),
        ("spectrograms.npy", changed, "do not match their digest"),
    ],
)
def test_a_damaged_folder_is_refused(folder: Path, name: str, damage, message: str) -> None:
    damage(folder / name)
    with pytest.raises(UserError, match=message):
        Dataset.load(folder)


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nowhere.*preprocess"):
        Dataset.load(tmp_path / "nowhere")


def test_normalisation_is_the_published_one() -> None:
    rng = np.random.default_rng(1)
    full = [rng.gamma(1.0, 0.3, (frames, 5)) for frames in (7, 11, 30)]
    clips = pd.DataFrame(
        {
            "spec_mean": [spec.mean() for spec in full],
            "spec_mean_square": [np.square(spec).mean() for spec in full],
        }
    )
    mean = np.mean([spec.mean() for spec in full])
    std = np.sqrt(np.mean([np.square(spec - mean).mean() for spec in full]))

    fitted = fit_normalisation(clips)
    assert fitted.mean == pytest.approx(mean, rel=1e-14)
    assert fitted.std == pytest.approx(std, rel=1e-12)
    raw = full[0].astype(np.float32)
    standardised = fitted.standardise(raw)
    assert standardised.dtype == np.float32
    np.testing.assert_allclose(standardised, (full[0] - mean) / std, atol=1e-6)
    assert fitted.silence == pytest.approx(-mean / std)
    assert fitted.standardise(np.zeros((2, 2))).min() == pytest.approx(fitted.silence)


def test_silence_cannot_be_standardised() -> None:
    clips = pd.DataFrame({"spec_mean": [0.0, 0.0], "spec_mean_square": [0.0, 0.0]})
    with pytest.raises(UserError, match="silent"):
        fit_normalisation(clips)
    with pytest.raises(UserError, match="no clips"):
        fit_normalisation(clips.iloc[:0])
