"""What a stage takes from an earlier one, found by tags or by run id."""

from __future__ import annotations

import re
from functools import lru_cache

from rmer.data.dataset import Dataset
from rmer.data.tables.rating_scale import RatingScale
from rmer.data.tables.ratings import SCALE_MAX
from rmer.errors import UserError
from rmer.tracking import Artifact, Run, RunRecord, Stage, Store, Tag


def find_dataset(store: Store, dataset_run_id: str, study: str) -> tuple[RunRecord, Dataset]:
    """Return the data set of a preprocess run: :func:`preprocess_run`, else the newest of the study.

    Without a study the newest preprocess run of the store counts. Raises UserError where there is none, or
    its data set is not the one that it logged.
    """
    if dataset_run_id:
        record = preprocess_run(store, dataset_run_id)
    else:
        found = store.find(Stage.PREPROCESS, study=study or None)
        if not found:
            what = "no finished preprocess run" + (f" in study {study!r}" if study else "")
            raise UserError(what, where=store.name, mend="Run preprocess first, or give dataset_run_id")
        record = found[0]
    dataset = _load(store.download(record.run_id, Artifact.DATASET))
    if dataset.digest != record.tags.get(Tag.DATASET, dataset.digest):
        what = f"holds data set {dataset.digest}, and logged {record.tags[Tag.DATASET]}"
        mend = "Restore its artifact dataset, or delete the run and preprocess again"
        raise UserError(what, where=f"run {record.run_id} ({record.name})", mend=mend)
    return record, dataset


def preprocess_run(store: Store, named: str) -> RunRecord:
    """Return a run by its id, or the newest preprocess run by the digest of its data, 16 hex digits."""
    if not _DIGEST.fullmatch(named):
        return store.get(named)
    found = store.find(Stage.PREPROCESS, {Tag.DATASET: named})
    if not found:
        mend = "Run preprocess first, or give the id of a preprocess run"
        raise UserError(f"no finished preprocess run of data set {named}", where=store.name, mend=mend)
    return found[0]


def name_tag(dataset: Dataset) -> dict[str, str]:
    """Return the tag that says what a data set is called; none for one of before that did not say it."""
    return {Tag.DATASET_NAME: dataset.name} if dataset.name else {}


def name_of(dataset: Dataset) -> str:
    """Return what a data set is called on runs."""
    return dataset.name or "soundtracks"


def log_dataset_input(
    run: Run, dataset: Dataset, dataset_run_id: str, scheme: str, context: str = "training", fold: int = 0
) -> None:
    """Log the data set that a run works on, by its own name, with its clips and those of each part."""
    source = {"run_id": dataset_run_id}
    named = {"split": scheme, **({"fold": fold} if fold else {})}
    profile = {**named, **dataset.sizes(scheme, fold)}
    run.dataset_input(name_of(dataset), dataset.digest, source=source, profile=profile, context=context)


def scale_of(record: RunRecord) -> RatingScale:
    """Return the ratings that labels stand for, which a preprocess run logged."""
    low = float(record.params.get("rating_low", 0.0))
    return RatingScale(
        low, float(record.params.get("rating_high", record.params.get("cfg.scale_max", SCALE_MAX)))
    )


_DIGEST = re.compile(r"[0-9a-f]{16}")
# The many runs of a study share one data set: reading and checking it once is enough.
_load = lru_cache(maxsize=2)(Dataset.load)
