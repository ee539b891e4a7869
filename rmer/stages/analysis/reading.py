"""What an analysis reads from the store about the attack runs that it is about."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

import pandas as pd

from rmer.attacks.sound_budgets import epsilon_of
from rmer.errors import UserError
from rmer.evaluation.attacked import AttackedModel
from rmer.evaluation.gradient_precision import PrecisionCheck
from rmer.evaluation.pooled import pooled, pooled_metrics
from rmer.report.html import UsedRun
from rmer.report.system_tables import in_order
from rmer.stages.analysis.alike import is_by_predictions, on_sound
from rmer.stages.analysis.parallel import in_parallel
from rmer.stages.analysis.selection import Selected, by_model
from rmer.stages.attack.agreement import checked_model, read_checks, read_searches, require_same_clips
from rmer.stages.attack.victims import model_in_words
from rmer.tracking import Artifact, RunRecord, Store, Tag

# Norms in the order in which they are reported; the endpoints are taken from the first that there is.
NORM_ORDER = {False: ("linf", "l2"), True: ("masking", "snr", "linf")}  # on spectrograms, on sound


@dataclass(frozen=True, eq=False)
class AnalysedRuns:
    """The attack runs of an analysis, and their attacked models.

    Attributes
    ----------
    selected : Every attack run.
    groups : Norm -> models (of a cross-validation one for all folds, :mod:`rmer.evaluation.pooled`), the norm
        of the endpoints first. Without a suite of attacks all runs are one group.
    clips : Run id -> its per-clip table.
    checks : Run in words -> its sanity checks.
    precision_checks : The runs whose search with reduced gradients was compared with one of float32
        gradients.
    """

    selected: Sequence[Selected]
    groups: Mapping[str, Sequence[AttackedModel]]
    clips: Mapping[str, pd.DataFrame]
    checks: Mapping[str, pd.DataFrame]
    precision_checks: Sequence[PrecisionCheck]

    @property
    def models(self) -> Sequence[AttackedModel]:
        """The models of the norm of the endpoints."""
        return next(iter(self.groups.values()))

    @property
    def chosen(self) -> list[Selected]:
        """The runs of the norm of the endpoints."""
        runs = {run.run_id for model in self.models for run in model.runs}
        return [item for item in self.selected if item.record.run_id in runs]

    @property
    def logged(self) -> dict[str, Mapping[str, float]]:
        """Run id -> logged metrics; under the id of a model of all folds, those of all its runs."""
        found: dict[str, Mapping[str, float]] = {
            item.record.run_id: item.record.metrics for item in self.selected
        }
        models = [model for models in self.groups.values() for model in models if model.parts]
        return found | {model.run_id: pooled_metrics(model, found) for model in models}

    @property
    def first_clips(self) -> pd.DataFrame:
        """The per-clip table of the first run."""
        return next(iter(self.clips.values()))

    @property
    def on_sound(self) -> bool:
        """Whether the sound of clips was attacked, not their spectrograms."""
        return all(on_sound(item.record) for item in self.selected)

    @property
    def levels(self) -> dict[str, float]:
        """Norm of sounds -> reported budget in dB, where all runs of the norm name the same."""
        found: dict[str, set[str]] = {}
        for item in filter(lambda item: on_sound(item.record), self.selected):
            found.setdefault(item.norm, set()).add(item.record.tags.get(Tag.BUDGET, ""))
        return {norm: float(*budgets) for norm, budgets in found.items() if len(budgets) == 1}

    @property
    def reported_epsilon(self) -> float | None:
        """The budget of the endpoints, where all runs name the same."""
        if self.on_sound:
            norm = next(iter(self.groups))
            return epsilon_of(norm, self.levels[norm]) if norm in self.levels else None
        found = {item.record.params.get("cfg.epsilon", "") for item in self.selected}
        return float(found.pop()) if len(found) == 1 and "" not in found else None

    @property
    def by_predictions(self) -> dict[str, str]:
        """Row -> queries a clip, of systems that no gradient passes (a suite by predictions alone)."""
        return {
            item.name: item.record.params.get("cfg.queries", "")
            for item in self.selected
            if is_by_predictions(item.record)
        }

    @property
    def corrected(self) -> bool:
        """Whether every run was attacked under the corrected protocol."""
        return all(item.record.tags.get(Tag.ATTACK_PROTOCOL) == "corrected" for item in self.selected)

    @property
    def is_suite(self) -> bool:
        """Whether every run attacked at several budgets, with adversaries of its own for each metric."""
        return all(item.is_suite for item in self.selected)


def read_runs(store: Store, selected: Sequence[Selected]) -> AnalysedRuns:
    """Read the tables of the runs.

    Raises UserError where a table cannot be used or does not say what its run logged, or the runs have
    different targets, or on the same data different clips or labels.
    """

    def table(item: Selected, path: str) -> pd.DataFrame:
        return store.read_table(item.record.run_id, path)

    def precision(item: Selected) -> PrecisionCheck:
        return PrecisionCheck(run_in_words(item, selected), item.norm, read_searches(store, item.record))

    clips = in_parallel(lambda item: table(item, Artifact.ADVERSARY_CLIPS), selected)
    curves = in_parallel(lambda item: table(item, Artifact.CURVE_CLIPS) if item.has_curve else None, selected)
    suites = [item for item in selected if item.is_suite]
    compared = [item for item in selected if "precision/mae_loss" in item.record.metrics]
    checks = in_parallel(lambda item: read_checks(store, item.record), suites)
    parts = zip(selected, clips, curves, strict=True)
    models = [checked_model(item.record, found, curve, name=item.name) for item, found, curve in parts]
    for model in models[1:]:
        if model.targets != models[0].targets:
            own, first = (", ".join(one.targets) for one in (model, models[0]))
            what = f"has targets {own}, but run {models[0].run_id} {first}"
            raise UserError(what, where=f"run {model.run_id}", mend="Narrow with dataset")
    require_same_clips([item.record for item in selected], models)
    by_id = {model.run_id: model for model in models}
    whole = [
        (items[0], _whole([by_id[item.record.run_id] for item in items]))
        for items in by_model(selected).values()
    ]
    return AnalysedRuns(
        selected=selected,
        groups=_by_norm([item for item, _ in whole], [model for _, model in whole]),
        clips={item.record.run_id: found for item, found in zip(selected, clips, strict=True)},
        checks={run_in_words(item, selected): found for item, found in zip(suites, checks, strict=True)},
        precision_checks=in_parallel(precision, compared),
    )


def run_in_words(item: Selected, among: Sequence[Selected]) -> str:
    """Return ``A2M2E s6``, with the norm where it tells runs apart, and the fold of a cross-validation."""
    norm = f" {item.norm}" if len({other.norm for other in among}) > 1 else ""
    return f"{model_in_words(item.name, item.seed, item.fold)}{norm}"


def used_runs(store: Store, runs: AnalysedRuns) -> list[UsedRun]:
    """Return every run with its address, in the order of the tables."""
    records = {item.record.run_id: item.record for item in runs.selected}
    rows = [members for group in runs.groups.values() for members in in_order(group).values()]
    every = [run for model in chain(*rows) for run in model.runs]
    return [_used_run(store, model, records[model.run_id]) for model in every]


def _used_run(store: Store, model: AttackedModel, record: RunRecord) -> UsedRun:
    trained = record.tags.get(Tag.TRAIN_RUN_ID, "")
    return UsedRun(
        system=model.name,
        seed=model.seed,
        fold=record.tags.get(Tag.FOLD, ""),
        run_id=model.run_id,
        train_run_id=trained,
        url=store.page_of(record) if store.web else "",
        # Any experiment in the address will do: the page of a run finds the right one.
        train_url=store.page_of(record, run_id=trained) if store.web and trained else "",
    )


def _whole(folds: Sequence[AttackedModel]) -> AttackedModel:
    return pooled(folds) if len(folds) > 1 else folds[0]


def _by_norm(selected: Sequence[Selected], models: Sequence[AttackedModel]) -> dict[str, list[AttackedModel]]:
    if not all(item.is_suite for item in selected):
        return {selected[0].norm: list(models)}
    order = NORM_ORDER[on_sound(selected[0].record)]
    norms = sorted({item.norm for item in selected})
    norms.sort(key=lambda norm: order.index(norm) if norm in order else len(order))
    pairs = list(zip(selected, models, strict=True))
    return {norm: [model for item, model in pairs if item.norm == norm] for norm in norms}
