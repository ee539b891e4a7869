"""What an attack did to a few clips: original, adversary and perturbation side by side."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rmer.data.audio.filterbank import BANDS, band_frequencies
from rmer.data.dataset import Normalisation
from rmer.report.readable import tick
from rmer.report.style import styled

DECIBELS = 20.0  # a unit of log10 of a magnitude
TICKS = (50, 200, 500, 1000, 2000, 5000, 10000)  # Hz


@styled
def spectrogram_comparison(
    clips: Sequence[str],
    originals: npt.NDArray[np.float32],
    adversaries: npt.NDArray[np.float32],
    normalisation: Normalisation,
    frames_per_second: float,
) -> Figure:
    """Return one row a clip: original, adversarial spectrogram and the difference, in Hz and dB.

    Arrays are [clips, frames, bands] in the standardised units of ``normalisation``; dB are those of the
    front end's 1 + magnitude. Original and adversary share a colour scale, the perturbation has its own,
    symmetric about zero.
    """
    figure = Figure(figsize=(9.0, 0.6 + 1.9 * len(clips)), layout="constrained")
    grid = figure.subplots(len(clips), 3, squeeze=False, sharex=True, sharey=True)
    seconds, bands = originals.shape[1] / frames_per_second, originals.shape[2]
    extent = (0.0, seconds, -0.5, bands - 0.5)
    for row, clip, before, after in zip(grid, clips, originals, adversaries, strict=True):
        original, adversary = (
            DECIBELS * (values * normalisation.std + normalisation.mean) for values in (before, after)
        )
        low, high = np.percentile(original, [0.5, 99.8])
        size = float(np.abs(adversary - original).max())
        shown = [
            (original, "magma", low, high),
            (adversary, "magma", low, high),
            (adversary - original, "RdBu_r", -(size or 1.0), size or 1.0),
        ]
        images = [
            axes.imshow(
                values.T, origin="lower", aspect="auto", cmap=cmap, vmin=vmin, vmax=vmax, extent=extent,
                interpolation="nearest", rasterized=True,
            )
            for axes, (values, cmap, vmin, vmax) in zip(row, shown, strict=True)
        ]  # fmt: skip
        figure.colorbar(images[1], ax=row[1], pad=0.02, label="level (dB)")
        bar = figure.colorbar(images[2], ax=row[2], pad=0.02, label="change (dB)", format=tick)
        if size == 0:  # the published attack keeps nothing where it never lowered its threshold
            bar.set_ticks([])
            row[2].text(0.5, 0.5, "none", transform=row[2].transAxes, ha="center", va="center")
        _frequencies(row[0], clip, bands)
    for axes, title in zip(grid[0], ("original", "adversarial", "perturbation"), strict=True):
        axes.set_title(title)
    for axes in grid[-1]:
        axes.set_xlabel("time (s)")
    return figure


def _frequencies(axes: Axes, clip: str, bands: int) -> None:
    """Name the clip and its bands: by their frequencies, where they are those of the front end."""
    if bands != BANDS:
        axes.set_ylabel(f"clip {clip}\nband")
        return
    places = np.interp(TICKS, band_frequencies(), np.arange(bands))
    axes.set_yticks(places, [f"{hertz // 1000}k" if hertz >= 1000 else str(hertz) for hertz in TICKS])
    axes.set_ylabel(f"clip {clip}\nfrequency (Hz)")
