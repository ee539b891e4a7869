"""Analysis refuses to compare models that are one model under several names."""

from __future__ import annotations

from typing import Any

import pytest
from attack_runs import attack_run

from rmer.errors import UserError
from rmer.stages.analysis.distinct import require_distinct
from rmer.stages.analysis.reading import read_runs
from rmer.stages.analysis.selection import select_attack_runs
from rmer.tracking import Store


@pytest.fixture(scope="module")
def store(lasting_store: Store) -> Store:
    return lasting_store


def check(store: Store, study: str, *, allow_mixed: bool = False) -> None:
    selected = select_attack_runs(store, {}, study=study, systems=[], where={}, allow_mixed=allow_mixed)
    require_distinct(store, read_runs(store, selected))


def message(store: Store, study: str, **choice: Any) -> str:
    with pytest.raises(UserError) as caught:
        check(store, study, **choice)
    return str(caught.value)


def test_equal_weights_are_one_model(store: Store, study: str) -> None:
    plain = attack_run(store, study, "A2B2E", cfg_model="w")
    adversarial = attack_run(store, study, "aA2B2E", cfg_model="w")
    attack_run(store, study, "A2E", cfg_model="x")
    expected = (
        f"{store.name}: aA2B2E s1 (run {adversarial}) and A2B2E s1 (run {plain}) are one model: their "
        "weights are equal. Train one of them anew, or leave one out with systems or study"
    )
    assert message(store, study) == expected
    assert message(store, study, allow_mixed=True) == expected


def test_equal_predictions_are_one_model_whatever_is_known_of_its_weights(store: Store, study: str) -> None:
    systems = ("A2E", "A2B2E", "aA2B2E")
    runs = [attack_run(store, study, system, predicts_as="A2E") for system in systems]
    assert message(store, study) == (
        f"{store.name}: aA2B2E s1 (run {runs[2]}) and A2B2E s1 (run {runs[1]}) are one model (and 1 "
        "more such pair): their predictions are equal. Train one of them anew, or leave one out with systems "
        "or study"
    )


def test_one_model_under_two_seeds_is_no_repetition(store: Store, study: str) -> None:
    for seed in (1, 2):
        attack_run(store, study, "A2E", seed, cfg_model="w")
    assert "A2E s2 " in message(store, study)


def test_one_model_under_two_attacks_may_be_shown_side_by_side(store: Store, study: str) -> None:
    attack_run(store, study, "A2E", cfg_model="w")
    attack_run(store, study, "A2E", cfg_model="w", epsilon="0.02")
    check(store, study, allow_mixed=True)
