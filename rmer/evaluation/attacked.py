"""What an attack did to a model's predictions: its metrics, and one attacked model as analysis sees it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pandas as pd

from rmer.errors import UserError
from rmer.evaluation.endpoints import Floats
from rmer.evaluation.metrics import METRICS, Scores, clip_errors, own_columns, regression_scores, under_attack

_MEND = "Restore the file, or repeat the attack"


def named_columns(prefix: str, names: Sequence[str], values: np.ndarray) -> dict[str, np.ndarray]:
    """Return the columns of a per-clip table from ``values`` [clips, names]: ``prefix + name`` -> [clips]."""
    return {f"{prefix}{name}": values[:, index] for index, name in enumerate(names)}


def with_errors(table: pd.DataFrame, targets: Sequence[str]) -> pd.DataFrame:
    """Return a per-clip table that begins with clip, error_clean, error_attacked and difference.

    Errors are MAE over targets, predictions clipped to the rating scale; attacked is of the adversary that is
    the worst by it, where there is one (``adv_clipped_*``).
    """
    own = own_columns()["mae_clipped"]
    kinds = ("label", "clean", own if f"{own}_{targets[0]}" in table else "adv")
    labels, *predictions = (
        table[[f"{kind}_{target}" for target in targets]].to_numpy(np.float64) for kind in kinds
    )
    clean, attacked = (clip_errors(labels, values, clipped=True) for values in predictions)
    first = {"clip": table["clip"], "error_clean": clean, "error_attacked": attacked}
    return pd.concat(
        [
            pd.DataFrame({**first, "difference": attacked - clean}, index=table.index),
            table.drop(columns="clip"),
        ],
        axis=1,
    )


def attack_metrics(
    labels: npt.ArrayLike,
    clean: npt.ArrayLike,
    adversarial: npt.ArrayLike,
    targets: Sequence[str],
    own: Mapping[str, npt.ArrayLike] | None = None,
) -> dict[str, float]:
    """Return ``clean/*``, ``adv/*`` (averaged and per target) and ``delta/*`` (adversarial minus clean).

    All arrays are ``[clips, targets]``; see :mod:`rmer.evaluation.metrics` for the metrics. ``own`` holds
    metric -> predictions for the adversaries that are worst for it, from which ``adv/<metric>`` is
    taken instead.
    """
    before = regression_scores(labels, clean, targets)
    after = regression_scores(labels, adversarial, targets)
    for name, metric in under_attack().items():
        if own and metric.adversaries in own:
            after = _with_metric(after, name, regression_scores(labels, own[metric.adversaries], targets))
    return before.named("clean") | after.named("adv") | differences(before, after)


def differences(before: Scores, after: Scores) -> dict[str, float]:
    """Return ``delta/corr``, ``delta/mae`` and ``delta/mae_clipped``: after minus before an attack."""
    return {f"delta/{metric}": after.mean[metric] - before.mean[metric] for metric in under_attack()}


@dataclass(frozen=True, eq=False)
class Curve:
    """Predictions of one model over ascending budgets in standardised units a cell, 0 (clean) first.

    ``predictions`` maps metrics that attacks aim at to those for the adversaries that are the worst by it,
    ``[epsilons, clips, targets]``.
    """

    epsilons: tuple[float, ...]
    predictions: Mapping[str, Floats]

    def worst(self, metric: str) -> Floats:
        """Return the predictions that a metric is computed from, ``[epsilons, clips, targets]``."""
        return self.predictions[METRICS[metric].adversaries]


@dataclass(frozen=True, eq=False)
class AttackedModel:
    """One trained model under one attack, clips in ascending order of their names.

    Attributes
    ----------
    name : The row of the table that the model belongs to: its system, or system and what else differs.
    seed : Seed of the training; empty for a model that has none.
    albums : Album of each clip, empty where it is not known, ``[clips]``.
    labels, clean, adversarial : Ratings and predictions, ``[clips, targets]``; ``adversarial`` are those for
        the adversaries that are the worst by raw MAE, where the attack looked for one for every metric.
    l2, linf : Norms of the perturbations, ``[clips]``, NaN where they are not known.
    rescored : Predictions for the saved adversaries, ``[clips, targets]``, where ``adversarial`` is something
        else (the published protocol reports the last iterate and saves another).
    own : ``mae_clipped`` and ``corr`` -> predictions for the adversaries that are the worst by this metric;
        empty where the attack had one aim.
    curve : Predictions over budgets, where the attack was run for several.
    parts : The models of each fold of a cross-validation that this one stands for
        (:mod:`rmer.evaluation.pooled`); empty of a single model.
    """

    name: str
    system: str
    seed: str
    run_id: str
    clips: tuple[str, ...]
    albums: tuple[str, ...]
    targets: tuple[str, ...]
    labels: Floats
    clean: Floats
    adversarial: Floats
    l2: Floats
    linf: Floats
    rescored: Floats | None
    own: Mapping[str, Floats]
    curve: Curve | None
    parts: tuple[AttackedModel, ...] = ()

    @classmethod
    def from_table(
        cls,
        table: pd.DataFrame,
        *,
        name: str,
        system: str,
        seed: str,
        run_id: str,
        curve: pd.DataFrame | None = None,
    ) -> AttackedModel:
        """Build from the per-clip tables of an attack run (``adversaries/clips.csv``, ``curve_clips.csv``).

        Raises UserError when a column is missing, a table is empty or does not fit the other, a clip occurs
        twice, a label or a clean prediction is not a number, or a cell holds text.
        """
        where = f"adversaries/clips.csv of run {run_id}"
        targets = tuple(
            column.removeprefix("label_")
            for column in table.columns
            if column.startswith("label_") and not column.startswith("label_concept_")
        )
        further = [
            k for k in ("rescored", *own_columns().values()) if any(f"{k}_{t}" in table for t in targets)
        ]
        if not targets:
            raise UserError("lacks label_*", where=where, mend=_MEND)
        numbers = [f"{kind}_{target}" for target in targets for kind in ("label", "clean", "adv", *further)]
        _require_numbers(table, numbers, where, beside=["clip"])
        table = table.sort_values("clip", kind="stable")
        labels, clean = (_predictions(table, kind, targets) for kind in ("label_", "clean_"))
        clips = tuple(str(clip) for clip in table["clip"])
        if not clips or len(set(clips)) < len(clips) or not np.isfinite(labels).all():
            what = "is empty, holds a clip twice or has labels that are not numbers"
            raise UserError(what, where=where, mend=_MEND)
        if not np.isfinite(clean).all():
            raise UserError("has clean predictions that are not numbers", where=where, mend=_MEND)
        where = f"tables/curve_clips.csv of run {run_id}"
        found = None if curve is None else _curve(curve, clips, targets, where)
        return cls(
            name=name,
            system=system,
            seed=seed,
            run_id=run_id,
            clips=clips,
            albums=tuple(table["album"].map(str)) if "album" in table else ("",) * len(clips),
            targets=targets,
            labels=labels,
            clean=clean,
            adversarial=_predictions(table, "adv_", targets),
            l2=_norms(table, "l2"),
            linf=_norms(table, "linf"),
            rescored=_predictions(table, "rescored_", targets) if f"rescored_{targets[0]}" in table else None,
            own={
                metric: _predictions(table, f"{kind}_", targets)
                for metric, kind in own_columns().items()
                if f"{kind}_{targets[0]}" in table
            },
            curve=found,
        )

    @cached_property
    def scores(self) -> dict[str, float]:
        """Metrics of :func:`attack_metrics`; of a cross-validation means over folds, weighted by clips."""
        if self.parts:
            shares = [len(part.clips) / len(self.clips) for part in self.parts]
            return {
                name: sum(share * part.scores[name] for share, part in zip(shares, self.parts, strict=True))
                for name in self.parts[0].scores
            }
        return attack_metrics(self.labels, self.clean, self.adversarial, self.targets, self.own)

    @cached_property
    def folds(self) -> tuple[int, ...]:
        """Fold in which each clip was tested, ``[clips]``, from 1; empty without a cross-validation."""
        tested = {clip: fold for fold, part in enumerate(self.parts, start=1) for clip in part.clips}
        return tuple(tested[clip] for clip in self.clips) if self.parts else ()

    @property
    def runs(self) -> tuple[AttackedModel, ...]:
        """The models of the runs behind this one: those of all folds, or itself."""
        return self.parts or (self,)

    def worst(self, metric: str) -> Floats:
        """Return the predictions that ``adv/<metric>`` is computed from, ``[clips, targets]``."""
        return self.own.get(METRICS[metric].adversaries, self.adversarial)

    @cached_property
    def clip_errors(self) -> Floats:
        """Absolute error of the adversarial predictions of each clip, averaged over targets, ``[clips]``."""
        return clip_errors(self.labels, self.adversarial)


def _with_metric(scores: Scores, metric: str, source: Scores) -> Scores:
    return Scores(
        mean={**scores.mean, metric: source.mean[metric]},
        per_target={
            target: {**values, metric: source.per_target[target][metric]}
            for target, values in scores.per_target.items()
        },
    )


def _curve(table: pd.DataFrame, clips: Sequence[str], targets: Sequence[str], where: str) -> Curve:
    _require_numbers(table, ["epsilon", *targets], where, beside=["clip", "metric"])
    table = table.sort_values(["epsilon", "clip"], kind="stable")
    epsilons = tuple(float(epsilon) for epsilon in table["epsilon"].unique())
    predictions = {}
    for metric, rows in table.groupby("metric"):
        if rows["clip"].tolist() != list(clips) * len(epsilons):
            what = f"does not hold the clips of adversaries/clips.csv for every epsilon ({metric})"
            raise UserError(what, where=where, mend=_MEND)
        values = rows[list(targets)].to_numpy(np.float64)
        predictions[str(metric)] = values.reshape(len(epsilons), len(clips), len(targets))
    return Curve(epsilons, predictions)


def _require_numbers(
    table: pd.DataFrame, numbers: Sequence[str], where: str, *, beside: Sequence[str]
) -> None:
    """Raise UserError where columns are missing, or those of ``numbers`` hold text."""
    kinds = dict(table.dtypes)
    missing = [column for column in (*beside, *numbers) if column not in kinds]
    if missing:
        raise UserError(f"lacks {', '.join(missing)}", where=where, mend=_MEND)
    texts = [column for column in numbers if not pd.api.types.is_numeric_dtype(kinds[column])]
    if texts:
        raise UserError(f"holds text under {', '.join(texts)}", where=where, mend=_MEND)


def _predictions(table: pd.DataFrame, prefix: str, targets: Sequence[str]) -> Floats:
    return table[[f"{prefix}{target}" for target in targets]].to_numpy(np.float64)


def _norms(table: pd.DataFrame, column: str) -> Floats:
    return table[column].to_numpy(np.float64) if column in table else np.full(len(table), np.nan)
