"""Learning curves of one training run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure

from rmer.report.style import ADVERSARIAL, CLEAN, DIAGONAL, INTERPRETABLE, styled


@styled
def learning_curve(history: Sequence[Mapping[str, float]], best_epoch: int) -> Figure:
    """Return loss (left) and validation correlation (right) over epochs; the best epoch is dotted."""
    figure = Figure(figsize=(6.3, 2.6), layout="constrained")
    loss, correlation = figure.subplots(1, 2)
    lines = {
        loss: {
            "train/loss": ("training (weighted)", CLEAN),
            "train/adversarial_loss": ("training, attacked", ADVERSARIAL),
            "val/loss": ("validation (emotions)", DIAGONAL),
        },
        correlation: {
            "val/emotion/corr": ("emotions", CLEAN),
            "val/concept/corr": ("concepts", INTERPRETABLE),
            "val/adversarial/corr": ("emotions, attacked", ADVERSARIAL),
        },
    }
    for axes, drawn in lines.items():
        for key, (label, colour) in drawn.items():
            epochs = [epoch for epoch, metrics in enumerate(history, start=1) if key in metrics]
            values = [metrics[key] for metrics in history if key in metrics]
            if values:
                marker = "o" if len(values) < 40 else ""
                axes.plot(epochs, values, color=colour, label=label, lw=1.2, marker=marker, ms=2.5)
        axes.axvline(best_epoch, color="0.6", lw=0.8, ls=":")
        axes.set_xlabel("epoch")
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.legend(frameon=False)
    losses = [metrics[key] for metrics in history for key in lines[loss] if key in metrics]
    if 0 < 20 * min(losses) < max(losses):
        loss.set_yscale("log")
    loss.set_ylabel("mean squared error")
    correlation.set_ylabel("validation correlation")
    return figure
