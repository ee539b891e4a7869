"""Stage ``preprocess``: audio, ratings and annotations to a data set, logged once."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from rmer.data.audio import DECODERS
from rmer.data.collection import Collected, collect, labels_digest
from rmer.data.dataset import EMOTIONS, Dataset, fit_normalisation
from rmer.data.frontend import FRAMES, FRONTEND_VERSION, FRONTENDS, File2Spect
from rmer.data.preparation import prepare
from rmer.data.soundtracks import SCALE_MAX
from rmer.data.spectrograms import file_digest
from rmer.data.splits import PARTS, SPLIT_SEED
from rmer.errors import UserError
from rmer.parameters import Parameters, param
from rmer.tracking import Artifact, Outcome, Run, RunSpec, Stage, Store, Tag
from rmer.tracking.locations import home


@dataclass(frozen=True)
class PreprocessParams(Parameters):
    """Parameters of ``preprocess``."""

    soundtracks_dir: str = param("", "folder with the clips (Set1/001.mp3 ...)")
    ratings: str = param("", "ratings CSV; default: mean_ratings_set1.csv in soundtracks_dir")
    midlevel_dir: str = param("", "Mid-level annotations; default: metadata_annotations in soundtracks_dir")
    tracklist: str = param("", "track list CSV; default: set1_tracklist.csv in soundtracks_dir, if there")
    targets: str = param(",".join(EMOTIONS), "columns of the ratings to predict, separated by commas")
    scale_max: float = param(SCALE_MAX, "ratings are divided by this", low=1e-6, high=1e6)
    frames: int = param(FRAMES, "length of the excerpts in frames, 31.3 a second", low=8, high=100_000)
    decoder: str = param("soundfile", "reader of audio files", choices=tuple(DECODERS))
    frontend: str = param("madmom", "madmom itself, or its equal in torch", choices=FRONTENDS)
    split_seed: int = param(SPLIT_SEED, "seed of the album split", low=0, high=2**31)
    cache_dir: str = param("", "folder for full spectrograms; default: spectrograms in RMER_HOME")
    workers: int = param(0, "parallel processes; 0: one a core", low=0, high=1024)
    study: str = param("", "name of the group of runs")


def preprocess(store: Store, params: PreprocessParams) -> Outcome:
    """Prepare and log a data set, or skip it where the same files were prepared the same way before.

    Raises UserError where the decoder or front end is not installed, and DataErrors with every problem of
    the files: labels and missing clips before a run is opened, audio that cannot be used after all other
    clips are done.
    """
    file2spect = File2Spect(params.decoder, params.frontend)
    file2spect.require()
    collected = collect_of(params)
    for warning in collected.warnings:
        tqdm.write(f"Note: {warning}", file=sys.stderr)
    return store.perform(_spec(params, collected), lambda run: _body(run, params, collected, file2spect))


def preprocess_spec(params: PreprocessParams) -> RunSpec:
    """Return what the run of these parameters is, without doing it; raises DataErrors as preprocess does."""
    return _spec(params, collect_of(params))


def _spec(params: PreprocessParams, collected: Collected) -> RunSpec:
    return RunSpec(
        stage=Stage.PREPROCESS,
        name=f"preprocess {len(collected.clips)} clips, {params.frames} frames",
        config=_config(params, collected),
        study=params.study or None,
    )


def collect_of(params: PreprocessParams) -> Collected:
    """Return clips, labels and files; raises DataErrors with every problem of labels and missing clips."""
    if not params.soundtracks_dir:
        mend = "Give the folder that holds Set1/ and mean_ratings_set1.csv"
        raise UserError("is not given", where="parameter soundtracks_dir", mend=mend)
    return collect(
        Path(params.soundtracks_dir),
        _path(params.ratings),
        _path(params.midlevel_dir),
        _path(params.tracklist),
        [target.strip() for target in params.targets.split(",") if target.strip()],
        scale_max=params.scale_max,
    ).checked()


def _path(text: str) -> Path | None:
    return Path(text) if text else None


def _config(params: PreprocessParams, collected: Collected) -> dict[str, Any]:
    """Return everything that determines the data set, contents of files rather than their places."""
    clips = collected.clips
    audio = [[clip, file_digest(collected.audio[clip])] for clip in clips["clip"]]
    return {
        "clips": len(clips),
        "targets": list(collected.emotions),
        "labels": labels_digest(clips, [*collected.emotions, *collected.concepts]),
        "concepts": bool(collected.concepts),
        "albums": _digest(clips[["album", "track"]].to_numpy().tolist()) if collected.has_albums else "",
        "audio": _digest(audio),
        "frames": params.frames,
        "decoder": params.decoder,
        "frontend": params.frontend,
        "frontend_version": FRONTEND_VERSION,
        "split_seed": params.split_seed,
    }


def _digest(values: object) -> str:
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()[:16]


def _body(run: Run, params: PreprocessParams, collected: Collected, file2spect: File2Spect) -> None:
    prepared = prepare(
        collected,
        file2spect,
        Path(params.cache_dir) if params.cache_dir else home() / "spectrograms",
        frames=params.frames,
        split_seed=params.split_seed,
        workers=params.workers,
    )
    dataset = prepared.dataset
    dataset.save(run.work_dir / Artifact.DATASET)
    run.file(run.work_dir / Artifact.DATASET)
    run.json(_normalisations(dataset), f"{Artifact.DATASET}/normalisation.json")
    run.tags({Tag.DATASET: dataset.digest, Tag.DATASET_RUN_ID: run.run_id})
    run.metrics(
        {
            "preprocess/clips": len(dataset),
            "preprocess/computed": prepared.computed,
            "preprocess/seconds": prepared.seconds,
            "preprocess/clips_per_second": len(dataset) / prepared.seconds,
        }
    )
    _describe(run, params, dataset, collected.warnings)


def _normalisations(dataset: Dataset) -> dict[str, dict[str, float]]:
    """Return mean and standard deviation as published (all clips) and of each split's training clips."""
    schemes = _schemes(dataset)
    rows = {f"{scheme} train": dataset.split(scheme)["train"] for scheme in schemes}
    fitted = {"all": fit_normalisation(dataset.clips)}
    fitted |= {name: fit_normalisation(dataset.clips.iloc[index]) for name, index in rows.items()}
    return {name: dataclasses.asdict(normalisation) for name, normalisation in fitted.items()}


def _describe(run: Run, params: PreprocessParams, dataset: Dataset, warnings: tuple[str, ...]) -> None:
    clips, frames, bands = dataset.spectrograms.shape
    labels = [*dataset.emotions, *dataset.concepts]
    columns = [{"name": name, "type": "double", "required": True} for name in labels]
    run.dataset_input(
        Path(params.soundtracks_dir).absolute().name,
        dataset.digest,
        source={"soundtracks_dir": str(Path(params.soundtracks_dir).absolute()), "run_id": run.run_id},
        schema={"mlflow_colspec": columns},
        profile={"clips": clips, "frames": frames, "bands": bands},
        context="preprocess",
    )
    lines = [f"{clips} clips, {frames} frames x {bands} bands; labels: {', '.join(labels)}."]
    for scheme in _schemes(dataset):
        rows = dataset.split(scheme)
        lines.append(f"Split {scheme}: " + ", ".join(f"{len(rows[part])} {part}" for part in PARTS) + ".")
    run.note("\n\n".join([*lines, *(f"Note: {warning}." for warning in warnings)]))


def _schemes(dataset: Dataset) -> list[str]:
    return [name[len("split_") :] for name in map(str, dataset.clips) if name.startswith("split_")]
