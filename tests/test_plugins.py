"""What a package beside rmer can add without touching it."""

from __future__ import annotations

from pathlib import Path

import pytest
from mlflow import MlflowClient
from plugins import install, run_beside

from rmer.data.csv_tables import read_table
from rmer.data.demo.demo_files import write_demo_data

SYSTEM = """
import torch
from torch import nn

from rmer.systems.catalogue import System


class Levels(nn.Module):
    has_bottleneck = False

    def __init__(self, targets, concepts):
        super().__init__()
        self.of_levels = nn.Linear(149, targets)

    def forward(self, spectrograms):
        return {"output": self.of_levels(spectrograms.mean((1, 2))), "c_prob": None}

    @staticmethod
    def sizes(state):
        return (len(state["of_levels.weight"]), 0) if "of_levels.weight" in state else None


SYSTEM = System("A2Levels", "levels")
"""
READER = """
import csv
from dataclasses import dataclass

import pandas as pd

from rmer.data.readers.collection import Collected
from rmer.data.readers.reader import DatasetReader
from rmer.parameters import param


@dataclass(frozen=True)
class Songs(DatasetReader):
    files = "songs/<artist>/<song>.mp3 and a CSV of each target"
    citation = "Nobody (2026), Songs"
    annotations: str = param("static", "folder of the CSVs", kind="path")

    def read(self, folder):
        files = sorted((folder / "songs").rglob("*.mp3"))
        audio = {f"{path.parent.name} {path.stem}": path for path in files}
        clips = pd.DataFrame({"clip": list(audio), "album": [clip.split()[0] for clip in audio]})
        for target in ("valence", "arousal"):
            with (folder / self.annotations / f"{target}.csv").open() as file:
                means = {row["song"]: float(row["mean"]) for row in csv.DictReader(file)}
            clips[target] = clips["clip"].map(means)
        return Collected(clips, audio, emotions=("valence", "arousal"), has_albums=True)
"""
POINTS = {"rmer.systems": {"A2Levels": "SYSTEM"}, "rmer.architectures": {"levels": "Levels"}}


@pytest.mark.slow
def test_a_system_of_another_package_is_trained_and_attacked(tmp_path: Path) -> None:
    install(tmp_path, SYSTEM, POINTS)
    done = run_beside(
        tmp_path,
        "demo-data --out_dir music --clips 20 --seconds 2",
        "preprocess --soundtracks_dir music --frames 24",
        "train --system A2Levels --epochs 2",
        "attack --attack pgd --steps 2 --system A2Levels",
    )
    assert done.returncode == 0, done.stderr
    runs = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db").search_runs(
        ["1"], "tags.`rmer.system` = 'A2Levels'", order_by=["attributes.start_time"]
    )
    assert [(run.info.run_name, run.info.status) for run in runs] == [
        ("A2Levels s6", "FINISHED"),
        ("A2Levels s6 pgd .01", "FINISHED"),
    ]
    assert runs[1].data.metrics["adv/mae"] > runs[1].data.metrics["clean/mae"]


ATTACK = """
from dataclasses import dataclass
from typing import ClassVar

import torch

from rmer.attacks.base import Attack
from rmer.attacks.result import Crafted, Passes
from rmer.parameters import param


@dataclass(frozen=True)
class Hum(Attack):
    bands: int = param(2, "bands that hum", low=1, high=149)

    name: ClassVar[str] = "hum"

    def passes(self, targets):
        return Passes(0, 0)

    def run(self, network, problem):
        hum = torch.zeros_like(problem.inputs)
        hum[..., : self.bands] = problem.threat.epsilon
        return Crafted(problem.threat.project(problem.inputs, problem.inputs + hum))
"""


@pytest.mark.slow
def test_an_attack_of_another_package_is_run_with_its_own_setting_and_analysed(tmp_path: Path) -> None:
    install(tmp_path, ATTACK, {"rmer.attacks": {"hum": "Hum"}})
    done = run_beside(
        tmp_path,
        "demo-data --out_dir music --clips 20 --seconds 2",
        "preprocess --soundtracks_dir music --frames 24",
        "train --system A2E --epochs 1 --width .25",
        "train --system placebo --epochs 1 --width .25",
        "attack --attack hum --bands 3 --train_protocol published",
        "attack --attack hum --bands 3 --train_protocol published",
        "analyze --attack hum --where bands=3 --reference A2E",
        "attack --help",
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("was done before") == 2
    assert "bands that hum (hum 2)" in " ".join(done.stdout.split())
    runs = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db").search_runs(["1"], "params.`cfg.bands` = '3'")
    assert {run.info.run_name for run in runs} == {"A2E s6 hum .01", "placebo s6 hum .01"}
    assert {run.data.metrics["budget/violations"] for run in runs} == {0.0}


def test_a_setting_that_all_attacks_have_is_refused(tmp_path: Path) -> None:
    install(tmp_path, ATTACK.replace("bands", "device"), {"rmer.attacks": {"hum": "Hum"}})
    done = run_beside(tmp_path, "attack --attack hum")
    message = "attack hum: its setting device is a parameter of all attacks. Call it otherwise"
    assert (done.returncode, done.stderr) == (2, f"rmer: {message}\n")


def write_songs(folder: Path) -> None:
    demo = write_demo_data(folder / "demo", clips=12, seconds=1.5)
    (folder / "mean").mkdir()
    rows = {"valence": [], "arousal": []}
    for number, clip in enumerate(sorted(demo.rglob("*.mp3"))):
        artist = folder / "songs" / f"artist{number % 4}"
        artist.mkdir(parents=True, exist_ok=True)
        clip.rename(artist / f"{number}.mp3")
        rows["valence"].append(f"{artist.name} {number},{number / 12}")
        rows["arousal"].append(f"{artist.name} {number},{number % 5 / 5}")
    for target, lines in rows.items():
        (folder / "mean" / f"{target}.csv").write_text("\n".join(["song,mean", *lines]))


@pytest.mark.slow
def test_a_data_set_is_read_by_the_reader_of_another_package(tmp_path: Path) -> None:
    install(tmp_path, READER, {"rmer.datasets": {"songs": "Songs"}})
    write_songs(tmp_path)
    preprocess = "preprocess --dataset songs --soundtracks_dir . --frames 24 --targets arousal"
    done = run_beside(tmp_path, preprocess + ' --dataset_options {"annotations":"mean"}')
    assert done.returncode == 0, done.stderr
    (run,) = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db").search_runs(["1"])
    assert run.data.params["cfg.dataset"] == "songs"
    assert run.data.params["cfg.targets"] == "arousal"
    assert "Nobody (2026), Songs" in run.data.tags["mlflow.note.content"]
    clips = read_table(next(tmp_path.glob("mlruns/**/clips.csv")), where="clips")
    assert clips.loc[0, ["clip", "file", "album"]].tolist() == ["artist0 0", "songs/artist0/0.mp3", "artist0"]

    done = run_beside(tmp_path, f"{preprocess} --tracklist albums.csv")
    assert (done.returncode, done.stderr) == (
        2,
        "rmer: data set songs: unknown parameter tracklist. Known are: annotations, targets\n",
    )


@pytest.mark.parametrize(
    ("points", "message"),
    [
        (
            {**POINTS, "rmer.systems": {"A2E": "SYSTEM"}},
            "package theirs: there is another system of the name A2E. Rename its entry point",
        ),
        (
            {**POINTS, "rmer.systems": {"A2X": "MISSING"}},
            "package theirs: its system A2X cannot be loaded (AttributeError: module 'theirs' has no "
            "attribute 'MISSING'). Mend or remove that package",
        ),
    ],
)
def test_a_package_that_cannot_be_used_is_named(
    tmp_path: Path, points: dict[str, dict[str, str]], message: str
) -> None:
    install(tmp_path, SYSTEM, points)
    done = run_beside(tmp_path, "train --system A2X")
    assert (done.returncode, done.stderr) == (2, f"rmer: {message}\n")
