"""Gradient attacks reach the closed-form optima of linear regressors."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from networks import Linear, linear_regressor
from regressors import BANDS, CELLS, LinearBottleneck, spectrograms, worst_error
from scipy.optimize import brentq, minimize
from torch import Tensor

from rmer.attacks.apgd import APGD
from rmer.attacks.base import Attack
from rmer.attacks.fgsm import FGSM
from rmer.attacks.losses import absolute_error, correlation_over_clips
from rmer.attacks.minimum_norm import MinimumNorm
from rmer.attacks.objectives import CorrelationObjective, ErrorObjective, Objective, SteeringObjective
from rmer.attacks.pgd import PGD
from rmer.attacks.ranked_objectives import OutputObjective, SignsObjective
from rmer.attacks.threat import Threat, steepest
from rmer.errors import UserError

# Each attack with steps enough to forget its random start.
ATTACKS = [FGSM(), PGD(steps=90), APGD(steps=60, restarts=1)]
LOSSES: list[Objective] = [ErrorObjective("l1"), ErrorObjective("mse"), OutputObjective(), SignsObjective()]
NORMS = [("linf", 1), ("l2", 2)]
EPSILON = 0.01


def named(value: object) -> str:
    return str(getattr(value, "name", value))


def following(attack: Attack, objective: Objective) -> Attack:
    return replace(attack, losses=(objective,))  # type: ignore[type-var]


@pytest.mark.parametrize("loss", LOSSES, ids=named)
@pytest.mark.parametrize("attack", ATTACKS, ids=named)
@pytest.mark.parametrize(("norm", "dual"), NORMS)
def test_one_output(attack: Attack, loss: Objective, norm: str, dual: int) -> None:
    model, inputs = linear_regressor(1, CELLS), spectrograms(5)
    weights = model.weights.detach()
    errors = torch.tensor([[3.0], [-3.0], [5.0], [-4.0], [6.0]], dtype=torch.float64)
    labels = model(inputs)["output"].detach() - errors
    result = following(attack, loss)(model, inputs, labels, Threat(norm, EPSILON))
    best = errors.abs()[:, 0] + EPSILON * torch.linalg.vector_norm(weights, dual)
    assert torch.allclose(absolute_error(model(result.adversaries)["output"], labels), best, atol=1e-6)
    optimum = EPSILON * errors.sign() * steepest(weights, norm)
    assert torch.allclose((result.adversaries - inputs).flatten(1), optimum, atol=1e-6)


@pytest.mark.parametrize("targets", [2, 8])
@pytest.mark.parametrize("attack", ATTACKS, ids=named)
@pytest.mark.parametrize(("norm", "dual"), NORMS)
def test_several_outputs_whose_errors_keep_their_signs(
    attack: Attack, norm: str, dual: int, targets: int
) -> None:
    model, inputs = linear_regressor(targets, CELLS), spectrograms(5)
    weights, reach = model.weights.detach(), EPSILON * CELLS
    generator = torch.Generator().manual_seed(1)
    errors = reach * (1 + torch.rand(5, targets, generator=generator, dtype=torch.float64))
    errors *= torch.where(torch.rand(5, targets, generator=generator) < 0.5, -1.0, 1.0)
    labels = model(inputs)["output"].detach() - errors
    result = following(attack, ErrorObjective("l1"))(model, inputs, labels, Threat(norm, EPSILON))
    mean = errors.sign() @ weights / targets
    best = errors.abs().mean(1) + EPSILON * torch.linalg.vector_norm(mean, dual, dim=1)
    assert torch.allclose(best, worst_error(errors, weights, EPSILON, norm)), "the two closed forms agree"
    assert torch.allclose(absolute_error(model(result.adversaries)["output"], labels), best, atol=1e-6)
    assert torch.allclose((result.adversaries - inputs).flatten(1), EPSILON * steepest(mean, norm), atol=1e-6)


@pytest.mark.parametrize("targets", [2, 8])
@pytest.mark.parametrize("loss", LOSSES, ids=named)
@pytest.mark.parametrize("attack", ATTACKS, ids=named)
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_several_outputs_along_one_direction(
    attack: Attack, loss: Objective, norm: str, targets: int
) -> None:
    shares = torch.linspace(-2.0, 1.5, targets, dtype=torch.float64)[:, None]
    direction = torch.randn(1, CELLS, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    model = Linear(shares * direction, torch.zeros(targets, dtype=torch.float64))
    inputs, ways = spectrograms(4), torch.tensor([[1.0], [-1.0], [1.0], [-1.0]], dtype=torch.float64)
    labels = model(inputs)["output"].detach() - 3 * ways * shares.T
    result = following(attack, loss)(model, inputs, labels, Threat(norm, EPSILON))
    optimum = EPSILON * ways * steepest(direction, norm)
    assert torch.allclose((result.adversaries - inputs).flatten(1), optimum, atol=1e-6)


@pytest.mark.parametrize("targets", [1, 2, 8])
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_chosen_signs_give_the_global_optimum_among_local_ones(norm: str, targets: int) -> None:
    # Errors within reach: which sign each ends with is a choice among 2^targets, many of them local optima.
    model, inputs = linear_regressor(targets, CELLS), spectrograms(20)
    threat = Threat.per_cell(norm, 0.01, CELLS)  # type: ignore[arg-type]
    generator = torch.Generator().manual_seed(4)
    errors = 0.2 * torch.randn(20, targets, generator=generator, dtype=torch.float64)
    labels = model(inputs)["output"].detach() - errors
    best = worst_error(errors, model.weights.detach(), float(threat.epsilon), norm)

    def reached(*losses: Objective) -> Tensor:
        result = APGD(40, losses, restarts=len(losses))(model, inputs, labels, threat)
        return absolute_error(model(result.adversaries)["output"], labels)

    assert torch.allclose(reached(SignsObjective()), best, atol=1e-6)
    others = reached(*LOSSES[:2], *(OutputObjective(rank) for rank in range(4)))
    assert bool((others <= best + 1e-9).all()), "nothing exceeds the bound"
    assert targets < 8 or int((others >= best - 1e-6).sum()) < 20, "the other losses miss it on some clips"


@pytest.mark.parametrize("way", ["up", "down"])
@pytest.mark.parametrize("unit", ["output", "c_prob"])
@pytest.mark.parametrize("attack", ATTACKS, ids=named)
@pytest.mark.parametrize(("norm", "dual"), NORMS)
def test_steering_moves_one_unit_as_far_as_the_ball_allows(
    attack: Attack, norm: str, dual: int, unit: str, way: str
) -> None:
    model, inputs = LinearBottleneck(targets=8), spectrograms(4)
    weights = (model.weights if unit == "output" else model.concepts.detach())[2]
    steering = SteeringObjective(unit, 2, way, "third")  # type: ignore[arg-type]
    result = following(attack, steering)(
        model, inputs, torch.zeros(4, 8, dtype=torch.float64), Threat(norm, EPSILON)
    )
    moved = (model(result.adversaries)[unit] - model(inputs)[unit])[:, 2].detach()
    reach = EPSILON * float(torch.linalg.vector_norm(weights, dual)) * (1 if way == "up" else -1)
    assert torch.allclose(moved, torch.full_like(moved, reach), atol=1e-6)


def boxed() -> tuple[Linear, Tensor, Tensor, Tensor, Tensor]:
    """Clips in a box whose sides many cells touch: some clips exceed the ceiling and keep their values."""
    model = linear_regressor(1, CELLS)
    floor = torch.linspace(-0.6, -0.4, BANDS, dtype=torch.float64)
    ceiling = torch.linspace(0.7, 0.9, BANDS, dtype=torch.float64)
    inputs = torch.maximum(spectrograms(4), floor)
    labels = model(inputs)["output"].detach() - torch.tensor([[30.0], [-30.0], [50.0], [-50.0]]).double()
    return model, inputs, labels, floor, ceiling


@pytest.mark.parametrize("attack", ATTACKS, ids=named)
def test_linf_optimum_in_a_box(attack: Attack) -> None:
    model, inputs, labels, floor, ceiling = boxed()
    result = following(attack, ErrorObjective("l1"))(
        model, inputs, labels, Threat("linf", 0.3, floor, ceiling)
    )
    ways = torch.tensor([1.0, -1.0, 1.0, -1.0]).double().view(-1, 1, 1, 1)
    free = inputs + 0.3 * ways * model.weights.detach().sign().view(1, *inputs.shape[1:])
    optimum = torch.minimum(torch.maximum(free, floor), torch.maximum(ceiling, inputs))
    assert bool((optimum != free).any()), "the box is active"
    assert torch.allclose(result.adversaries, optimum, atol=1e-6)


@pytest.mark.parametrize("attack", ATTACKS[1:], ids=named)
def test_l2_optimum_in_a_box(attack: Attack) -> None:
    model, inputs, labels, floor, ceiling = boxed()
    threat = Threat("l2", 2.0, floor, ceiling)
    result = following(attack, ErrorObjective("l1"))(model, inputs, labels, threat)
    low, high = (floor - inputs).numpy(), (torch.maximum(ceiling, inputs) - inputs).numpy()
    for clip, way in enumerate([1.0, -1.0, 1.0, -1.0]):
        along = way * model.weights.detach().numpy().reshape(inputs.shape[1:])

        def moved(scale: float, along: np.ndarray = along, clip: int = clip) -> np.ndarray:
            return np.clip(scale * along, low[clip], high[clip])

        # By the Karush-Kuhn-Tucker conditions the optimum is the gradient, cut to the box, of full norm.
        scale = brentq(lambda s, f=moved: np.linalg.norm(f(s)) - 2.0, 0.0, 100.0, xtol=1e-14)
        assert np.abs((result.adversaries - inputs)[clip].numpy() - moved(scale)).max() < 1e-6


@pytest.mark.parametrize(("norm", "dual"), NORMS)
@pytest.mark.parametrize("attack", ATTACKS[1:], ids=named)
def test_joint_correlation_of_one_output(attack: Attack, norm: str, dual: int) -> None:
    # Each clip's output can be moved anywhere in [o - r, o + r], so the attack on all clips together is a
    # small problem in these outputs, which scipy solves.
    model, inputs = linear_regressor(1, CELLS), spectrograms(9)
    outputs = model(inputs)["output"].detach()
    labels = outputs + 5 * torch.randn(9, 1, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    epsilon = 0.04 if norm == "linf" else 0.4
    reach = epsilon * float(torch.linalg.vector_norm(model.weights.detach(), dual))
    result = following(attack, CorrelationObjective())(model, inputs, labels, Threat(norm, epsilon))
    reached = float(correlation_over_clips(model(result.adversaries)["output"].detach(), labels))
    centred = (labels - labels.mean())[:, 0].numpy()

    def pearson(values: np.ndarray) -> float:
        return float(np.corrcoef(values, centred)[0, 1])

    bounds = [(value - reach, value + reach) for value in outputs[:, 0].tolist()]
    starts = np.random.default_rng(0).uniform(*np.array(bounds).T, (5, 9))
    optimum = min(minimize(pearson, start, bounds=bounds, tol=1e-14).fun for start in starts)
    clean = pearson(outputs[:, 0].numpy())
    assert clean - optimum > 0.1, "the attack has something to do"
    assert reached == pytest.approx(optimum, abs=1e-6 if attack.name == "apgd" else 1e-3)


@pytest.mark.parametrize("inner", [PGD(steps=40), APGD(steps=20, restarts=1), FGSM()], ids=named)
@pytest.mark.parametrize(("norm", "dual"), NORMS)
def test_minimal_perturbation(inner: APGD | PGD | FGSM, norm: str, dual: int) -> None:
    model, inputs = linear_regressor(1, CELLS), spectrograms(4)
    labels = model(inputs)["output"].detach() - torch.tensor([[3.0], [-3.0], [5.0], [4.0]]).double()
    reach = float(torch.linalg.vector_norm(model.weights.detach(), dual))
    # The last clip's whole budget is too small.
    budgets = torch.tensor([0.02, 0.05, 0.02, 0.009], dtype=torch.float64)
    attack = MinimumNorm(growth=0.01 * reach, inner=inner, bisections=24)
    result = attack(model, inputs, labels, Threat(norm, budgets), batch_size=3)
    found = result.columns["minimum_epsilon"]
    assert found[:3].tolist() == pytest.approx([0.01] * 3, abs=1e-6)
    assert bool(found[3].isnan())
    sizes = result.linf if norm == "linf" else result.l2
    assert sizes.tolist() == pytest.approx([*found[:3].tolist(), 0.009], abs=1e-7)
    grown = absolute_error(model(result.adversaries)["output"], labels) - absolute_error(
        model(inputs)["output"], labels
    )
    assert bool((grown[:3] >= 0.01 * reach - 1e-12).all()), (
        "an adversary does what its budget is said to be enough for"
    )


def test_minimal_perturbation_of_several_outputs() -> None:
    model, inputs = linear_regressor(8, CELLS), spectrograms(3)
    labels = model(inputs)["output"].detach() + 5.0
    mean = -model.weights.detach().mean(0)
    attack = MinimumNorm(0.1, APGD(10, (ErrorObjective("l1"),), restarts=1), bisections=26)
    found = attack(model, inputs, labels, Threat("linf", 0.5)).columns["minimum_epsilon"]
    assert found.tolist() == pytest.approx([0.1 / float(mean.abs().sum())] * 3, abs=1e-6)


@pytest.mark.parametrize(
    ("growth", "bisections", "losses"),
    [
        (0.0, 5, (ErrorObjective("l1"),)),
        (float("nan"), 5, (ErrorObjective("l1"),)),
        (0.1, 0, (ErrorObjective("l1"),)),
        (0.1, 5, (CorrelationObjective(),)),
    ],
)
def test_searches_for_nothing_are_refused(growth: float, bisections: int, losses: tuple[Objective]) -> None:
    with pytest.raises(UserError):
        MinimumNorm(growth, APGD(5, losses, restarts=1), bisections)
