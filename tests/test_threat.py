"""The threat model: nearest points, per-clip budgets, parts of a split."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from regressors import BANDS, CELLS, spectrograms
from scipy.optimize import brentq

from rmer.attacks.threat import Threat, l2_norms, linf_norms

FLOOR, CEILING = torch.linspace(-0.6, -0.4, BANDS), torch.linspace(0.3, 0.9, BANDS)
pytestmark = pytest.mark.rounding


@pytest.mark.parametrize("size", [0.01, 0.3, 3.0, 300.0])
def test_l2_projection_is_the_nearest_point_of_ball_and_box(size: float) -> None:
    # The box cuts most cells here, which is where two rounds are not quite exact: 1e-5 at a radius of 2.
    inputs = spectrograms(5).clamp(min=-0.4)
    candidates = inputs + size * spectrograms(5, seed=7)
    projected = Threat("l2", 2.0, FLOOR, CEILING).project(inputs, candidates)
    low = (FLOOR.double().expand_as(inputs) - inputs).clamp(max=0).numpy()
    high = (CEILING.double().expand_as(inputs) - inputs).clamp(min=0).numpy()
    for clip, delta in enumerate((candidates - inputs).numpy()):

        def moved(scale: float, delta: np.ndarray = delta, clip: int = clip) -> np.ndarray:
            return np.clip(scale * delta, low[clip], high[clip])

        whole = np.linalg.norm(moved(1.0)) <= 2.0
        scale = 1.0 if whole else brentq(lambda s, f=moved: np.linalg.norm(f(s)) - 2.0, 0, 1, xtol=1e-15)
        assert np.abs((projected - inputs)[clip].numpy() - moved(scale)).max() < 3e-5


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("box", [(None, None), (FLOOR, None), (None, CEILING), (FLOOR, CEILING)])
def test_projected_points_are_valid_and_stay(norm: str, box: tuple[torch.Tensor, torch.Tensor]) -> None:
    inputs = spectrograms(4, torch.float32).clamp(min=-0.4)
    threat = Threat(norm, 0.25, *box)  # type: ignore[arg-type]
    for size in (1e-4, 1.0, 1e4):
        once = threat.project(inputs, inputs + size * spectrograms(4, torch.float32, seed=7))
        assert not threat.violations(inputs, once).any()
        assert torch.allclose(threat.project(inputs, once), once, atol=1e-6)
    assert torch.equal(threat.project(inputs, inputs), inputs)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_each_clip_has_its_own_budget(norm: str) -> None:
    inputs, noise = spectrograms(3), spectrograms(3, seed=7)
    radii = torch.tensor([0.0, 0.1, 0.4], dtype=torch.float64)
    threat = Threat(norm, radii)  # type: ignore[arg-type]
    together = threat.project(inputs, inputs + 9 * noise)
    sizes = linf_norms if norm == "linf" else l2_norms
    assert sizes(together - inputs).tolist() == pytest.approx(radii.tolist())
    alone = Threat(norm, 0.4).project(inputs[2:], (inputs + 9 * noise)[2:])  # type: ignore[arg-type]
    assert torch.allclose(together[2:], alone, rtol=0, atol=1e-12), "sums of a batch may be rounded otherwise"
    later = threat.of(slice(1, 3)).project(inputs[1:], (inputs + 9 * noise)[1:])
    assert torch.allclose(later, together[1:], rtol=0, atol=1e-12)
    assert torch.equal(threat.of([2]).project(inputs[2:], (inputs + 9 * noise)[2:]), alone)
    swapped = Threat(norm, radii.flip(0))  # type: ignore[arg-type]
    assert swapped.violations(inputs, together).tolist() == [False, False, True]


def test_an_l2_budget_a_cell_contains_the_linf_one() -> None:
    inputs = spectrograms(6)
    corner = inputs + 0.01 * spectrograms(6, seed=7).sign()
    assert not Threat.per_cell("l2", 0.01, CELLS).violations(inputs, corner).any()
    assert Threat.per_cell("l2", 0.0099, CELLS).violations(inputs, corner).all()


def test_an_l2_radius_may_be_missed_by_rounding_and_by_no_more() -> None:
    # So large a radius that the rounding of the norm, by which was scaled, outweighs that of x + delta.
    inputs, delta = torch.zeros(4, 1, 12, BANDS), spectrograms(4, torch.float32, seed=7)
    scaled = delta * (1000.0 / l2_norms(delta)).view(-1, 1, 1, 1)
    threat = Threat("l2", 1000.0)
    assert (l2_norms(scaled.double()) > 1000.0).any(), "else nothing is shown"
    assert not threat.violations(inputs, scaled).any()
    assert threat.violations(inputs, scaled * (1 + 1e-5)).all()
