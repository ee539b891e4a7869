"""Whether gradients in bfloat16 find adversaries as strong as gradients in float32 do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import pandas as pd

from rmer.attacks.base import Attack
from rmer.attacks.result import AttackResult
from rmer.evaluation.budgets import Point
from rmer.evaluation.checks.measurements import ERRORS, AttackedScores, PrecisionPair
from rmer.evaluation.subject import Subject
from rmer.systems.frozen import FrozenNetwork

# Clips that are attacked with both kinds of gradients. On networks of the study the two searches differ by
# 1.2 % of a clip's MAE at most; five of 36 clips keep the comparison below a tenth of a suite.
COMPARED = 5


@dataclass(frozen=True, eq=False)
class PrecisionCheck:
    """The check of one run: its name in words, its norm, and ``tables/precision.csv``."""

    name: str
    norm: str
    table: pd.DataFrame


def compare_precisions(
    subject: Subject, attack: Attack, points: Sequence[Point], *, clips: int = COMPARED
) -> dict[float, PrecisionPair]:
    """Repeat the first attack of every point with gradients in float32; return epsilon -> both searches.

    ``points`` are all budgets of the sweep, in its order; ``attack``, on the error of each clip, has the
    results ``points[i].results[0]``. The first ``clips`` clips get the starts that they had, random and warm:
    a clip's random numbers depend on its place and the seed alone. Predictions, comparisons and scores are
    float32 in both searches. Empty where the network's gradients are float32 anyway.
    """
    network = subject.network
    if network.precision == "fp32":
        return {}
    few = subject.first(clips)
    exact = replace(few, network=FrozenNetwork(network.model, fold=False, batch_size=network.batch_size))
    before = few.clean
    clean = AttackedScores.of(few.truth, before, before)
    found: dict[float, PrecisionPair] = {}
    for place, point in enumerate(points):
        reduced = point.results[0]
        warm = points[place - 1].results[0].adversaries[:clips] if "warm_won" in reduced.columns else None
        threat, folder = point.threat.of(slice(clips)), f"controls/fp32-{point.epsilon}"
        again = exact.attacked(attack, threat, folder, warm_start=warm)
        scores = (_scored(few, result) for result in (again, reduced))
        found[point.epsilon] = PrecisionPair(len(few.inputs), clean, *scores)
    return found


def compare_with_fixed(
    subject: Subject, attack: Attack, points: Sequence[Point], rows: Sequence[int]
) -> dict[float, PrecisionPair]:
    """Search the clips at ``rows`` with a fixed attack in float32; return epsilon -> both searches.

    ``subject`` holds these clips alone, ``points`` some budgets of a sweep over all clips.
    """
    network = subject.network
    exact = replace(subject, network=FrozenNetwork(network.model, fold=False, batch_size=network.batch_size))
    before = subject.clean
    clean = AttackedScores.of(subject.truth, before, before)
    found: dict[float, PrecisionPair] = {}
    for point in points:
        again = exact.attacked(attack, point.threat.of(list(rows)), f"controls/fixed-{point.epsilon}")
        ours = {metric: adversaries[list(rows)] for metric, adversaries in point.adversaries.items()}
        adaptive = AttackedScores.of(
            subject.truth,
            subject.predicted(ours["mae"]),
            subject.predicted(ours.get("mae_clipped", ours["mae"])),
        )
        found[point.epsilon] = PrecisionPair(len(rows), clean, _scored(subject, again), adaptive)
    return found


def comparison_cost(attack: Attack, targets: int, *, clips: int, budgets: int) -> int:
    """Return the gradients that the comparison takes in a run, three predictions counted as one."""
    return attack.passes(targets).in_gradients * min(COMPARED, clips) * budgets


def precision_table(pairs: Mapping[float, PrecisionPair]) -> pd.DataFrame:
    """Return ``tables/precision.csv``: one row a budget, smallest first.

    Columns are epsilon, clips, and for ``mae`` and ``mae_clipped`` each the score of the clean clips
    (``<metric>_clean``), of both searches (``_fp32``, ``_bf16``) and the relative shortfall of the latter
    (``_loss``, negative where it found more).
    """
    rows = []
    for epsilon, both in sorted(pairs.items()):
        row: dict[str, float] = {"epsilon": epsilon, "clips": both.clips}
        for metric in ERRORS:
            for name, scores in (("clean", both.clean), ("fp32", both.exact), ("bf16", both.reduced)):
                row[f"{metric}_{name}"] = getattr(scores, metric)
            row[f"{metric}_loss"] = both.loss(metric)
        rows.append(row)
    return pd.DataFrame(rows)


def _scored(few: Subject, result: AttackResult) -> AttackedScores:
    """Score the adversaries of the first clips, each metric by those that are worst for it."""
    clips, clipped = slice(len(few.inputs)), result.also.get("mae_clipped", result.adversaries)
    return AttackedScores.of(
        few.truth, few.predicted(result.adversaries[clips]), few.predicted(clipped[clips])
    )
