"""Names and descriptions of runs, and addresses in the UI: what they say, word for word."""

from __future__ import annotations

import json
from urllib.parse import parse_qs

import pandas as pd
import pytest

from rmer.stages.descriptions import attacked_result, description, trained_result, worst_clip
from rmer.stages.prepared_views import attacks_view, models_view
from rmer.stages.run_names import LONGEST, budget_name, run_name
from rmer.stages.score_logging import log_scores
from rmer.tracking import Artifact, RunSpec, Stage, Store
from rmer.tracking.ui import LOCAL, SHARED, comparison_page, run_page


@pytest.mark.parametrize(
    ("parts", "name"),
    [
        (("A2M2E", "s6"), "A2M2E s6"),
        (("A2M2E", "", "suite", ".01"), "A2M2E suite .01"),
        (("aA2B2E", "s2451", "bridge", ".001"), "aA2B2E s2451 bridge .001"),
        (("aA2B2E", "s2451", "published", ".001"), "aA2B2E s2451 publi… .001"),
        (("A2Levels of my own kind", "s2147483647", "minimum_norm", "L2 .01"), "A2Le… s214… mini… L2 .01"),
    ],
)
def test_a_name_keeps_every_part_within_what_a_list_shows(parts: tuple[str, ...], name: str) -> None:
    assert len(run_name(*parts)) <= LONGEST
    assert run_name(*parts) == name


@pytest.mark.parametrize(
    ("norm", "size", "on_sound", "name"),
    [
        ("linf", 0.01, False, ".01"),
        ("l2", 0.01, False, "L2 .01"),
        ("linf", 1.5, False, "1.5"),
        ("linf", 10.0, False, "10"),
        ("masking", -6.0, True, "-6dB"),
        ("snr", 40.0, True, "snr 40dB"),
    ],
)
def test_a_budget_names_its_norm_unless_it_is_the_usual_one(
    norm: str, size: float, on_sound: bool, name: str
) -> None:
    assert budget_name(norm, size, on_sound=on_sound) == name


def test_a_description_begins_with_what_links_and_result() -> None:
    text = description("A2E, seed 6", "Well done.", {"data": "#/a", "clips": "#/b"}, ["More."])
    assert text == "**A2E, seed 6.** [data](#/a) · [clips](#/b)  \nWell done.\n\nMore.\n"


def test_results_stand_beside_the_constant_predictor_where_it_is_known() -> None:
    metrics = {"test/emotion/corr": 0.625, "test/emotion/mae": 0.1051}
    assert trained_result(metrics) == "Test clips: correlation .62, MAE .105."
    metrics = {"clean/mae": 0.1, "adv/mae": 0.4321, "clean/corr": 0.5, "adv/corr": -0.314}
    expected = "MAE .100 → .432, correlation .50 → -.31 (always predicting the mean: MAE .160)."
    assert attacked_result({**metrics, "constant/mae": 0.16}) == expected


def test_the_clip_whose_error_grew_most_is_not_the_one_of_the_largest_error() -> None:
    table = pd.DataFrame(
        {"clip": ["001", "002"], "label_joy": [0.0, 0.0], "clean_joy": [0.8, 0.1], "adv_joy": [0.9, -0.5]}
    )
    assert worst_clip(table, ["joy"]) == "Suffers most: clip 002, MAE .100 → .500."


def test_pages_open_among_trained_models() -> None:
    assert run_page("1", "abc") == "#/experiments/1/runs/abc?workflowType=machine_learning"
    file = run_page("1", "abc", "figures/a b.png")
    assert file == "#/experiments/1/runs/abc/artifacts/figures/a%20b.png?workflowType=machine_learning"
    given = parse_qs(comparison_page(["a", "b"], ["1", "1"]).partition("?")[2])
    assert {name: json.loads(given[name][0]) for name in ("runs", "experiments")} == {
        "runs": ["a", "b"],
        "experiments": ["1"],
    }


def test_a_prepared_list_says_what_it_selects_sorts_and_shows() -> None:
    view = models_view("my study")
    state = json.loads(view.state)
    assert state["searchFilter"] == "tags.`rmer.stage` = 'train' AND tags.`rmer.study` = 'my study'"
    assert (state["orderByKey"], state["orderByAsc"]) == ("metrics.`test/emotion/corr`", False)
    assert state["selectedColumns"][0] == state["orderByKey"]
    assert "tags.`rmer.system`" in state["selectedColumns"]
    plain = parse_qs(view.plain_page("1").partition("?")[2])
    assert plain["searchFilter"] == [state["searchFilter"]]
    assert plain["orderByAsc"] == ["false"]


def test_lists_of_studies_that_look_alike_in_an_address_have_keys_of_their_own() -> None:
    keys = {view(study).key for view in (models_view, attacks_view) for study in ("", "a_b", "a b", "a/b")}
    assert len(keys) == 8


def test_a_list_is_kept_by_its_experiment_or_opens_without_columns(store: Store) -> None:
    view = models_view("mine")
    address = store.prepare(view, store.experiment_id)
    assert address == f"{LOCAL}/{view.shared_page(store.experiment_id)}"
    tags = store.client.get_experiment(store.experiment_id).tags
    assert tags[f"{SHARED}rmer-models-mine"] == view.state
    assert store.prepare(view, "404") == f"{LOCAL}/{view.plain_page('404')}", "which cannot be tagged"


def test_scores_of_single_targets_are_a_table_and_those_of_the_test_metrics_too(store: Store) -> None:
    scores = {
        "test/emotion/mae": 0.1,
        "test/joy/mae": 0.2,
        "test/joy/r2": 0.3,
        "train/joy/mae": 0.4,
        "test/mode/mae": 0.5,
        "adv/joy/corr": 0.6,
    }
    spec = RunSpec(Stage.TRAIN, "A2E s6", {"seed": 6})
    outcome = store.perform(spec, lambda run: log_scores(run, scores, ["joy"], ["mode"]))
    logged = store.get(outcome.run_id).metrics
    assert logged == {name: scores[name] for name in ("test/emotion/mae", "test/joy/mae", "adv/joy/corr")}
    table = store.read_table(outcome.run_id, Artifact.SCORES).set_index(["group", "target"])
    assert len(table) == 4
    assert table.loc[("test", "joy"), ["mae", "r2"]].tolist() == [0.2, 0.3]
    assert table.loc[("test", "mode"), "mae"] == 0.5
