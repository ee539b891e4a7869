"""Finds the runs of every step from the published study to the corrected one, and to the audible domain."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from rmer.attacks.attack_domains import SPECTROGRAM
from rmer.evaluation.protocol_steps import STEPS, ProtocolStep
from rmer.report.robustness import shown_metrics
from rmer.report.system_tables import system_rank
from rmer.stages.analysis.alike import DIMENSIONS, SUITE, Settings, differing, on_sound, settings_of
from rmer.stages.analysis.parallel import in_parallel
from rmer.stages.analysis.reading import NORM_ORDER
from rmer.stages.attack.agreement import checked_model, read_curve
from rmer.tracking import Artifact, RunRecord, Stage, Store, Tag
from rmer.tracking.values import ABSENT

# Attacks that a step may be judged by, the most thorough first; controls and weaker attacks are none.
ATTACKS = (SUITE, "apgd", "pgd", "published", "bridge")
# Ratings of published logs are not rounded, those of the files are.
SAME_RATING = 2e-3
CLIPS = "clips"  # of a run, beside its metrics


@dataclass(frozen=True, eq=False)
class _Found:
    """One step with the records that it rests on."""

    step: ProtocolStep
    records: Sequence[RunRecord]


def find_protocol_steps(
    store: Store,
    chosen: Sequence[RunRecord],
    *,
    study: str,
    further: Sequence[str],
    systems: Sequence[str],
) -> tuple[list[ProtocolStep], list[RunRecord]]:
    """Return the steps in order, missing ones included, and the records that they rest on.

    Runs are those of the analysis (``chosen``), of its ``study`` and of ``further`` studies. Of several kinds
    of attack runs that would do for a step, those of the analysis are taken, else the kind that is most like
    it and most thorough.
    """
    known = {record.run_id: record for record in chosen}
    for name in filter(None, dict.fromkeys([study, *further])):
        known |= {record.run_id: record for record in store.find(Stage.ATTACK, study=name)}
    wanted = [
        record
        for record in known.values()
        if record.tags.get(Tag.ATTACK) in ATTACKS and (not systems or record.tags.get(Tag.SYSTEM) in systems)
    ]
    found: list[_Found] = []
    for of_step, title in STEPS.items():
        step = ProtocolStep(title, *of_step)
        members = [record for record in wanted if _protocols(record) == of_step]
        records = _most_alike(members, chosen)
        if not records:
            found.append(_Found(step, ()))
            continue
        # Budgets of spectrograms and of sounds have nothing in common.
        alike = [one.step.epsilon for one in found if one.records and one.step.domain == step.domain]
        before = alike[-1] if alike else math.nan
        found += _at_budgets(store, step, records, before)
    return _with_changes(store, found), [record for one in found for record in one.records]


def _protocols(record: RunRecord) -> tuple[str, str, str]:
    tags = record.tags
    return (
        tags.get(Tag.TRAIN_PROTOCOL, ""),
        tags.get(Tag.ATTACK_PROTOCOL, ""),
        tags.get(Tag.DOMAIN, SPECTROGRAM),
    )


def _most_alike(records: Sequence[RunRecord], chosen: Sequence[RunRecord]) -> list[RunRecord]:
    """Return the runs of one kind: of each system, seed and fold the newest."""
    own = {record.run_id for record in chosen}
    kinds: dict[tuple[str, ...], list[RunRecord]] = {}
    for record in records:
        kind = tuple(record.tags.get(tag, ABSENT) for tag in DIMENSIONS if tag != Tag.ATTACK_SEED)
        kinds.setdefault(kind, []).append(record)
    if not kinds:
        return []

    def rank(members: list[RunRecord]) -> tuple[Any, ...]:
        tags, wanted = members[0].tags, chosen[0].tags
        alike = [tags.get(tag) == wanted.get(tag) for tag in (Tag.DATASET, Tag.SPLIT, Tag.NORM, Tag.TIER)]
        thorough = -ATTACKS.index(tags[Tag.ATTACK])
        in_analysis = any(record.run_id in own for record in members)
        first = on_sound(members[0]) and tags[Tag.NORM] == NORM_ORDER[True][0]
        return in_analysis, *alike[:2], first, thorough, *alike[2:], len(members), members[0].start_time

    best = max(kinds.values(), key=rank)
    oldest_first = sorted(best, key=lambda record: record.start_time)
    of = [
        (record.tags.get(Tag.SYSTEM, ABSENT), record.tags.get(Tag.SEED, ""), record.tags.get(Tag.FOLD, ""))
        for record in oldest_first
    ]
    return list(dict(zip(of, oldest_first, strict=True)).values())


def _at_budgets(
    store: Store, step: ProtocolStep, records: Sequence[RunRecord], before: float
) -> list[_Found]:
    """Return the step at the reported budget; first, where its curves hold it, at that of the step before."""
    tags = records[0].tags
    epsilon = float(tags.get(Tag.EPSILON) or math.nan)
    step = dataclasses.replace(step, attack=tags.get(Tag.ATTACK, ""), epsilon=epsilon)
    if on_sound(records[0]):
        step = dataclasses.replace(
            step, norm=tags.get(Tag.NORM, ""), level=float(tags.get(Tag.BUDGET) or math.nan)
        )
    clips = [float(record.params.get("cfg.clips", "nan")) for record in records]
    reported = dataclasses.replace(
        step,
        violations=float(np.sum([record.metrics.get("budget/violations", math.nan) for record in records])),
        perturbations=float(np.sum(clips)),
        constant=float(np.mean([record.metrics.get("constant/mae", math.nan) for record in records])),
        scores=_scores([(record, record.metrics) for record in records]),
    )
    found = [_Found(reported, records)]
    if tags.get(Tag.ATTACK) == SUITE and math.isfinite(before) and before != epsilon:
        curves = in_parallel(lambda record: read_curve(store, record), records)
        points = [(record, _point(curve, before)) for record, curve in zip(records, curves, strict=True)]
        if all(point for _, point in points):
            scores = _scores([(record, point) for record, point in points if point])
            found.insert(0, _Found(dataclasses.replace(reported, epsilon=before, scores=scores), records))
    return found


def _point(curve: pd.DataFrame, epsilon: float) -> dict[str, float] | None:
    """Return the metrics of a curve's row under the names by which they are logged."""
    clean = curve[curve["epsilon"] == 0]
    attacked = curve[np.isclose(curve["epsilon"], epsilon, rtol=1e-9, atol=0)]
    if clean.empty or attacked.empty:
        return None
    values: dict[str, float] = {}
    for metric in shown_metrics():
        if metric in curve:  # else it was added after the run
            before, after = float(clean[metric].iloc[0]), float(attacked[metric].iloc[0])
            values |= {f"clean/{metric}": before, f"adv/{metric}": after, f"delta/{metric}": after - before}
    return values


def _scores(points: Sequence[tuple[RunRecord, Mapping[str, float]]]) -> pd.DataFrame:
    by_system: dict[str, dict[str, list[Mapping[str, float]]]] = {}
    for record, metrics in points:
        seeds = by_system.setdefault(record.tags.get(Tag.SYSTEM, ABSENT), {})
        # A single run is a seed, also where it has none to name; folds of a cross-validation make one.
        seed = record.tags.get(Tag.SEED, "") if Tag.FOLD in record.tags else record.run_id
        clips = float(record.params.get("cfg.clips", 1))
        seeds.setdefault(seed, []).append({**metrics, CLIPS: clips})
    rows = []
    for system in sorted(by_system, key=system_rank):
        members = by_system[system].values()
        for metric in shown_metrics():
            row: dict[str, object] = {"system": system, "seeds": len(members), "metric": metric}
            for kind in ("clean", "adv", "delta"):
                name = f"{kind}/{metric}"
                values = np.array([_over_folds(runs, name) for runs in members])
                row |= {kind: values.mean(), f"{kind}_std": values.std()}
            rows.append(row)
    return pd.DataFrame(rows)


def _over_folds(runs: Sequence[Mapping[str, float]], name: str) -> float:
    """Return the mean of a metric over runs, each counting as many times as it has clips."""
    values, clips = ([run.get(key, math.nan) for run in runs] for key in (name, CLIPS))
    return float(np.average(values, weights=clips))


def _with_changes(store: Store, found: Sequence[_Found]) -> list[ProtocolStep]:
    """Say of every step what else differs from the one before it that has runs."""
    clips = [_ratings(store, one.records[0]) if one.records else None for one in found]
    steps: list[ProtocolStep] = []
    last: int | None = None
    for place, one in enumerate(found):
        changes: list[str] = []
        if one.records and last is not None:
            changes = _changes(found[last], one, settings_of(store, one.records))
            if not _same_ratings(clips[last], clips[place]):
                changes.insert(0, "other clips or ratings")
        if one.records:
            last = place
        steps.append(dataclasses.replace(one.step, changes=changes))
    return steps


def _changes(before: _Found, after: _Found, settings: Settings) -> list[str]:
    changes = []
    same_domain = before.step.domain == after.step.domain
    if same_domain and before.step.epsilon != after.step.epsilon:
        changes.append(f"ε {before.step.epsilon:g} to {after.step.epsilon:g}".replace(" 0.", " ."))
    for tag in (Tag.ORIGIN, *([Tag.NORM] if same_domain else []), Tag.SPLIT, Tag.SPLIT_SCHEME):
        values = [_values(one.records, tag) for one in (before, after)]
        if values[0] != values[1]:
            changes.append(f"{DIMENSIONS[tag].replace('_', ' ')} {values[0]} to {values[1]}")
    for tag, name in ((Tag.SYSTEM, "systems"), (Tag.SEED, "seeds")):
        if _values(before.records, tag) != _values(after.records, tag):
            changes.append(f"other {name}")
    differences = [name for name in differing(after.records, settings) if name not in DIMENSIONS.values()]
    if differences:
        changes.append(f"runs differ in {', '.join(differences)}")
    return changes


def _values(records: Sequence[RunRecord], tag: str) -> str:
    return ", ".join(sorted({record.tags.get(tag, ABSENT) for record in records}))


def _ratings(store: Store, record: RunRecord) -> pd.DataFrame:
    """Return the labels of a run's clips, one column a target, both in the order of their names."""
    model = checked_model(record, store.read_table(record.run_id, Artifact.ADVERSARY_CLIPS))
    table = pd.DataFrame(model.labels, index=list(model.clips), columns=list(model.targets))
    return table.sort_index(axis=1)


def _same_ratings(a: pd.DataFrame | None, b: pd.DataFrame | None) -> bool:
    if a is None or b is None or a.shape != b.shape or list(a.columns) != list(b.columns):
        return False
    return list(a.index) == list(b.index) and bool(np.allclose(a, b, rtol=0, atol=SAME_RATING))
