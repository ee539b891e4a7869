"""Stage ``preprocess``: audio, ratings and annotations to a data set, logged once."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from rmer.data.audio.decoders import decoder_version
from rmer.data.audio.frontend import FRONTEND_VERSION
from rmer.data.dataset import Dataset, fit_normalisation
from rmer.data.preparation.preparation import prepare
from rmer.data.preparation.survey import Survey
from rmer.data.readers.collection import Collected, labels_digest
from rmer.data.splits import PARTS, largest_difference
from rmer.digests import file_digest
from rmer.parameters import name_choice
from rmer.stages.data.data_params import DataParams
from rmer.stages.descriptions import description
from rmer.stages.run_names import run_name
from rmer.tracking import Artifact, Outcome, Run, RunSpec, Stage, Store, Tag

# Parameters that every run logs. Later ones are logged where they are given, so that digests stay.
FIRST = ("scale_max", "decoder", "frames", "frontend", "split_seed")
KINDS = {
    "classes": "Each clip is of one class; targets are 1 for it, else 0: systems regress on these.",
    "tags": "A target is 1 where a clip has the tag and 0 where not: systems regress on these.",
}
NOTED = 20  # warnings in a run's description; all are in its artifact


@dataclass(frozen=True)
class PreprocessParams(DataParams):
    """Parameters of ``preprocess``."""

    study: str = name_choice("", "name of the group of runs")


def preprocess(store: Store, params: PreprocessParams) -> Outcome:
    """Prepare and log a data set, or skip it where the same files were prepared the same way before.

    Raises UserError where the decoder or front end is not installed, and DataErrors with every problem of
    labels and audio, before a run is opened. What is computed is kept all the same.
    """
    return log_data_set(store, params, survey_of(params, params.collect()))


def survey_of(params: PreprocessParams, collected: Collected) -> Survey:
    """Return what is to be prepared, and print what is odd about it; raises as :func:`preprocess` does."""
    surveyed = params.survey(collected)
    for warning in surveyed.warnings:
        tqdm.write(f"Note: {warning}", file=sys.stderr)
    return surveyed.checked()


def log_data_set(store: Store, params: PreprocessParams, surveyed: Survey) -> Outcome:
    """Log a data set, or skip it where the same was logged before."""
    return store.perform(preprocess_spec(params, surveyed), lambda run: _body(run, params, surveyed))


def preprocess_spec(params: PreprocessParams, surveyed: Survey) -> RunSpec:
    """Return what the run of these parameters is, without doing it."""
    name = run_name(params.dataset_name(), f"{len(surveyed.collected.clips)} x {params.frames}")
    return RunSpec(Stage.PREPROCESS, name, _config(params, surveyed), study=params.study or None)


def _config(params: PreprocessParams, surveyed: Survey) -> dict[str, Any]:
    """Return everything that determines the data set, contents of files rather than their places."""
    collected, duplicates = surveyed.collected, surveyed.duplicates
    clips = collected.clips
    audio = [[clip, file_digest(collected.audio[clip])] for clip in clips["clip"]]
    given = params.as_dict("result")
    kept = [name for name in given if name in FIRST or given[name] != getattr(type(params), name)]
    config = {
        **{name: given[name] for name in kept},
        "clips": len(clips),
        "targets": [_asked(name, collected.titles) for name in collected.emotions],
        "labels": labels_digest(clips, [*collected.emotions, *collected.concepts]),
        "concepts": bool(collected.concepts),
        "albums": _digest(clips[["album", "track"]].to_numpy().tolist()) if collected.has_albums else "",
        "audio": _digest(audio),
        "decoder_version": decoder_version(params.decoder),
        "frontend_version": FRONTEND_VERSION,
    }
    # Only where there are any, so that the digests of other data sets stay.
    for key, known in (("official", collected.official), ("starts", collected.starts)):
        if known:
            config[key] = _digest(sorted(known.items()))
    if collected.labels != "ratings":
        config["label_kind"] = collected.labels
    if len(duplicates):  # they change the album split, of data sets that have any
        config["duplicates"] = _digest(duplicates[["first", "second"]].to_numpy().tolist())
    return config


def _asked(name: str, titles: Mapping[str, str]) -> str:
    """Return a target as the parameter names it, so that the logged one gives the same again."""
    text = f"{name}={titles[name]}" if name in titles else name
    return f'"{text}"' if "," in text else text


def _digest(values: object) -> str:
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()[:16]


def _body(run: Run, params: PreprocessParams, surveyed: Survey) -> None:
    dataset = prepare(surveyed, params.dataset_name())
    dataset.save(run.work_dir / Artifact.DATASET)
    run.file(run.work_dir / Artifact.DATASET)
    run.json(_normalisations(dataset), f"{Artifact.DATASET}/normalisation.json")
    run.text("".join(f"{warning}\n" for warning in surveyed.warnings), Artifact.WARNINGS)
    if len(surveyed.duplicates):
        run.table(surveyed.duplicates, Artifact.DUPLICATES)
    run.tags({Tag.DATASET: dataset.digest, Tag.DATASET_RUN_ID: run.run_id})
    run.tags({Tag.DATASET_NAME: dataset.name})
    scale = params.reader().rating_scale
    run.params({"rating_low": scale.low, "rating_high": scale.high})
    run.tags({Tag.SOUNDTRACKS_DIR: str(Path(params.soundtracks_dir).absolute())})
    run.metrics(_metrics(surveyed))
    _describe(run, params, dataset, surveyed)


def _metrics(surveyed: Survey) -> dict[str, float]:
    """Return counts and times; speed only where something was computed rather than taken from the cache."""
    computed = sum(item.computed for item in surveyed.spectrograms.values())
    metrics = {
        "preprocess/clips": len(surveyed.collected.clips),
        "preprocess/computed": computed,
        "preprocess/seconds": surveyed.seconds,
        "preprocess/warnings": len(surveyed.warnings),
        "preprocess/duplicates": len(surveyed.duplicates),
    }
    if computed:
        metrics["preprocess/clips_per_second"] = computed / surveyed.seconds
    return metrics


def _normalisations(dataset: Dataset) -> dict[str, dict[str, float]]:
    """Return mean and standard deviation as published (all clips) and of each split's training clips."""
    schemes = _schemes(dataset)
    rows = {f"{scheme} train": dataset.split(scheme)["train"] for scheme in schemes}
    fitted = {"all": fit_normalisation(dataset.clips)}
    fitted |= {name: fit_normalisation(dataset.clips.iloc[index]) for name, index in rows.items()}
    return {name: dataclasses.asdict(normalisation) for name, normalisation in fitted.items()}


def _describe(run: Run, params: PreprocessParams, dataset: Dataset, surveyed: Survey) -> None:
    clips, frames, bands = dataset.spectrograms.shape
    labels = [*dataset.emotions, *dataset.concepts]
    columns = [{"name": name, "type": "double", "required": True} for name in labels]
    run.dataset_input(
        dataset.name,
        dataset.digest,
        source={"soundtracks_dir": str(Path(params.soundtracks_dir).absolute()), "run_id": run.run_id},
        schema={"mlflow_colspec": columns},
        profile={"frames": frames, "bands": bands, **dataset.sizes(_schemes(dataset)[-1])},
        context="preprocess",
    )
    warnings, titles = surveyed.warnings, surveyed.collected.titles
    lines = []
    if titles:
        lines.append(
            "In the files: " + ", ".join(f"{name} is `{title}`" for name, title in titles.items()) + "."
        )
    if dataset.labels != "ratings":
        lines.append(KINDS[dataset.labels])
    for scheme in _schemes(dataset):
        rows = dataset.split(scheme)
        far = largest_difference(rows, dataset.emotion_labels())
        sizes = ", ".join(f"{len(rows[part])} {part} ({far[part]:.2f})" for part in PARTS)
        lines.append(f"Split {scheme}: {sizes}.")
    lines.append(
        "In brackets: how far a part's mean label lies from that of all clips, in standard deviations of the "
        "target for which it is farthest."
    )
    lines += [f"Note: {warning}." for warning in warnings[:NOTED]]
    if len(warnings) > NOTED:
        lines.append(f"{len(warnings) - NOTED} more in `{Artifact.WARNINGS}`.")
    reader = params.reader()
    lines += [f"Known: {fault}." for fault in reader.faults]
    lines += [text for text in (reader.citation, reader.licence) if text]
    what = f"{dataset.name}: {clips} clips, {frames} frames x {bands} bands"
    links = {"clips": run.page(f"{Artifact.DATASET}/clips.csv")}
    run.note(description(what, f"Labels: {', '.join(labels)}.", links, lines))


def _schemes(dataset: Dataset) -> list[str]:
    return [name[len("split_") :] for name in map(str, dataset.clips) if name.startswith("split_")]
