"""The tables of an analysis, in full precision."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from rmer.data.dataset import RATING_SCALE
from rmer.evaluation.attacked import AttackedModel
from rmer.evaluation.metrics import clip_errors, under_attack
from rmer.evaluation.statistics import (
    PAIRED_T_POOLED,
    PAIRED_T_SEEDS,
    WELCH_SEEDS,
    TestResult,
    comparisons,
    paired_t,
    welch_seeds,
)
from rmer.systems.catalogue import CATALOGUE, known_system

SYSTEM_COLUMNS = (
    "system", "seeds",
    "clean_corr", "clean_corr_std", "clean_mae", "clean_mae_std",
    "adv_corr", "adv_corr_std", "adv_mae", "adv_mae_std",
    "delta_mae", "delta_mae_std", "delta_mae_median",
    "adv_mae_clipped", "adv_mae_clipped_std",
)  # fmt: skip
ATTACK_COLUMNS = (
    "system", "runs", "clips", "l2_median", "linf_max", "violations",
    "snr_db", "outside_scale", "rescored_mae", "constant_mae",
)  # fmt: skip
TEST_COLUMNS = tuple(field.name for field in dataclasses.fields(TestResult))


def in_order(models: Sequence[AttackedModel]) -> dict[str, list[AttackedModel]]:
    """Return row name -> its models by seed; rows in the order of the catalogue, then by name."""

    def rank(model: AttackedModel) -> tuple[int, str, str, int]:
        return *system_rank(model.system), model.name, int(model.seed) if model.seed.isdigit() else -1

    rows: dict[str, list[AttackedModel]] = {}
    for model in sorted(models, key=rank):
        rows.setdefault(model.name, []).append(model)
    return rows


def system_rank(system: str) -> tuple[int, str]:
    """Return the place of a system: in the order of the catalogue, others after it by name."""
    known = list(CATALOGUE)
    return known.index(system) if system in known else len(known), system


def is_adversarial(name: str) -> bool:
    """Return whether a row shows a system that is trained adversarially (``aA2E``)."""
    return bool((system := known_system(name)) and system.adversarial)


def is_interpretable(name: str) -> bool:
    """Return whether a row shows a system whose concepts are supervised (``A2M2E``)."""
    return bool((system := known_system(name)) and system.interpretable)


def is_control(name: str) -> bool:
    """Return whether a row shows the placebo, or another control that no question is asked about."""
    return bool((system := known_system(name)) and system.permuted_concepts)


def twin(name: str) -> str:
    """Return the row of the system that this one is the adversarially trained twin of, else its own name."""
    system = known_system(name)
    return name if system is None or not system.parent else name.replace(system.name, system.parent, 1)


def systems_table(models: Sequence[AttackedModel]) -> pd.DataFrame:
    """Return one row a system (:data:`SYSTEM_COLUMNS`), in full precision.

    Means and population standard deviations are over seeds, each seed's score being over clips; ``seeds`` is
    their number. A score without a value in one seed (see ``rmer.evaluation.metrics``) leaves that cell NaN.
    """
    rows = []
    for name, members in in_order(models).items():
        row: dict[str, object] = {"system": name, "seeds": len(members)}
        for metric in ("clean/corr", "clean/mae", "adv/corr", "adv/mae", "delta/mae", "adv/mae_clipped"):
            values = _over_seeds(members, metric)
            column = metric.replace("/", "_")
            row |= {column: values.mean(), f"{column}_std": values.std()}
        row["delta_mae_median"] = np.median(_over_seeds(members, "delta/mae"))
        rows.append(row)
    return pd.DataFrame(rows, columns=list(SYSTEM_COLUMNS))


def attacks_table(
    models: Sequence[AttackedModel], metrics: Mapping[str, Mapping[str, float]]
) -> pd.DataFrame:
    """Return what was done to each system, one row each (:data:`ATTACK_COLUMNS`).

    ``metrics`` holds run id -> logged metrics. ``clips`` counts attacked clips over all runs, ``violations``
    those whose perturbation exceeds the budget (NaN where a run does not say); ``l2_median`` and ``linf_max``
    are over these clips, in standardised-spectrogram units; ``snr_db`` is the mean power of the log
    spectrograms over that of the perturbations; ``outside_scale`` is the share of adversarial
    predictions outside 0-1; ``rescored_mae`` is the MAE of the saved adversaries where ``adv_*`` is not
    theirs; ``constant_mae`` that of a model that always predicts the mean label.
    """
    rows = []
    for name, members in in_order(models).items():
        logged = pd.DataFrame([metrics[model.run_id] for model in members])
        logged = logged.reindex(columns=["budget/violations", "constant/mae", "perturbation/snr_db"])
        predictions = np.concatenate([model.adversarial for model in members])
        low, high = RATING_SCALE
        rescored = [
            clip_errors(model.labels, model.rescored) for model in members if model.rescored is not None
        ]
        rows.append(
            {
                "system": name,
                "runs": len(members),
                "clips": sum(len(model.clips) for model in members),
                "l2_median": np.median(np.concatenate([model.l2 for model in members])),
                "linf_max": np.max(np.concatenate([model.linf for model in members])),
                "violations": logged["budget/violations"].sum(skipna=False),
                "snr_db": logged["perturbation/snr_db"].mean(skipna=False),
                "outside_scale": ((predictions < low) | (predictions > high)).mean(),
                "rescored_mae": np.mean(rescored) if len(rescored) == len(members) else np.nan,
                "constant_mae": logged["constant/mae"].mean(skipna=False),
            }
        )
    return pd.DataFrame(rows, columns=list(ATTACK_COLUMNS))


def tests_table(models: Sequence[AttackedModel], reference: str) -> pd.DataFrame:
    """Return every test of every compared pair of systems (:data:`TEST_COLUMNS`).

    Paired tests take the seeds that both systems have; without common seeds, or where the two were attacked
    on different clips, they have ``n`` 0 and no value.
    """
    rows = in_order(models)
    results = []
    for a, b in comparisons(list(rows), reference):
        pair = _paired(rows[a], rows[b])
        pooled = paired_t(*([model.clip_errors for model in side] for side in pair))
        seeds = paired_t(*(_over_seeds(side, "adv/mae") for side in pair))
        results.append(TestResult(PAIRED_T_POOLED, "adv/mae", a, b, *pooled))
        results.append(TestResult(PAIRED_T_SEEDS, "adv/mae", a, b, *seeds))
        for metric in (f"{kind}/{name}" for kind in ("adv", "delta") for name in under_attack()):
            values = welch_seeds(_over_seeds(rows[a], metric), _over_seeds(rows[b], metric))
            results.append(TestResult(WELCH_SEEDS, metric, a, b, *values))
    return pd.DataFrame([dataclasses.asdict(result) for result in results], columns=list(TEST_COLUMNS))


def _over_seeds(models: Sequence[AttackedModel], metric: str) -> np.ndarray:
    return np.array([model.scores[metric] for model in models], dtype=np.float64)


def _paired(a: Sequence[AttackedModel], b: Sequence[AttackedModel]) -> list[list[AttackedModel]]:
    """Return the models of two systems that have a common seed, in one order; none on different clips."""
    by_seed = {model.seed: model for model in b}
    first = [model for model in a if model.seed in by_seed]
    second = [by_seed[model.seed] for model in first]
    return [first, second] if len({model.clips for model in first + second}) <= 1 else [[], []]
