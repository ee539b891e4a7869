"""How audible a disturbance is: figures in closed form, and a second opinion."""

from __future__ import annotations

import math
import sys

import numpy as np
import pytest
from synthetic_sounds import disturbed, masked_noise, music

from rmer.errors import UserError
from rmer.evaluation.hearing import perceived_quality as module
from rmer.evaluation.hearing.audibility import audibility
from rmer.evaluation.hearing.perceived_quality import perceived_quality


def test_the_ratio_of_signal_to_noise_is_that_of_the_powers() -> None:
    clean = np.tile(np.array([100, -100], np.int16), 5000)
    adversary = clean + np.tile(np.array([1, 1, -1, -1], np.int16), 2500)
    assert audibility(clean, adversary).snr == pytest.approx(40)


def test_what_does_not_differ_is_not_heard() -> None:
    figures = audibility(music(), music())
    assert (figures.snr, figures.largest_nmr, figures.mean_nmr) == (math.inf, -math.inf, -math.inf)
    assert figures.audible == 0


def test_noise_below_the_threshold_is_called_inaudible_and_white_noise_of_its_power_is_not() -> None:
    clean = music(6)
    masked = masked_noise(clean, -12.0)
    white = np.random.default_rng(0).normal(0, masked.std(), len(masked))
    below, above = (audibility(clean, disturbed(clean, noise)) for noise in (masked, white))
    assert below.snr == pytest.approx(above.snr, abs=0.1)
    assert below.audible == 0
    assert below.mean_nmr < below.largest_nmr < 0
    assert above.audible > 0.05
    assert above.largest_nmr > 10


def test_figures_follow_the_level_of_the_noise() -> None:
    clean = music(3)
    quiet, loud = (audibility(clean, disturbed(clean, masked_noise(clean, level))) for level in (-6.0, 6.0))
    assert quiet.snr - loud.snr == pytest.approx(12, abs=0.05)
    assert loud.mean_nmr - quiet.mean_nmr == pytest.approx(12, abs=0.05)
    assert loud.largest_nmr - quiet.largest_nmr == pytest.approx(12, abs=0.1)


def test_clips_of_different_lengths_are_an_error() -> None:
    for measure in (audibility, perceived_quality):
        with pytest.raises(UserError, match="cannot be compared"):
            measure(music(), music()[1:])
    with pytest.raises(UserError, match="0 and 0 samples"):
        audibility(music()[:0], music()[:0])


def test_visqol_says_what_it_lacks() -> None:
    with pytest.raises(UserError, match="a second"):
        perceived_quality(music()[:8000], music()[:8000])


def test_without_visqol_the_mend_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    module._visqol.cache_clear()
    monkeypatch.setitem(sys.modules, "visqol", None)
    with pytest.raises(UserError, match="pip install visqol-python"):
        perceived_quality(music(), music())
    assert not module.visqol_is_installed()


@pytest.mark.slow
def test_visqol_agrees_that_masked_noise_is_hard_to_hear() -> None:
    pytest.importorskip("visqol")
    clean = music()
    masked = masked_noise(clean, -6.0)
    white = np.random.default_rng(0).normal(0, masked.std(), len(masked))
    same, below, above = (
        perceived_quality(clean, disturbed(clean, noise)) for noise in (0 * masked, masked, white)
    )
    assert same.grade == pytest.approx(4.732, abs=0.001)
    assert same.similarity == 1
    assert same.grade > below.grade > 4.5
    assert above.grade < 3.5
