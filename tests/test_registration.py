"""The best model of a study gets a name and an alias in MLflow's registry."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from rmer.errors import UserError
from rmer.stages.study.best_model import METRIC, register_best
from rmer.systems.network import build_network
from rmer.tracking import Run, RunSpec, Stage, Store, Tag


def train_run(store: Store, study: str, system: str, score: float, fold: int = 0) -> str:
    """Log a train run, of a cross-validation's fold or none, with a narrow network and its correlation."""
    network = build_network("plain", 2, 0, 0.125).eval()
    inputs = np.zeros((2, 1, 24, 149), np.float32)
    with torch.no_grad():
        outputs = {"output": network(torch.from_numpy(inputs))["output"].numpy()}

    def body(run: Run) -> None:
        run.model(network, inputs, outputs, name=f"{system} s1")
        run.metrics({METRIC: score})

    tags = {Tag.SYSTEM: system, **({Tag.FOLD: str(fold)} if fold else {})}
    spec = RunSpec(Stage.TRAIN, f"{system} s1", {"system": system, "fold": fold}, tags, study)
    return store.perform(spec, body).run_id


def test_the_best_model_that_is_no_control_is_found_by_name_and_alias(store: Store) -> None:
    runs = {
        system: train_run(store, "one", system, score)
        for system, score in (("A2E", 0.4), ("A2M2E", 0.6), ("placebo", 0.9))
    }
    train_run(store, "another", "A2E", 0.99)
    told = register_best(store, "one", "emotions")
    assert told == f"A2M2E s1 ({METRIC} 0.600) is version 1 of emotions: models:/emotions@best"
    weights, best = (
        store.load_model(uri).state_dict()
        for uri in ("models:/emotions@best", f"runs:/{runs['A2M2E']}/model")
    )
    assert all(torch.equal(value, best[name]) for name, value in weights.items())


def test_registering_again_makes_no_new_version_and_a_better_model_gets_the_alias(store: Store) -> None:
    train_run(store, "two", "A2E", 0.4)
    first, again = register_best(store, "two", "mine"), register_best(store, "two", "mine")
    assert first == again
    train_run(store, "two", "A2B2E", 0.5)
    assert "A2B2E s1" in register_best(store, "two", "mine")
    assert int(store.client.get_model_version_by_alias("mine", "best").version) == 2


def test_a_model_of_a_cross_validation_is_registered_only_where_its_fold_is_named(store: Store) -> None:
    for fold, score in ((1, 0.9), (3, 0.5)):
        train_run(store, "folds", "A2E", score, fold)
    with pytest.raises(UserError, match="no model of study 'folds' has validation/emotion/corr"):
        register_best(store, "folds", "mine")
    train_run(store, "folds", "A2M2E", 0.4)
    assert register_best(store, "folds", "mine").startswith(f"A2M2E s1 ({METRIC} 0.400) is version 1")
    assert register_best(store, "folds", "mine", 3).startswith(f"A2E s1 ({METRIC} 0.500) is version 2")
    with pytest.raises(UserError, match="no model of study 'folds', fold 2 has"):
        register_best(store, "folds", "mine", 2)


def test_a_study_without_a_model_is_told(store: Store) -> None:
    with pytest.raises(UserError, match="no model of study 'none'"):
        register_best(store, "none", "mine")
