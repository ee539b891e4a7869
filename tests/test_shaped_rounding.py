"""Rounding with a shaped error: its spectrum, and what of a perturbation settling keeps."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sounds import sound_files, threat
from torch import Tensor

from rmer.attacks.settling import ROUNDING_POWER, over_samples, settled
from rmer.attacks.shaped_rounding import ORDER, shaped, shaping_filters
from rmer.data.audio.masking import BINS, band_limits, band_of_bin, band_powers, stft
from rmer.data.audio.recordings import HEADER, changeable

SAMPLES = 40_000
FRAMES = 1 + SAMPLES // 512
BANDS = int(band_of_bin(torch.device("cpu"))[-1]) + 1


def noise(seed: int, size: float) -> Tensor:
    return size * torch.randn(1, SAMPLES, generator=torch.Generator().manual_seed(seed))


def free() -> tuple[Tensor, Tensor]:
    """Return that every sample may change, as far as it likes."""
    return torch.zeros(1, SAMPLES, dtype=torch.bool), torch.full((2, 1, SAMPLES), 1e6)


def sloping(decibels: float) -> Tensor:
    """Return limits that fall by so many dB from the lowest band to the highest, [1, bands, frames]."""
    slope = 10 ** (-torch.linspace(0, decibels, BANDS) / 20)
    return slope[None, :, None].expand(1, BANDS, FRAMES)


def test_flat_limits_leave_rounding_as_it_is() -> None:
    filters = shaping_filters(torch.ones(1, BANDS, FRAMES))
    assert filters.shape == (1, FRAMES, ORDER)
    assert filters.abs().max() < 1e-9
    wanted = noise(0, 3.0)
    assert torch.equal(shaped(wanted, *free(), filters), wanted.round())


def test_a_filter_has_the_response_of_its_limits() -> None:
    """In dB, up to what so few coefficients can follow; a filter of minimum phase has a mean of 0 dB."""
    limits = sloping(20.0)
    response = torch.fft.rfft(torch.cat([torch.ones(1), shaping_filters(limits)[0, 0].float()]), 2 * BINS - 2)
    found = 20 * response.abs().log10()
    wanted = 20 * limits[0, band_of_bin(torch.device("cpu")), 0].log10()
    assert found.mean().abs() < 0.05
    assert ((found - found.mean()) - (wanted - wanted.mean())).abs().max() < 2.0


def test_the_error_has_the_spectrum_of_the_limits() -> None:
    """20 dB from band to band, and as much noise on a scale of dB as the white one of a twelfth of a step."""
    wanted, limits = noise(1, 0.3), sloping(20.0)
    error = shaped(wanted, *free(), shaping_filters(limits)) - wanted
    levels = 10 * band_powers(error.double())[0].mean(1).log10()
    white = 10 * band_powers((noise(1, 200.0).round() - noise(1, 200.0)).double())[0].mean(1).log10()
    expected = 20 * limits[0, :, 0].log10()
    of_bins = expected[band_of_bin(torch.device("cpu"))].mean()
    np.testing.assert_allclose((levels - white)[2:-1], (expected - of_bins)[2:-1], atol=3.5)


def test_the_power_of_plain_rounding() -> None:
    found = stft(noise(2, 200.0).round() - noise(2, 200.0))[..., 4:-4].abs().square().mean()
    assert found == pytest.approx(ROUNDING_POWER, rel=0.03)


def test_fixed_samples_stay_and_none_leaves_its_room() -> None:
    fixed, room = free()
    fixed[:, ::7] = True
    room[:] = 4
    steps = shaped(noise(3, 30.0), fixed, room, shaping_filters(sloping(30.0)))
    assert not steps[:, ::7].any()
    assert steps.abs().max() == 4
    assert torch.equal(steps, steps.round())


def test_settled_changes_are_within_the_limits_also_where_rounding_is_too_loud() -> None:
    """In a fifth of the time the limits are so low that nothing but silence is within them."""
    limits = 3000 * sloping(55.0).clone()
    limits[:, :, : FRAMES // 5] = 0.01
    wanted = noise(4, 1.0)
    steps = settled(wanted, *free(), limits)
    power = stft(steps).abs().square()[0]
    bands = torch.stack([power[band_of_bin(torch.device("cpu")) == band].mean(0) for band in range(BANDS)])
    assert (bands.sqrt()[1:-1] <= limits[0, 1:-1] * 1.0001).all()
    assert not steps[:, : 512 * (FRAMES // 5 - 5)].any()
    assert steps[:, 512 * (FRAMES // 5 + 5) :].any()


def test_gains_of_frames_reach_no_sample_of_a_quieter_window() -> None:
    gains = torch.ones(1, 20)
    gains[0, 10] = 0.25
    found = over_samples(gains, 19 * 512 + 40)[0]
    assert (found[10 * 512 - 1024 : 10 * 512 + 1025] == 0.25).all()
    assert found[0] == found[-1] == 1


@pytest.mark.parametrize(("budget", "share"), [(-20.0, 0.7), (-10.0, 0.85)])
def test_small_budgets_keep_their_perturbation(budget: float, share: float) -> None:
    """How far along the steepest direction the settled changes go, of what unrounded ones do."""
    rows = sound_files(("ordinary", "faint")).rows()
    within = threat("masking", budget, rows)
    slope = torch.where(
        changeable(rows), torch.randn(rows.shape, generator=torch.Generator().manual_seed(1)), 0.0
    )
    far = within.project(rows, rows + within.radius(rows) * within.steepest(slope))
    kept = within.settle(rows, far)
    assert not within.violations(rows, kept).any()
    reached = [((each - rows) * slope)[..., HEADER:].sum((1, 2)) for each in (kept, far)]
    assert (reached[0] >= share * reached[1]).all()
    assert band_limits(rows[:, 0, HEADER:]).shape == within.limits.shape  # type: ignore[union-attr]
