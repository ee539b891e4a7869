"""Searches that spend steps where starts disagree: optima, agreement, the pool, resumption, bfloat16."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from networks import linear_regressor
from regressors import CELLS, spectrograms, trained

from rmer.attacks.apgd import APGD
from rmer.attacks.ascent import POLISHING
from rmer.attacks.escalation import Escalation
from rmer.attacks.losses import absolute_error, correlation_over_clips
from rmer.attacks.objectives import CorrelationObjective, ErrorObjective
from rmer.attacks.problem import Problem
from rmer.attacks.search import L1, Best
from rmer.attacks.threat import NORMS, Threat, l2_norms
from rmer.errors import UserError
from rmer.evaluation.budgets import sweep
from rmer.evaluation.subject import Subject
from rmer.systems.frozen import FrozenNetwork

BUDGETS = (0.01, 0.05, 0.2)
pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.rounding]


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("norm", NORMS)
def test_a_linear_model_ends_at_its_optimum_with_two_starts(norm: str, precision: str) -> None:
    model, inputs = linear_regressor(1, CELLS), spectrograms(6)
    labels = model(inputs)["output"].detach() + 100.0
    network = FrozenNetwork(model, precision=precision)  # type: ignore[arg-type]
    threats = [Threat(norm, radius) for radius in BUDGETS]  # type: ignore[arg-type]
    weights = model.weights.detach().double()
    slope = float(weights.abs().sum() if norm == "linf" else weights.norm())
    for radius, result in zip(
        BUDGETS, Escalation().over_budgets(network, inputs, labels, threats), strict=True
    ):
        errors = absolute_error(model(result.adversaries)["output"].detach(), labels)
        assert errors.tolist() == pytest.approx([100.0 + radius * slope] * 6, rel=1e-6)
        assert bool(result.columns["agreed"].all())
        assert result.columns["starts"].tolist() == [2] * 6
        # One of the output for its signs, once for all budgets, and those of the steps: short starts are in
        # float32, unpolished.
        assert result.columns["gradients"].tolist() == [(radius == BUDGETS[0]) + 8 + 16] * 6


def damage(network: FrozenNetwork, inputs: torch.Tensor, labels: torch.Tensor, found: torch.Tensor) -> float:
    errors = [absolute_error(network.predict(clips)["output"], labels) for clips in (inputs, found)]
    return float((errors[1] - errors[0]).mean())


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("norm", NORMS)
def test_as_strong_as_five_starts_of_a_hundred_steps_at_a_fraction_of_the_cost(
    norm: str, precision: str
) -> None:
    model, inputs, labels = trained(0)
    inputs, labels = inputs[:12], labels[:12]
    network = FrozenNetwork(model, precision=precision)  # type: ignore[arg-type]
    threats = [Threat.per_cell(norm, epsilon, CELLS) for epsilon in BUDGETS]  # type: ignore[arg-type]
    found = Escalation().over_budgets(network, inputs, labels, threats)
    fixed = APGD(100, (*L1, ErrorObjective("mse")), restarts=5)
    exact = FrozenNetwork(model)
    for threat, result in zip(threats, found, strict=True):
        reference = fixed(exact, inputs, labels, threat)
        reached = damage(exact, inputs, labels, result.adversaries)
        assert reached > 0.998 * damage(exact, inputs, labels, reference.adversaries)
        assert 4 * result.gradients < reference.gradients
        assert not result.violations.any()


def test_a_search_in_bf16_decides_in_float32_and_ends_there() -> None:
    model, inputs, labels = trained(0)
    inputs, labels, threat = inputs[:6], labels[:6], Threat("linf", 0.05)
    network = FrozenNetwork(model, precision="bf16")
    APGD(12, L1, restarts=1)(network, inputs, labels, threat)
    assert (network.spent.reduced, network.spent.gradients) == (6 * 12, 6 * (12 + POLISHING))
    # The strongest iterate of a search, passed on the way, is found again whatever came after it.
    strong = APGD(12, L1, restarts=1)(FrozenNetwork(model), inputs, labels, threat).adversaries
    problem = Problem(inputs, labels, threat, [])
    best = Best.of_clean(network, problem, L1[0])
    for passed in (inputs, strong, inputs):
        estimate = network.estimate_in_batches(passed)
        best.note(network, passed, L1[0].values(estimate, labels))
    best.settle(L1[0], inputs)
    assert torch.equal(best.iterates["mae"], strong)
    exact = absolute_error(network.predict(strong)["output"], labels)
    assert best.values["mae"].tolist() == pytest.approx(exact.tolist(), abs=1e-6)


def test_an_iterate_that_only_seems_better_does_not_displace_the_one_before() -> None:
    model, inputs, labels = trained(0)
    inputs, labels, threat = inputs[:6], labels[:6], Threat("linf", 0.05)
    network = FrozenNetwork(model, precision="bf16")
    strong = APGD(12, L1, restarts=1)(FrozenNetwork(model), inputs, labels, threat).adversaries
    best = Best.of_clean(network, Problem(inputs, labels, threat, []), L1[0])
    known = L1[0].values(network.estimate_in_batches(strong), labels)
    best.note(network, strong, known)
    seeming = inputs + 0.001
    best.note(network, seeming, {metric: values + 1 for metric, values in known.items()})
    assert torch.equal(best.promising("mae"), seeming)
    best.settle(L1[0], inputs)
    assert torch.equal(best.iterates["mae"], strong)


def test_starts_go_on_where_they_disagree_and_there_alone() -> None:
    model, inputs, labels = trained(0)
    network = FrozenNetwork(model)
    threats = [Threat("linf", radius) for radius in (0.001, 1.0)]
    small, large = Escalation().over_budgets(network, inputs[:8], labels[:8], threats)
    assert bool(small.columns["agreed"].all())
    assert float(small.columns["gradients"].double().mean()) < float(
        large.columns["gradients"].double().mean()
    )
    strict = Escalation(tolerance=0.0).over_budgets(network, inputs[:8], labels[:8], threats)
    assert not strict[1].columns["agreed"].all()
    undecided = ~strict[1].columns["agreed"]
    assert strict[1].columns["gradients"][undecided].tolist() == [8 + 16 + 32 + 64] * int(undecided.sum())
    assert strict[1].columns["starts"][undecided].tolist() == [4] * int(undecided.sum())


def test_a_pool_finds_what_each_budget_alone_finds_in_batches_of_any_size() -> None:
    model, inputs, labels = trained(0)
    inputs, labels = inputs[:5].double(), labels[:5].double()
    network, attack = FrozenNetwork(model.double(), batch_size=8), Escalation()
    threats = [Threat("linf", radius) for radius in BUDGETS]
    pool = attack.over_budgets(network, inputs, labels, threats, seed=4)
    other = FrozenNetwork(model, batch_size=3)
    for threat, together in zip(threats, pool, strict=True):
        alone = attack(other, inputs, labels, threat, seed=4)
        errors = [
            absolute_error(network.predict(found.adversaries)["output"], labels)
            for found in (together, alone)
        ]
        assert errors[0].tolist() == pytest.approx(errors[1].tolist(), abs=1e-9)
        prepared = 0 if threat is threats[0] else len(inputs) * labels.shape[1]
        assert together.gradients == alone.gradients - prepared
    model.float()


def test_cost_of_a_pool_is_what_the_network_counted() -> None:
    model, inputs, labels = trained(0)
    network = FrozenNetwork(model, precision="bf16")
    threats = [Threat("linf", radius) for radius in BUDGETS]
    found = Escalation().over_budgets(network, inputs[:7], labels[:7], threats)
    assert sum(result.gradients for result in found) == network.gradients
    # Predictions of candidates are shared out evenly over a batch, without the rest.
    assert network.forwards - 7 * 8 <= sum(result.forwards for result in found) <= network.forwards
    assert 0 < network.spent.reduced < network.spent.gradients


def test_a_pool_goes_on_where_it_was_cut_off(tmp_path: Path) -> None:
    model, inputs, labels = trained(0)
    inputs, labels, attack = inputs[:7], labels[:7], Escalation()
    threats = [Threat("linf", radius) for radius in BUDGETS]
    whole = attack.over_budgets(FrozenNetwork(model), inputs, labels, threats, resume=tmp_path)
    made = sorted(path.name for path in tmp_path.iterdir())
    assert "pool.pt" in made
    (tmp_path / "pool.pt").unlink()
    for name in [name for name in made if name.startswith("start-2")][:1]:
        (tmp_path / name).unlink()
    network, told = FrozenNetwork(model), []
    again = attack.over_budgets(network, inputs, labels, threats, resume=tmp_path, progress=told.append)
    assert sum(told) == pytest.approx(len(inputs) * len(threats))
    assert network.gradients < sum(result.gradients for result in whole) / 2
    for before, after in zip(whole, again, strict=True):
        assert torch.equal(before.adversaries, after.adversaries)
        assert (before.gradients, before.forwards) == (after.gradients, after.forwards)


def test_neighbouring_budgets_share_adversaries_and_cold_scores_stay() -> None:
    model, inputs, labels = trained(0)
    network, attack = FrozenNetwork(model), Escalation()
    inputs, labels = inputs[:6], labels[:6]
    threats = [Threat("linf", radius) for radius in BUDGETS]
    found = attack.over_budgets(network, inputs, labels, threats)
    # As if the search within the middle budget had found nothing.
    found[1] = replace(found[1], adversaries=inputs, also={"mae_clipped": inputs})
    shared = attack.shared(network, inputs, labels, threats, found)
    assert bool(shared[1].columns["warm_won"].all())
    clean = absolute_error(network.predict(inputs)["output"], labels)
    assert shared[1].columns["cold_mae"].tolist() == pytest.approx(clean.tolist())
    lost = damage(network, inputs, labels, shared[1].adversaries)
    assert lost > 0.9 * damage(
        network, inputs, labels, attack(network, inputs, labels, threats[1]).adversaries
    )
    assert not shared[1].violations.any()
    assert float(l2_norms(shared[1].adversaries - inputs).min()) > 0


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_joint_search_lowers_the_correlation_as_far_as_a_long_one(precision: str) -> None:
    model, inputs, labels = trained(0)
    inputs, labels = inputs[:12], labels[:12]
    joint = (CorrelationObjective(),)
    network = FrozenNetwork(model, precision=precision, batch_size=5)  # type: ignore[arg-type]
    exact, threat = FrozenNetwork(model), Threat("linf", 0.05)
    found = Escalation(losses=joint)(network, inputs, labels, threat)
    long = APGD(100, joint, restarts=3)(exact, inputs, labels, threat)
    clean, short, reference = (
        float(correlation_over_clips(exact.predict(clips)["output"], labels))
        for clips in (inputs, found.adversaries, long.adversaries)
    )
    assert clean - short > 0.99 * (clean - reference)


def test_sweeps_report_effort_and_share(tmp_path: Path) -> None:
    model, inputs, labels = trained(0)
    subject = Subject(FrozenNetwork(model), inputs[:6], labels[:6], partial(Threat, "linf"), resume=tmp_path)
    cold, warm = (sweep(subject, (Escalation(),), BUDGETS, warm_start=warm) for warm in (False, True))
    for point in cold:
        assert set(point.effort) == {"starts", "agreed"}
        assert 0 <= point.warm_wins <= 1
    assert warm[0].warm_wins != warm[0].warm_wins, "nothing smaller to start from"
    assert 0 <= warm[1].warm_wins <= 1
    assert all(a.worst("mae").shape == b.worst("mae").shape for a, b in zip(cold, warm, strict=True))


def test_many_outputs_do_without_signs() -> None:
    model, inputs = linear_regressor(13, CELLS), spectrograms(2)
    found = Escalation()(
        FrozenNetwork(model), inputs, torch.zeros(2, 13, dtype=inputs.dtype), Threat("linf", 0.1)
    )
    assert found.gradients >= 2 * (8 + 16)
    assert Escalation().passes(13).gradients == 8 + 16 + 32 + 64


@pytest.mark.parametrize("settings", [{"starts": 1}, {"first_steps": 0}])
def test_bad_settings_are_user_errors(settings: dict[str, int]) -> None:
    with pytest.raises(UserError, match="two starts to compare"):
        Escalation(**settings)  # type: ignore[arg-type]
