"""Whether tables of attack runs say what the runs logged as metrics, and about the same clips.

Digests find every altered file of a run that kept them; this finds what matters of the others, too,
and tables that never were what their run said.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from rmer.evaluation.attacked import AttackedModel
from rmer.evaluation.checks.measurements import ERRORS
from rmer.evaluation.curves import area_over_log_epsilon
from rmer.evaluation.metrics import aims, regression_scores, under_attack
from rmer.tracking import Artifact, RunRecord, Store, Tag
from rmer.tracking.integrity import altered
from rmer.tracking.values import ABSENT

TOLERANCE = 1e-6
# Stores keep infinity as the largest number that they have.
_INFINITE = 1e308
# Runs that are alike in these were of the same clips.
_SAME_CLIPS = (Tag.DATASET, Tag.SPLIT_SCHEME, Tag.FOLD, Tag.SPLIT)


def checked_model(
    record: RunRecord, clips: pd.DataFrame, curve: pd.DataFrame | None = None, *, name: str = ""
) -> AttackedModel:
    """Return the attacked model of a run from its per-clip tables (``name``: the row that it belongs to).

    Raises UserError where a table cannot be used, or its scores are not those that the run logged.
    """
    model = AttackedModel.from_table(
        clips,
        name=name,
        system=record.tags.get(Tag.SYSTEM, ABSENT),
        seed=record.tags.get(Tag.SEED, ""),
        run_id=record.run_id,
        curve=curve,
    )
    require_scores(record, Artifact.ADVERSARY_CLIPS, model.scores)
    if model.curve is not None:
        labels, targets, predictions = model.labels, model.targets, model.curve.predictions.items()
        scores = [
            {name: regression_scores(labels, found[place], targets).mean[name] for name, found in predictions}
            for place in range(len(model.curve.epsilons))
        ]
        require_scores(record, Artifact.CURVE_CLIPS, _of_curve(model.curve.epsilons, scores))
    return model


def read_curve(store: Store, record: RunRecord) -> pd.DataFrame:
    """Return ``tables/curve.csv`` of a run, smallest budget first; raises UserError as above."""
    table = _read(store, record, Artifact.CURVE, ("epsilon", *aims())).sort_values("epsilon")
    known = [metric for metric in under_attack() if metric in table]
    scores = [{metric: float(row[metric]) for metric in known} for _, row in table.iterrows()]
    require_scores(record, Artifact.CURVE, _of_curve(table["epsilon"].tolist(), scores))
    return table


def read_checks(store: Store, record: RunRecord) -> pd.DataFrame:
    """Return ``tables/sanity.csv`` of a run; raises UserError as above."""
    table = _read(store, record, Artifact.SANITY, numbers=("value", "limit"), texts=("check", "passed"))
    passed = table["passed"].map(str)
    counts = {"failed": (passed == "False").sum(), "not_judged": table["passed"].isna().sum()}
    require_scores(record, Artifact.SANITY, {f"sanity/{name}": float(n) for name, n in counts.items()})
    return table


def read_searches(store: Store, record: RunRecord) -> pd.DataFrame:
    """Return ``tables/precision.csv`` of a run; raises UserError as above."""
    kinds = [f"{error}_{kind}" for error in ERRORS for kind in ("clean", "fp32", "bf16", "loss")]
    table = _read(store, record, Artifact.PRECISION, ("epsilon", "clips", *kinds))
    last = table.sort_values("epsilon").iloc[-1]
    losses = {f"precision/{error}_loss": float(last[f"{error}_loss"]) for error in ERRORS}
    require_scores(record, Artifact.PRECISION, losses)
    return table


def require_scores(record: RunRecord, path: str, found: Mapping[str, float]) -> None:
    """Raise UserError where a metric that follows from an artifact is not the one that the run logged."""
    for name, value in found.items():
        logged = record.metrics.get(name, value)
        if not _same(value, logged):
            what = f"{path} gives {name} {value:.6g}, and the run logged {logged:.6g}"
            raise altered(record.run_id, record.name, what)


def require_same_clips(records: Sequence[RunRecord], models: Sequence[AttackedModel]) -> None:
    """Raise UserError where runs on the same part of the same data have other clips or labels."""
    first: dict[tuple[str | None, ...], AttackedModel] = {}
    for record, model in zip(records, models, strict=True):
        known = first.setdefault(tuple(record.tags.get(tag) for tag in _SAME_CLIPS), model)
        if model.clips != known.clips:
            differ = "clips"
        elif not np.allclose(model.labels, known.labels, rtol=0, atol=TOLERANCE):
            differ = "labels"
        else:
            continue
        what = f"has other {differ} than that of run {known.run_id}, on the same data"
        raise altered(record.run_id, record.name, f"{Artifact.ADVERSARY_CLIPS} {what}")


def _read(
    store: Store, record: RunRecord, path: str, numbers: Sequence[str], texts: Sequence[str] = ()
) -> pd.DataFrame:
    """Read a table of a run that must have rows and these columns."""
    table = store.read_table(record.run_id, path)
    missing = [name for name in (*numbers, *texts) if name not in table]
    if missing:
        raise altered(record.run_id, record.name, f"{path} lacks {', '.join(missing)}")
    others = [name for name in numbers if not pd.api.types.is_numeric_dtype(table[name])]
    if others or table.empty:
        what = f"{path} has no numbers under {', '.join(others or numbers)}"
        raise altered(record.run_id, record.name, what)
    return table


def _of_curve(epsilons: Sequence[float], scores: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return the metrics of a curve that the run holds one value of: the last point, and the area."""
    found: dict[str, float] = {}
    for metric, last in scores[-1].items():
        found[f"auc/{metric}"] = area_over_log_epsilon(epsilons, [point[metric] for point in scores])
        if round(1e4 * epsilons[-1]) > round(1e4 * epsilons[-2] if len(epsilons) > 1 else 0):
            found[f"curve/{metric}"] = last
    return found


def _same(value: float, logged: float) -> bool:
    if math.isnan(value) or math.isnan(logged):
        return math.isnan(value) and math.isnan(logged)
    if abs(logged) > _INFINITE or abs(value) > _INFINITE:
        return (value > 0) == (logged > 0) and min(abs(value), abs(logged)) > _INFINITE
    return abs(value - logged) <= TOLERANCE * max(1.0, abs(logged))
