"""Analysis of suites of attacks: what belongs together, which adversaries scores are of, protocol steps."""

from __future__ import annotations

import pandas as pd
import pytest
from attack_runs import PASSED, attack_run, suite_run

from rmer.errors import UserError
from rmer.evaluation.protocol_steps import STEPS, ProtocolStep
from rmer.report.contents import Contents
from rmer.report.sections.protocol_steps_section import (
    best,
    budget_held,
    protocol_steps_figure,
    protocol_steps_section,
)
from rmer.stages.analysis.analyze import Analysis, analyze
from rmer.stages.analysis.analyze_params import AnalyzeParams
from rmer.stages.analysis.protocol_step_runs import find_protocol_steps
from rmer.stages.analysis.reading import read_runs
from rmer.stages.analysis.selection import Selected, select_attack_runs
from rmer.tracking import Store

DAMAGE = {"A2E": 0.2, "A2B2E": 0.19, "A2M2E": 0.05, "placebo": 0.06}
FAILED = PASSED.assign(passed=pd.array([False, True, None], dtype="boolean"))


@pytest.fixture(scope="module")
def store(lasting_store: Store) -> Store:
    """A store in which every test has a study of its own; the study main holds a whole evaluation."""
    for system, damage in DAMAGE.items():
        for seed in (1, 2):
            sanity = FAILED if (system, seed) == ("A2E", 2) else PASSED
            suite_run(lasting_store, "main", system, seed, damage=damage + seed / 1000, sanity=sanity)
    suite_run(lasting_store, "main", "A2M2E", 1, damage=0.1, norm="l2")
    return lasting_store


@pytest.fixture(scope="module")
def analysis(store: Store) -> Analysis:
    return analyze(store, AnalyzeParams(study="main"))


def select(store: Store, study: str, **params: str) -> list[Selected]:
    tags = AnalyzeParams(study=study, **params).tags()  # type: ignore[arg-type]
    return select_attack_runs(store, tags, study=study, systems=[], where={}, allow_mixed=False)


def test_both_norms_of_a_suite_are_one_evaluation(store: Store) -> None:
    selected = select(store, "main")
    assert len(selected) == 9
    runs = read_runs(store, selected)
    assert {norm: len(models) for norm, models in runs.groups.items()} == {"linf": 8, "l2": 1}
    assert next(iter(runs.groups)) == "linf"
    assert len(select(store, "main", norm="l2")) == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tier": "paper"}, r"tier: paper \(1 runs\), quick \(1 runs\)"),
        ({"cfg_epsilons": "0.01,0.1"}, r"epsilons: "),
        ({"epsilon": "0.02"}, r"epsilon: 0.01 \(1 runs\), 0.02 \(1 runs\)"),
        ({"train_protocol": "published"}, r"train_protocol: "),
    ],
)
def test_refuses_to_mix_suites(store: Store, study: str, change: dict[str, str], message: str) -> None:
    suite_run(store, study, "A2E", 1)
    suite_run(store, study, "A2M2E", 1, **change)
    with pytest.raises(UserError, match=message):
        select(store, study)


def test_refuses_to_mix_a_suite_with_a_single_attack(store: Store, study: str) -> None:
    suite_run(store, study, "A2E", 1)
    attack_run(store, study, "A2M2E", 1)
    with pytest.raises(UserError, match=r"attack: pgd \(1 runs\), suite \(1 runs\)"):
        select(store, study)
    assert [item.system for item in select(store, study, attack="suite")] == ["A2E"]


def test_another_surrogate_of_the_transfer_control_is_no_mixture(store: Store, study: str) -> None:
    suite_run(store, study, "A2E", 1, cfg_source_system="A2M2E", cfg_source_model="abc")
    suite_run(store, study, "A2M2E", 1, cfg_source_system="A2E", cfg_source_model="def")
    assert len(select(store, study)) == 2


def test_scores_are_of_the_adversaries_that_are_worst_for_each(store: Store, analysis: Analysis) -> None:
    table = analysis.tables["robustness"].set_index(["norm", "system", "metric"])
    for system in DAMAGE:
        runs = store.find("attack", {"rmer.system": system, "rmer.norm": "linf"}, "main")
        for metric in ("mae", "mae_clipped", "corr"):
            logged = sum(record.metrics[f"adv/{metric}"] for record in runs) / len(runs)
            assert table.loc[("linf", system, metric), "adv"] == pytest.approx(logged, abs=1e-9)
    # Adversaries worst for raw MAE go three times as far.
    gains = [table.loc[("linf", "A2M2E", metric), "delta"] for metric in ("mae", "mae_clipped")]
    assert gains[0] > 2 * gains[1]


def test_the_answer_stands_first_and_failed_checks_last(analysis: Analysis) -> None:
    headline = analysis.report.headline
    assert len(analysis.report.answer) == 3
    assert analysis.report.answer[0].startswith("Is the interpretable system (A2M2E) more robust than")
    assert [name for name, _ in analysis.report.legend] == ["A2E", "A2B2E", "A2M2E", "placebo"]
    assert (
        "Is the interpretable system (A2M2E) more robust than the black boxes A2E and A2B2E?" in headline[0]
    )
    assert "by clipped MAE, more robust than A2E and not distinguishable from A2B2E" in headline[0]
    assert "L-inf .01: A2E - A2M2E .1" in headline[1]
    assert any(sentence.startswith("Control: A2M2E is") for sentence in headline)
    assert headline[-1].startswith("1 of 18 sanity checks failed, in 1 run:")
    comparisons = analysis.tables["comparisons"]
    assert comparisons["a"].tolist() == ["A2E", "A2B2E", "placebo"] * 2
    assert (comparisons["albums"] == 6).all()


def test_what_the_analysis_of_a_suite_logs(store: Store, analysis: Analysis) -> None:
    run_id = analysis.outcome.run_id
    curves = store.read_table(run_id, "tables/curves.csv")
    assert set(curves["norm"]) == {"linf", "l2"}
    assert sorted(set(curves["epsilon"])) == [0.0, 0.002, 0.01, 0.05]
    at = curves[(curves["epsilon"] == 0.01) & (curves["norm"] == "linf")].set_index(["system", "metric"])
    robustness = store.read_table(run_id, "tables/robustness.csv")
    robustness = robustness[robustness["norm"] == "linf"].set_index(["system", "metric"])
    for key in robustness.index:
        assert at.loc[key, "mean"] == pytest.approx(robustness.loc[key, "adv"], abs=1e-9)
    for path in (
        "tables/sanity.csv",
        "tables/protocol_steps.csv",
        "figures/curves.svg",
        "figures/differences.png",
    ):
        assert store.download(run_id, path).stat().st_size > 100
    page = store.download(run_id, "report.html").read_text()
    assert "Gradients were computed in float32, so there is nothing to compare." in page
    for title in ("Corrected comparison", "Over the budget", "Sanity checks", "From the published study"):
        assert f"<h2>{title}" in page
    metrics = store.get(run_id).metrics
    assert metrics["versus/A2M2E delta_mae_clipped"] == pytest.approx(
        robustness.loc[("A2M2E", "mae_clipped"), "delta"]
    )
    assert metrics["versus/A2E - A2M2E delta_mae_clipped_p_holm"] < 0.05


def test_margins_and_reference_make_another_analysis(store: Store, analysis: Analysis) -> None:
    other = analyze(store, AnalyzeParams(study="main", margin_mae=0.5, reference="placebo"))
    assert other.outcome.run_id != analysis.outcome.run_id
    rows = other.tables["comparisons"].set_index(["endpoint", "a"])
    assert set(rows["b"]) == {"placebo"}
    assert bool(rows.loc[("delta/mae_clipped", "A2M2E"), "equivalent"])


def steps_of(store: Store, study: str, **params: str) -> list[ProtocolStep]:
    runs = read_runs(store, select(store, study, **params))
    chosen = [item.record for item in runs.chosen]
    return find_protocol_steps(store, chosen, study=study, further=[f"{study} more"], systems=[])[0]


def test_steps_are_found_in_all_studies_that_are_named(store: Store, study: str) -> None:
    before = {"train_protocol": "published", "split_scheme": "published"}
    bridge = {**before, "attack_protocol": "bridge", "attack": "bridge", "epsilon": "0.001"}
    for system in ("A2E", "A2M2E"):
        attack_run(store, f"{study} more", system, **bridge)
        suite_run(store, study, system, 1, epsilons=(0.001, 0.01), **before)
        attack_run(store, study, system, **before)
        suite_run(store, study, system, 1, damage=DAMAGE[system])
    steps = steps_of(store, study, train_protocol="corrected")
    assert [(step.title, step.attack, step.missing) for step in steps] == [
        ("as published", "", True),
        ("bridge", "bridge", False),
        ("corrected attack", "suite", False),
        ("corrected attack", "suite", False),
        ("corrected training and attack", "suite", False),
        ("audible domain", "", True),
    ]
    # The attack changes at the bridge's budget, then the budget.
    assert [step.epsilon for step in steps[1:-1]] == [0.001, 0.001, 0.01, 0.01]
    assert steps[3].changes == ["ε .001 to .01"]
    assert "other clips or ratings" in steps[2].changes
    assert "split scheme published to album" in steps[4].changes
    assert [budget_held(step) for step in steps] == ["-", "held", "held", "held", "held", "-"]
    at, after = (
        step.scores.set_index(["system", "metric"]).loc[("A2E", "mae")] for step in (steps[2], steps[3])
    )
    assert at["adv"] < after["adv"]
    assert at["delta"] == pytest.approx(at["adv"] - at["clean"])
    assert best(steps[4], "mae_clipped").startswith("A2M2E")


def test_missing_steps_are_said_to_be_missing(store: Store, study: str) -> None:
    suite_run(store, study, "A2E", 1)
    steps = steps_of(store, study)
    section = protocol_steps_section(Contents(steps=steps))
    assert "Without runs: as published; bridge; corrected attack; audible domain." in section.paragraphs[0]
    assert section.tables[0].frame["Budget"].tolist() == ["no runs", "no runs", "no runs", "held", "no runs"]
    assert section.figures == {}


def scores(**attacked: float) -> pd.DataFrame:
    rows = [
        {"system": system, "seeds": 2, "metric": metric, "clean": 0.1, "adv": value, "delta": value - 0.1}
        for system, value in attacked.items()
        for metric in ("mae_clipped", "mae", "corr")
    ]
    return pd.DataFrame(rows).assign(clean_std=0.0, adv_std=0.0, delta_std=0.0)


def test_best_system_by_the_direction_of_each_metric() -> None:
    step = ProtocolStep(
        "bridge", "published", "bridge", scores=scores(A2E=0.3, A2M2E=0.2, aA2E=0.1, placebo=float("nan"))
    )
    assert best(step, "mae") == "A2M2E .20 (all: aA2E .10)"
    assert best(step, "corr") == "A2E .30"
    assert best(ProtocolStep("bridge", "published", "bridge"), "mae") == "-"


def test_a_broken_budget_is_said_in_words() -> None:
    found = ProtocolStep(
        "as published", "published", "published", attack="published", epsilon=0.001, violations=1790,
        perturbations=1800, scores=scores(A2E=0.3),
    )  # fmt: skip
    missing = [
        ProtocolStep(title, *protocols) for protocols, title in STEPS.items() if title != "as published"
    ]
    section = protocol_steps_section(Contents(steps=[found, *missing]))
    assert section.paragraphs[0].startswith("No budget held in: as published")
    assert section.tables[0].frame["Budget"].iloc[0] == "did not hold: 1790 of 1800 exceed it"
    texts = [text.get_text() for text in protocol_steps_figure([found, *missing]).axes[0].texts]
    assert texts == ["no runs"] * 4


def test_a_run_without_its_curve_is_named(store: Store, study: str) -> None:
    run_id = suite_run(store, study, "A2E", 1)
    store.download(run_id, "tables/curve_clips.csv").unlink()
    with pytest.raises(UserError, match=run_id):
        analyze(store, AnalyzeParams(study=study))
