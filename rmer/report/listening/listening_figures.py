"""What is to be heard, drawn: spectrograms in dB SPL, and the difference against what the music masks."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rmer.data.audio.decoders import FULL_SCALE, SAMPLE_RATE
from rmer.data.audio.masking import (
    FULL_SCALE_LEVEL,
    WINDOW,
    band_frequencies,
    band_powers,
    masking_thresholds,
    noise_to_mask,
    stft,
)
from rmer.report.style import ADVERSARIAL, CLEAN, GREY, styled

Samples = npt.NDArray[np.int16]
Floats = npt.NDArray[np.floating[Any]]

QUIETEST, LOUDEST = -10.0, 90.0  # dB SPL, of the colours


@styled
def spectrograms(clean: Samples, adversary: Samples) -> Figure:
    """Return spectrograms of a clip, its adversary and their difference, int16 [samples], side by side.

    All have the same colours: the level in dB SPL of a sine of that magnitude, full scale being 96 dB SPL.
    """
    figure = Figure(figsize=(11.0, 2.9), layout="constrained")
    panels = figure.subplots(1, 3, sharex=True, sharey=True)
    difference = adversary.astype(np.float64) - clean
    sounds: dict[str, npt.NDArray[Any]] = {
        "clean": clean,
        "adversary": adversary,
        "difference, not raised": difference,
    }
    for axes, (title, samples) in zip(panels, sounds.items(), strict=True):
        image = axes.imshow(
            _sine_levels(samples), origin="lower", aspect="auto", cmap="magma", vmin=QUIETEST, vmax=LOUDEST,
            extent=(0, len(clean) / SAMPLE_RATE, 0, SAMPLE_RATE / 2000), interpolation="nearest",
        )  # fmt: skip
        axes.set_title(title)
        axes.set_xlabel("time (s)")
    panels[0].set_ylabel("frequency (kHz)")
    figure.colorbar(image, ax=panels, pad=0.01, label="level (dB SPL)")
    return figure


@styled
def levels_by_frequency(clean: Samples, adversary: Samples) -> Figure:
    """Return the mean power of music, threshold and difference by frequency, and their largest ratio.

    In bands of 1/3 Bark; the ratio is the largest of all frames. Where the difference lies below the
    threshold, the model of masking calls it inaudible.
    """
    figure = Figure(figsize=(11.0, 2.6), layout="constrained")
    means, ratios = figure.subplots(1, 2, width_ratios=(3, 2))
    music, difference = _row(clean), _row(adversary.astype(np.float64) - clean)
    hertz = band_frequencies().numpy()
    threshold = masking_thresholds(music)
    for power, label, colour, style in (
        (band_powers(music), "music", CLEAN, "-"),
        (threshold, "threshold of what it masks", GREY, "--"),
        (band_powers(difference), "difference", ADVERSARIAL, "-"),
    ):
        means.plot(hertz, _decibels(power[0].mean(1)), label=label, color=colour, linestyle=style)
    means.set_ylabel("mean level in band (dB SPL)")
    means.set_ylim(bottom=-20)
    means.legend(frameon=False, loc="lower center")
    worst = noise_to_mask(music, difference)[0].amax(1).numpy()
    ratios.axhline(0, color=GREY, linestyle="--")
    ratios.plot(hertz, np.where(np.isfinite(worst), worst, np.nan), color=ADVERSARIAL)
    ratios.set_ylabel("largest noise-to-mask ratio (dB)")
    for axes in (means, ratios):
        _logarithmic_hertz(axes, hertz)
    return figure


def _logarithmic_hertz(axes: Axes, hertz: Floats) -> None:
    axes.set_xscale("log")
    axes.set_xlim(hertz[0], hertz[-1])
    ticks = (50, 100, 200, 500, 1000, 2000, 5000, 10000)
    axes.set_xticks(ticks, [f"{tick // 1000}k" if tick >= 1000 else str(tick) for tick in ticks])
    axes.minorticks_off()
    axes.set_xlabel("frequency (Hz)")


def _sine_levels(samples: npt.NDArray[Any]) -> Floats:
    """Return the level in dB SPL of a sine with the magnitude of each bin, [bins, frames]."""
    full_scale_magnitude = FULL_SCALE * WINDOW / 4  # a Hann window adds up to half its length
    return FULL_SCALE_LEVEL + 2 * _decibels(stft(_row(samples))[0].abs() / full_scale_magnitude)


def _row(samples: npt.NDArray[Any]) -> torch.Tensor:
    return torch.as_tensor(samples.astype(np.float64))[None]


def _decibels(power: torch.Tensor) -> Floats:
    return np.asarray(10 * power.clamp(min=1e-30).log10().numpy())
