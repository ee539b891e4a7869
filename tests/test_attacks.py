"""Attacks against truth: closed-form optima of linear regressors, budgets, batching, resuming."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from networks import linear_regressor
from torch import Tensor

from rmer.attacks.base import Attack, BudgetError, Crafted, Passes, Problem
from rmer.attacks.losses import ErrorObjective, absolute_error, correlation, objectives, squared_error
from rmer.attacks.pgd import PGD
from rmer.attacks.published import BridgeAttack, PublishedAttack
from rmer.attacks.threat import Threat, l2_norms
from rmer.errors import UserError
from rmer.systems.frozen import FrozenNetwork
from rmer.systems.network import build_network

FRAMES, BANDS = 6, 10


def clips(count: int, dtype: torch.dtype = torch.float64) -> Tensor:
    generator = torch.Generator().manual_seed(3)
    return torch.randn(count, 1, FRAMES, BANDS, generator=generator, dtype=dtype)


@pytest.mark.parametrize("loss", ["mse", "l1"])
@pytest.mark.parametrize(("norm", "dual"), [("linf", 1), ("l2", 2)])
def test_pgd_reaches_the_optimum_of_a_linear_regressor(norm: str, dual: int, loss: str) -> None:
    model, inputs, epsilon = linear_regressor(targets=1), clips(5), 0.01
    errors = torch.tensor([[3.0], [-3.0], [5.0], [-4.0], [6.0]], dtype=torch.float64)
    labels = model(inputs)["output"].detach() - errors
    result = PGD(steps=60, losses=(ErrorObjective(loss),))(
        FrozenNetwork(model), inputs, labels, Threat(norm, epsilon)
    )
    reached = absolute_error(model(result.adversaries)["output"], labels)
    best = errors.abs()[:, 0] + epsilon * torch.linalg.vector_norm(model.weights[0], dual)
    assert torch.allclose(reached, best, atol=1e-6)
    optimum = model.weights[0].sign() if norm == "linf" else model.weights[0] / l2_norms(model.weights)
    delta = (result.adversaries - inputs).flatten(1)
    assert torch.allclose(delta, epsilon * errors.sign() * optimum.detach(), atol=1e-6)


@pytest.mark.parametrize("targets", [1, 2, 8])
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_budget_and_box_hold_on_the_saved_array(norm: str, targets: int) -> None:
    model, inputs = linear_regressor(targets).float(), clips(7, torch.float32)
    floor, ceiling = torch.full((BANDS,), -0.5), torch.full((BANDS,), 0.5)
    inputs = inputs.clamp(min=-0.5)  # silence is the floor; some clips exceed the ceiling
    threat = Threat(norm, 0.3, floor, ceiling)
    result = PGD(steps=5, restarts=2)(model, inputs, torch.zeros(7, targets), threat, seed=4)
    assert not result.violations.any()
    assert result.adversaries.min() >= -0.5
    assert bool((result.adversaries <= torch.maximum(inputs, torch.tensor(0.5))).all())
    assert float((result.linf if norm == "linf" else result.l2).max()) <= 0.3 + 1e-6


def test_a_clip_outside_the_box_by_rounding_stays_its_own_adversary_at_epsilon_zero() -> None:
    inputs = clips(2, torch.float32).clamp(min=-0.5)
    threat = Threat("linf", 0.0, torch.full((BANDS,), -0.4999999), torch.full((BANDS,), 0.1))
    result = PGD(steps=2)(linear_regressor(3).float(), inputs, torch.zeros(2, 3), threat)
    assert torch.equal(result.adversaries, inputs)


def test_pgd_is_never_weaker_than_no_attack() -> None:
    torch.manual_seed(0)
    network, inputs = build_network("plain"), torch.randn(3, 1, 40, 149)
    labels = torch.rand(3, 8)
    frozen = FrozenNetwork(network)
    clean = absolute_error(frozen.predict(inputs)["output"], labels)
    # One huge step from a random corner may well land on a better prediction; the clean clip is kept then.
    result = PGD(steps=1, relative_step=2.0)(frozen, inputs, labels, Threat("linf", 1.0))
    assert bool((absolute_error(frozen.predict(result.adversaries)["output"], labels) >= clean).all())


@dataclass(frozen=True)
class _Unclamped(Attack):
    name: ClassVar[str] = "unclamped"

    def passes(self, targets: int) -> Passes:
        return Passes(0, 0)

    def run(self, network: FrozenNetwork, problem: Problem) -> Crafted:
        return Crafted(problem.inputs + 1.01 * problem.threat.epsilon)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_an_attack_that_forgets_its_budget_fails(norm: str) -> None:
    with pytest.raises(BudgetError, match=r"clips \[0, 1\]"):
        _Unclamped()(linear_regressor(1), clips(2), torch.zeros(2, 1), Threat(norm, 0.1))


def test_an_adversary_that_is_not_a_number_is_a_violation() -> None:
    inputs = clips(2)
    adversaries = inputs.clone()
    adversaries[1, 0, 0, 0] = torch.nan
    assert Threat("linf", 1.0).violations(inputs, adversaries).tolist() == [False, True]


def test_gradients_in_bf16_find_adversaries_as_strong_and_scores_stay_fp32() -> None:
    torch.manual_seed(3)
    network = build_network("bottleneck").eval()
    inputs, labels, threat = torch.randn(4, 1, 40, 149), torch.rand(4, 8), Threat("linf", 0.05)
    frozen = FrozenNetwork(network, precision="bf16")
    exact = PGD(steps=20)(FrozenNetwork(network), inputs, labels, threat)
    reduced = PGD(steps=20)(frozen, inputs, labels, threat)
    assert not torch.equal(exact.adversaries, reduced.adversaries)
    assert torch.equal(frozen.predict(inputs)["output"], FrozenNetwork(network).predict(inputs)["output"])
    strong, stronger = (
        float(absolute_error(frozen.predict(result.adversaries)["output"], labels).mean())
        for result in (reduced, exact)
    )
    assert strong == pytest.approx(stronger, rel=0.02)


ATTACKS = [PGD(steps=4, restarts=2), PublishedAttack(max_iters=6), BridgeAttack(max_iters=6)]


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
def test_a_clip_meets_the_same_fate_alone_and_in_a_batch(attack: Attack) -> None:
    torch.manual_seed(2)
    network = FrozenNetwork(build_network("bottleneck").double())
    inputs, labels = torch.randn(5, 1, 24, 149, dtype=torch.float64), torch.rand(5, 8, dtype=torch.float64)
    threat = Threat("linf", 0.01)
    together = attack(network, inputs, labels, threat, seed=7, batch_size=5)
    alone = attack(network, inputs, labels, threat, seed=7, batch_size=1)
    assert torch.allclose(together.adversaries, alone.adversaries, atol=1e-12)
    assert together.gradients == alone.gradients


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
def test_finished_batches_are_not_attacked_again(attack: Attack, tmp_path: Path) -> None:
    network = FrozenNetwork(linear_regressor(4))
    inputs, labels, threat = clips(6), torch.rand(6, 4, dtype=torch.float64), Threat("linf", 0.1)
    whole = attack(network, inputs, labels, threat, seed=1, batch_size=2)
    attack(network, inputs, labels, threat, seed=1, batch_size=2, resume=tmp_path)
    sorted(tmp_path.iterdir())[1].unlink()  # as if the process had died before the second batch
    before = network.gradients
    resumed = attack(network, inputs, labels, threat, seed=1, batch_size=2, resume=tmp_path)
    assert torch.equal(resumed.adversaries, whole.adversaries)
    assert resumed.gradients == whole.gradients
    assert network.gradients - before == whole.gradients // 3


def test_bridge_keeps_the_published_rule_inside_the_budget() -> None:
    model, inputs, threat = linear_regressor(3), clips(2), Threat("linf", 0.001)
    labels = model(inputs)["output"].detach() - 0.3  # mean squared error .09: threshold 0, then .1, .2, ...
    free = PublishedAttack(max_iters=50, conv_method="mse")(model, inputs, labels, threat)
    bound = BridgeAttack(max_iters=50, conv_method="mse")(model, inputs, labels, threat)
    assert free.violations.all(), "the published attack leaves its declared budget"
    assert bound.linf.tolist() == pytest.approx([0.001, 0.001], abs=1e-15), "and the bridge fills it"


def test_published_attack_survives_a_constant_prediction() -> None:
    model = linear_regressor(3)
    model.weights.data.zero_()
    result = PublishedAttack(max_iters=3)(model, clips(2), torch.rand(2, 3).double(), Threat("linf", 0.1))
    assert result.columns["threshold"].isnan().all()
    assert not result.columns["converged"].any()
    assert not result.l2.any()


def test_published_penalty_shrinks_the_perturbation() -> None:
    model, inputs = linear_regressor(3), clips(2)
    labels = model(inputs)["output"].detach() - 0.3
    plain = PublishedAttack(max_iters=20, conv_method="mse")(model, inputs, labels, Threat("linf", 1.0))
    shrunk = PublishedAttack(max_iters=20, conv_method="mse", alpha=1.0)(
        model, inputs, labels, Threat("linf", 1.0)
    )
    assert float(shrunk.l2.max()) < float(plain.l2.max())


@pytest.mark.parametrize(
    "make",
    [
        lambda: PublishedAttack(optimiser="LBFGS"),
        lambda: PublishedAttack(conv_method="rmse"),  # type: ignore[arg-type]
        lambda: objectives(["huber"], ("tension",)),
        lambda: PGD(steps=0),
        lambda: Threat("l1", 0.1),  # type: ignore[arg-type]
        lambda: Threat("linf", -0.1),
        lambda: Threat("linf", float("inf")),
    ],
)
def test_bad_settings_are_user_errors(make: object) -> None:
    with pytest.raises(UserError):
        make()  # type: ignore[operator]


def test_losses_are_per_clip() -> None:
    outputs, labels = torch.tensor([[1.0, 2.0], [0.0, 0.0]]), torch.tensor([[0.0, 4.0], [0.0, 1.0]])
    assert squared_error(outputs, labels).tolist() == [2.5, 0.5]
    assert absolute_error(outputs, labels).tolist() == [1.5, 0.5]
    assert correlation(outputs, labels).tolist()[0] == pytest.approx(1.0)
    assert correlation(outputs, labels)[1].isnan()
