"""What a stage takes from an earlier one, found by tags or by run id."""

from __future__ import annotations

from functools import lru_cache

from rmer.data.dataset import Dataset
from rmer.data.tables.ratings import SCALE_MAX
from rmer.errors import UserError
from rmer.tracking import Artifact, RunRecord, Stage, Store, Tag


def find_dataset(store: Store, dataset_run_id: str, study: str) -> tuple[RunRecord, Dataset]:
    """Return the data set of a preprocess run: the one named, else the newest of the study.

    Without a study the newest preprocess run of the store counts. Raises UserError where there is none, or
    its data set is not the one that it logged.
    """
    if dataset_run_id:
        record = store.get(dataset_run_id)
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


def scale_of(record: RunRecord) -> float:
    """Return the rating that a label of 1 stands for, which a preprocess run logged."""
    return float(record.params.get("cfg.scale_max", SCALE_MAX))


# The many runs of a study share one data set: reading and checking it once is enough.
_load = lru_cache(maxsize=2)(Dataset.load)
