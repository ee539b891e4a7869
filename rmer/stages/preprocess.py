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

from rmer.data.audio import decoder_version
from rmer.data.collection import Collected, labels_digest
from rmer.data.dataset import Dataset, fit_normalisation
from rmer.data.frontend import FRAMES, FRONTEND_VERSION, FRONTENDS, File2Spect
from rmer.data.preparation import Prepared, prepare
from rmer.data.splits import PARTS, SPLIT_SEED, largest_difference
from rmer.digests import file_digest
from rmer.parameters import param
from rmer.stages.data_params import DataParams
from rmer.tracking import Artifact, Outcome, Run, RunSpec, Stage, Store, Tag
from rmer.tracking.locations import home


@dataclass(frozen=True)
class PreprocessParams(DataParams):
    """Parameters of ``preprocess``."""

    frames: int = param(FRAMES, "length of the excerpts in frames, 31.3 a second", low=8, high=100_000)
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
    file2spect = _file2spect(params)
    collected = collect_of(params)
    for warning in collected.warnings:
        tqdm.write(f"Note: {warning}", file=sys.stderr)
    return store.perform(_spec(params, collected), lambda run: _body(run, params, collected, file2spect))


def preprocess_spec(params: PreprocessParams) -> RunSpec:
    """Return what the run of these parameters is, without doing it; raises as :func:`preprocess` does."""
    _file2spect(params)
    return _spec(params, collect_of(params))


def collect_of(params: DataParams) -> Collected:
    """Return clips, labels and files; raises DataErrors with every problem of labels and missing clips."""
    return params.collect().checked()


def _file2spect(params: PreprocessParams) -> File2Spect:
    """Return decoder and front end; raises UserError where one is not installed."""
    file2spect = File2Spect(params.decoder, params.frontend)
    file2spect.require()
    return file2spect


def _spec(params: PreprocessParams, collected: Collected) -> RunSpec:
    return RunSpec(
        stage=Stage.PREPROCESS,
        name=f"preprocess {len(collected.clips)} clips, {params.frames} frames",
        config=_config(params, collected),
        study=params.study or None,
    )


def _config(params: PreprocessParams, collected: Collected) -> dict[str, Any]:
    """Return everything that determines the data set, contents of files rather than their places."""
    clips = collected.clips
    audio = [[clip, file_digest(collected.audio[clip])] for clip in clips["clip"]]
    return {
        "clips": len(clips),
        "targets": list(collected.emotions),
        "scale_max": params.scale_max,
        "labels": labels_digest(clips, [*collected.emotions, *collected.concepts]),
        "concepts": bool(collected.concepts),
        "albums": _digest(clips[["album", "track"]].to_numpy().tolist()) if collected.has_albums else "",
        "audio": _digest(audio),
        "frames": params.frames,
        "decoder": params.decoder,
        "decoder_version": decoder_version(params.decoder),
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
    run.metrics(_metrics(prepared))
    _describe(run, params, dataset, collected.warnings)


def _metrics(prepared: Prepared) -> dict[str, float]:
    """Return counts and times; speed only where something was computed rather than taken from the cache."""
    metrics = {
        "preprocess/clips": len(prepared.dataset),
        "preprocess/computed": prepared.computed,
        "preprocess/seconds": prepared.seconds,
    }
    if prepared.computed:
        metrics["preprocess/clips_per_second"] = prepared.computed / prepared.seconds
    return metrics


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
        far = largest_difference(rows, dataset.emotion_labels())
        sizes = ", ".join(f"{len(rows[part])} {part} ({far[part]:.2f})" for part in PARTS)
        lines.append(f"Split {scheme}: {sizes}.")
    lines.append(
        "In brackets: how far a part's mean label lies from that of all clips, in standard deviations of the "
        "target for which it is farthest."
    )
    run.note("\n\n".join([*lines, *(f"Note: {warning}." for warning in warnings)]))


def _schemes(dataset: Dataset) -> list[str]:
    return [name[len("split_") :] for name in map(str, dataset.clips) if name.startswith("split_")]
