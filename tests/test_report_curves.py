"""Curves over the budget, areas and break-even, and sanity checks, as a report shows them."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from rmer.evaluation.attacked import AttackedModel
from rmer.report.contents import Contents
from rmer.report.robustness import readable_areas, readable_robustness, robustness_table
from rmer.report.sections.checks_section import checks_section, sanity_sentence, sanity_table
from rmer.report.sections.curves_section import curves_figure, curves_table

EPSILONS = (0.0, 0.001, 0.01)
LABELS = np.linspace(0.2, 0.6, 6)


def tables(seed: int, slope: float) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Per-clip tables of a model of one target that errs by .05 and ``slope * epsilon`` more under attack."""
    clips = [f"{clip:03d}" for clip in range(6)]
    shift = 0.05 + seed / 1000
    points = [
        pd.DataFrame({"epsilon": epsilon, "clip": clips, "metric": metric, "joy": predictions})
        for epsilon in EPSILONS
        for metric, predictions in {
            "mae": LABELS + shift + slope * epsilon,
            "mae_clipped": LABELS + shift + slope * epsilon / 2,
            "corr": LABELS if epsilon == 0 else -LABELS,
        }.items()
    ]
    table = pd.DataFrame({"clip": clips, "album": ["a", "a", "b", "b", "c", "c"], "label_joy": LABELS})
    return table.assign(clean_joy=LABELS + shift, adv_joy=LABELS + shift), pd.concat(points)


def model(system: str, seed: int, slope: float) -> AttackedModel:
    clips, curve = tables(seed, slope)
    return AttackedModel.from_table(
        clips, name=system, system=system, seed=str(seed), run_id=f"{system}-{seed}", curve=curve
    )


@pytest.fixture
def models() -> list[AttackedModel]:
    return [model(system, seed, slope) for system, slope in (("A2E", 30), ("aA2M2E", 10)) for seed in (0, 2)]


def test_curve_is_the_mean_over_seeds_of_each_metric(models: list[AttackedModel]) -> None:
    table = curves_table({"linf": models, "l2": models[:2]}).set_index(
        ["norm", "system", "metric", "epsilon"]
    )
    # Two seeds whose errors are .050 and .052.
    assert table.loc[("linf", "A2E", "mae", 0.0), "mean"] == pytest.approx(0.051, abs=1e-12)
    assert table.loc[("linf", "A2E", "mae", 0.01), "mean"] == pytest.approx(0.351, abs=1e-12)
    assert table.loc[("linf", "aA2M2E", "mae_clipped", 0.01), "mean"] == pytest.approx(0.101, abs=1e-12)
    assert table.loc[("linf", "A2E", "corr", 0.001), "mean"] == pytest.approx(-1.0, abs=1e-12)
    row = table.loc[("linf", "A2E", "mae", 0.01)]
    # Errors are the same for all clips: only the seeds vary.
    assert (row["low"], row["high"]) == pytest.approx((0.350, 0.352), abs=1e-12)
    assert row["seeds"] == 2
    assert set(table.loc["l2"].index.get_level_values("system")) == {"A2E"}


def test_zero_stands_apart_from_the_log_axis(models: list[AttackedModel]) -> None:
    figure = curves_figure(curves_table({"linf": models, "l2": models}), 0.16, reported=0.01)
    assert len(figure.axes) == 6
    axes = figure.axes[0]
    assert [text.get_text() for text in axes.get_xticklabels()] == ["0", ".001", ".01"]
    assert axes.get_xscale() == "log"
    ticks = axes.get_xticks()
    assert ticks[0] < ticks[1] / 3
    # Lines join attacked scores only; clean ones are markers.
    drawn = {line.get_label(): line for line in axes.lines if not line.get_label().startswith("_")}
    assert set(drawn) == {"A2E", "aA2M2E", "constant predictor"}
    assert len(drawn["A2E"].get_xdata()) == 2
    assert drawn["aA2M2E"].get_linestyle() == "--"


def metrics_of(models: list[AttackedModel], **more: list[float]) -> dict[str, dict[str, float]]:
    """Logged metrics of each run; a value that is NaN was not logged."""
    return {
        item.run_id: {"constant/mae": 0.16, "curve/mae": 1.0}
        | {
            name.replace("__", "/"): values[place]
            for name, values in more.items()
            if values[place] == values[place]
        }
        for place, item in enumerate(models)
    }


def test_robustness_stands_beside_the_constant_predictor(models: list[AttackedModel]) -> None:
    table = robustness_table(models, metrics_of(models))
    text = readable_robustness(table)
    assert text.iloc[0].tolist() == ["constant predictor", "-", ".160", ".160", "-", ".160", ".160", *"----"]
    row = text.set_index("System").loc["A2E"]
    assert row["MAE: clean"] == ".051 ± .001"
    assert row["Correlation: Δ"] == ".000 ± .000"
    assert set(table["metric"]) == {"mae", "mae_clipped", "corr"}


def test_break_even_that_no_budget_reaches_is_larger_than_all(models: list[AttackedModel]) -> None:
    metrics = metrics_of(
        models, auc__mae_clipped=[0.1, 0.3, 0.2, 0.2], breakeven__epsilon=[0.004, 0.006, 0.006, np.nan]
    )
    table = robustness_table(models, metrics)
    rows = readable_areas(table, largest=0.01).set_index("System")
    assert rows.loc["A2E", "Break-even ε"] == ".006 (.004 to .006)"
    assert rows.loc["aA2M2E", "Break-even ε"] == "> .01 (.006 to > .01)"
    assert rows.loc["A2E", "Mean over log ε: MAE, clipped"] == ".200 ± .100"
    assert rows.loc["A2E", "Mean over log ε: MAE"] == "-"


def checks(*rows: tuple[str, float, float, bool | None]) -> pd.DataFrame:
    table = pd.DataFrame(rows, columns=["check", "value", "limit", "passed"]).assign(detail="")
    return table.astype({"passed": "boolean"})


def test_sanity_checks_are_counted_and_failing_runs_named() -> None:
    unjudged = ("transfer", np.nan, np.nan, None)
    runs = {
        "A2E s1": checks(("grows", 0.01, 0.05, True), ("noise", 0.6, 0.5, False), unjudged),
        "A2E s2": checks(("grows", 0.04, 0.05, True), ("noise", 0.9, 0.5, False), unjudged),
        "A2M2E s1": checks(
            ("grows", 0.02, 0.05, True), ("noise", 0.1, 0.5, True), ("transfer", 0.0, 0.1, True)
        ),
    }
    table = sanity_table(runs)
    rows = table.set_index("check")
    assert rows.loc["noise"].tolist() == [1, 2, 0, 0.9, 0.5, "A2E s1, A2E s2"]
    assert rows.loc["grows"].tolist() == [3, 0, 0, 0.04, 0.05, ""]
    assert rows.loc["transfer", ["passed", "not_judged"]].tolist() == [1, 2]
    assert table["check"].iloc[0] == "noise"
    assert sanity_sentence(table).startswith("2 of 7 sanity checks failed, in 2 runs")


def test_sanity_checks_that_all_pass_make_no_headline() -> None:
    runs = {"A2E s1": checks(("grows", 0.01, 0.05, True), ("transfer", np.nan, np.nan, None))}
    assert sanity_sentence(sanity_table(runs)) == ""
    section = checks_section(Contents(checks=runs))
    assert section.paragraphs[0] == "All 1 checks that could be judged passed."
    assert "Never judged, as no run has what they need: transfer." in section.paragraphs


def test_verdicts_are_read_from_text_as_well() -> None:
    table = sanity_table({"A2E s1": checks(("grows", 0.1, 0.05, False)).astype({"passed": str})})
    assert table.loc[0, "failed"] == 1
