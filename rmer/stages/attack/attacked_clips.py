"""What an attack run logs about its clips: the per-clip table and the metrics at the reported budget."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from rmer.attacks.base import Attack
from rmer.attacks.sound_budgets import budget_of
from rmer.attacks.sound_threat import SoundThreat
from rmer.data.standardised import Part
from rmer.errors import UserError
from rmer.evaluation.attacked import attack_metrics, named_columns, with_errors
from rmer.evaluation.budgets import Point
from rmer.evaluation.classification import classification_metrics
from rmer.evaluation.metrics import constant_mae, own_columns, regression_scores
from rmer.stages.attack.saved_adversaries import Saved
from rmer.stages.attack.victims import Victim
from rmer.systems.prediction import predict

# Per-clip columns of attacks that are logged as they are.
COLUMNS = ("iterations", "converged", "threshold")


def clip_table(
    victim: Victim,
    part: Part,
    attack: Attack,
    point: Point,
    saved: Saved,
    device: torch.device,
    clean_inputs: Tensor,
) -> pd.DataFrame:
    """Return the per-clip table of a run (see docs/tracking.md).

    ``point`` is what ``attack`` found at the reported budget, ``saved`` what is stored of it; predictions are
    made here, from what was read back. ``clean_inputs`` are what the model gets of the clips.
    """
    adversaries = saved.heard
    emotions, result = victim.dataset.emotions, point.results[0]
    main, *others = adversaries
    clean, clean_units = predict(victim.model, clean_inputs.to(device))
    if not np.isfinite(clean).all():
        mend = "See the model contract in docs/own-model.md"
        raise UserError("the model predicts NaN or infinity for clean clips", where=victim.system, mend=mend)
    rescored, units = predict(victim.model, adversaries[main].to(device))
    clips = victim.dataset.clips.iloc[part.rows]
    columns: dict[str, Any] = {
        "clip": clips["clip"].to_numpy(),
        "album": clips["album"].to_numpy(),
        **saved.sizes,
    }
    columns |= {name: result.columns[name].numpy() for name in COLUMNS if name in result.columns}
    if "minimum_epsilon" in result.columns:  # a radius; all budgets are named a cell
        cells = point.epsilon / float(point.threat.epsilon)
        columns["minimum_epsilon"] = result.columns["minimum_epsilon"].numpy() * cells
    if "minimum_epsilon" in columns and isinstance(point.threat, SoundThreat):
        ratios = columns["minimum_epsilon"].tolist()
        columns["minimum_db"] = np.array([budget_of(point.threat.norm, ratio) for ratio in ratios])
    last = result.columns.get("last_prediction")
    # The published protocol reports the last iterate; every other one what the saved adversary does.
    as_published = last is not None and not attack.enforced
    reported = last.numpy() if last is not None and as_published else rescored
    columns |= named_columns("label_", emotions, part.labels.numpy())
    columns |= named_columns("clean_", emotions, clean)
    columns |= named_columns("adv_", emotions, reported)
    if as_published:
        columns |= named_columns("rescored_", emotions, rescored)
    for metric in others:
        found, _ = predict(victim.model, adversaries[metric].to(device))
        columns |= named_columns(f"{own_columns()[metric]}_", emotions, found)
    if victim.concepts and part.concepts is not None and clean_units is not None and units is not None:
        for kind, values in (("label", part.concepts.numpy()), ("clean", clean_units), ("adv", units)):
            columns |= named_columns(f"{kind}_concept_", victim.concepts, values)
    if victim.features and clean_units is not None and units is not None:
        for kind, values in (("clean", clean_units), ("adv", units)):
            columns |= named_columns(f"{kind}_feature_", victim.features, values)
    return with_errors(pd.DataFrame(columns), emotions)


def clip_metrics(victim: Victim, table: pd.DataFrame) -> dict[str, float]:
    """Return the metrics of a per-clip table; a metric that has adversaries of its own is scored on these."""
    emotions = victim.dataset.emotions
    labels, clean, adversarial = (_values(table, kind, emotions) for kind in ("label_", "clean_", "adv_"))
    own = {
        metric: _values(table, f"{kind}_", emotions)
        for metric, kind in own_columns().items()
        if f"{kind}_{emotions[0]}" in table
    }
    metrics = attack_metrics(labels, clean, adversarial, emotions, own)
    if victim.dataset.labels != "ratings":
        metrics |= classification_metrics(labels, clean, adversarial, emotions, victim.dataset.labels)
    if f"rescored_{emotions[0]}" in table:
        rescored = _values(table, "rescored_", emotions)
        metrics |= regression_scores(labels, rescored, emotions).named("rescored")
    if "minimum_epsilon" in table:
        found = table["minimum_epsilon"]
        metrics |= {"minimum_norm/epsilon_median": float(found.fillna(np.inf).median())}
        metrics |= {"minimum_norm/found": float(found.notna().mean())}
    if "noise_to_mask_db" in table:
        metrics |= _sound_metrics(table)
    else:
        metrics["perturbation/linf_log10"] = float(table["linf"].mean() * victim.data.normalisation.std)
    return {
        **metrics,
        "constant/mae": constant_mae(victim.data.train.labels.numpy(), labels),
        "perturbation/linf": float(table["linf"].mean()),
        "perturbation/linf_max": float(table["linf"].max()),
        "perturbation/l2": float(table["l2"].mean()),
        "perturbation/l2_max": float(table["l2"].max()),
        "perturbation/snr_db": float(table["snr_db"].mean()),
    }


def _sound_metrics(table: pd.DataFrame) -> dict[str, float]:
    """Return how far perturbations of sounds exceed what is masked; what has no value is left out."""
    loudest = table["noise_to_mask_db"]
    found = {
        "perturbation/noise_to_mask_db": float(loudest.mean()),
        "perturbation/noise_to_mask_db_max": float(loudest.max()),
        "perturbation/audible_share": float(table["audible_share"].mean()),
    }
    if "minimum_db" in table:
        found["minimum_norm/db_median"] = float(table["minimum_db"].median())
    return {name: value for name, value in found.items() if math.isfinite(value)}


def _values(table: pd.DataFrame, prefix: str, names: tuple[str, ...]) -> np.ndarray:
    """Return the columns ``<prefix><name>`` as [clips, names]."""
    return table[[f"{prefix}{name}" for name in names]].to_numpy()
