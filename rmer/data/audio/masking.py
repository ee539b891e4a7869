"""What a listener cannot hear beside music: masking thresholds after Johnston (1988).

J. D. Johnston, "Transform coding of audio signals using perceptual noise criteria", IEEE JSAC 6(2), 1988. In
each frame, the power in bands of 1/3 Bark (E. Zwicker, E. Terhardt, JASA 68, 1980) is spread over frequency
(M. R. Schroeder, B. S. Atal, J. L. Hall, JASA 66, 1979) and lowered by an offset that depends on how tonal
the frame is (spectral flatness). No threshold is below that in quiet (E. Terhardt, Hearing Research 1, 1979).

Samples are in 16-bit steps at 22 050 Hz. A sine of full scale is taken to be played at 96 dB SPL, so that one
of a single step has 6 dB SPL; played louder, more can be heard. Not modelled: masking over time (a frame
lasts 93 ms, so that noise may precede an onset that masks it), and listeners who differ from the average.
"""

from __future__ import annotations

from functools import cache, lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from rmer.data.audio.decoders import FULL_SCALE, SAMPLE_RATE

WINDOW, HOP = 2048, 512  # samples: 93 and 23 ms
BINS = WINDOW // 2 + 1
BANDS_PER_BARK = 3
FULL_SCALE_LEVEL = 96.0  # dB SPL of a sine of full scale
NOISE_OFFSET = 5.5  # dB by which noise lies above noise that it just masks
TONE_OFFSET = 14.5  # dB the same for a tone, plus its place in Bark
TONAL_FLATNESS = -60.0  # dB of spectral flatness from which on a frame counts as a tone


def stft(samples: Tensor) -> Tensor:
    """Return the short-time spectra of [batch, samples], complex [batch, 1025 bins, frames].

    Frame t of 1 + samples // 512 is centred on sample 512 t, under a Hann window; beyond both ends are zeros.
    """
    # torch.stft does the same, but orders memory by bins: frames are faster, here and for what follows.
    padded = torch.nn.functional.pad(samples, (WINDOW // 2, WINDOW // 2))
    frames = padded.unfold(1, WINDOW, HOP) * _hann(samples.dtype, samples.device)
    spectra: Tensor = torch.fft.rfft(frames)
    return spectra.transpose(1, 2)


def istft(spectra: Tensor, length: int) -> Tensor:
    """Return [batch, length] samples of complex spectra [batch, 1025, frames], the inverse of :func:`stft`.

    Of spectra that belong to no signal it gives the signal with the nearest ones (least squares).
    """
    # torch.istft does the same, but waits for a GPU.
    frames = torch.fft.irfft(spectra.transpose(1, 2)).mul_(_hann(spectra.real.dtype, spectra.device))
    envelope = _envelope(frames.shape[1], frames.dtype, frames.device)
    return _overlapped(frames)[:, WINDOW // 2 : WINDOW // 2 + length] / envelope[:length]


def band_powers(samples: Tensor) -> Tensor:
    """Return the power of [batch, samples] in each band and frame, [batch, 69 bands, frames].

    ``10 log10`` of it is a level in dB SPL. Summed over bands, the power of a sine is that of its amplitude.
    """
    return _bands(stft(samples))


def masking_thresholds(samples: Tensor) -> Tensor:
    """Return the power of noise in each band and frame that [batch, samples] just mask, [batch, 69, frames].

    In the units of :func:`band_powers`. Three neighbouring bands together are a critical band, and share the
    threshold in quiet: a third each.
    """
    spectra = stft(samples)
    model = _model(samples.dtype, samples.device)
    tonality = (_flatness(spectra) / TONAL_FLATNESS).clamp(max=1)[:, None]
    offset = tonality * (TONE_OFFSET + model.barks[:, None]) + (1 - tonality) * NOISE_OFFSET
    masked = model.spreading @ _bands(spectra) * 10 ** (-offset / 10)
    return torch.maximum(masked, model.quiet[:, None])


def band_limits(samples: Tensor) -> Tensor:
    """Return the largest magnitudes of a perturbation's :func:`stft` in each band, [batch, 69, frames].

    ``samples`` are those of the music, [batch, samples]. A perturbation that has them in all bins of a band
    has the power of :func:`masking_thresholds` there.
    """
    weights = _model(samples.dtype, samples.device).weights
    return (masking_thresholds(samples) / weights.sum(1)[:, None]).sqrt()


def bin_limits(samples: Tensor) -> Tensor:
    """Return :func:`band_limits` for each bin, [batch, 1025 bins, frames].

    Where a sample must stay as it is, fade the perturbation around it, with 64 samples on each side: a single
    sample left out is a click, which quiet bands do not mask (20 dB and more above the threshold).
    """
    return band_limits(samples)[:, band_of_bin(samples.device)]


def band_of_bin(device: torch.device) -> Tensor:
    """Return the band that each bin lies in, int64 [1025 bins]."""
    return _model(torch.float64, device).band_of_bin


def bin_shares(dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return the share that each bin has in the power of its band, [69 bands, 1025 bins]; rows sum to 1."""
    weights = _model(dtype, device).weights
    return weights / weights.sum(1, keepdim=True)


def noise_to_mask(clean: Tensor, difference: Tensor) -> Tensor:
    """Return by how many dB a difference exceeds what ``clean`` masks, [batch, 69 bands, frames].

    Both are [batch, samples]. Below 0 dB the model calls the difference inaudible in that band and frame;
    where there is none, the ratio is minus infinity.
    """
    return 10 * (band_powers(difference) / masking_thresholds(clean)).log10()


def band_frequencies() -> Tensor:
    """Return the centre of each band in Hz, the mean of its bins, float64 [69 bands]."""
    bands = _model(torch.float64, torch.device("cpu")).band_of_bin
    hertz = torch.arange(BINS, dtype=torch.float64) * SAMPLE_RATE / WINDOW
    return torch.bincount(bands, hertz) / torch.bincount(bands)


def bark(hertz: Tensor) -> Tensor:
    """Return the critical-band rate of frequencies in Hz (Zwicker and Terhardt 1980)."""
    return 13 * torch.atan(0.00076 * hertz) + 3.5 * torch.atan((hertz / 7500) ** 2)


def threshold_in_quiet(hertz: Tensor) -> Tensor:
    """Return the level in dB SPL of the softest audible tone of each frequency in Hz (Terhardt 1979)."""
    khz = hertz / 1000
    return 3.64 * khz**-0.8 - 6.5 * torch.exp(-0.6 * (khz - 3.3) ** 2) + 1e-3 * khz**4


def spreading(distance: Tensor) -> Tensor:
    """Return the level in dB that a masker causes ``distance`` Bark above itself (Schroeder et al. 1979).

    Far away it falls by 25 dB a Bark towards lower, and by 10 dB a Bark towards higher frequencies.
    """
    shifted = distance + 0.474
    return 15.81 + 7.5 * shifted - 17.5 * (1 + shifted**2).sqrt()


class _Model(NamedTuple):
    """What depends on nothing but the sampling rate."""

    band_of_bin: Tensor  # [1025]
    weights: Tensor  # [bands, bins]: what a bin's squared magnitude adds to its band's power
    barks: Tensor  # [bands]: their centres
    spreading: Tensor  # [bands, maskers]: what each masks of each, equal powers masking as much as each has
    quiet: Tensor  # [bands]: power at the threshold in quiet


@cache
def _model(dtype: torch.dtype, device: torch.device) -> _Model:
    hertz = torch.arange(BINS, dtype=torch.float64) * SAMPLE_RATE / WINDOW
    band_of_bin = (bark(hertz) * BANDS_PER_BARK).long()
    bands = int(band_of_bin[-1]) + 1
    barks = (torch.arange(bands, dtype=torch.float64) + 0.5) / BANDS_PER_BARK
    # The spectrum is one-sided: all bins but the first and last stand for two.
    sides = torch.full((BINS,), 2.0, dtype=torch.float64)
    sides[0] = sides[-1] = 1.0
    window_power = torch.hann_window(WINDOW, dtype=torch.float64).square().sum()
    full_scale_sine = FULL_SCALE**2 / 2
    power = sides / (WINDOW * window_power * full_scale_sine) * 10 ** (FULL_SCALE_LEVEL / 10)
    weights = torch.zeros(bands, BINS, dtype=torch.float64)
    weights[band_of_bin, torch.arange(BINS)] = power
    spread = 10 ** (spreading(barks[:, None] - barks) / 10)
    softest = [threshold_in_quiet(hertz[band_of_bin == band]).min() for band in range(bands)]
    quiet = 10 ** (torch.stack(softest) / 10) / BANDS_PER_BARK
    tensors = (weights, barks, spread / spread.sum(1, keepdim=True), quiet)
    return _Model(band_of_bin.to(device), *(tensor.to(device, dtype) for tensor in tensors))


def _bands(spectra: Tensor) -> Tensor:
    power = spectra.real.square() + spectra.imag.square()
    return _model(power.dtype, power.device).weights @ power


def _flatness(spectra: Tensor) -> Tensor:
    """Return the geometric over the arithmetic mean of each frame's powers in dB, [batch, frames]."""
    power = (spectra.real.square() + spectra.imag.square()).clamp(min=torch.finfo(spectra.real.dtype).tiny)
    return 10 * (power.log10().mean(1) - power.mean(1).log10())


@cache
def _hann(dtype: torch.dtype, device: torch.device) -> Tensor:
    return torch.hann_window(WINDOW, dtype=dtype, device=device)


def _overlapped(frames: Tensor) -> Tensor:
    """Return the sum of frames [batch, frames, 2048], each 512 samples after the one before it."""
    pieces = frames.reshape(*frames.shape[:2], WINDOW // HOP, HOP)
    count, overlap = pieces.shape[1:3]
    summed = pieces.new_zeros(len(pieces), count + overlap - 1, HOP)
    for piece in range(overlap):
        summed[:, piece : piece + count] += pieces[:, :, piece]
    return summed.flatten(1)


@lru_cache(maxsize=8)
def _envelope(frames: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return what so many overlapping squared windows sum to, from the first whole one on [samples]."""
    return _overlapped(_hann(dtype, device).square().expand(1, frames, WINDOW))[0, WINDOW // 2 :]
