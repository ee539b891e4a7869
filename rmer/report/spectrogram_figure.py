"""What an attack did to a few clips: original, adversary and perturbation side by side."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

from rmer.report.style import styled


@styled
def spectrogram_comparison(
    clips: Sequence[str],
    originals: npt.NDArray[np.float32],
    adversaries: npt.NDArray[np.float32],
    frames_per_second: float,
) -> Figure:
    """Return one row a clip: original, adversarial spectrogram and the difference.

    Arrays [clips, frames, bands] and colour bars are in standardised units; original and adversary share a
    colour scale, the perturbation has its own, symmetric about zero.
    """
    figure = Figure(figsize=(7.0, 0.5 + 1.6 * len(clips)), layout="constrained")
    grid = figure.subplots(len(clips), 3, squeeze=False, sharex=True, sharey=True)
    seconds, bands = originals.shape[1] / frames_per_second, originals.shape[2]
    extent = (0.0, seconds, 0.0, float(bands))
    for row, clip, original, adversary in zip(grid, clips, originals, adversaries, strict=True):
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
        figure.colorbar(images[1], ax=row[1], pad=0.02).ax.tick_params(labelsize=6)
        bar = figure.colorbar(images[2], ax=row[2], pad=0.02)
        bar.ax.tick_params(labelsize=6)
        if size == 0:  # the published attack keeps nothing where it never lowered its threshold
            bar.set_ticks([])
            row[2].text(0.5, 0.5, "none", transform=row[2].transAxes, ha="center", va="center")
        row[0].set_ylabel(f"clip {clip}\nband")
    for axes, title in zip(grid[0], ("original", "adversarial", "perturbation"), strict=True):
        axes.set_title(title)
    for axes in grid[-1]:
        axes.set_xlabel("time (s)")
    return figure
