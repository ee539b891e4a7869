"""APGD against the algorithm of its paper, written anew, and against PGD on trained networks."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction

import numpy as np
import numpy.typing as npt
import pytest
import torch
from regressors import BANDS, CELLS, FRAMES, spectrograms, trained
from torch import Tensor, nn

from rmer.attacks.apgd import APGD, checkpoints
from rmer.attacks.losses import absolute_error, correlation_over_clips
from rmer.attacks.objectives import CorrelationObjective, ErrorObjective, SteeringObjective
from rmer.attacks.pgd import PGD
from rmer.attacks.problem import clip_generator
from rmer.attacks.threat import Threat, l2_norms
from rmer.systems.frozen import FrozenNetwork

Floats = npt.NDArray[np.float64]
L1 = (ErrorObjective("l1"),)
pytestmark = pytest.mark.rounding


def test_checkpoints_are_those_of_the_paper() -> None:
    # p = 0, .22, .41, .57, .70, .80, .87, .93, .99 (section 3.4 of the paper)
    assert list(checkpoints(100)) == [22, 41, 57, 70, 80, 87, 93, 99]
    assert list(checkpoints(100).values()) == [22, 19, 16, 13, 10, 7, 6, 6]
    assert list(checkpoints(10)) == [3, 5, 6, 7, 8, 9, 10]
    assert checkpoints(1) == {1: 1}
    for steps in range(1, 120):
        places = checkpoints(steps)
        assert list(places) == np.cumsum(list(places.values())).tolist()


def paper_apgd(
    start: Floats,
    steps: int,
    eta: float,
    ascend: Callable[[Floats], tuple[float, Floats]],
    project: Callable[[Floats], Floats],
    direction: Callable[[Floats], Floats],
) -> float:
    """Algorithm 1 of Croce & Hein (2020) for one clip, from step size eta; return the largest loss found."""
    percents = [0, 22, 41, 57, 70, 80, 87, 93, 99]
    checks = [math.ceil(Fraction(percent, 100) * steps) for percent in percents]
    x, before = start, start
    f, gradient = ascend(start)
    f_max, x_max, gradient_max = f, x, gradient
    f_max_checked, eta_checked, rises = f, eta, 0
    for k in range(1, steps + 1):
        z = project(x + eta * direction(gradient))
        alpha = 1.0 if k == 1 else 0.75
        x, before = project(x + alpha * (z - x) + (1 - alpha) * (x - before)), x
        f_before = f
        f, gradient = ascend(x)
        rises += f > f_before
        if f > f_max:
            f_max, x_max, gradient_max = f, x, gradient
        if k in checks:
            condition_1 = rises < 0.75 * (k - checks[checks.index(k) - 1])
            condition_2 = eta_checked == eta and f_max_checked == f_max
            f_max_checked, eta_checked, rises = f_max, eta, 0
            if condition_1 or condition_2:
                eta, x, f, gradient = eta / 2, x_max, f_max, gradient_max
    return f_max


def paper_search(
    network: FrozenNetwork, inputs: Tensor, labels: Tensor, threat: Threat, steps: int, seed: int
) -> list[float]:
    """Return the largest mean absolute error that the paper's algorithm finds for each clip."""
    found = []
    for clip, (x, y) in enumerate(zip(inputs[:, None], labels[:, None], strict=True)):

        def ascend(values: Floats, x: Tensor = x, y: Tensor = y) -> tuple[float, Floats]:
            at = torch.from_numpy(values).view_as(x)
            prediction, gradient = network.gradient(at, lambda now: absolute_error(now["output"], y))
            return float(absolute_error(prediction["output"], y)), gradient.numpy().ravel()

        def project(values: Floats, x: Tensor = x) -> Floats:
            return threat.project(x, torch.from_numpy(values).view_as(x)).numpy().ravel()

        def direction(gradient: Floats) -> Floats:
            return np.sign(gradient) if threat.norm == "linf" else gradient / np.linalg.norm(gradient)

        start = random_start(threat, x, seed, clip).numpy().ravel()
        radius = float(threat.radius(x))
        clean = float(absolute_error(network.predict(x)["output"], y))
        found.append(max(clean, paper_apgd(start, steps, 2 * radius, ascend, project, direction)))
    return found


def random_start(threat: Threat, x: Tensor, seed: int, clip: int) -> Tensor:
    noise = torch.rand(x.shape[1:], generator=clip_generator(seed, clip))[None].to(x) * 2 - 1
    return threat.random_start(x, noise)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_same_search_as_the_paper(norm: str) -> None:
    network, inputs, labels = trained(0, dtype=torch.float64)
    frozen, inputs, labels = FrozenNetwork(network), inputs[:6].clamp(min=-1.2), labels[:6]
    threat = Threat.per_cell(norm, 0.3, CELLS, torch.full((BANDS,), -1.2), torch.full((BANDS,), 1.5))  # type: ignore[arg-type]
    result = APGD(40, L1, restarts=1)(frozen, inputs, labels, threat, seed=11)
    reached = absolute_error(frozen.predict(result.adversaries)["output"], labels)
    assert reached.tolist() == pytest.approx(paper_search(frozen, inputs, labels, threat, 40, 11), abs=1e-9)


class PeakOnASlope(nn.Module):
    """A narrow peak where the search starts: the first step falls off it, the next ones climb the slope."""

    def __init__(self, peak: Tensor) -> None:
        super().__init__()
        self.peak = nn.Parameter(peak)
        generator = torch.Generator().manual_seed(6)
        self.slope = nn.Parameter(torch.randn(CELLS, 1, generator=generator, dtype=torch.float64))

    def forward(self, inputs: Tensor) -> dict[str, Tensor | None]:
        distance = (inputs - self.peak).flatten(1).square().sum(1, keepdim=True)
        return {"output": inputs.flatten(1) @ self.slope + 100 * torch.exp(-20 * distance), "c_prob": None}


@pytest.mark.parametrize("steps", [14, 40, 80])
def test_same_search_as_the_paper_where_only_its_second_condition_holds(steps: int) -> None:
    inputs, labels, threat = spectrograms(1), torch.full((1, 1), -1e3).double(), Threat("l2", 1.0)
    peak = random_start(threat, inputs, 5, 0) + 0.03 * spectrograms(1, seed=9)
    network = FrozenNetwork(PeakOnASlope(peak))
    result = APGD(steps, L1, restarts=1)(network, inputs, labels, threat, seed=5)
    reached = absolute_error(network.predict(result.adversaries)["output"], labels)
    assert reached.tolist() == pytest.approx(
        paper_search(network, inputs, labels, threat, steps, 5), abs=1e-9
    )


class Peak(nn.Module):
    """Minus the distance to a point inside the ball, so that steps of a fixed size overshoot."""

    def __init__(self, peak: Tensor) -> None:
        super().__init__()
        self.peak = nn.Parameter(peak)

    def forward(self, inputs: Tensor) -> dict[str, Tensor | None]:
        distance = (inputs - self.peak).flatten(1).square().sum(1, keepdim=True)
        return {"output": -distance, "c_prob": None}


def test_steps_shrink_where_they_overshoot() -> None:
    inputs = spectrograms(3)
    peak = inputs[0] + 0.03 * torch.rand(1, FRAMES, BANDS, dtype=torch.float64)
    up, threat = (SteeringObjective("output", 0, "up", "height"),), Threat("linf", 0.1)
    missed = [
        float(l2_norms(attack(Peak(peak), inputs[:1], torch.zeros(1, 1), threat).adversaries - peak))
        for attack in (APGD(100, up, restarts=1), PGD(100, losses=up))
    ]
    assert missed[0] < 0.1 * missed[1]


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_never_worse_than_pgd_on_trained_networks(norm: str) -> None:
    """Same gradients, same starts; one start each, so single clips may end in a worse local optimum.

    Over 8 networks, both budgets and norms, the mean error was lower than PGD's in 5 of 32 settings, by .7 %
    at most, and higher by up to 2 %. In float64 these are the same everywhere.
    """
    gains = []
    for seed in (0, 1):
        network, inputs, labels = trained(seed, dtype=torch.float64)
        frozen = FrozenNetwork(network, batch_size=32)
        for epsilon in (0.1, 0.3):
            threat = Threat.per_cell(norm, epsilon, CELLS)  # type: ignore[arg-type]
            found = [
                attack(frozen, inputs, labels, threat, batch_size=32, seed=3)
                for attack in (APGD(20, L1, restarts=1), PGD(20, losses=L1))
            ]
            assert found[0].gradients == found[1].gradients
            errors = [absolute_error(frozen.predict(one.adversaries)["output"], labels) for one in found]
            gains.append(float(errors[0].mean() / errors[1].mean()) - 1)
    assert min(gains) > -0.01
    assert float(np.mean(gains)) > 0


def test_a_warm_start_is_one_more_search() -> None:
    network, inputs, labels = trained(0)
    frozen, threat = FrozenNetwork(network), Threat("linf", 0.2)
    warm = PGD(60, losses=L1)(frozen, inputs, labels, Threat("linf", 0.15)).adversaries
    cold = APGD(2, L1, restarts=1)(frozen, inputs, labels, threat, seed=1)
    both = APGD(2, L1, restarts=1)(frozen, inputs, labels, threat, seed=1, warm_start=warm)
    reached, before, given = (
        absolute_error(frozen.predict(found)["output"], labels)
        for found in (both.adversaries, cold.adversaries, warm)
    )
    assert bool((reached >= torch.maximum(before, given) - 1e-6).all())
    assert torch.equal(both.columns["warm_won"], reached > before)
    assert bool(both.columns["warm_won"].any())
    assert both.gradients == 2 * cold.gradients
    assert cold.columns == {}


def test_a_joint_attack_does_not_depend_on_batches_and_beats_attacks_on_single_clips() -> None:
    network, inputs, labels = trained(1, dtype=torch.float64)
    threat = Threat("linf", 0.1)

    def corr(adversaries: Tensor) -> float:
        return float(correlation_over_clips(frozen.predict(adversaries)["output"], labels))

    frozen = FrozenNetwork(network, batch_size=5)
    joint = APGD(20, (CorrelationObjective(),), restarts=1)
    one, other = (
        joint(FrozenNetwork(network, batch_size=size), inputs, labels, threat, seed=2, batch_size=size)
        for size in (5, 32)
    )
    assert torch.allclose(one.adversaries, other.adversaries, atol=1e-12)
    single = APGD(20, L1, restarts=1)(frozen, inputs, labels, threat, seed=2)
    assert corr(one.adversaries) < corr(single.adversaries) - 0.02 < corr(inputs) - 0.02
    # It keeps the best iterate of the split: no clip is taken from another one.
    assert corr(one.adversaries) <= corr(
        APGD(10, (CorrelationObjective(),), restarts=1)(frozen, inputs, labels, threat, seed=2).adversaries
    )
