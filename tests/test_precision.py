"""PrecisionPair with bfloat16 gradients beside those with float32 ones: comparison, price and report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from networks import linear_regressor
from regressors import CELLS, spectrograms, trained
from torch import Tensor, nn

from rmer.attacks.apgd import APGD
from rmer.attacks.ascent import POLISHING, climb
from rmer.attacks.losses import absolute_error
from rmer.attacks.method import Aim
from rmer.attacks.objectives import ErrorObjective
from rmer.attacks.problem import Problem
from rmer.attacks.search import L1, Best
from rmer.attacks.suite import TIERS, white_box
from rmer.attacks.threat import Threat
from rmer.data.dataset import EMOTIONS
from rmer.evaluation.budgets import Point, sweep
from rmer.evaluation.checks.measurements import AttackedScores, Measurements, NotMeasuredError, PrecisionPair
from rmer.evaluation.checks.sanity import CHECKS
from rmer.evaluation.gradient_precision import (
    COMPARED,
    PrecisionCheck,
    compare_precisions,
    comparison_cost,
    precision_table,
)
from rmer.evaluation.metrics import clip_errors
from rmer.evaluation.subject import Subject
from rmer.report.contents import Contents
from rmer.report.sections import gradient_precision_section as report
from rmer.stages.attack.attack_params import AttackParams
from rmer.stages.attack.attack_setup import gradients_of_run
from rmer.systems.frozen import FrozenNetwork
from rmer.systems.network import Prediction

# Within the largest one predictions leave the rating scale, so that clipped MAE has adversaries of its own.
EPSILONS = (0.05, 0.2, 2.0)
# Few steps, so that where a search ends depends on where it started.
ATTACK = APGD(3, (ErrorObjective("l1"), ErrorObjective("mse")), restarts=2)
CHECK = CHECKS["reduced_search_as_strong"]
linf = partial(Threat, "linf")
pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.rounding]


@pytest.fixture(scope="module")
def case() -> Subject:
    """A trained network that takes gradients in bfloat16, with clips and labels."""
    network, inputs, labels = trained(0)
    return Subject(FrozenNetwork(network, precision="bf16"), inputs[:12], labels[:12], linf)


def test_searches_of_a_linear_model_end_at_its_optimum() -> None:
    model = linear_regressor(1, CELLS)
    inputs = spectrograms(8)
    # Far from the labels, so that the sign of the error, and with it the worst perturbation, is known.
    labels = model(inputs)["output"].detach() + 100.0
    subject = Subject(FrozenNetwork(model, precision="bf16"), inputs, labels, linf)
    found = compare_precisions(subject, ATTACK, sweep(subject, (ATTACK,), EPSILONS))
    slope = float(model.weights.detach().abs().sum())
    assert list(found) == list(EPSILONS)
    for epsilon, both in found.items():
        assert (both.clips, both.clean.mae) == (COMPARED, pytest.approx(100.0))
        assert both.exact.mae == pytest.approx(100.0 + epsilon * slope, rel=1e-12)
        assert both.reduced.mae == pytest.approx(both.exact.mae, rel=1e-12)
        assert both.loss("mae") == pytest.approx(0.0, abs=1e-12)


def test_the_search_with_float32_gradients_is_the_one_that_a_float32_run_would_make(case: Subject) -> None:
    seeded = replace(case, seed=5)
    points = sweep(seeded, (ATTACK,), EPSILONS)
    found = compare_precisions(seeded, ATTACK, points)
    exact = replace(seeded, network=FrozenNetwork(trained(0)[0]), batch_size=12)
    whole = sweep(exact, (ATTACK,), EPSILONS)
    for point, reduced, both in zip(whole, points, found.values(), strict=True):
        for searched, damage in ((point, both.exact), (reduced, both.reduced)):
            assert damage.mae == pytest.approx(score(case.labels, searched, "mae"), abs=1e-6)
            assert damage.mae_clipped == pytest.approx(score(case.labels, searched, "mae_clipped"), abs=1e-6)
    assert found[0.2].exact.mae != found[0.2].reduced.mae, "two searches, not one"
    assert compare_precisions(exact, ATTACK, whole) == {}


def score(labels: torch.Tensor, point: Point, metric: str) -> float:
    errors = clip_errors(labels, point.predictions[metric], clipped=metric == "mae_clipped")
    return float(errors[:COMPARED].mean())


def test_warm_starts_are_those_of_the_reported_search(case: Subject) -> None:
    points = sweep(case, (ATTACK,), EPSILONS, warm_start=True)
    found = compare_precisions(case, ATTACK, points)
    few, inputs, labels = slice(0, COMPARED), case.inputs, case.labels
    exact = FrozenNetwork(trained(0)[0])
    before = points[0].results[0].adversaries[few]
    warm, cold = (
        ATTACK(exact, inputs[few], labels[few], linf(0.2), warm_start=start).adversaries
        for start in (before, None)
    )
    errors = [absolute_error(exact.predict(end)["output"], labels[few]).mean() for end in (warm, cold)]
    assert found[0.2].exact.mae == pytest.approx(float(errors[0]), abs=1e-6)
    assert float(errors[0]) > float(errors[1]) + 1e-4


def test_what_was_searched_is_not_searched_again(case: Subject, tmp_path: Path) -> None:
    points = sweep(case, (ATTACK,), EPSILONS)
    alone = compare_precisions(case, ATTACK, points)
    first, again, elsewhere = (
        compare_precisions(replace(case, seed=seed, resume=folder), ATTACK, points)
        for seed, folder in ((0, tmp_path), (1, tmp_path), (1, tmp_path / "other"))
    )
    assert first == alone
    assert again == first, "from the file, whatever the seed"
    assert elsewhere != first


@pytest.mark.parametrize("clips", [3, 12])
def test_the_price_is_that_of_the_gradients(case: Subject, clips: int) -> None:
    subject = case.first(clips)
    points = sweep(subject, (ATTACK,), EPSILONS)
    done: list[int] = []
    spent = case.network.gradients
    compare_precisions(replace(subject, progress=done.append), ATTACK, points)
    assert case.network.gradients == spent, "none of them in bfloat16, or in the cost of the reported attacks"
    price = comparison_cost(ATTACK, case.labels.shape[1], clips=clips, budgets=3)
    # Two starts of three steps a clip and budget; three predictions count as one gradient.
    assert sum(done) == price == 3 * min(clips, COMPARED) * (6 + 1)


@pytest.mark.parametrize("tier", [name for name, tier in TIERS.items() if not tier.adaptive])
def test_the_comparison_costs_less_than_a_twelfth_of_a_suite(tier: str) -> None:
    params, aim = AttackParams(attack="suite", tier=tier), Aim(EMOTIONS)
    reduced, exact = (
        gradients_of_run(params, aim, clips=36, precision=precision, transfer=True)  # type: ignore[arg-type]
        for precision in ("bf16", "fp32")
    )
    budgets = len(TIERS[tier].epsilons) + (0.01 not in TIERS[tier].epsilons)
    polishing = 2 * POLISHING * budgets * 36
    compared = comparison_cost(white_box(TIERS[tier])[0], 8, clips=36, budgets=budgets)
    assert reduced - exact == polishing + compared
    assert 0 < compared / exact < 1 / 12


def searches(exact: float, reduced: float, clean: float = 0.1) -> PrecisionPair:
    return PrecisionPair(
        5, AttackedScores(clean, clean), AttackedScores(exact, exact), AttackedScores(reduced, 2 * reduced)
    )


@pytest.mark.parametrize(
    ("reduced", "passed"),
    [(0.4, True), (0.3997, True), (0.3995, False), (0.5, True), (np.nan, False)],
)
def test_the_limit_is_a_thousandth_of_the_error_at_every_budget(reduced: float, passed: bool) -> None:
    found = {0.002: searches(0.2, 0.2), 0.05: searches(0.4, reduced)}
    verdict = CHECK(Measurements(norm="linf", epsilon=0.01, precisions=found))
    assert verdict.passed is passed
    assert verdict.limit == 0.001
    assert ("fails at 0.05;" in verdict.detail) is not passed
    assert "0.002;" not in verdict.detail


@pytest.mark.parametrize(("reduced", "passed"), [(0.109993, True), (0.10991, True), (0.10989, False)])
def test_a_hundredth_of_a_small_damage_is_a_limit_too(reduced: float, passed: bool) -> None:
    found = {0.002: searches(0.11, reduced)}
    assert CHECK(Measurements(norm="linf", epsilon=0.01, precisions=found)).passed is passed


@pytest.mark.parametrize(
    ("adaptive", "passed"), [(0.4, True), (0.3995, True), (0.3993, False), (0.5, True), (np.nan, False)]
)
def test_an_adaptive_search_may_miss_a_five_hundredth_of_the_damage(adaptive: float, passed: bool) -> None:
    check = CHECKS["adaptive_search_as_strong"]
    found = {0.002: searches(0.2, 0.2), 0.05: searches(0.4, adaptive)}
    verdict = check(Measurements(norm="linf", epsilon=0.01, fixed=found))
    assert verdict.passed is passed
    assert verdict.limit == 0.002
    with pytest.raises(NotMeasuredError, match="a fixed one"):
        check(Measurements(norm="linf", epsilon=0.01, fixed={}))


def test_the_detail_says_what_share_of_the_damage_is_missed() -> None:
    verdict = CHECK(Measurements(norm="linf", epsilon=0.01, precisions={0.01: searches(0.2, 0.19)}))
    assert verdict.value == pytest.approx(0.05)
    assert "mae at epsilon 0.01 0.1900, with float32 gradients 0.2000, 10 % of the damage" in verdict.detail


@pytest.mark.parametrize(("found", "reason"), [({}, "gradients are float32"), (None, "was not measured")])
def test_what_is_not_judged_says_why(found: dict[float, PrecisionPair] | None, reason: str) -> None:
    with pytest.raises(NotMeasuredError, match=reason):
        CHECK(Measurements(norm="linf", epsilon=0.01, precisions=found))


def table(*losses: float, clips: int = 5) -> pd.DataFrame:
    """``tables/precision.csv`` of a run that loses these shares at epsilon .002, .01, ..."""
    found = {
        epsilon: PrecisionPair(
            clips,
            AttackedScores(0.1, 0.1),
            AttackedScores(0.4, 0.2),
            AttackedScores(0.4 * (1 - loss), 0.2 * (1 - loss / 2)),
        )
        for epsilon, loss in zip((0.002, 0.01, 0.05), losses, strict=False)
    }
    return precision_table(found)


def test_the_table_of_a_run() -> None:
    rows = table(0.0, 0.01)
    assert rows["epsilon"].tolist() == [0.002, 0.01]
    assert rows["clips"].tolist() == [5, 5]
    last = rows.iloc[1]
    assert (last["mae_clean"], last["mae_fp32"], last["mae_bf16"]) == pytest.approx((0.1, 0.4, 0.396))
    assert last["mae_loss"] == pytest.approx(0.01)
    assert last["mae_clipped_loss"] == pytest.approx(0.005)
    assert searches(0.0, 0.0).loss("mae") == 0.0


CHECKED = {"A2E s0": pd.DataFrame()}


def runs(*losses: Sequence[float], norm: str = "linf") -> list[PrecisionCheck]:
    return [PrecisionCheck(f"A2E s{seed}", norm, table(*of_run)) for seed, of_run in enumerate(losses)]


def test_the_report_has_a_row_a_norm_and_budget() -> None:
    rows = report.precision_over_runs([*runs([0.01], norm="l2"), *runs([0.0, 0.03], [0.01, -0.01])])
    assert rows[["norm", "epsilon", "models"]].to_numpy().tolist() == [
        ["linf", 0.002, 2],
        ["linf", 0.01, 2],
        ["l2", 0.002, 1],
    ]
    assert rows["mae_loss"].tolist() == pytest.approx([0.005, 0.01, 0.01])
    assert rows["mae_worst_loss"].tolist() == pytest.approx([0.01, 0.03, 0.01])
    # Of .4 - .1 that the float32 search adds, .4 - .396 is missing in the mean.
    assert rows.loc[1, "mae_damage_loss"] == pytest.approx(0.004 / 0.3)
    shown = report.readable_precision(rows)
    assert shown.loc[1, ["Norm", "ε", "Models"]].tolist() == ["L∞", ".01", "2"]
    assert shown.loc[1, ["MAE: loss (%)", "MAE: worst (%)"]].tolist() == ["1.00", "3.00"]
    assert "Norm" not in report.readable_precision(rows[:2])


@pytest.mark.parametrize(
    ("losses", "sentence"),
    [
        ([0.0, 0.03], "missed 3.00 % of the raw MAE (A2E s1, L∞ ε .01): beyond the limit of .1 %."),
        ([0.0, 0.0004], "missed .04 % of the raw MAE (A2E s1, L∞ ε .01): within the limit of .1 %."),
        ([-0.1, -0.2], "missed nothing of the clipped MAE (A2E s1, L∞ ε .002): within"),
        ([0.0, np.nan], "missed - % of the clipped MAE (A2E s1, L∞ ε .01): beyond the limit"),
    ],
)
def test_the_section_names_the_largest_loss(losses: list[float], sentence: str) -> None:
    found = runs([-0.3, -0.3], losses)
    contents = Contents(precision_checks=found, reduced=3, checks=CHECKED)
    section = report.gradient_precision_section(contents)
    assert sentence in section.paragraphs[1]
    assert "gradients of 3 runs were computed in bfloat16. In 2 runs" in section.paragraphs[0]
    assert "the first 5 clips. In 1 run of an older version it was not." in section.paragraphs[0]
    assert len(section.tables) == 1


@pytest.mark.parametrize(("reduced", "reason"), [(0, "in float32, so"), (2, "no run was searched again")])
def test_without_comparison_one_line_says_why(reduced: int, reason: str) -> None:
    section = report.gradient_precision_section(Contents(reduced=reduced, checks=CHECKED))
    (line,) = section.paragraphs
    assert reason in line
    assert section.tables == ()


class Watched(nn.Module):
    """Two convolutions and a mean, which remember what they were shown."""

    def __init__(self, shown: list[Tensor]) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Tanh(), nn.Conv2d(4, 2, 3))
        self.shown = (lambda inputs: shown.append(inputs.detach().clone()),)

    def forward(self, inputs: Tensor) -> Prediction:
        self.shown[0](inputs)
        return {"output": self.layers(inputs).mean((2, 3)), "c_prob": None}


def test_finer_steps_go_on_from_the_iterate_that_seemed_the_best() -> None:
    torch.manual_seed(3)
    shown: list[Tensor] = []
    network = FrozenNetwork(Watched(shown), precision="bf16")
    inputs, labels = torch.randn(1, 1, 8, 9), torch.zeros(1, 2)
    problem = Problem(inputs, labels, Threat("linf", 0.5), []).on(network)
    best = Best(network, problem, inputs, {})
    climb(network, problem, L1[0], inputs, best, steps=6)
    searched, finer = shown[:6], shown[6:11]
    values = [
        L1[0].loss(network._reduced(iterate), labels).item()  # type: ignore[misc]
        for iterate in searched
    ]
    assert max(values) > values[0] + 0.01
    assert torch.equal(finer[0], searched[int(np.argmax(values))])
