"""The models that predict songs: all seeds of a system, found by tags, or one given by its address."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from rmer.data.audio.filterbank import BANDS
from rmer.data.audio.frontend import FRAMES, File2Spect
from rmer.data.dataset import Normalisation
from rmer.data.preparation.songs import Song, read_song
from rmer.data.tables.rating_scale import RatingScale
from rmer.errors import UserError
from rmer.evaluation.endpoints import Floats
from rmer.evaluation.song_emotions import (
    CONCEPT_UNITS,
    FEATURE_UNITS,
    Audio2Emotions,
    SeedModel,
    last_layer,
)
from rmer.stages.attack.attack_params import AttackParams
from rmer.stages.attack.given_models import CHECKPOINT_SUFFIXES, digest_of, given_model
from rmer.stages.attack.victims import Victim, victim_of_run, victim_of_uri
from rmer.stages.data.dataset_runs import scale_of
from rmer.stages.predict.predict_params import PredictParams
from rmer.stages.train import normalisation_values
from rmer.systems.devices import resolve_device
from rmer.systems.network import load_checkpoint
from rmer.tracking import Artifact, Origin, RunRecord, Stage, Store, Tag
from rmer.training.protocol import FitParams

DEFAULT_SYSTEM = "A2M2E"
# Of a training, apart from its system: models that differ here are no repetitions of each other.
ALIKE = (Tag.DATASET, Tag.TRAIN_PROTOCOL, Tag.SPLIT_SCHEME, Tag.FOLD)


@dataclass(frozen=True, eq=False)
class Hearer:
    """Models ready to predict songs, how songs are read for them, and what they are.

    ``weights`` are digests of the models', ``runs`` the train runs that they come from, as far as known;
    ``note`` says which others there are that were left out.
    """

    hears: Audio2Emotions
    file2spect: File2Spect
    weights: tuple[str, ...]
    runs: tuple[str, ...]
    name: str
    note: str = ""

    def read(self, path: Path) -> Song:
        """Read a song as these models hear it; raises UserError where it cannot be judged."""
        front = self.file2spect
        return read_song(path, decoder=front.decoder, frontend=front.frontend, frames=self.hears.frames)


def find_models(store: Store | None, params: PredictParams) -> Hearer:
    """Return the models that the parameters name.

    Raises UserError where there is none, and where a system is asked for and there is no store.
    """
    if params.model_uri:
        return _of_uri(store, params)
    assert store is not None
    return _of_system(store, params)


def _of_system(store: Store, params: PredictParams) -> Hearer:
    system = params.system or DEFAULT_SYSTEM
    wanted = {Tag.SYSTEM: system, Tag.SEED: params.seed, Tag.TRAIN_PROTOCOL: params.train_protocol}
    tags = {name: value for name, value in wanted.items() if value}
    found = [
        record
        for record in store.find(Stage.TRAIN, tags, params.study or None)
        if record.tags.get(Tag.ORIGIN) != Origin.IMPORTED
    ]
    if not found:
        named = ", ".join(f"{name.removeprefix('rmer.')} {value}" for name, value in tags.items())
        mend = f"Train it first, name another ({_known(store)}), or give model_uri"
        raise UserError(f"no finished training of {named}", where=store.name, mend=mend)
    alike = [record for record in found if _training(record) == _training(found[0])]
    of_seed = {record.tags.get(Tag.SEED, record.run_id): record for record in reversed(alike)}
    runs = sorted(
        of_seed.values(), key=lambda run: (len(run.tags.get(Tag.SEED, "")), run.tags.get(Tag.SEED, ""))
    )
    others = len(found) - len(alike)
    note = (
        f"{others} models of other data or training are left out; study or seed chooses them"
        if others
        else ""
    )
    return _of_runs(store, runs, params, system, note)


def _known(store: Store) -> str:
    systems = {run.tags.get(Tag.SYSTEM, "") for run in store.find(Stage.TRAIN)} - {""}
    return ", ".join(sorted(systems)) or "none is trained"


def _training(run: RunRecord) -> tuple[str, ...]:
    settings = (run.params.get(f"cfg.{name}", "") for name in FitParams.names() if name != "precision")
    return *(run.tags.get(tag, "") for tag in ALIKE), *settings


def _of_runs(store: Store, runs: list[RunRecord], params: PredictParams, system: str, note: str) -> Hearer:
    described, models, weights = _description_of(store, runs[0]), [], []
    for run in runs:
        if run.tags.get(Tag.ORIGIN) != Origin.COMPUTED or described is None:
            return _of_victims(store, runs, params, system, note)
        path = store.download(run.run_id, f"{Artifact.CHECKPOINTS}/best.safetensors")
        models.append((run.name, load_checkpoint(path), _usual(store, run, described)))
        weights.append(digest_of(path))
    assert described is not None
    described = {"rating_scale": _scale_of(store, runs[0]), **described}
    return _hearer(
        models, described, params, weights=weights, runs=[run.run_id for run in runs], name=system, note=note
    )


def _of_victims(store: Store, runs: list[RunRecord], params: PredictParams, system: str, note: str) -> Hearer:
    """Return the newest of models that others trained, standardised as for an attack."""
    victim = victim_of_run(store, runs[0], params.dataset_run_id)
    return _hearer(
        [(runs[0].name, victim.model, None)], _as_described(store, victim, runs[0]), params,
        weights=[victim.digest], runs=[runs[0].run_id], name=system, note=note,
    )  # fmt: skip


def _of_uri(store: Store | None, params: PredictParams) -> Hearer:
    uri, described = params.model_uri, None
    given = given_model(store, uri)
    name, network, run = given.name, given.model, given.run
    if given.folder is not None and store is not None:
        described = store.model_description(given.folder)
        if described and run is not None and run.tags.get(Tag.STAGE) == Stage.TRAIN:
            described = {"rating_scale": _scale_of(store, run), **described}
    elif uri.endswith(CHECKPOINT_SUFFIXES):
        described = _beside(Path(uri.removeprefix("file://")).expanduser())
    if not described:
        if store is None:
            mend = "Run it where the store with the data set is, or put config.json beside it"
            raise UserError("does not say how songs are standardised for it", where=uri, mend=mend)
        victim = victim_of_uri(
            store, AttackParams(model_uri=uri, system=params.system, dataset_run_id=params.dataset_run_id,
                                train_protocol=params.train_protocol, study=params.study),
        )  # fmt: skip
        described = _as_described(store, victim, store.get(victim.dataset_run_id))
        network = victim.model
    return _hearer([(name, network, None)], described, params, weights=[given.digest], runs=[], name=name)


def _as_described(store: Store, victim: Victim, run: RunRecord) -> dict[str, Any]:
    """Return what a training would have logged of a model; ``run`` names or is that of its data set."""
    return {
        "targets": victim.dataset.emotions,
        "concepts": victim.concepts,
        "normalisation": normalisation_values(victim.data),
        "frontend": victim.dataset.frontend,
        "rating_scale": _scale_of(store, run),
    }


def _hearer(
    models: list[tuple[str, nn.Module, Floats | None]],
    described: Mapping[str, Any],
    params: PredictParams,
    *,
    weights: list[str],
    runs: list[str],
    name: str,
    note: str = "",
) -> Hearer:
    emotions, concepts = tuple(described["targets"]), tuple(described["concepts"])
    frontend = described["frontend"]
    frames = int(frontend.get("frames", FRAMES))
    device = resolve_device(params.device)
    seeds = []
    for model_name, network, usual in models:
        layer = last_layer(network, emotions, concepts, frames, BANDS)
        seeds.append(SeedModel(model_name, network.to(device), layer, usual))
    normalisation = Normalisation(**described["normalisation"])
    scale = RatingScale(*described.get("rating_scale", ()))
    units = str(described.get("units", CONCEPT_UNITS))
    hears = Audio2Emotions(tuple(seeds), emotions, concepts, normalisation, frames, scale, units)
    decoder = params.decoder or str(frontend.get("decoder", "soundfile"))
    file2spect = File2Spect(decoder, str(frontend.get("frontend", "madmom")))
    file2spect.require()
    return Hearer(hears, file2spect, tuple(weights), tuple(runs), name, note)


def _description_of(store: Store, run: RunRecord) -> dict[str, Any] | None:
    """Return what a training logged beside its checkpoint; None of models that others trained."""
    if run.tags.get(Tag.ORIGIN) != Origin.COMPUTED:
        return None
    return _read(store.download(run.run_id, f"{Artifact.CHECKPOINTS}/config.json"))


def _beside(checkpoint: Path) -> dict[str, Any] | None:
    file = checkpoint.with_name("config.json")
    return _read(file) if file.is_file() else None


def _read(file: Path) -> dict[str, Any]:
    try:
        described = json.loads(file.read_text(encoding="utf-8"))
        _ = described["targets"], described["concepts"], Normalisation(**described["normalisation"])
        return {**described, "frontend": dict(described["frontend"])}
    except (OSError, ValueError, KeyError, TypeError) as error:
        mend = "Restore the file that the training logged"
        raise UserError("does not describe a model", where=str(file), mend=mend) from error


def _scale_of(store: Store, run: RunRecord) -> RatingScale:
    """Return the ratings that predictions stand for, which the preprocess run of the data logged."""
    try:
        record = store.get(run.tags.get(Tag.DATASET_RUN_ID, run.run_id))
    except UserError:
        return RatingScale()
    return scale_of(record)


def _usual(store: Store, run: RunRecord, described: Mapping[str, Any]) -> Floats | None:
    """Return the mean predicted concepts of the training clips, [concepts], where they were logged."""
    if not described["concepts"]:
        return None
    if described.get("units") == FEATURE_UNITS:  # the mean of each is what it is told from
        return np.zeros(len(described["concepts"]))
    table = store.read_table(run.run_id, Artifact.PREDICTIONS)
    columns = [f"pred_concept_{name}" for name in described["concepts"]]
    if not {"split", *columns} <= set(table):
        return None
    usual: Floats = table.loc[table["split"] == "train", columns].to_numpy(float).mean(axis=0)
    return usual
