"""Attacks over a list of budgets: what each budget's worst adversaries do to the predictions of one model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
from torch import Tensor

from rmer.attacks.base import Attack, AttackResult
from rmer.attacks.threat import Threat
from rmer.evaluation.metrics import Scores, regression_scores
from rmer.systems.frozen import FrozenNetwork

Floats = npt.NDArray[np.float64]
# Called with a number of gradients (or passes of that cost) that are done.
Progress = Callable[[int], object]

CURVE_METRICS = ("mae", "mae_clipped", "corr")


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
        return self.predictions.get(metric, next(iter(self.predictions.values())))

    @property
    def warm_wins(self) -> float:
        """Share of clips whose warm start beat all cold ones; NaN where there was none."""
        won = [result.columns["warm_won"] for result in self.results if "warm_won" in result.columns]
        return float(won[0].double().mean()) if won else float("nan")


def sweep(
    network: FrozenNetwork,
    inputs: Tensor,
    labels: Tensor,
    attacks: Sequence[Attack],
    epsilons: Sequence[float],
    threat_at: Callable[[float], Threat],
    *,
    seed: int = 0,
    batch_size: int = 8,
    warm: bool = False,
    progress: Progress | None = None,
    resume: Path | None = None,
) -> list[Point]:
    """Attack every clip of a split within each of several budgets, smallest first.

    Parameters
    ----------
    inputs : float32 [clips, 1, frames, bands]
    labels : [clips, targets]
    attacks : each is run for every budget
    epsilons : budgets a cell
    threat_at : the threat model of a budget
    warm : give each budget the adversaries of the one before as one more start
    progress, resume : as for :meth:`rmer.attacks.base.Attack.__call__`; progress counts gradients
    """
    points: list[Point] = []
    for epsilon in sorted(epsilons):
        threat = threat_at(epsilon)
        before = points[-1].results if warm and points else (None,) * len(attacks)
        results = []
        for index, (attack, smaller) in enumerate(zip(attacks, before, strict=True)):
            cost = attack.passes(labels.shape[1]).gradients or 1
            results.append(
                attack(
                    network,
                    inputs,
                    labels,
                    threat,
                    seed=seed,
                    batch_size=batch_size,
                    warm=None if smaller is None else smaller.adversaries,
                    progress=None if progress is None else lambda clips, cost=cost: progress(clips * cost),  # type: ignore[misc]
                    resume=None if resume is None else resume / f"{epsilon}-{index}-{attack.name}",
                )
            )
        adversaries = _by_metric(attacks, results)
        predictions = {metric: predict(network, found) for metric, found in adversaries.items()}
        points.append(Point(epsilon, threat, tuple(results), adversaries, predictions))
    return points


def predict(network: FrozenNetwork, inputs: Tensor) -> Floats:
    """Return the predictions for ``inputs``, float64 [clips, targets]."""
    output = network.predict_in_batches(inputs.to(network.device, network.dtype))["output"]
    predictions: Floats = output.double().cpu().numpy()
    return predictions


def curve_table(
    labels: npt.ArrayLike, clean: Floats, points: Sequence[Point], targets: Sequence[str], std: float
) -> pd.DataFrame:
    """Return one row a budget, 0 first: each metric under the attack that aims at it, and the cost.

    ``std`` turns standardised units into those of the log spectrogram (``epsilon_log10``).
    """
    rows = [{"epsilon": 0.0, "radius": 0.0, **_metrics(labels, dict.fromkeys(CURVE_METRICS, clean), targets)}]
    for point in points:
        worst = {metric: point.worst(metric) for metric in CURVE_METRICS}
        rows.append(
            {
                "epsilon": point.epsilon,
                "radius": float(point.threat.epsilon),
                **_metrics(labels, worst, targets),
                "gradients": sum(result.gradients for result in point.results),
                "warm_wins": point.warm_wins,
            }
        )
    table = pd.DataFrame(rows)
    table.insert(2, "epsilon_log10", table["epsilon"] * std)
    return table


def curve_clips(
    clips: Sequence[str], clean: Floats, points: Sequence[Point], targets: Sequence[str]
) -> pd.DataFrame:
    """Return the predictions behind the curve: one row for each budget (0 first), metric and clip."""
    frames = []
    for epsilon, worst in [(0.0, None), *((point.epsilon, point.worst) for point in points)]:
        for metric in CURVE_METRICS:
            frame = pd.DataFrame(clean if worst is None else worst(metric), columns=list(targets))
            frame.insert(0, "epsilon", epsilon)
            frame.insert(1, "clip", clips)
            frame.insert(2, "metric", metric)
            frames.append(frame)
    return pd.concat(frames, ignore_index=True)


def _metrics(
    labels: npt.ArrayLike, predictions: dict[str, Floats], targets: Sequence[str]
) -> dict[str, float]:
    scores: dict[str, Scores] = {
        metric: regression_scores(labels, values, targets) for metric, values in predictions.items()
    }
    return {metric: scores[metric].mean[metric] for metric in predictions}


def _by_metric(attacks: Sequence[Attack], results: Sequence[AttackResult]) -> dict[str, Tensor]:
    """Return metric -> adversaries; where two attacks aim at one metric, those of the first."""
    found: dict[str, Tensor] = {}
    for attack, result in zip(attacks, results, strict=True):
        for metric, adversaries in {attack.metric: result.adversaries, **result.also}.items():
            found.setdefault(metric, adversaries)
    return found
