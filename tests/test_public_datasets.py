"""Public data sets as they are distributed: one option reads each, with its groups, split and faults."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner
from public_layouts import (
    write_deam,
    write_emopia,
    write_jamendo,
    write_lines,
    write_pmemo,
    write_sound,
    write_soundtracks2,
)

from entrypoints.cli import main
from rmer.data.dataset import EMOTIONS, Dataset
from rmer.data.readers.collection import Collected
from rmer.data.readers.known_readers import OWN, READERS
from rmer.stages.run_names import run_name
from rmer.tracking import RunRecord, Stage, Store, Tag

# Name -> what writes it, its targets, what they are, and whether it has a split of its own.
LAYOUTS: dict[str, tuple[Callable[[Path], Path], tuple[str, ...], str, bool]] = {
    "deam": (write_deam, ("valence", "arousal"), "ratings", False),
    "pmemo": (write_pmemo, ("arousal", "valence"), "ratings", False),
    "emopia": (write_emopia, ("Q1", "Q2", "Q3", "Q4"), "classes", True),
    "jamendo_mood": (write_jamendo, ("dark", "happy", "sad"), "tags", True),
    "soundtracks2": (write_soundtracks2, (*EMOTIONS, "beauty", "liking"), "ratings", False),
}


def read(name: str, folder: Path, **options: object) -> Collected:
    return READERS[name].from_mapping(options)(folder)


def labels(collected: Collected, clip: str) -> list[float]:
    (row,) = collected.clips[collected.clips["clip"] == clip][list(collected.emotions)].to_numpy().tolist()
    return [round(value, 6) for value in row]


@pytest.mark.parametrize("name", LAYOUTS)
def test_one_option_preprocesses_a_data_set_as_it_is_distributed(
    name: str, store: Store, tmp_path: Path
) -> None:
    write, targets, kind, official = LAYOUTS[name]
    folder = write(tmp_path / "downloads")
    arguments = ["preprocess", "--dataset", name, "--data_dir", str(folder)]
    arguments += ["--frames", "32", "--frontend", "torch", "--workers", "1"]  # only for speed
    result = CliRunner().invoke(main, arguments, env={"MLFLOW_TRACKING_URI": store.uri})
    assert result.exit_code == 0, result.output
    (record,) = store.find(Stage.PREPROCESS)
    dataset = Dataset.load(store.download(record.run_id, "dataset"))
    assert (dataset.name, dataset.emotions, dataset.labels) == (name, targets, kind)
    assert ("split_official" in dataset.clips, "split_album" in dataset.clips) == (official, True)
    assert record.tags[Tag.DATASET_NAME] == name
    assert record.name == run_name(name, f"{len(dataset)} x 32")
    (entered,) = store.client.get_run(record.run_id).inputs.dataset_inputs
    assert entered.dataset.name == name
    note = record.tags["mlflow.note.content"]
    reader = READERS[name]
    assert all(text in note for text in (f"{name}: {len(dataset)} clips", reader.citation, reader.licence))
    sizes = dataset.sizes("official" if official else "album")
    assert f"{sizes['train']} train (" in note


@pytest.mark.parametrize("name", sorted({*OWN} - {"soundtracks", "folder"}))
def test_a_public_data_set_says_how_to_cite_it_and_what_is_wrong_with_it(name: str) -> None:
    reader = READERS[name]
    assert reader.title == name
    assert reader.files
    assert "20" in reader.citation
    assert reader.licence
    assert reader.faults


def test_deam_merges_both_files_and_groups_by_artist(tmp_path: Path) -> None:
    collected = read("deam", write_deam(tmp_path)).checked()
    assert (len(collected.clips), collected.warnings) == (12, ())
    assert labels(collected, "003") == [0.05, 0.9625]  # 1.4 and 8.7 on 1-9
    assert collected.audio["2058"] == tmp_path / "DEAM_audio/MEMD_audio/2058.mp3"
    albums = collected.clips.set_index("clip")["album"]
    assert albums["002"] == albums["003"] == "The Artist, 0"
    assert albums["2001"] == albums["2058"] == "Late"


def test_deam_without_metadata_has_no_groups_and_says_so(tmp_path: Path) -> None:
    folder = write_deam(tmp_path)
    for path in folder.glob("metadata/*"):
        path.unlink()
    collected = read("deam", folder)
    assert not collected.has_albums
    assert collected.warnings == (
        "no metadata_2013.csv ...: artists are unknown, so that no split keeps them apart",
    )


def test_deam_over_time_gives_windows_of_one_group(tmp_path: Path) -> None:
    collected = read("deam", write_deam(tmp_path), over_time="windows", window_seconds=5)
    assert (collected.problems, len(collected.clips)) == ((), 23)  # song 2 is rated for 8 s
    assert collected.starts["3 at 15 s"] == 15.0
    assert collected.starts["3 at 20 s"] == 20.0
    # Rated 1/20 + step/100 on -1 to 1 at steps 0-9: their mean .095 is .5475 on 0-1; arousal is its negative.
    assert labels(collected, "3 at 15 s") == [0.5475, 0.4525]
    assert collected.audio["3 at 15 s"] == collected.audio["3 at 20 s"]
    groups = collected.clips.groupby("track")["album"].nunique()
    assert (groups == 1).all()
    first = read("deam", tmp_path, over_time="window", window_seconds=5)
    assert [clip for clip in first.clips["clip"] if "at 15 s" not in clip] == []


def test_pmemo_leaves_out_what_has_no_ratings(tmp_path: Path) -> None:
    collected = read("pmemo", write_pmemo(tmp_path)).checked()
    assert collected.warnings == ("1 sound without labels, left out: 999.mp3",)
    assert labels(collected, "004") == [0.16, 0.85]
    assert collected.clips.set_index("clip").loc["1000", "album"] == "Artist 5"
    windows = read("pmemo", tmp_path, over_time="windows", window_seconds=2)
    assert labels(windows, "1 at 17 s") == [0.255, 0.3]


def test_emopia_keeps_songs_together_and_knows_the_official_split(tmp_path: Path) -> None:
    folder = write_emopia(tmp_path)
    collected = read("emopia", folder).checked()
    assert collected.warnings == ("1 clip without audio, left out: Q4_gone_0",)
    assert (collected.clips[list(collected.emotions)].sum(axis=1) == 1).all()
    assert collected.clips.loc[0, ["clip", "album"]].tolist() == ["Q1_-_v0_x-Y0_0", "-_v0_x-Y0"]
    assert sorted(collected.official.values()) == ["test"] * 3 + ["train"] * 12 + ["validation"] * 3
    label = folder / "EMOPIA_1.0/label.csv"
    label.write_text(label.read_text().replace("_0,1,A", "_0,5,A", 1).replace("Q2_-_v0_x-Y0_1", "Q2-x"))
    assert read("emopia", folder).problems == (
        "label.csv line 2: 4Q is '5', none of 1, 2, 3, 4",
        "label.csv line 3: ID is 'Q2-x', not Q1_<video>_<number>",
    )


def test_jamendo_reads_tags_and_the_official_split(tmp_path: Path) -> None:
    folder = write_jamendo(tmp_path)
    collected = read("jamendo_mood", folder).checked()
    assert collected.warnings == ("1 clip without audio, left out: track_0009999",)
    assert labels(collected, "track_0786435") == [1, 1, 0]
    assert collected.audio["track_0786437"].name == "786437.low.mp3"
    assert [collected.official[f"track_0{786434 + k}"] for k in (0, 12, 15)] == [
        "train",
        "validation",
        "test",
    ]
    for path in folder.glob("data/splits/*/*"):
        path.unlink()
    whole = read("jamendo_mood", folder)
    assert (whole.official, len(whole.clips)) == ({}, 18)
    assert "no lists of official split 0: only random splits are made" in whole.warnings


def test_soundtracks2_knows_its_own_duplicates(tmp_path: Path) -> None:
    collected = read("soundtracks2", write_soundtracks2(tmp_path)).checked()
    albums = collected.clips.set_index("clip")["album"]
    assert albums["095"] == albums["010"] == "A3"  # A31 in the table
    assert collected.audio["001"].parent.name == "set2"
    ratings = (tmp_path / "mean_ratings_set2.csv").read_text().splitlines()
    first = [float(cell) / 10 for cell in ratings[1].split(",")[1:11]]
    assert labels(collected, "001") == pytest.approx(first)


def test_soundtracks1_is_the_default_reader_under_its_own_name(tmp_path: Path) -> None:
    rows = [f"{n},{','.join(f'{1 + (n * k) % 8}.5' for k in range(1, 9))},HAPPY" for n in range(1, 9)]
    write_lines(tmp_path / "mean_ratings_set1.csv", ["number," + ",".join(EMOTIONS) + ",TARGET", *rows])
    for number in range(1, 9):
        write_sound(tmp_path / f"Set1/{number:03d}.mp3", number, 0.1)
    assert read("soundtracks1", tmp_path).clips.equals(read("soundtracks", tmp_path).clips)


@pytest.mark.parametrize("name", LAYOUTS)
def test_every_fault_of_the_files_is_named_and_none_is_raised(name: str, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    missing = read(name, tmp_path / "empty")
    assert missing.problems
    assert all("cannot be read" in problem for problem in missing.problems)
    folder = LAYOUTS[name][0](tmp_path / "whole")
    for path in folder.rglob("*.[ct]sv"):
        path.write_text("unknown,heading\n1,2\n")
    assert any("has no column" in problem for problem in read(name, folder).problems)


@pytest.mark.slow
def test_a_data_set_with_a_split_of_its_own_is_trained_and_attacked_by_it(
    store: Store, tmp_path: Path
) -> None:
    """By its classes: accuracy, F1 and AUC stand beside the MAE."""
    write_emopia(tmp_path / "data")
    runs = CliRunner()
    for arguments in (
        "preprocess --dataset emopia --data_dir data --frames 32 --frontend torch --workers 1",
        "train --system A2E --epochs 1 --train_protocol corrected --device cpu",
        "attack --attack pgd --steps 1 --device cpu",
    ):
        result = runs.invoke(main, arguments.split(), env={"MLFLOW_TRACKING_URI": store.uri})
        assert result.exit_code == 0, result.output
    trained, attacked = (only(store, stage) for stage in (Stage.TRAIN, Stage.ATTACK))
    for record in (trained, attacked):
        assert record.tags[Tag.DATASET_NAME] == "emopia"
        assert record.tags[Tag.SPLIT_SCHEME] == "official"
        (entered,) = store.client.get_run(record.run_id).inputs.dataset_inputs
        assert entered.dataset.name == "emopia"
        assert '"train": 12, "validation": 3, "test": 3' in entered.dataset.profile
    names = {"accuracy", "macro_f1", "auc", "pr_auc", "mae"}
    assert {f"test/emotion/{name}" for name in names} <= trained.metrics.keys()
    assert {f"{group}/{name}" for name in names for group in ("clean", "adv")} <= attacked.metrics.keys()
    for name in ("accuracy", "auc"):
        assert attacked.metrics[f"clean/{name}"] == pytest.approx(trained.metrics[f"test/emotion/{name}"])


def only(store: Store, stage: str) -> RunRecord:
    (record,) = store.find(stage)
    return record
