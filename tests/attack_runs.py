"""Attack runs as the attack stage logs them, with made-up predictions of known damage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from rmer.attacks.sound_budgets import epsilon_of
from rmer.evaluation.attacked import attack_metrics
from rmer.evaluation.checks.measurements import PrecisionPair
from rmer.evaluation.classification import classification_metrics
from rmer.evaluation.curves import area_over_log_epsilon
from rmer.evaluation.gradient_precision import precision_table
from rmer.evaluation.metrics import own_columns, regression_scores
from rmer.systems.catalogue import CATALOGUE
from rmer.tracking import Run, RunSpec, Stage, Store, Tag
from rmer.training.protocol import resolve_fit

EMOTIONS = ("tension", "tender", "valence")
EPSILONS = (0.002, 0.01, 0.05)
CONSTANT = 0.2
TAGS = {
    "origin": "computed", "train_protocol": "corrected", "attack_protocol": "corrected", "attack": "pgd",
    "norm": "linf", "epsilon": "0.01", "split": "test", "split_scheme": "album", "dataset": "d1",
    "attack_seed": "21",
}  # fmt: skip
PASSED = pd.DataFrame(
    {
        "check": ["damage_grows_with_epsilon", "attack_beats_noise", "white_box_at_least_transfer"],
        "value": [0.0, 0.1, np.nan],
        "limit": [0.05, 0.5, np.nan],
        "passed": pd.array([True, True, None], dtype="boolean"),
        "detail": "",
    }
)


def train_run(store: Store, study: str, system: str, seed: int, **changes: Any) -> str:
    """Log a run of training as its stage does, without a model; ``changes`` are parameters."""
    fit = resolve_fit(CATALOGUE[system], "corrected", seed=seed)
    config = {"system": system, "dataset": "d1", "split_scheme": "album", "normalised_on": "train"}
    spec = RunSpec(
        Stage.TRAIN, f"{system} s{seed}", {"model": study, **config, **fit.values(), **changes}, study=study
    )
    return store.perform(spec, lambda run: run.params({"device": "cpu", "mean": seed / 100})).run_id


def attack_run(
    store: Store,
    study: str,
    system: str = "A2E",
    seed: int = 1,
    *,
    train_run_id: str = "",
    predicts_as: str = "",
    **changes: Any,
) -> str:
    """Log a run of one attack; ``changes`` are tags (epsilon) and params (cfg_steps).

    The predictions are those of the system ``predicts_as``, by default of the system itself.
    """
    model = predicts_as or system
    values, params = _changed({}, {"steps": 40, "device": "cpu"}, changes)
    table = _clip_table(model, seed, 3, EMOTIONS, [""] * 3)
    noise = np.random.default_rng([seed, *map(ord, model)]).normal(0, 0.5, (3, len(EMOTIONS)))
    for place, emotion in enumerate(EMOTIONS):
        table[f"adv_{emotion}"] = table[f"label_{emotion}"] + noise[:, place]
    labels, clean, attacked = (
        table[[f"{kind}_{emotion}" for emotion in EMOTIONS]].to_numpy() for kind in ("label", "clean", "adv")
    )
    metrics = attack_metrics(labels, clean, attacked, EMOTIONS)
    metrics |= {"budget/violations": 0.0, "constant/mae": CONSTANT}
    spec = _spec(study, system, seed, values, params, train_run_id)
    return store.perform(spec, lambda run: _log(run, {"adversaries/clips.csv": table}, metrics)).run_id


def suite_run(
    store: Store,
    study: str,
    system: str,
    seed: int,
    *,
    damage: float = 0.1,
    norm: str = "linf",
    clips: int = 12,
    emotions: Sequence[str] = EMOTIONS,
    epsilons: Sequence[float] = EPSILONS,
    sanity: pd.DataFrame = PASSED,
    searches: Mapping[float, PrecisionPair] | None = None,
    reported: float = 0.01,
    **changes: Any,
) -> str:
    """Log a suite of attacks on one model.

    At a budget of .01 its adversaries worst for clipped MAE move every prediction by about
    ``damage`` away from the labels, those worst for raw MAE by three times that; damage grows with the root
    of epsilon. Those worst for correlation lose the part of the labels in their
    predictions. Two clips share an album. ``searches`` are those of both precisions, where that is bf16. A
    ``fold`` among the changes has clips of its own.
    """
    fold = int(changes.get("fold", 0))
    listed = ",".join(f"{epsilon:g}" for epsilon in epsilons)
    settings = {"tier": "quick", "epsilons": listed, "epsilon": reported, "clips": clips, "precision": "fp32"}
    if "domain" in changes:  # budgets in dB say it
        settings = {key: value for key, value in settings.items() if not key.startswith("epsilon")}
    values, params = _changed({"attack": "suite", "tier": "quick", "norm": norm}, settings, changes)
    albums = [f"album {fold * clips + clip // 2}" for clip in range(clips)]
    table = _clip_table(system, seed + 1000 * fold, clips, emotions, albums)
    table["clip"] = [f"{fold * clips + clip + 1:03d}" for clip in range(clips)]
    labels, clean = (table[[f"{kind}_{name}" for name in emotions]].to_numpy() for kind in ("label", "clean"))
    drawn = seed + 1000 * fold
    worst = _attacked(labels, clean, damage * (reported / 0.01) ** 0.5, system, drawn)
    for kind, metric in (("adv", "mae"), *((kind, metric) for metric, kind in own_columns().items())):
        for place, name in enumerate(emotions):
            table[f"{kind}_{name}"] = worst[metric][:, place]
    curve, points = [], []
    for epsilon in (0.0, *epsilons):
        found = (
            dict.fromkeys(worst, clean)
            if epsilon == 0
            else _attacked(labels, clean, damage * (epsilon / 0.01) ** 0.5, system, drawn)
        )
        scores = {m: regression_scores(labels, found[m], emotions).mean[m] for m in found}
        curve.append({"epsilon": epsilon, "radius": epsilon, **scores})
        for metric, predictions in found.items():
            frame = pd.DataFrame(predictions, columns=list(emotions))
            points.append(frame.assign(epsilon=epsilon, clip=table["clip"], metric=metric))
    tables = {
        "adversaries/clips.csv": table,
        "tables/curve.csv": pd.DataFrame(curve),
        "tables/curve_clips.csv": pd.concat(points),
        "tables/sanity.csv": sanity,
    }
    own = {metric: worst[metric] for metric in own_columns()}
    metrics = attack_metrics(labels, clean, worst["mae"], emotions, own)
    if "cfg_labels" in changes:
        metrics |= classification_metrics(labels, clean, worst["mae"], emotions, changes["cfg_labels"])
    metrics |= {"budget/violations": 0.0, "constant/mae": CONSTANT, "breakeven/epsilon": 0.02 + seed / 1e6}
    metrics |= {"noise/mae_clipped": 0.11, "noise/delta_mae_clipped": 0.01}
    if "domain" in changes:
        measured = {"snr_db": 24.0, "noise_to_mask_db": -6.0, "audible_share": 0.0}
        tables["adversaries/clips.csv"] = table.assign(**measured)
        tables["tables/codecs.csv"] = _codecs()
    passed = sanity["passed"]
    metrics |= {
        "sanity/failed": float(passed.eq(False).sum()),
        "sanity/not_judged": float(passed.isna().sum()),
    }
    for metric in worst:
        values_along = [row[metric] for row in curve]
        metrics |= {f"curve/{metric}": values_along[-1]}
        metrics |= {f"auc/{metric}": area_over_log_epsilon([0.0, *epsilons], values_along)}
    if searches is not None:
        params["precision"] = "bf16"
        tables["tables/precision.csv"] = precision_table(searches)
        metrics["precision/mae_loss"] = float(tables["tables/precision.csv"]["mae_loss"].iloc[-1])
    spec = _spec(study, system, seed, values, params)
    return store.perform(spec, lambda run: _log(run, tables, metrics)).run_id


def sound_run(
    store: Store,
    study: str,
    system: str,
    seed: int,
    *,
    norm: str = "masking",
    budget: float = -6.0,
    budgets: Sequence[float] = (-20.0, -6.0),
    **changes: Any,
) -> str:
    """Log a suite of attacks on the sound of clips: a suite whose budgets are in dB.

    ``changes`` may hold the ``damage`` at the reported budget.
    """
    ratio = epsilon_of(norm, budget)
    listed = ",".join(f"{level:g}" for level in budgets)
    sound = {"domain": "waveform", "budget": f"{budget:g}", "epsilon": f"{ratio:g}"}
    sound |= {"cfg_domain": "waveform", "cfg_budget": budget, "cfg_budgets": listed, "cfg_codecs": True}
    damage = changes.pop("damage", 0.1) * (0.01 / ratio) ** 0.5  # that at .01, of which suite_run is told
    epsilons = sorted(epsilon_of(norm, level) for level in budgets)
    return suite_run(
        store, study, system, seed, damage=damage, norm=norm, epsilons=epsilons, reported=ratio,
        **{**sound, **changes},
    )  # fmt: skip


def _changed(
    values: dict[str, Any], params: dict[str, Any], changes: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    params |= {name.removeprefix("cfg_"): value for name, value in changes.items() if name.startswith("cfg_")}
    given = {name: value for name, value in changes.items() if not name.startswith("cfg_")}
    return {**TAGS, **values, **given}, params


def _spec(
    study: str, system: str, seed: int, values: dict[str, Any], params: dict[str, Any], train_run_id: str = ""
) -> RunSpec:
    tags = {f"rmer.{name}": str(value) for name, value in values.items()}
    tags |= {Tag.SYSTEM: system, Tag.SEED: str(seed)}
    tags |= {Tag.TRAIN_RUN_ID: train_run_id or f"trained-{system}-{seed}"}
    config = {"model": f"{study} {system} {seed}", **values, **params, "system": system, "seed": seed}
    return RunSpec(Stage.ATTACK, f"{system} s{seed}", config, tags, study)


def _codecs() -> pd.DataFrame:
    scores = {"clean/mae_clipped": 0.1, "adv/mae_clipped": 0.3, "delta/mae_clipped": 0.2}
    return pd.DataFrame([{"transformation": name, **scores} for name in ("none", "MP3 128 kbit/s")])


def _clip_table(
    system: str, seed: int, clips: int, emotions: Sequence[str], albums: Sequence[str]
) -> pd.DataFrame:
    rng = np.random.default_rng([seed, *map(ord, system)])
    table = pd.DataFrame({"clip": [f"{clip + 1:03d}" for clip in range(clips)], "album": albums})
    table = table.assign(l2=1.0, linf=0.01)
    spread = [0.2, 0.5, 0.7] if clips == 3 else np.linspace(0.2, 0.7, clips)
    for place, emotion in enumerate(emotions):
        table[f"label_{emotion}"] = np.roll(spread, 0 if clips == 3 else 5 * place)
        table[f"clean_{emotion}"] = table[f"label_{emotion}"] + rng.normal(0, 0.1, clips)
    return table


def _attacked(
    labels: np.ndarray, clean: np.ndarray, damage: float, system: str, seed: int
) -> dict[str, np.ndarray]:
    rng = np.random.default_rng([seed, 7, *map(ord, system)])
    away = np.where(clean >= labels, 1, -1) * rng.normal(1, 0.15, clean.shape)
    return {
        "mae": clean + 3 * damage * away,
        "mae_clipped": clean + damage * away,
        "corr": clean - 8 * damage * (labels - labels.mean(axis=0)),
    }


def _log(run: Run, tables: Mapping[str, pd.DataFrame], metrics: Mapping[str, float]) -> None:
    for path, table in tables.items():
        run.table(table, path)
    run.metrics(metrics)
