"""Features of music against their closed forms, and their gradients against finite differences."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from rmer.data.audio.decoders import SAMPLE_RATE
from rmer.data.audio.filterbank import BANDS, FPS, FRAME_SIZE, band_frequencies, filterbank
from rmer.data.audio.torch_frontend import Audio2Spect
from rmer.systems.music_features import FEATURES, MAJOR, MINOR, Spect2Features

FREQUENCIES = band_frequencies()
FRAMES = 200
C6 = 1046.5


def features(magnitudes: Tensor) -> dict[str, float]:
    """Return the features of one clip of magnitudes [frames, bands]."""
    log = torch.log10(1 + magnitudes.double())[None]
    return dict(zip(FEATURES, Spect2Features().double()(log)[0].tolist(), strict=True))


def bands(magnitudes: dict[int, float], frames: int = FRAMES) -> Tensor:
    """Return a stationary sound with these magnitudes of some bands [frames, bands]."""
    spectrum = torch.zeros(BANDS)
    for band, magnitude in magnitudes.items():
        spectrum[band] = magnitude
    return spectrum.repeat(frames, 1)


def test_frequencies_are_where_the_filters_peak() -> None:
    peaks = filterbank().argmax(0) * SAMPLE_RATE / FRAME_SIZE
    assert np.abs(FREQUENCIES - peaks).max() < SAMPLE_RATE / FRAME_SIZE
    assert FREQUENCIES.shape == (BANDS,)


@pytest.mark.parametrize("band", [5, 70, 140])
def test_of_one_band_the_centroid_is_its_frequency(band: int) -> None:
    found = features(bands({band: 20.0}))
    assert found["spectral_centroid"] == pytest.approx(FREQUENCIES[band], rel=1e-3)
    # A thousandth is taken for silence, so that the rest is not quite nothing.
    assert found["spectral_spread"] < 0.01 * FREQUENCIES[band]
    assert found["brightness"] == pytest.approx(float(FREQUENCIES[band] >= 1500), abs=1e-3)
    assert found["bass"] == pytest.approx(float(FREQUENCIES[band] < 200), abs=1e-3)
    assert found["roughness"] == pytest.approx(0, abs=1e-6)
    assert found["spectral_flatness"] < 0.01
    assert found["level"] == pytest.approx(math.log10(21) / BANDS)


def test_a_tone_from_a_recording_has_the_centroid_of_its_pitch() -> None:
    tone = 0.5 * torch.sin(2 * torch.pi * 1000 * torch.arange(30000) / SAMPLE_RATE)
    found = Spect2Features()(Audio2Spect()(tone[None])[:, 2:30])[0]
    assert found[FEATURES.index("spectral_centroid")] == pytest.approx(1000, rel=0.03)


def test_two_bands_have_closed_forms() -> None:
    low, high = FREQUENCIES[60], FREQUENCIES[62]
    found = features(bands({60: 3.0, 62: 1.0}))
    assert found["spectral_centroid"] == pytest.approx((3 * low + high) / 4, rel=1e-3)
    assert found["spectral_spread"] == pytest.approx(math.sqrt(3) / 4 * (high - low), rel=1e-2)
    scaled = 0.24 / (0.021 * low + 19) * (high - low)
    dissonance = math.exp(-3.5 * scaled) - math.exp(-5.75 * scaled)
    assert found["roughness"] == pytest.approx(3 * dissonance / 10, rel=1e-3)


def test_a_semitone_is_rougher_than_a_fifth() -> None:
    semitone, fifth = (features(bands({60: 1.0, 60 + step: 1.0}))["roughness"] for step in (2, 14))
    assert semitone > 2 * fifth


def test_a_stationary_sound_has_no_flux_and_no_pulse() -> None:
    found = features(1 + torch.rand(1, BANDS, generator=torch.Generator().manual_seed(0)).repeat(FRAMES, 1))
    assert found["spectral_flux"] == 0
    assert found["level_variation"] == pytest.approx(0, abs=1e-2)
    assert found["pulse_clarity"] == 0


def test_equal_bands_are_flat_and_levels_add_up() -> None:
    quiet, loud = torch.full((FRAMES // 2, BANDS), 9.0), torch.full((FRAMES // 2, BANDS), 99.0)
    found = features(torch.cat([quiet, loud]))
    assert found["spectral_flatness"] == pytest.approx(1, abs=1e-5)
    assert found["level"] == pytest.approx(1.5)
    assert found["level_variation"] == pytest.approx(0.5, abs=1e-5)
    assert found["spectral_flux"] == pytest.approx(BANDS / (FRAMES - 1))  # one step of 1 in all bands


@pytest.mark.parametrize("period", [13, 16, 20, 27])
def test_the_tempo_of_clicks_is_their_rate(period: int) -> None:
    clicks = torch.zeros(FRAMES * 2, BANDS)
    clicks[::period] = 9.0
    found = features(clicks)
    assert found["tempo"] == pytest.approx(60 * FPS / period, rel=1e-3)
    assert found["pulse_clarity"] > 0.9
    noise = features(torch.rand(FRAMES * 2, BANDS, generator=torch.Generator().manual_seed(1)))
    assert noise["pulse_clarity"] < 0.3


@pytest.mark.parametrize("key", [0, 7])
def test_a_profile_is_its_key_and_mode(key: int) -> None:
    def sounding(profile: tuple[float, ...]) -> dict[str, float]:
        # One band of each pitch class, the one that is nearest to it in the octave from C6.
        pitches = C6 * 2 ** ((np.arange(12) + key) % 12 / 12)
        nearest = [int(np.abs(np.log2(FREQUENCIES / pitch)).argmin()) for pitch in pitches]
        return features(bands(dict(zip(nearest, profile, strict=True))))

    major, minor = sounding(MAJOR), sounding(MINOR)
    for found in (major, minor):
        assert found["key_clarity"] > 0.97  # bands lie up to a tenth of a semitone beside the pitches
    assert major["mode"] > 0.1
    assert minor["mode"] < -0.1


def test_gradients_are_those_of_finite_differences() -> None:
    generator = torch.Generator().manual_seed(2)
    spectrograms = torch.rand(1, 60, BANDS, generator=generator, dtype=torch.float64) * 2
    model = Spect2Features().double()
    direction = torch.randn(spectrograms.shape, generator=generator, dtype=torch.float64)
    size = 1e-7
    ahead, behind = (model(spectrograms + sign * size * direction) for sign in (1, -1))
    slopes = (ahead - behind)[0] / (2 * size)
    inputs = spectrograms.requires_grad_(True)
    for name, value, slope in zip(FEATURES, model(inputs)[0], slopes, strict=True):
        (gradient,) = torch.autograd.grad(value, inputs, retain_graph=True)
        assert float((gradient * direction).sum()) == pytest.approx(float(slope), rel=1e-4, abs=1e-6), name
        assert gradient.abs().max() > 0, name


@pytest.mark.parametrize("frames", [2, 12, 313])
def test_silence_and_what_is_off_the_scale_have_features_and_gradients(frames: int) -> None:
    inputs = torch.stack([torch.zeros(frames, BANDS), torch.full((frames, BANDS), -3.0)])
    inputs = torch.cat([inputs, torch.full((1, frames, BANDS), 300.0)]).requires_grad_(True)
    found = Spect2Features()(inputs)
    (gradient,) = torch.autograd.grad(found.sum(), inputs)
    assert found.isfinite().all()
    assert gradient.isfinite().all()
