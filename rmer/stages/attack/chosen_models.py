"""Which trained models an attack is on: found by tags, and of one data set unless a study is named."""

from __future__ import annotations

from collections.abc import Sequence

from tqdm import tqdm

from rmer.errors import UserError
from rmer.nearest import did_you_mean
from rmer.stages.attack.attack_params import AttackParams
from rmer.stages.data.dataset_runs import preprocess_run
from rmer.systems.catalogue import CATALOGUE
from rmer.tracking import Origin, RunRecord, Stage, Store, Tag
from rmer.tracking.find import FINISHED


def select_runs(store: Store, params: AttackParams) -> list[RunRecord]:
    """Return the train runs that the parameters name, oldest first, without imported ones (no model).

    Without a study they are of one data set: that of ``trained_on``, else of ``dataset_run_id``, else the
    newest with such models.
    Says which one that is, and how many models of others are left out.
    """
    if params.train_run_id:
        return [store.get(params.train_run_id)]
    study = params.study
    wanted = {Tag.SYSTEM: params.system, Tag.SEED: params.seed, Tag.TRAIN_PROTOCOL: params.train_protocol}
    tags = {name: value for name, value in wanted.items() if value}
    found = [
        record
        for record in store.find(Stage.TRAIN, tags, study or None)
        if record.tags.get(Tag.ORIGIN) != Origin.IMPORTED
    ]
    if not found:
        named = ", ".join(f"{name.removeprefix('rmer.')}={value}" for name, value in tags.items())
        which = (f" with {named}" if named else "") + (f" in {study}" if study else "")
        what = f"no finished train run{which}"
        mend = "Train first, or give train_run_id or model_uri"
        if params.system and params.system not in (known := _systems(store)):
            mend = did_you_mean([params.system], known, mend)
        raise UserError(what, where=store.name, mend=mend)
    if study and not params.trained_on:
        return found[::-1]
    return _of_one_dataset(store, found, params.trained_on or params.dataset_run_id)[::-1]


def _systems(store: Store) -> list[str]:
    """Return the systems of the catalogue and of the store."""
    found = store.search({Tag.STAGE: Stage.TRAIN}, status=FINISHED)
    trained = sorted({record.tags[Tag.SYSTEM] for record in found if Tag.SYSTEM in record.tags})
    return list(dict.fromkeys([*CATALOGUE, *trained]))


def _of_one_dataset(store: Store, found: Sequence[RunRecord], dataset_run_id: str) -> list[RunRecord]:
    """Return the models of one data set; those that do not say theirs see any."""
    prepared = store.search({Tag.STAGE: Stage.PREPROCESS}, status=FINISHED)
    digests = {record.run_id: record.tags.get(Tag.DATASET, "") for record in prepared}
    of = {}
    for record in found:
        by_run = digests.get(record.tags.get(Tag.DATASET_RUN_ID, ""), "")
        of[record.run_id] = record.tags.get(Tag.DATASET) or by_run
    if dataset_run_id:
        chosen = preprocess_run(store, dataset_run_id).tags.get(Tag.DATASET, "")
    else:
        # Models whose data set was deleted come after those that can be attacked.
        chosen = next((digest for digest in [*digests.values(), *of.values()] if digest in of.values()), "")
    kept = [record for record in found if of[record.run_id] in (chosen, "")]
    if not kept:
        what = f"no such model was trained on the data set of run {dataset_run_id}"
        raise UserError(
            what, where=store.name, mend="Train on it first, or name the models by trained_on or train_run_id"
        )
    tqdm.write(_told(chosen, len(kept), len(found) - len(kept)))
    return kept


def _told(dataset: str, models: int, others: int) -> str:
    kept = f"Attacks {models} model{'s' if models > 1 else ''} of data set {dataset or '(not known)'}"
    left_out = f"{others} model{'s' if others > 1 else ''} of other data sets"
    return f"{kept}; left out: {left_out} (choose with study or dataset_run_id)." if others else f"{kept}."
