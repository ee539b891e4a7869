"""What an attack did to a model's predictions, as the metrics of an attack run."""

from __future__ import annotations

from collections.abc import Sequence

import numpy.typing as npt

from rmer.evaluation.metrics import Scores, regression_scores

DIFFERENCES = ("corr", "mae", "mae_clipped")


def attack_metrics(
    labels: npt.ArrayLike, clean: npt.ArrayLike, adversarial: npt.ArrayLike, targets: Sequence[str]
) -> dict[str, float]:
    """Return ``clean/*``, ``adv/*`` (averaged and per target) and ``delta/*`` (adversarial minus clean).

    All arrays are ``[clips, targets]``; see :mod:`rmer.evaluation.metrics` for the metrics.
    """
    before = regression_scores(labels, clean, targets)
    after = regression_scores(labels, adversarial, targets)
    return before.named("clean") | after.named("adv") | differences(before, after)


def differences(before: Scores, after: Scores) -> dict[str, float]:
    """Return ``delta/corr``, ``delta/mae`` and ``delta/mae_clipped``: after minus before an attack."""
    return {f"delta/{metric}": after.mean[metric] - before.mean[metric] for metric in DIFFERENCES}
