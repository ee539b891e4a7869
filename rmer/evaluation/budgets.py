"""Attacks over a list of budgets: what each budget's worst adversaries do to the predictions of one model."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy.typing as npt
import pandas as pd
from torch import Tensor

from rmer.attacks.base import Attack
from rmer.attacks.result import AttackResult
from rmer.attacks.sound_budgets import budget_of
from rmer.attacks.threat import Threat
from rmer.evaluation.endpoints import Floats
from rmer.evaluation.metrics import METRICS, aims, regression_scores, under_attack
from rmer.evaluation.subject import Subject


@dataclass(frozen=True, eq=False)
class Point:
    """What the attacks found within one budget.

    Attributes
    ----------
    epsilon : budget a cell, in standardised units
    threat : the threat model with that budget
    results : one for each attack, in their order
    adversaries : metric -> the adversaries that are worst for it, float32 [clips, 1, frames, bands]
    predictions : metric -> what the model says to these, float64 [clips, targets]
    """

    epsilon: float
    threat: Threat
    results: tuple[AttackResult, ...]
    adversaries: dict[str, Tensor]
    predictions: dict[str, Floats]

    def worst(self, metric: str) -> Floats:
        """Return the predictions that are worst for a metric, or those of the first attack."""
        return self.predictions.get(METRICS[metric].adversaries, next(iter(self.predictions.values())))

    @property
    def effort(self) -> dict[str, float]:
        """Mean ``starts`` of a clip and share of clips whose starts ``agreed``, where the attack adapts."""
        columns = self.results[0].columns
        return {
            name: float(columns[name].double().mean()) for name in ("starts", "agreed") if name in columns
        }

    @property
    def warm_wins(self) -> float:
        """Share of clips whose warm start beat all cold ones; NaN where there was none."""
        won = [result.columns["warm_won"] for result in self.results if "warm_won" in result.columns]
        return float(won[0].double().mean()) if won else float("nan")


def sweep(
    subject: Subject, attacks: Sequence[Attack], epsilons: Sequence[float], *, warm_start: bool = False
) -> list[Point]:
    """Run every attack within each of several budgets a cell, smallest first.

    ``warm_start`` gives each budget the adversaries of the one before as one more start. Without it pooled
    attacks take all budgets at once.
    """
    epsilons = sorted(epsilons)
    threats = [subject.threat_at(epsilon) for epsilon in epsilons]
    found = [
        _over_budgets(subject, attack, place, epsilons, threats, warm_start)
        for place, attack in enumerate(attacks)
    ]
    points: list[Point] = []
    for epsilon, threat, *results in zip(epsilons, threats, *found, strict=True):
        adversaries = _by_metric(attacks, results)
        predictions = {metric: subject.predicted(found) for metric, found in adversaries.items()}
        points.append(Point(epsilon, threat, tuple(results), adversaries, predictions))
    return points


def _over_budgets(
    subject: Subject,
    attack: Attack,
    place: int,
    epsilons: Sequence[float],
    threats: Sequence[Threat],
    warm_start: bool,
) -> list[AttackResult]:
    """Run the attack at ``place`` within each budget."""
    if attack.pooled and not attack.joint and not warm_start:
        found = subject.attacked_at_once(attack, threats, f"pools/{place}-{attack.name}")
        return attack.shared(subject.network, subject.inputs, subject.labels, threats, found)
    found = []
    for epsilon, threat in zip(epsilons, threats, strict=True):
        before = found[-1].adversaries if warm_start and found else None
        folder = f"batches/{epsilon}-{place}-{attack.name}"
        found.append(subject.attacked(attack, threat, folder, warm_start=before))
    if warm_start:
        return found
    return attack.shared(subject.network, subject.inputs, subject.labels, threats, found)


def curve_step(epsilon: float) -> int:
    """Return the step of a budget in ``curve/*``, as MLflow's steps are whole numbers: in units of .0001."""
    return round(1e4 * epsilon)


def curve_table(
    labels: npt.ArrayLike, clean: Floats, points: Sequence[Point], targets: Sequence[str], std: float
) -> pd.DataFrame:
    """Return one row a budget, 0 first: each metric under the attack that aims at it, and the cost.

    ``std`` turns standardised units into those of the log spectrogram (``epsilon_log10``).
    """
    rows = [
        {"epsilon": 0.0, "radius": 0.0, **_metrics(labels, dict.fromkeys(under_attack(), clean), targets)}
    ]
    rows += [
        {
            "epsilon": point.epsilon,
            "radius": float(point.threat.epsilon),
            **_metrics(labels, {metric: point.worst(metric) for metric in under_attack()}, targets),
            "gradients": sum(result.gradients for result in point.results),
            "warm_wins": point.warm_wins,
            **point.effort,
        }
        for point in points
    ]
    table = pd.DataFrame(rows)
    table.insert(2, "epsilon_log10", table["epsilon"] * std)
    return table


def curve_in_db(table: pd.DataFrame, norm: str) -> pd.DataFrame:
    """Return the table of a curve over budgets of sounds: ``db`` is the budget, ``epsilon`` its ratio.

    The clean clips (``epsilon`` 0) have no budget in dB: NaN.
    """
    budgets = [budget_of(norm, epsilon) if epsilon > 0 else math.nan for epsilon in table["epsilon"]]
    table = table.drop(columns=["radius", "epsilon_log10"])
    table.insert(1, "db", budgets)
    return table


def curve_clips(
    clips: Sequence[str], clean: Floats, points: Sequence[Point], targets: Sequence[str]
) -> pd.DataFrame:
    """Return the predictions behind the curve: one row for each budget (0 first), aim of attacks and clip."""
    frames = []
    for epsilon, worst in [(0.0, None), *((point.epsilon, point.worst) for point in points)]:
        for metric in aims():
            frame = pd.DataFrame(clean if worst is None else worst(metric), columns=list(targets))
            frames.append(frame.assign(epsilon=epsilon, clip=clips, metric=metric))
    return pd.concat(frames, ignore_index=True)[["epsilon", "clip", "metric", *targets]]


def _metrics(
    labels: npt.ArrayLike, predictions: dict[str, Floats], targets: Sequence[str]
) -> dict[str, float]:
    return {
        metric: regression_scores(labels, values, targets).mean[metric]
        for metric, values in predictions.items()
    }


def _by_metric(attacks: Sequence[Attack], results: Sequence[AttackResult]) -> dict[str, Tensor]:
    """Return metric -> adversaries; where two attacks aim at one metric, those of the first."""
    found: dict[str, Tensor] = {}
    for attack, result in zip(attacks, results, strict=True):
        for metric, adversaries in {attack.metric: result.adversaries, **result.also}.items():
            found.setdefault(metric, adversaries)
    return found
