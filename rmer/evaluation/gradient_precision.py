"""Whether gradients in bfloat16 find adversaries as strong as gradients in float32 do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from torch import Tensor

from rmer.attacks.base import Attack, AttackResult
from rmer.evaluation.budgets import Floats, Point, Progress, predict
from rmer.evaluation.checks.measurements import ERRORS, Damage, Searches
from rmer.systems.frozen import FrozenNetwork

# Clips that are searched twice. On networks of the study the two searches differ by 1.2 % of a clip's MAE at
# most; five of 36 clips keep the comparison below a tenth of a suite.
COMPARED = 5


@dataclass(frozen=True, eq=False)
class PrecisionCheck:
    """The check of one run: its name in words, its norm, and ``tables/precision.csv``."""

    name: str
    norm: str
    table: pd.DataFrame


def compare_searches(
    network: FrozenNetwork,
    inputs: Tensor,
    labels: Tensor,
    attack: Attack,
    points: Sequence[Point],
    *,
    clips: int = COMPARED,
    seed: int = 0,
    batch_size: int = 8,
    progress: Progress | None = None,
    resume: Path | None = None,
) -> dict[float, Searches]:
    """Repeat the first attack of every point with gradients in float32; return epsilon -> both searches.

    The first ``clips`` clips get the starts that they had, random and warm: a clip's random numbers
    depend on its place and the seed alone. Predictions, comparisons and scores are float32 in both searches.
    Empty where the network's gradients are float32 anyway.

    Parameters
    ----------
    inputs, labels : as for the sweep, [clips, 1, frames, bands] and [clips, targets]
    attack : the attack whose results are ``points[i].results[0]``, on the error of each clip
    points : all budgets of the sweep, in its order
    seed, batch_size, progress, resume : as for :func:`rmer.evaluation.budgets.sweep`
    """
    if network.precision == "fp32":
        return {}
    exact = FrozenNetwork(network.model, fold=False, batch_size=network.batch_size)  # folded already
    few = slice(0, clips)
    inputs, labels = inputs[few], labels[few]
    truth, before = labels.cpu().double().numpy(), predict(network, inputs)
    clean = Damage.of(truth, before, before)
    cost = attack.passes(labels.shape[1]).in_gradients * len(inputs)
    found: dict[float, Searches] = {}
    for place, point in enumerate(points):
        reduced = point.results[0]
        warm = points[place - 1].results[0].adversaries[few] if "warm_won" in reduced.columns else None
        again = attack(
            exact,
            inputs,
            labels,
            point.threat.of(few),
            seed=seed,
            batch_size=batch_size,
            warm=warm,
            resume=None if resume is None else resume / f"fp32-{point.epsilon:g}",
        )
        damages = (_scored(truth, network, result, few) for result in (again, reduced))
        found[point.epsilon] = Searches(len(inputs), clean, *damages)
        if progress is not None:
            progress(cost)
    return found


def comparison_cost(attack: Attack, targets: int, *, clips: int, budgets: int) -> int:
    """Return the gradients that the comparison takes in a run, three predictions counted as one."""
    return attack.passes(targets).in_gradients * min(COMPARED, clips) * budgets


def precision_table(searches: Mapping[float, Searches]) -> pd.DataFrame:
    """Return ``tables/precision.csv``: one row a budget, smallest first.

    Columns are epsilon, clips, and for ``mae`` and ``mae_clipped`` each the score of the clean clips
    (``<metric>_clean``), of both searches (``_fp32``, ``_bf16``) and the relative shortfall of the latter
    (``_loss``, negative where it found more).
    """
    rows = []
    for epsilon, both in sorted(searches.items()):
        row: dict[str, float] = {"epsilon": epsilon, "clips": both.clips}
        for metric in ERRORS:
            for name, damage in (("clean", both.clean), ("fp32", both.exact), ("bf16", both.reduced)):
                row[f"{metric}_{name}"] = getattr(damage, metric)
            row[f"{metric}_loss"] = both.loss(metric)
        rows.append(row)
    return pd.DataFrame(rows)


def _scored(truth: Floats, network: FrozenNetwork, result: AttackResult, clips: slice) -> Damage:
    """Score the adversaries of some clips, each metric by those that are worst for it."""
    clipped = result.also.get("mae_clipped", result.adversaries)
    return Damage.of(truth, predict(network, result.adversaries[clips]), predict(network, clipped[clips]))
