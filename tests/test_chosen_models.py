"""Which models ``attack`` takes without being told a study: those of the newest data set, and no others."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

import pytest

from rmer.errors import UserError
from rmer.stages.attack import surrogate
from rmer.stages.attack.attack_params import AttackParams
from rmer.stages.attack.chosen_models import select_runs
from rmer.stages.attack.surrogate import find_surrogate
from rmer.stages.attack.victims import Victim
from rmer.tracking import Origin, Run, RunRecord, RunSpec, Stage, Store, Tag


@pytest.fixture(scope="module")
def runs(lasting_store: Store) -> tuple[Store, dict[str, str]]:
    """A store with models of two data sets, each of a study, and the ids of its runs by name.

    ``d2`` was preprocessed last, and ``d1`` trained on last. The model ``theirs`` says no data set.
    """
    store, ids = lasting_store, dict[str, str]()
    for dataset in ("d1", "d2", "d3"):
        ids[dataset] = logged(store, Stage.PREPROCESS, dataset, {Tag.DATASET: dataset}, dataset)
    ids["theirs"] = logged(store, Stage.TRAIN, "theirs", {Tag.ORIGIN: Origin.EXTERNAL}, None)
    for dataset in ("d2", "d1"):
        for system in ("A2E", "A2M2E"):
            tags = {Tag.DATASET: dataset, Tag.DATASET_RUN_ID: ids[dataset], Tag.SYSTEM: system}
            name = f"{system} {dataset}"
            ids[name] = logged(store, Stage.TRAIN, name, tags, dataset)
    return store, ids


def logged(store: Store, stage: str, name: str, tags: dict[str, str], study: str | None) -> str:
    def body(run: Run) -> None:
        run.metrics({"done": 1.0})

    return store.perform(RunSpec(stage, name, {"name": name}, tags, study), body).run_id


def chosen(store: Store, **given: str) -> list[str]:
    return [record.name for record in select_runs(store, AttackParams(**given))]


TOLD = "Attacks {} of data set {}; left out: {} of other data sets (choose with study or dataset_run_id)."


@pytest.mark.parametrize(
    ("given", "names", "told"),
    [
        ({}, ["theirs", "A2E d2", "A2M2E d2"], TOLD.format("3 models", "d2", "2 models")),
        ({"system": "A2E"}, ["A2E d2"], TOLD.format("1 model", "d2", "1 model")),
        (
            {"dataset_run_id": "d1", "system": "A2M2E"},
            ["A2M2E d1"],
            TOLD.format("1 model", "d1", "1 model"),
        ),
        ({"study": "d1"}, ["A2E d1", "A2M2E d1"], ""),
        ({"train_run_id": "A2E d1"}, ["A2E d1"], ""),
    ],
)
def test_models_of_one_data_set_are_taken(
    runs: tuple[Store, dict[str, str]],
    given: dict[str, str],
    names: list[str],
    told: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    store, ids = runs
    found = chosen(
        store, **{key: ids.get(value, value) if "run" in key else value for key, value in given.items()}
    )
    assert found == names
    assert capsys.readouterr().out.strip() == told


def test_a_data_set_without_models_is_told(runs: tuple[Store, dict[str, str]]) -> None:
    store, ids = runs
    with pytest.raises(UserError) as caught:
        chosen(store, dataset_run_id=ids["d3"], system="A2E")
    assert str(caught.value) == (
        f"{store.name}: no such model was trained on the data set of run {ids['d3']}. Train on it first, or "
        "name the models by trained_on or train_run_id"
    )


def model(store: Store, run: RunRecord, dataset_run_id: str) -> Victim:
    """Return a train run's model without loading any."""
    data = SimpleNamespace(normalisation=None)
    dataset = SimpleNamespace(digest=run.tags[Tag.DATASET])
    model = SimpleNamespace(
        run=run, digest=run.run_id, dataset=dataset, trained_on=dataset.digest, fold=0,
        dataset_run_id=dataset_run_id, data=data, own=None,
        system=run.tags[Tag.SYSTEM], seed="", scheme="", train_protocol="",
    )  # fmt: skip
    return cast(Victim, model)


@pytest.mark.parametrize("by", ["run_id", "system"])
def test_no_model_transfers_to_itself(
    runs: tuple[Store, dict[str, str]], monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    monkeypatch.setattr(surrogate, "victim_of_run", model)
    store, ids = runs
    victim = model(store, store.get(ids["A2E d1"]), ids["d1"])
    itself = {"run_id": ids["A2E d1"], "system": ""} if by == "run_id" else {"run_id": "", "system": "A2E"}
    other = {"run_id": ids["A2M2E d1"], "system": ""} if by == "run_id" else {"run_id": "", "system": "A2M2E"}
    monkeypatch.setattr(store, "find", lambda *_: store.search({Tag.STAGE: Stage.TRAIN, Tag.DATASET: "d1"}))
    found = find_surrogate(store, victim, **other)
    assert found is not None
    assert found.digest == ids["A2M2E d1"]
    with pytest.raises(UserError, match="A2E is the attacked model itself: nothing would be transferred"):
        find_surrogate(store, victim, **itself)


def test_no_model_of_another_fold_is_transferred_from(
    runs: tuple[Store, dict[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was trained on the clips that are attacked."""
    store, ids = runs
    victim = model(store, store.get(ids["A2E d1"]), ids["d1"])
    victim.__dict__["fold"] = 2
    monkeypatch.setattr(surrogate, "victim_of_run", model)
    with pytest.raises(UserError, match="A2M2E was trained on another split than A2E"):
        find_surrogate(store, victim, run_id=ids["A2M2E d1"], system="")
