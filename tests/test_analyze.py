"""Analysis by tags: the published numbers to the digit, and what it refuses to mix."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from attack_runs import attack_run, train_run
from servers import new_store

from rmer.errors import UserError
from rmer.report.readable import markdown
from rmer.stages.analysis.analyze import Analysis, analyze
from rmer.stages.analysis.analyze_params import AnalyzeParams
from rmer.stages.analysis.selection import Selected, select_attack_runs
from rmer.stages.import_published import ImportParams, import_published
from rmer.tracking import RunRecord, Store, Tag

# Section 6 of the study's description: mean and population standard deviation over 10 seeds.
COLUMNS = (
    "clean_corr", "clean_corr_std", "clean_mae", "clean_mae_std", "adv_corr", "adv_corr_std",
    "adv_mae", "adv_mae_std", "delta_mae", "delta_mae_std", "delta_mae_median", "adv_mae_clipped",
)  # fmt: skip
PUBLISHED = {
    "A2E": (0.7324, 0.0154, 0.0957, 0.0051, -0.3203, 0.0874, 1.7861, 0.318, 1.6904, 0.3164, 1.6178, 0.5024),
    "A2B2E": (0.6958, 0.0159, 0.1068, 0.0107, -0.3556, 0.0845,
              2.0286, 0.9324, 1.9218, 0.9234, 1.5151, 0.5043),
    "A2M2E": (0.6805, 0.0246, 0.1105, 0.0059, -0.4938, 0.0852,
              1.1578, 0.2136, 1.0473, 0.2142, 0.9789, 0.5111),
    "aA2E": (0.6799, 0.0253, 0.1021, 0.0042, -0.3655, 0.0924, 1.0841, 0.0691, 0.982, 0.0682, 0.9742, 0.489),
    "aA2B2E": (0.6672, 0.0264, 0.1051, 0.0044, -0.4203, 0.1332,
               1.1131, 0.0648, 1.008, 0.0658, 0.9978, 0.5077),
}  # fmt: skip


@pytest.fixture(scope="module")
def imported(shared: Path, lasting_store: Store, tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A store with the published logs alone."""
    store = new_store(tmp_path_factory.mktemp("imported"))
    import_published(store, ImportParams(source=str(shared / "published-runs")))
    return store


@pytest.fixture(scope="module")
def published(imported: Store) -> Analysis:
    """The analysis of the published logs."""
    return analyze(imported, AnalyzeParams())


@pytest.fixture(scope="module")
def store(lasting_store: Store) -> Store:
    return lasting_store


def test_published_numbers_to_every_digit(imported: Store, published: Analysis) -> None:
    table = imported.read_table(published.outcome.run_id, "tables/systems.csv")
    assert table["seeds"].tolist() == [10] * 5
    assert table["system"].tolist() == list(PUBLISHED)
    found = table.set_index("system")[list(COLUMNS)].round(4)
    for system, expected in PUBLISHED.items():
        assert tuple(found.loc[system]) == expected


def test_published_tests(imported: Store, published: Analysis) -> None:
    keys = ["test", "metric", "a", "b"]
    table = imported.read_table(published.outcome.run_id, "tables/tests.csv").set_index(keys)
    for test, metric, a, n, p, tolerance in (
        ("paired_t_pooled", "adv/mae", "A2E", 360, 4.567e-32, 2e-4),
        ("paired_t_pooled", "adv/mae", "A2B2E", 360, 1.695e-28, 2e-4),
        ("paired_t_seeds", "adv/mae", "A2E", 10, 0.00256, 5e-3),
        ("paired_t_seeds", "adv/mae", "A2B2E", 10, 0.0239, 5e-3),
        ("welch_seeds", "adv/mae", "A2E", 20, 0.000161, 5e-3),
        ("welch_seeds", "adv/mae", "A2B2E", 20, 0.0213, 5e-3),
        ("welch_seeds", "adv/mae_clipped", "A2E", 20, 0.54, 9e-3),
    ):
        row = table.loc[(test, metric, a, "A2M2E")]
        assert (row["n"], row["p"]) == (n, pytest.approx(p, rel=tolerance)), (test, metric, a)
    pooled = table.loc[("paired_t_pooled", "adv/mae", ["A2E", "A2B2E"], "A2M2E"), "statistic"]
    assert pooled.round(4).tolist() == [13.0352, 12.0990]


def test_table_1_as_the_logs_round(published: Analysis) -> None:
    for row in (
        "A2E (2019) | - | .76 | -",
        "A2M2E (2019) | - | .75 | -",
        "A2E | 10 | .73 ± .02 | .10 ± .01",
        "A2B2E | 10 | .70 ± .02 | .11 ± .01",
        "A2M2E | 10 | .68 ± .02 | .11 ± .01",
        "aA2E | 10 | .68 ± .03 | .10 ± .00",
        "aA2B2E | 10 | .67 ± .03 | .11 ± .00",
    ):
        assert row in " ".join(markdown(published.report.systems).split())


def test_what_an_analysis_logs(imported: Store, published: Analysis) -> None:
    run_id = published.outcome.run_id
    for path in (
        "report.html", "tables/systems.md", "tables/systems.tex", "tables/attacks.csv",
        *(f"figures/{name}.{form}" for name in ("summary", "diff_performance", "true_vs_pred")
          for form in ("png", "svg")),
    ):  # fmt: skip
        assert imported.download(run_id, path).stat().st_size > 400
    record = imported.get(run_id)
    assert record.metrics["versus/A2M2E adv_mae"] == pytest.approx(1.1578, abs=5e-5)
    assert record.tags[Tag.STAGE] == "analyze"
    assert record.tags[Tag.ATTACK] == "published"
    assert "| A2M2E" in record.tags["mlflow.note.content"]
    attacks = imported.read_table(run_id, "tables/attacks.csv").set_index("system")
    assert attacks["violations"].sum() == 1790
    runs = imported.read_table(run_id, "tables/runs.csv")
    assert set(runs["run_id"]) == {found.run_id for found in imported.find("attack")}
    assert imported.download(run_id, "report.html").read_text().count(runs["train_run_id"][7]) == 1


def test_the_same_runs_are_analysed_once(imported: Store, published: Analysis) -> None:
    again = analyze(imported, AnalyzeParams())
    assert again.outcome.skipped
    assert again.outcome.run_id == published.outcome.run_id
    assert again.report.headline == published.report.headline
    other = analyze(imported, AnalyzeParams(emotions="happy", systems="A2E,A2M2E"))
    assert other.outcome.run_id != published.outcome.run_id
    assert other.systems["system"].tolist() == ["A2E", "A2M2E"]


def select(store: Store, study: str, *, allow_mixed: bool = False, **params: Any) -> list[Selected]:
    chosen = AnalyzeParams(**params)
    return select_attack_runs(
        store, chosen.tags(), study=study, systems=[], where=chosen.settings(), allow_mixed=allow_mixed
    )


def names(selected: list[Selected]) -> list[str]:
    return sorted(item.name for item in selected)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("origin", "imported"), ("train_protocol", "published"), ("attack_protocol", "bridge"),
        ("attack", "bridge"), ("norm", "l2"), ("epsilon", "0.02"), ("split", "validation"),
        ("split_scheme", "published"), ("dataset", "d2"), ("attack_seed", "22"),
    ],
)  # fmt: skip
def test_refuses_to_mix_unless_narrowed_or_told(store: Store, study: str, name: str, value: str) -> None:
    attack_run(store, study, "A2E")
    attack_run(store, study, "A2M2E", **{name: value})
    with pytest.raises(UserError, match=f"{name}: ") as caught:
        select(store, study)
    assert f"{value} (1 runs)" in str(caught.value)
    assert f"Narrow with {name};" in str(caught.value)
    narrow: dict[str, Any] = {name: float(value) if name == "epsilon" else value}
    assert names(select(store, study, **narrow)) == ["A2M2E"]
    assert f"A2M2E {value}" in names(select(store, study, allow_mixed=True))


def test_refuses_to_mix_settings_of_one_attack(store: Store, study: str) -> None:
    attack_run(store, study, "A2E", cfg_steps=40, cfg_device="cpu")
    attack_run(store, study, "A2M2E", cfg_steps=10, cfg_device="cuda")
    with pytest.raises(UserError) as caught:
        select(store, study)
    assert str(caught.value) == (
        f"{store.name}: the attack runs found are not alike: steps: 10 (1 runs), 40 (1 runs). Narrow with "
        "where=steps=10; allow_mixed=true compares them side by side"
    )
    assert names(select(store, study, where="steps=10")) == ["A2M2E"]
    assert names(select(store, study, allow_mixed=True)) == ["A2E steps 40", "A2M2E steps 10"]


def test_a_setting_that_some_runs_lack_is_a_difference(store: Store, study: str) -> None:
    attack_run(store, study, "A2E")
    attack_run(store, study, "A2M2E", cfg_momentum=0.9)
    with pytest.raises(UserError, match=r"momentum: \(none\) \(1 runs\), 0\.9 \(1 runs\)"):
        select(store, study)
    assert names(select(store, study, where="momentum=(none)")) == ["A2E"]


def test_settings_of_each_attack_are_compared_where_attacks_are_mixed(store: Store, study: str) -> None:
    for seed, steps in ((1, 40), (2, 10)):
        attack_run(store, study, "A2E", seed, cfg_steps=steps)
        attack_run(store, study, "A2E", seed, attack="apgd", cfg_steps=100)
    assert names(select(store, study, allow_mixed=True)) == [
        "A2E apgd steps 100", "A2E apgd steps 100", "A2E pgd steps 10", "A2E pgd steps 40",
    ]  # fmt: skip


def trained_and_attacked(store: Store, study: str, system: str, seed: int, **training: Any) -> None:
    attack_run(store, study, system, seed, train_run_id=train_run(store, study, system, seed, **training))


@pytest.mark.parametrize(
    ("first", "second", "found"),
    [
        ({"weight_decay": 0.1}, {"weight_decay": 0.2}, "weight_decay: 0.1 (1 runs), 0.2 (1 runs)"),
        ({}, {"weight_decay": 0.2}, "weight_decay: (none) (1 runs), 0.2 (1 runs)"),
        ({"lr": 0.1}, {"lr": 0.2}, "lr: 0.1 (1 runs), 0.2 (1 runs)"),
        ({"emotion_weight": 1}, {"emotion_weight": 0.5}, "emotion_weight: 0.5 (1 runs), 1 (1 runs)"),
        ({"drop_last": True}, {}, "drop_last: false (1 runs), true (1 runs)"),
    ],
)
def test_seeds_of_different_trainings_are_not_pooled(
    store: Store, study: str, first: dict[str, Any], second: dict[str, Any], found: str
) -> None:
    for seed, training in enumerate((first, second), start=1):
        trained_and_attacked(store, study, "A2E", seed, **training)
    name, value = found.split(": ")[0], str(second.get(found.split(": ")[0], "false"))
    with pytest.raises(UserError) as caught:
        select(store, study)
    assert str(caught.value) == (
        f"{store.name}: the attack runs found are not alike: training.{found}. Narrow with "
        f"where=training.{name}={value}; allow_mixed=true compares them side by side"
    )
    (kept,) = select(store, study, where=f"training.{name}={value}")
    assert kept.seed == "2"
    assert len(set(names(select(store, study, allow_mixed=True)))) == 2, "not two seeds of one system"


def test_systems_of_different_trainings_are_not_compared(store: Store, study: str) -> None:
    trained_and_attacked(store, study, "A2E", 1)
    trained_and_attacked(store, study, "A2M2E", 1, weight_decay=0.1)
    with pytest.raises(UserError, match=r"training\.weight_decay: \(none\) \(1 runs\), 0\.1 \(1 runs\)"):
        select(store, study)


def test_adversarially_trained_systems_agree_in_how(store: Store, study: str) -> None:
    trained_and_attacked(store, study, "aA2E", 1)
    trained_and_attacked(store, study, "aA2B2E", 1, adversarial_epsilon=0.05)
    with pytest.raises(UserError, match=r"not alike: training\.adversarial_epsilon: 0\.02 \(1 runs\), 0\.05"):
        select(store, study)


def test_what_makes_a_system_or_a_seed_is_no_difference_of_training(store: Store, study: str) -> None:
    systems = ("A2E", "A2B2E", "A2M2E", "aA2E", "aA2M2E", "placebo")
    for system in systems:
        for seed in (1, 2):
            trained_and_attacked(store, study, system, seed)
    assert sorted(set(names(select(store, study)))) == sorted(systems)


def test_of_a_deleted_training_counts_what_the_attack_run_says(store: Store, study: str) -> None:
    attack_run(store, study, "A2E", 1, cfg_training="epochs 1, lr 0.1")
    attack_run(store, study, "A2E", 2, cfg_training="epochs 2, lr 0.1")
    with pytest.raises(UserError, match=r"not alike: training: epochs 1, lr 0\.1 \(1 runs\), epochs 2"):
        select(store, study)
    assert [item.seed for item in select(store, study, where="training=epochs 2, lr 0.1")] == ["2"]


def test_a_store_that_goes_away_is_no_deleted_training(
    store: Store, study: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    attack_run(store, study)

    def away(run_id: str) -> RunRecord:
        raise UserError("the tracking store does not answer")

    monkeypatch.setattr(store, "get", away)
    with pytest.raises(UserError, match="does not answer"):
        select(store, study)


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("steps=11", "no attack run found has steps=11. Its values are 40"),
        (
            "stepz=40",
            "no attack run found has a setting stepz. Did you mean steps? Known are momentum, steps",
        ),
    ],
)
def test_settings_that_no_run_has(store: Store, study: str, where: str, message: str) -> None:
    attack_run(store, study, cfg_momentum=0.9)
    with pytest.raises(UserError) as caught:
        select(store, study, where=where)
    assert str(caught.value) == f"{store.name}: {message}"


def test_settings_are_named_with_values() -> None:
    where = AnalyzeParams(where="loss=l1,mse, epsilons=0.01,0.02,steps=40").settings()
    assert where == {"loss": "l1,mse", "epsilons": "0.01,0.02", "steps": "40"}
    with pytest.raises(UserError) as caught:
        AnalyzeParams(where="40")
    assert str(caught.value) == (
        "parameter where: '40' names no settings. Give them as name=value, separated by commas"
    )


def test_refuses_a_system_and_seed_that_occur_twice(store: Store, study: str) -> None:
    attack_run(store, study)
    newest = attack_run(store, study, cfg_model="another")
    with pytest.raises(UserError, match="A2E seed 1 does in runs") as caught:
        select(store, study)
    assert f"{newest} (study {study}, trained in trained-A2E-1)" in str(caught.value)
    assert [item.record.run_id for item in select(store, study, allow_mixed=True)] == [newest]


def test_imported_and_computed_side_by_side(store: Store, study: str) -> None:
    for seed in (1, 2):
        attack_run(store, study, "A2M2E", seed)
        attack_run(store, study, "A2M2E", seed, origin="imported")
    analysis = analyze(store, AnalyzeParams(study=study, allow_mixed=True))
    assert analysis.systems["system"].tolist() == ["A2M2E computed", "A2M2E imported"]
    assert analysis.systems["seeds"].tolist() == [2, 2]
    assert "versus/A2M2E imported adv_mae" in store.get(analysis.outcome.run_id).metrics


def test_unfinished_runs_do_not_count(store: Store, study: str) -> None:
    finished = attack_run(store, study)
    store.client.set_terminated(attack_run(store, study, seed=2), "FAILED")
    assert [item.record.run_id for item in select(store, study)] == [finished]


def test_a_model_without_a_seed_counts_as_one(store: Store, study: str) -> None:
    store.set_tags(attack_run(store, study, "my-model"), {Tag.SEED: ""})
    systems = analyze(store, AnalyzeParams(study=study)).systems
    assert systems[["system", "seeds"]].to_numpy().tolist() == [["my-model", 1]]


def test_published_runs_keep_their_report_and_gain_the_corrected_comparison(published: Analysis) -> None:
    headline = published.report.headline
    assert headline[0] == "Best by raw adversarial MAE: aA2E (1.08 ± .07)."
    assert any("raw MAE lower (p = 1.6e-04), clipped MAE not clearly different" in text for text in headline)
    rows = published.tables["comparisons"].set_index(["endpoint", "a"])
    deltas = published.tables["robustness"].set_index(["system", "metric"])["delta"]
    row = rows.loc[("delta/mae_clipped", "A2E")]
    # Clipped, the systems do not differ.
    expected = deltas["A2E", "mae_clipped"] - deltas["A2M2E", "mae_clipped"]
    assert row["difference"] == pytest.approx(expected, abs=1e-12)
    assert abs(expected) < 0.01
    assert row["p_holm"] == 1.0
    assert row["albums"] == 36  # the logs name none: every clip is an album of its own
    steps = published.tables["protocol_steps"].drop_duplicates("step")
    assert steps["budget_held"].tolist() == ["did not hold: 1790 exceed it", "-", "-", "-", "-"]
    assert any(section.title.startswith("Published test") for section in published.report.sections)
