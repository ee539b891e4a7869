"""Square: the paper's schedule and patterns, black-box damage, queries counted."""

from __future__ import annotations

import pytest
import torch
from networks import Wrapped, linear_regressor
from regressors import BANDS, CELLS, spectrograms, trained
from torch import Tensor

from rmer.attacks.apgd import APGD
from rmer.attacks.losses import absolute_error
from rmer.attacks.noise import Noise
from rmer.attacks.objectives import CorrelationObjective, SteeringObjective
from rmer.attacks.pgd import PGD
from rmer.attacks.square import Square, bump, covered
from rmer.attacks.threat import Threat, l2_norms
from rmer.errors import UserError
from rmer.systems.frozen import FrozenNetwork

NORMS = ["linf", "l2"]
pytestmark = pytest.mark.rounding


def test_the_share_of_a_square_is_halved_by_the_schedule_of_the_paper() -> None:
    # Section 5: p is halved at queries 10, 50, 200, 1000, 2000, 4000, 6000, 8000 of 10 000.
    halvings = {10: 0, 11: 1, 50: 1, 51: 2, 201: 3, 1001: 4, 2001: 5, 4001: 6, 6001: 7, 8001: 8, 9999: 8}
    assert {query: covered(query / 10_000) for query in halvings} == {
        query: 0.5**count for query, count in halvings.items()
    }


def test_a_bump_is_a_hill_beside_a_valley() -> None:
    pattern = bump(6)
    assert float(pattern.norm()) == pytest.approx(1.0)
    assert torch.equal(pattern[:3], -pattern[3:])
    # Sums of 1 / k^2 from the centre outwards: 1 + 1/4 + 1/9 + 1/16, less its first term, and so on.
    ratios = pattern[1] / pattern[1, 3]
    centre = 1 + 1 / 4 + 1 / 9 + 1 / 16
    rings = [centre, centre - 1, centre - 1 - 1 / 4, centre - 1 - 1 / 4 - 1 / 9]
    assert ratios.tolist() == pytest.approx([rings[d] / centre for d in (3, 2, 1, 0, 1, 2)])
    assert [float(bump(side).norm()) for side in (1, 2, 3, 9)] == pytest.approx([1.0] * 4)


@pytest.mark.parametrize(("norm", "share"), [("linf", 0.75), ("l2", 0.5)])
def test_comes_near_the_optimum_of_a_linear_regressor(norm: str, share: float) -> None:
    model, inputs = linear_regressor(1, CELLS), spectrograms(4)
    errors = torch.tensor([[3.0], [-3.0], [5.0], [-4.0]], dtype=torch.float64)
    labels = model(inputs)["output"].detach() - errors
    reach = 0.01 * float(torch.linalg.vector_norm(model.weights.detach(), 1 if norm == "linf" else 2))
    network = FrozenNetwork(model)

    def gained(queries: int) -> Tensor:
        result = Square(queries)(network, inputs, labels, Threat(norm, 0.01))
        return (
            absolute_error(network.predict(result.adversaries)["output"], labels) - errors.abs()[:, 0]
        ) / reach

    few, many = gained(20), gained(800)
    assert bool((few < many).all())
    assert bool((many > share).all())
    assert bool((many <= 1 + 1e-9).all())


def test_fills_the_budget_where_no_box_cuts_it() -> None:
    network, inputs, labels = trained(0)
    for queries, norm in ((1, "linf"), (60, "linf"), (1, "l2"), (60, "l2")):
        threat = Threat.per_cell(norm, 0.2, CELLS)  # type: ignore[arg-type]
        result = Square(queries)(network, inputs, labels, threat, batch_size=32)
        delta = (result.adversaries - inputs)[result.l2 > 0]  # elsewhere the clean clip is still the worst
        assert len(delta) >= 8
        if norm == "linf":
            assert torch.allclose(delta.abs(), torch.tensor(0.2), atol=1e-6)
        else:
            assert torch.allclose(l2_norms(delta), torch.tensor(threat.epsilon), atol=1e-5)
        if (queries, norm) == (1, "linf"):
            assert torch.allclose(delta, delta[:, :, :1].expand_as(delta), atol=1e-6), "stripes along time"


@pytest.mark.parametrize("norm", NORMS)
def test_stays_in_the_box_and_uses_what_it_leaves(norm: str) -> None:
    network, inputs, labels = trained(0)
    floor, ceiling = torch.full((BANDS,), -0.5), torch.full((BANDS,), 0.7)
    threat = Threat.per_cell(norm, 0.3, CELLS, floor, ceiling)  # type: ignore[arg-type]
    inputs = inputs.clamp(min=-0.5)
    result = Square(80)(network, inputs, labels, threat)
    assert not result.violations.any()
    if norm == "l2":
        assert float(result.l2.mean()) > 0.95 * float(threat.epsilon), "single clips may end with less"


@pytest.mark.parametrize("norm", NORMS)
def test_stronger_than_noise_and_weaker_than_gradients(norm: str) -> None:
    network, inputs, labels = trained(1)
    frozen, threat = FrozenNetwork(network, batch_size=32), Threat.per_cell(norm, 0.2, CELLS)  # type: ignore[arg-type]
    noise, square, apgd = (
        float(absolute_error(frozen.predict(result.adversaries)["output"], labels).mean())
        for result in (
            attack(frozen, inputs, labels, threat, batch_size=32)
            for attack in (Noise("sign", draws=5), Square(200), APGD(20, restarts=1))
        )
    )
    assert noise < square < apgd


class Masked(Wrapped):
    """A network whose gradients are zero: its predictions are rounded."""

    def forward(self, inputs: Tensor) -> dict[str, Tensor | None]:
        output = self.network(inputs)["output"]
        return {"output": (output * 1000).round() / 1000, "c_prob": None}


def test_needs_no_gradients() -> None:
    network, inputs, labels = trained(1)
    frozen, threat = FrozenNetwork(Masked(network), batch_size=32), Threat("linf", 0.2)
    clean = absolute_error(frozen.predict(inputs)["output"], labels)
    errors = {}
    for name, attack in {"square": Square(100), "pgd": PGD(100)}.items():
        result = attack(frozen, inputs, labels, threat, batch_size=32)
        errors[name] = absolute_error(frozen.predict(result.adversaries)["output"], labels)
    assert float(errors["square"].mean() - clean.mean()) > 2 * float(errors["pgd"].mean() - clean.mean())
    assert bool((errors["pgd"] >= clean).all()), "a gradient of zero is no error"


def test_steers_a_concept() -> None:
    network, inputs, labels = trained(0)
    up = SteeringObjective("c_prob", 1, "up", "mode")
    result = Square(50, losses=(up,))(network, inputs, labels, Threat("linf", 0.2))
    before, after = (network(clips)["c_prob"][:, 1] for clips in (inputs, result.adversaries))
    assert bool((after >= before).all())
    assert int((after > before).sum()) >= 28
    assert result.gradients == 0
    assert result.forwards == 51 * len(inputs)


@pytest.mark.parametrize("shape", [(1, 3), (2, 2), (4, 17)])
@pytest.mark.parametrize("norm", NORMS)
def test_small_spectrograms(norm: str, shape: tuple[int, int]) -> None:
    model = linear_regressor(2, shape[0] * shape[1])
    inputs = torch.randn(3, 1, *shape, dtype=torch.float64)
    result = Square(30)(model, inputs, torch.zeros(3, 2, dtype=torch.float64), Threat(norm, 0.5))
    assert not result.violations.any()
    assert bool((result.l2 > 0).all())


@pytest.mark.parametrize(
    "settings", [{"queries": 0}, {"p_init": 0.0}, {"p_init": 1.5}, {"losses": (CorrelationObjective(),)}]
)
def test_bad_settings_are_user_errors(settings: dict[str, object]) -> None:
    with pytest.raises(UserError):
        Square(**settings)  # type: ignore[arg-type]
