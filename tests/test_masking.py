"""The model of masking: calibration, spread, offsets and threshold in quiet as published, in closed form."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor
from waiting import DEVICE, crossings

from rmer.attacks.band_spectra import band_means, limited
from rmer.data.audio.decoders import FULL_SCALE, SAMPLE_RATE
from rmer.data.audio.masking import (
    BINS,
    HOP,
    WINDOW,
    band_of_bin,
    band_powers,
    bark,
    bin_limits,
    bin_shares,
    istft,
    masking_thresholds,
    noise_to_mask,
    spreading,
    stft,
    threshold_in_quiet,
)

LENGTH = 16 * HOP
MIDDLE = 8  # a frame whose window lies within the signal
BIN_WIDTH = SAMPLE_RATE / WINDOW


def sine(frequency_bin: float, amplitude: float = FULL_SCALE) -> Tensor:
    """A sine whose frequency is a number of bins, [1, samples] in 16-bit steps."""
    return (
        amplitude
        * torch.sin(2 * math.pi * frequency_bin / WINDOW * torch.arange(LENGTH, dtype=torch.float64))[None]
    )


def impulse(amplitude: float) -> Tensor:
    """An impulse at the centre of the frame ``MIDDLE``, whose spectrum is flat."""
    samples = torch.zeros(1, LENGTH, dtype=torch.float64)
    samples[0, MIDDLE * HOP] = amplitude
    return samples


def noise(seed: int = 0, clips: int = 1, length: int = LENGTH) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 1000 * torch.randn(clips, length, generator=generator, dtype=torch.float64)


def decibels(power: Tensor) -> np.ndarray:
    return 10 * power.log10().numpy()


# The published formulas, written again.
HERTZ = np.arange(BINS) * BIN_WIDTH
BARKS = 13 * np.arctan(0.76 * HERTZ / 1000) + 3.5 * np.arctan((HERTZ / 7500) ** 2)
BAND = (3 * BARKS).astype(int)
CENTRES = (np.arange(BAND.max() + 1) + 0.5) / 3
SHIFTED = CENTRES[:, None] - CENTRES + 0.474
SPREAD = 15.81 + 7.5 * SHIFTED - 17.5 * np.sqrt(1 + SHIFTED**2)
GAIN = 10 * np.log10((10 ** (SPREAD / 10)).sum(1))
with np.errstate(divide="ignore"):
    KHZ = HERTZ / 1000
    QUIET = 3.64 * KHZ**-0.8 - 6.5 * np.exp(-0.6 * (KHZ - 3.3) ** 2) + 1e-3 * KHZ**4


@pytest.mark.parametrize("length", [LENGTH, 2047, 5000, 2])
def test_the_transform_has_an_exact_inverse(length: int) -> None:
    samples = noise(clips=2, length=length)
    spectra = stft(samples)
    assert spectra.shape == (2, BINS, 1 + length // HOP)
    torch.testing.assert_close(istft(spectra, length), samples, rtol=0, atol=1e-9)


def test_spectra_of_no_signal_give_the_one_with_the_nearest() -> None:
    spectra = stft(noise(clips=2)) * stft(noise(7, clips=2)).abs()
    window = torch.hann_window(WINDOW, dtype=torch.float64)
    nearest = torch.istft(spectra, WINDOW, HOP, window=window, center=True, length=LENGTH)  # torch's own
    torch.testing.assert_close(istft(spectra, LENGTH), nearest)


def test_a_sine_of_full_scale_has_96_decibels_wherever_it_lies() -> None:
    for frequency_bin in (20.0, 93.3, 400.5, 900.0):
        total = band_powers(sine(frequency_bin)).sum(1)[0, 4:-4]
        np.testing.assert_allclose(decibels(total), 96, atol=1e-3)


def test_every_sample_counts_alike_whatever_its_place_in_the_grid_of_windows() -> None:
    samples = noise()
    samples[:, : 3 * HOP] = samples[:, -3 * HOP :] = 0
    mean_square = samples.square().sum() / HOP  # a frame stands for as many samples as the hop
    expected = 96 + decibels(mean_square / (FULL_SCALE**2 / 2))
    np.testing.assert_allclose(decibels(band_powers(samples).sum()), expected, atol=1e-9)
    single = torch.zeros(1, LENGTH, dtype=torch.float64)
    for place in range(6 * HOP, 7 * HOP, 37):
        moved = single.clone()
        moved[0, place] = FULL_SCALE
        assert float(band_powers(moved).sum()) == pytest.approx(10**9.6 * 2 / HOP, rel=1e-9)


def test_bands_are_thirds_of_critical_bands_up_to_the_nyquist_frequency() -> None:
    assert masking_thresholds(noise()).shape == (1, 69, 17)
    np.testing.assert_allclose(bark(torch.as_tensor(HERTZ)), BARKS, atol=1e-12)
    # Zwicker's table: critical bands end at these frequencies.
    edges = torch.tensor([100.0, 510.0, 1080.0, 2000.0, 4400.0, 9500.0])
    np.testing.assert_allclose(bark(edges), [1, 5, 9, 13, 18, 22], atol=0.2)
    assert np.bincount(BAND).min() >= 3  # no band without a bin of its own


def test_spreading_falls_as_published() -> None:
    distance = torch.tensor([0.0, 1.0, -1.0, 30.0, 31.0, -30.0, -31.0], dtype=torch.float64)
    level = spreading(distance)
    assert float(level[0]) == pytest.approx(0, abs=0.01)
    assert float(level[3] - level[4]) == pytest.approx(10, abs=0.02)  # upwards, dB a Bark
    assert float(level[5] - level[6]) == pytest.approx(25, abs=0.02)  # downwards
    assert level[1].item() == pytest.approx(15.81 + 7.5 * 1.474 - 17.5 * math.hypot(1, 1.474))
    assert level[2].item() == pytest.approx(15.81 - 7.5 * 0.526 - 17.5 * math.hypot(1, 0.526))


def test_a_tone_masks_as_published_on_both_sides() -> None:
    bin_of_tone = 200  # 2153 Hz, in the middle of its band
    band = BAND[bin_of_tone]
    assert {band} == set(BAND[bin_of_tone - 1 : bin_of_tone + 2])  # all three bins of its main lobe
    level = decibels(masking_thresholds(sine(bin_of_tone)))[0, :, MIDDLE]
    expected = 96 + SPREAD[:, band] - GAIN - (14.5 + CENTRES)
    quiet = np.array([QUIET[band == BAND].min() for band in range(len(CENTRES))]) - 10 * np.log10(3)
    np.testing.assert_allclose(level, np.maximum(expected, quiet), atol=1e-6)
    assert (expected > quiet)[band - 6 : band + 18].all()  # far enough to see both slopes


def test_the_offset_is_that_of_noise_where_the_spectrum_is_flat() -> None:
    level = decibels(masking_thresholds(impulse(FULL_SCALE)))[0, :, MIDDLE]
    power = decibels(band_powers(impulse(FULL_SCALE)))[0, :, MIDDLE]
    spread = 10 * np.log10((10 ** (SPREAD / 10)) @ 10 ** (power / 10)) - GAIN
    np.testing.assert_allclose((spread - level)[1:], 5.5, atol=1e-9)  # below 33 Hz it is inaudible itself


@pytest.mark.parametrize(("samples", "tonality"), [(noise(length=400 * HOP), 0.0418), (sine(200), 1.0)])
def test_the_offset_follows_the_flatness_of_the_spectrum(samples: Tensor, tonality: float) -> None:
    # White noise: the mean logarithm of a periodogram lies Euler's constant below its mean, 2.507 dB of 60.
    spread = decibels(torch.as_tensor(10 ** (SPREAD / 10)) @ band_powers(samples))[0] - GAIN[:, None]
    offset = (spread - decibels(masking_thresholds(samples))[0])[:, 4:-4].mean(1)
    near = slice(BAND[200] - 3, BAND[200] + 4)  # where a tone's threshold lies above that in quiet
    expected = tonality * (14.5 + CENTRES) + (1 - tonality) * 5.5
    np.testing.assert_allclose(offset[near], expected[near], atol=0.05)


def test_silence_leaves_the_threshold_in_quiet() -> None:
    assert float(threshold_in_quiet(torch.tensor(1000.0))) == pytest.approx(3.37, abs=0.01)
    power = masking_thresholds(torch.zeros(1, LENGTH, dtype=torch.float64))
    assert torch.equal(power, power[:, :, :1].expand_as(power))
    softest = np.array([QUIET[band == BAND].min() for band in range(len(CENTRES))])
    np.testing.assert_allclose(decibels(3 * power[0, :, 0]), softest, atol=1e-9)


def test_limits_of_bins_have_the_power_of_the_threshold() -> None:
    samples = sine(200)
    limits, power = bin_limits(samples)[0, :, MIDDLE], masking_thresholds(samples)[0, :, MIDDLE]
    band = BAND[350]
    # A quiet sine in another band, raised to that band's threshold: its squared magnitudes are those allowed.
    probe = sine(350, 1.0)
    probe = probe * (power[band] / band_powers(probe)[0, band, MIDDLE]).sqrt()
    np.testing.assert_allclose(noise_to_mask(samples, probe)[0, band, MIDDLE], 0, atol=1e-9)
    magnitudes = stft(probe)[0, :, MIDDLE].abs()
    np.testing.assert_allclose(
        magnitudes[band == BAND].square().sum(), limits[band == BAND].square().sum(), rtol=1e-9
    )
    assert torch.equal(limits[band == BAND], limits[350].expand(int((band == BAND).sum())))  # evenly spread


def test_thresholds_follow_the_level_of_the_music_above_the_threshold_in_quiet() -> None:
    samples, quiet = noise(), masking_thresholds(torch.zeros(1, LENGTH, dtype=torch.float64))
    once, twice = masking_thresholds(samples), masking_thresholds(2 * samples)
    heard = once > quiet
    assert heard[:, 6:].all()  # all but the lowest bands, where the ear is deaf
    torch.testing.assert_close(twice[heard], 4 * once[heard], rtol=1e-12, atol=0)
    np.testing.assert_allclose(
        noise_to_mask(2 * samples, 2 * samples)[heard], noise_to_mask(samples, samples)[heard], atol=1e-9
    )


def test_the_ratio_counts_decibels_of_the_difference() -> None:
    clean, difference = noise(0), noise(1)
    ratio = noise_to_mask(clean, difference)
    np.testing.assert_allclose(noise_to_mask(clean, difference / 10), ratio - 20, atol=1e-9)
    assert (noise_to_mask(clean, torch.zeros_like(clean)) == -math.inf).all()


def test_clips_do_not_mask_each_other_and_float32_is_enough() -> None:
    samples = torch.cat(
        [noise(0), sine(200), impulse(FULL_SCALE), torch.zeros(1, LENGTH, dtype=torch.float64)]
    )
    together = masking_thresholds(samples)
    for row, clip in enumerate(samples):
        torch.testing.assert_close(together[row : row + 1], masking_thresholds(clip[None]))
    single = masking_thresholds(samples.float())
    assert single.dtype == torch.float32
    np.testing.assert_allclose(decibels(single.double()), decibels(together), atol=1e-3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_bands_are_measured_and_lowered_bin_by_bin(dtype: torch.dtype) -> None:
    spectra = stft(torch.randn(2, LENGTH, dtype=dtype, generator=torch.Generator().manual_seed(1)))
    power, cpu = spectra.real.square() + spectra.imag.square(), torch.device("cpu")
    shares = bin_shares(dtype, cpu)
    tolerance = 50 * torch.finfo(dtype).eps
    torch.testing.assert_close(band_means(spectra), shares @ power, rtol=tolerance, atol=0.0)

    samples = istft(spectra, LENGTH)
    limits = (shares @ power).sqrt() * torch.rand(2, len(shares), spectra.shape[2]).to(dtype) * 2
    gains = (limits / (shares @ power).sqrt()).clamp(max=1.0)[:, band_of_bin(cpu)]
    expected = istft(spectra * gains, LENGTH)
    torch.testing.assert_close(limited(samples, limits), expected, rtol=0.0, atol=20 * tolerance)


def test_a_perturbation_is_limited_without_waiting_for_a_gpu() -> None:
    samples = torch.zeros(2, 9000, device=DEVICE)
    bin_limits(samples)  # constants are sent once

    with crossings() as found:
        spectra = stft(samples)
        istft(spectra * (bin_limits(samples) / spectra.abs()).clamp(max=1), 9000)
        noise_to_mask(samples, samples)
    assert not found
