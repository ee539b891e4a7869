"""Attacks over several budgets: curves, warm starts, resuming, and what the parameters of attack come to."""

from __future__ import annotations

import dataclasses
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from regressors import CELLS, LinearBottleneck, spectrograms

from rmer.attacks.apgd import APGD
from rmer.attacks.method import Aim
from rmer.attacks.objectives import CorrelationObjective, ErrorObjective
from rmer.attacks.ranked_objectives import OutputObjective
from rmer.attacks.suite import TIERS, white_box
from rmer.attacks.threat import Threat
from rmer.errors import UserError
from rmer.evaluation.budgets import curve_clips, curve_table, sweep
from rmer.evaluation.metrics import aims, clip_errors, regression_scores
from rmer.evaluation.subject import Subject
from rmer.stages.attack.attack_params import AttackParams
from rmer.systems.frozen import FrozenNetwork

EPSILONS = (0.02, 0.005, 0.01)
L1 = (ErrorObjective("l1"),)
# Ascending |error| may end on the wrong side of zero; the direction that a linear model predicts does not.
ATTACKS = (APGD(30, (OutputObjective(),), restarts=1), APGD(10, (CorrelationObjective(),), restarts=1))
linf = partial(Threat, "linf")
l2 = partial(Threat.per_cell, "l2", cells=CELLS)


@pytest.fixture(scope="module")
def linear() -> Subject:
    """A linear model of one target with labels in 0-1, whose error grows by epsilon x the L1 norm."""
    network, inputs = FrozenNetwork(LinearBottleneck(1), batch_size=4), spectrograms(7)
    outputs = network.predict(inputs)["output"]
    generator = torch.Generator().manual_seed(1)
    labels = outputs + torch.rand(outputs.shape, generator=generator, dtype=outputs.dtype)
    return Subject(network, inputs, labels, linf)


def test_the_curve_of_a_linear_model_is_a_straight_line(linear: Subject) -> None:
    labels, clean = linear.labels, linear.predicted(linear.inputs)
    points = sweep(linear, ATTACKS, EPSILONS)
    curve = curve_table(labels, clean, points, ["tension"], std=0.4)
    assert curve["epsilon"].tolist() == [0.0, *sorted(EPSILONS)]
    assert curve["epsilon_log10"].tolist() == pytest.approx(
        [0.4 * epsilon for epsilon in (0, *sorted(EPSILONS))]
    )
    slope = float(linear.network.model.weights.abs().sum())  # type: ignore[operator, union-attr]
    expected = curve["mae"][0] + slope * curve["epsilon"]
    np.testing.assert_allclose(curve["mae"], expected, atol=1e-6)
    assert curve["corr"].is_monotonic_decreasing
    assert curve["gradients"].tolist()[1:] == [7 * 41] * 3
    clips = [f"{index:03d}" for index in range(7)]
    rows = curve_clips(clips, clean, points, ["tension"])
    assert len(rows) == 4 * 3 * 7
    for epsilon, group in rows.groupby("epsilon"):
        for metric in aims():
            found = group[group["metric"] == metric][["tension"]].to_numpy()
            score = regression_scores(labels, found, ["tension"]).mean[metric]
            assert score == pytest.approx(float(curve.loc[curve["epsilon"] == epsilon, metric].iloc[0]))


def test_warm_starts_are_added_to_cold_ones_and_told_apart(linear: Subject) -> None:
    # One step from a random start falls short of the optimum, from where the last budget ended it does not.
    attacks = (APGD(1, L1, restarts=1),)
    subject = replace(linear, threat_at=l2)
    cold = sweep(subject, attacks, EPSILONS)
    warm = sweep(subject, attacks, EPSILONS, warm_start=True)
    assert np.isnan([point.warm_wins for point in cold]).all()
    assert np.isnan(warm[0].warm_wins), "the smallest budget has nothing to start from"
    assert warm[-1].warm_wins > 0
    for before, after in zip(cold, warm, strict=True):
        errors = [clip_errors(linear.labels, point.worst("mae")) for point in (before, after)]
        assert (errors[1] >= errors[0] - 1e-12).all()
        if "cold_mae" in after.results[0].columns:
            np.testing.assert_allclose(after.results[0].columns["cold_mae"], errors[0], atol=1e-12)


def test_a_sweep_goes_on_where_it_stopped(linear: Subject, tmp_path: Path) -> None:
    done: list[int] = []
    subject = replace(linear, resume=tmp_path, progress=done.append)
    whole = sweep(subject, ATTACKS, EPSILONS)
    assert sum(done) == 3 * 7 * sum(attack.passes(1).in_gradients for attack in ATTACKS)
    spent = linear.network.gradients
    again = sweep(subject, ATTACKS, EPSILONS)
    assert linear.network.gradients == spent
    for before, after in zip(whole, again, strict=True):
        assert all(torch.equal(before.adversaries[metric], after.adversaries[metric]) for metric in aims())


def test_tiers_are_those_of_the_protocol() -> None:
    assert TIERS["quick"].norms == ("linf",)
    assert (len(TIERS["quick"].epsilons), TIERS["quick"].steps, TIERS["quick"].restarts) == (3, 20, 2)
    paper, fixed = TIERS["paper"], TIERS["paper_fixed"]
    assert replace(paper, adaptive=False) == fixed
    assert paper.norms == ("linf", "l2")
    assert paper.epsilons == (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1)
    runs = len(paper.epsilons) * len(paper.norms) * 36
    gradients = sum(attack.passes(8).gradients for attack in white_box(fixed))
    assert 450_000 < gradients * runs < 650_000
    least, most = (
        sum(passes(attack).gradients for attack in white_box(paper))
        for passes in (lambda attack: attack.least_passes(8), lambda attack: attack.passes(8))
    )
    # 8 and 16 steps, and 32 and 64 where starts disagree; one gradient an output where signs are compared.
    assert (least, most) == (2 * 24, 2 * 120 + 8)
    assert 20 * least < gradients


def test_losses_are_taken_in_turn_and_name_emotions_or_concepts() -> None:
    def losses(text: str, restarts: int = 4) -> list[str]:
        params = AttackParams(attack="apgd", loss=text, restarts=restarts)
        (attack,) = params.method.attacks(params.own_settings, Aim(("tension",), ("melody",)))
        assert isinstance(attack, APGD)
        return [objective.name for objective in attack.losses]

    assert losses("l1,outputs") == ["l1", "outputs", "l1", "outputs"]
    assert losses("up:melody", 1) == ["up:melody"]
    with pytest.raises(UserError, match="'up:joy' is no loss"):
        losses("up:joy")


def test_the_reported_budget_joins_those_of_a_tier() -> None:
    assert AttackParams(attack="suite").all_epsilons == [0.002, 0.01, 0.05]
    assert AttackParams(attack="suite", epsilon=0.03).all_epsilons == [0.002, 0.01, 0.03, 0.05]
    params = AttackParams(attack="apgd", epsilons="0.05, 0.02", epsilon=0.05)
    assert (params.all_epsilons, params.reported_epsilon) == ([0.02, 0.05], 0.05)
    assert dataclasses.replace(params, attack="pgd").settings["steps"] == 40
