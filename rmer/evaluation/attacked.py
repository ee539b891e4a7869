"""What an attack did to a model's predictions: its metrics, and one attacked model as analysis sees it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pandas as pd

from rmer.errors import UserError
from rmer.evaluation.metrics import Scores, clip_errors, regression_scores

DIFFERENCES = ("corr", "mae", "mae_clipped")

Floats = npt.NDArray[np.float64]


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


@dataclass(frozen=True, eq=False)
class AttackedModel:
    """One trained model under one attack, clips in ascending order of their names.

    Attributes
    ----------
    name
        The row of the table that the model belongs to: its system, or system and what else differs.
    seed
        Seed of the training; empty for a model that has none.
    labels, clean, adversarial
        Ratings and predictions, ``[clips, targets]``.
    l2, linf
        Norms of the perturbations, ``[clips]``, NaN where they are not known.
    rescored
        Predictions for the saved adversaries, ``[clips, targets]``, where ``adversarial`` is something else
        (the published protocol reports the last iterate and saves another).
    """

    name: str
    system: str
    seed: str
    run_id: str
    clips: tuple[str, ...]
    targets: tuple[str, ...]
    labels: Floats
    clean: Floats
    adversarial: Floats
    l2: Floats
    linf: Floats
    rescored: Floats | None = None

    @classmethod
    def from_table(
        cls, table: pd.DataFrame, *, name: str, system: str, seed: str, run_id: str
    ) -> AttackedModel:
        """Build from the per-clip table of an attack run (``adversaries/clips.csv``).

        Raises
        ------
        UserError
            When a column is missing, the table is empty, a clip occurs twice or a label is not a number.
        """
        where = f"per-clip table of run {run_id}"
        targets = tuple(
            column.removeprefix("label_")
            for column in table.columns
            if column.startswith("label_") and not column.startswith("label_concept_")
        )
        required = ["clip", *(f"{kind}_{target}" for target in targets for kind in ("label", "clean", "adv"))]
        missing = [column for column in required if column not in table]
        if not targets or missing:
            raise UserError(f"lacks {', '.join(missing) or 'label_*'}", where=where)
        table = table.sort_values("clip", kind="stable")
        labels, clips = _predictions(table, "label", targets), tuple(str(clip) for clip in table["clip"])
        if not clips or len(set(clips)) < len(clips) or not np.isfinite(labels).all():
            raise UserError("is empty, holds a clip twice or has labels that are not numbers", where=where)
        return cls(
            name=name,
            system=system,
            seed=seed,
            run_id=run_id,
            clips=clips,
            targets=targets,
            labels=labels,
            clean=_predictions(table, "clean", targets),
            adversarial=_predictions(table, "adv", targets),
            l2=_norms(table, "l2"),
            linf=_norms(table, "linf"),
            rescored=_predictions(table, "rescored", targets) if f"rescored_{targets[0]}" in table else None,
        )

    @cached_property
    def scores(self) -> dict[str, float]:
        """Metrics of :func:`attack_metrics`."""
        return attack_metrics(self.labels, self.clean, self.adversarial, self.targets)

    @cached_property
    def clip_errors(self) -> Floats:
        """Absolute error of the adversarial predictions of each clip, averaged over targets, ``[clips]``."""
        return clip_errors(self.labels, self.adversarial)


def _predictions(table: pd.DataFrame, kind: str, targets: Sequence[str]) -> Floats:
    return table[[f"{kind}_{target}" for target in targets]].to_numpy(np.float64)


def _norms(table: pd.DataFrame, column: str) -> Floats:
    return table[column].to_numpy(np.float64) if column in table else np.full(len(table), np.nan)
