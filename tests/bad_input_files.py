"""What the table of bad inputs needs: small files of every kind, and a store with one run of each stage."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from attack_runs import attack_run
from noise_data import log_dataset, noise_dataset, published_parts
from published_clone import write_clone

from rmer.data.dataset import CONCEPTS, EMOTIONS
from rmer.stages.train import train
from rmer.stages.train_params import TrainParams
from rmer.tracking import Run, RunSpec, Stage, Store, Tag, connect

CLIPS, FRAMES, RATE = 12, 16, 22050


@dataclass(frozen=True)
class Shared:
    """What all rows share: sound files, a store with studies ``demo`` and ``attacks``, and an empty one."""

    audio: Path
    store: Store
    empty: Store
    dataset_run: str
    train_run: str


def make_shared(folder: Path) -> Shared:
    """Make twelve short clips; a store with a data set, a model and attack runs; and an empty store."""
    (folder / "Set1").mkdir(parents=True)
    rng = np.random.default_rng(3)
    for number in range(1, CLIPS + 1):
        tone = np.sin(np.arange(2 * RATE) * rng.uniform(0.05, 0.3))
        soundfile.write(folder / "Set1" / f"{number:03d}.wav", 0.3 * tone, RATE)
    store = connect(f"sqlite:///{folder}/mlflow.db")
    spec = RunSpec(Stage.PREPROCESS, "data", {"demo": 1}, {}, "demo")
    dataset_run = store.perform(spec, _log_data).run_id
    trained = train(store, TrainParams(system="A2E", epochs=1, study="demo", batch_size=10)).run_id
    for system in ("A2E", "A2M2E"):
        attack_run(store, "attacks", system)
    empty = connect(f"sqlite:///{folder}/empty/mlflow.db")
    return Shared(folder / "Set1", store, empty, dataset_run, trained)


def make_music(folder: Path, audio: Path) -> None:
    """Write a sound data set around the shared clips: ratings, track list, annotations."""
    folder.mkdir()
    (folder / "Set1").symlink_to(audio)
    rng = np.random.default_rng(4)
    numbers = range(1, CLIPS + 1)
    ratings = [f"{number},{','.join(f'{x:.2f}' for x in rng.uniform(1, 9, 8))}" for number in numbers]
    _write(folder / "mean_ratings_set1.csv", ["number," + ",".join(EMOTIONS), *ratings])
    tracks = [f"{number},Happy,Album {number % 4},{number},00:10-00:25" for number in numbers]
    _write(folder / "set1_tracklist.csv", ["Nro,Emotion,Album name,Track,Min:Sec", *tracks])
    (folder / "metadata_annotations").mkdir()
    songs = [f"{100 + number};soundtracks;{number}" for number in numbers]
    _write(folder / "metadata_annotations/metadata.csv", ["song id;Source;ID at file source", *songs])
    rated = [f"{100 + number},{','.join(f'{x:.2f}' for x in rng.uniform(1, 10, 7))}" for number in numbers]
    _write(folder / "metadata_annotations/annotations.csv", ["song_id," + ",".join(CONCEPTS), *rated])


def make_files(files: Mapping[str, Any], shared: Shared) -> None:
    """Make what a row names in this folder: path -> text, or {kind: value} for all that is no text.

    ``edit`` replaces parts of a file that is there: [old, new, ...].
    """
    for name, content in files.items():
        path = Path(name)
        if name == "music":
            make_music(path, shared.audio)
        elif name == "clone":
            write_clone(path)
        elif isinstance(content, str):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(repeated(content), encoding="utf-8", newline="")
        else:
            ((kind, value),) = content.items()
            MAKERS[kind](path, value)


def repeated(text: str) -> str:
    """Return a text with every ``{x*9000}`` in it replaced by 9000 signs x."""
    return re.sub(r"\{(.)\*(\d+)\}", lambda found: found[1] * int(found[2]), text)


def _edit(path: Path, parts: Sequence[str]) -> None:
    (path,) = Path.cwd().glob(str(path))
    text = path.read_text()
    for old, new in zip(parts[::2], parts[1::2], strict=True):
        assert old in text, f"{path.name} has no {old!r}"
        text = text.replace(old, new, 1)
    path.write_text(text, newline="")


def _move(path: Path, target: str) -> None:
    (path,) = Path.cwd().glob(str(path))
    path.rename(path.with_name(target))


MAKERS = {
    "edit": _edit,
    "move": _move,
    "encode": lambda path, encoding: path.write_bytes(path.read_text().encode(encoding)),
    "remove": lambda path, _: path.unlink(),
    "bytes": lambda path, value: path.write_bytes(bytes.fromhex(value)),
    "repeat": lambda path, value: path.write_text(value[0] * value[1] + value[2]),
    "fifo": lambda path, _: os.mkfifo(path),
    "folder": lambda path, _: path.mkdir(parents=True),
    "link": lambda path, value: path.symlink_to(value),
}


def _log_data(run: Run) -> None:
    dataset = noise_dataset(published_parts(CLIPS), frames=FRAMES, concepts=())
    log_dataset(run, dataset)
    run.tags({Tag.DATASET: dataset.digest, Tag.DATASET_RUN_ID: run.run_id})


def _write(path: Path, lines: Sequence[str]) -> None:
    path.write_text("\n".join(lines) + "\n")
