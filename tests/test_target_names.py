"""The rule by which targets of any heading are named, and that stores take the names."""

from __future__ import annotations

import pytest

from rmer.data.tables.target_names import asked_for, metric_name, metric_names
from rmer.tracking import RunSpec, Stage, Store


@pytest.mark.parametrize(
    ("heading", "name"),
    [
        ("valence", "valence"),
        ("Arousal(mean)", "Arousal_mean"),
        ("joyful activation", "joyful activation"),
        ("Freude / Glück", "Freude_Glück"),
        ("a\u0308rger", "ärger"),
        ("喜び", "喜び"),
        ("4Q", "target_4Q"),
        ("mode", "target_mode"),
        ("clip", "target_clip"),
        ("__x__", "x"),
        ("!?", "target"),
        ("mood/theme---sad", "mood_theme---sad"),
    ],
)
def test_a_heading_is_named_by_the_rule(heading: str, name: str) -> None:
    assert metric_name(heading) == name
    assert metric_name(name) == name, "the rule leaves its own names alone"


def test_headings_that_would_be_called_alike_are_told_apart() -> None:
    names = metric_names(["a!", "a?", "A", "b"])
    assert len({name.casefold() for name in names.values()}) == 4
    assert names["b"] == "b"
    assert all(name.casefold().startswith("a_") for heading, name in names.items() if heading != "b")


def test_a_heading_with_a_comma_stands_in_quotes() -> None:
    names = {"valence": "valence", "v, mean": "v_mean", "y, z": "x"}
    assert asked_for('valence, "v, mean", "x=y, z"') == names


def test_a_store_keeps_and_finds_metrics_of_any_target(store: Store) -> None:
    names = [
        metric_name(heading)
        for heading in ("喜び", "Freude / Glück", "joyful activation", "mood/theme---sad")
    ]
    values = {f"test/{name}/mae": 0.1 * (k + 1) for k, name in enumerate(names)}
    outcome = store.perform(RunSpec(Stage.TRAIN, "named", {"x": 1}), lambda run: run.metrics(values))
    assert store.get(outcome.run_id).metrics.items() >= values.items()
    for metric, value in values.items():
        found = store.client.search_runs([store.experiment_id], f"metrics.`{metric}` > {value - 0.01}")
        assert [run.info.run_id for run in found] == [outcome.run_id]
