"""Importing the published logs: runs equal in form to the project's own, once and only once."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from mlflow import MlflowClient
from published_clone import CLIPS, write_clone

from rmer.data.dataset import EMOTIONS
from rmer.data.published_logs import published_systems
from rmer.stages.import_published import ImportParams, import_published
from rmer.tracking import RunRecord, Store, Tag


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clone(tmp_path_factory.mktemp("clone"))


@pytest.fixture(scope="module")
def store(clone: Path, lasting_store: Store) -> Store:
    """A store with the small clone imported."""
    import_published(lasting_store, ImportParams(source=str(clone)))
    return lasting_store


def attacks(store: Store, system: str, seed: int) -> RunRecord:
    (record,) = store.find("attack", {Tag.SYSTEM: system, Tag.SEED: str(seed)}, study="published")
    return record


def links(trained: RunRecord) -> dict[str, str]:
    """Return what the tags of a train run say: attack run -> attack."""
    prefix = f"{Tag.ATTACK_RUN_ID}."
    return {key.removeprefix(prefix): text for key, text in trained.tags.items() if key.startswith(prefix)}


def test_every_published_run_becomes_a_train_and_an_attack_run(store: Store) -> None:
    for stage in ("train", "attack"):
        found = Counter(
            (record.tags[Tag.SYSTEM], int(record.tags[Tag.SEED]))
            for record in store.find(stage, study="published")
        )
        assert found == Counter(published_systems().values())


def test_attack_runs_are_found_with_mlflow_alone(store: Store) -> None:
    client = MlflowClient(store.uri)
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    query = "tags.`rmer.stage` = 'attack' and tags.`rmer.system` = 'A2M2E'"
    assert len(client.search_runs(experiments, query)) == 10


def test_tags_of_an_attack_run(store: Store) -> None:
    record = attacks(store, "A2E", 6)
    expected = {
        Tag.ORIGIN: "imported",
        Tag.TRAIN_PROTOCOL: "published",
        Tag.ATTACK_PROTOCOL: "published",
        Tag.ATTACK: "published",
        Tag.NORM: "linf",
        Tag.EPSILON: "0.001",
        Tag.SPLIT: "test",
        Tag.SPLIT_SCHEME: "published",
        Tag.BUDGET_HELD: "false",
    }
    assert expected.items() <= record.tags.items()
    assert record.name == "A2E s6 published .001"


def test_attack_and_train_run_are_linked_and_share_the_data_set(store: Store) -> None:
    record = attacks(store, "aA2B2E", 7192)
    trained = store.get(record.tags[Tag.TRAIN_RUN_ID])
    assert trained.tags[Tag.STAGE] == "train"
    for tag in (Tag.SYSTEM, Tag.SEED, Tag.DATASET, Tag.ORIGIN):
        assert trained.tags[tag] == record.tags[tag]


def test_train_runs_link_the_attacks_on_them(store: Store) -> None:
    attacked = {record.tags[Tag.TRAIN_RUN_ID]: record.run_id for record in store.find("attack")}
    trained = store.find("train")
    assert len(trained) == len(attacked) == 50
    for record in trained:
        assert links(record) == {attacked[record.run_id]: "published, L-inf .001"}


def test_params_are_the_published_settings_as_plain_decimals(store: Store) -> None:
    record = attacks(store, "A2M2E", 21)
    expected = {"lr": "0.002", "max_iters": "1000", "conv_method": "corr", "sign": "true", "alpha": "none"}
    assert {f"cfg.{name}": text for name, text in expected.items()}.items() <= record.params.items()
    trained = store.get(record.tags[Tag.TRAIN_RUN_ID])
    for run in (record, trained):
        assert run.params["cfg.source_run"] == next(
            name for name, model in published_systems().items() if model == ("A2M2E", 21)
        )
        assert len(run.params["cfg.source_log"]) >= 16
    expected = {"arch": "bottleneck", "lr": "0.0005", "batch_size": "8", "emotion_weight": "0.5"}
    assert {f"cfg.{name}": text for name, text in expected.items()}.items() <= trained.params.items()


def test_metrics_follow_from_the_per_clip_table(store: Store) -> None:
    record = attacks(store, "A2E", 6)
    table = store.read_table(record.run_id, "adversaries/clips.csv")
    labels, clean, adversarial = (
        table[[f"{kind}_{emotion}" for emotion in EMOTIONS]].to_numpy() for kind in ("label", "clean", "adv")
    )
    assert sorted(table["clip"]) == sorted(CLIPS)
    assert table.columns[:4].tolist() == ["clip", "error_clean", "error_attacked", "difference"]
    assert table["error_attacked"].mean() == pytest.approx(record.metrics["adv/mae_clipped"], rel=1e-12)
    assert table["difference"].mean() == pytest.approx(record.metrics["delta/mae_clipped"], rel=1e-9)
    expected = {
        "clean/mae": np.abs(clean - labels).mean(),
        "adv/mae": np.abs(adversarial - labels).mean(),
        "adv/mae_clipped": np.abs(adversarial.clip(0, 1) - labels).mean(),
        "adv/tension/mae": np.abs(adversarial - labels).mean(axis=0)[2],
        "constant/mae": np.abs(labels - labels.mean(axis=0)).mean(),
        "perturbation/l2": table["l2"].mean(),
        "budget/violations": 3.0,
    }
    assert {name: record.metrics[name] for name in expected} == pytest.approx(expected, rel=1e-12)
    assert record.metrics["delta/mae"] == pytest.approx(expected["adv/mae"] - expected["clean/mae"], rel=1e-9)
    trained = store.get(record.tags[Tag.TRAIN_RUN_ID])
    assert trained.metrics["test/emotion/mae"] == pytest.approx(expected["clean/mae"], rel=1e-12)


def test_predictions_of_the_train_run(store: Store) -> None:
    (trained,) = store.find("train", {Tag.SYSTEM: "aA2E", Tag.SEED: "42"})
    table = store.read_table(trained.run_id, "tables/predictions.csv")
    assert list(table.columns[:3]) == ["clip", "split", "label_valence"]
    assert set(table["split"]) == {"test"}
    assert len(table) == len(CLIPS)


def test_the_importing_run_links_all(store: Store) -> None:
    (record,) = store.find("import")
    table = store.read_table(record.run_id, "tables/runs.csv")
    assert len(table) == 50
    assert set(table["attack_run_id"]) == {found.run_id for found in store.find("attack")}
    assert set(table["train_run_id"]) == {found.run_id for found in store.find("train")}


def test_importing_again_adds_nothing_but_what_was_deleted(store: Store, clone: Path) -> None:
    before = {record.run_id for record in store.search({})}
    outcome = import_published(store, ImportParams(source=str(clone / "runs")))
    assert outcome.skipped
    assert {record.run_id for record in store.search({})} == before
    deleted = attacks(store, "A2B2E", 950)
    store.client.delete_run(deleted.run_id)
    import_published(store, ImportParams(source=str(clone)))
    after = {record.run_id for record in store.search({})}
    assert len(after) == len(before)
    assert after - before == {attacks(store, "A2B2E", 950).run_id}


def test_a_train_run_that_was_deleted_is_linked_again(store: Store, clone: Path) -> None:
    attacked = attacks(store, "A2M2E", 2324)
    store.client.delete_run(attacked.tags[Tag.TRAIN_RUN_ID])
    import_published(store, ImportParams(source=str(clone)))
    again = attacks(store, "A2M2E", 2324)
    assert again.run_id == attacked.run_id
    assert again.tags[Tag.TRAIN_RUN_ID] != attacked.tags[Tag.TRAIN_RUN_ID]
    trained = store.get(again.tags[Tag.TRAIN_RUN_ID])
    assert trained.tags[Tag.SEED] == "2324"
    assert links(trained) == {again.run_id: "published, L-inf .001"}


def test_another_study_gets_runs_of_its_own(store: Store, clone: Path) -> None:
    before = {record.run_id for record in store.search({})}
    outcome = import_published(store, ImportParams(source=str(clone), study="other"))
    assert not outcome.skipped
    added = [record for record in store.search({}) if record.run_id not in before]
    assert Counter(record.tags[Tag.STAGE] for record in added) == {"import": 1, "train": 50, "attack": 50}
    assert {record.tags[Tag.STUDY] for record in added} == {"other"}
    own = {record.run_id for record in added}
    table = store.read_table(outcome.run_id, "tables/runs.csv")
    assert set(table["train_run_id"]) | set(table["attack_run_id"]) <= own
    for record in added:
        if record.tags[Tag.STAGE] == "attack":
            assert record.tags[Tag.TRAIN_RUN_ID] in own
    assert import_published(store, ImportParams(source=str(clone), study="other")).skipped
    assert import_published(store, ImportParams(source=str(clone))).skipped
    assert len(store.search({})) == len(before) + 101
