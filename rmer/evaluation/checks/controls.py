"""Controls of a corrected evaluation: attacks and probes that say whether its numbers can be believed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import Tensor

from rmer.attacks.apgd import APGD
from rmer.attacks.base import Attack
from rmer.attacks.noise import KINDS, Noise
from rmer.attacks.pgd import PGD, SingleStep
from rmer.attacks.search import L1
from rmer.attacks.square import Square
from rmer.attacks.threat import Threat
from rmer.attacks.transfer import Transfer
from rmer.evaluation.budgets import Floats, Point, Progress, predict
from rmer.evaluation.checks.measurements import Damage, Evidence
from rmer.evaluation.checks.probes import (
    derivative_errors,
    measure_budget,
    measure_gradients,
    measure_inputs,
    measure_repeats,
    measure_seeds,
    rescore,
)
from rmer.evaluation.gradient_precision import compare_searches
from rmer.evaluation.metrics import clip_errors, regression_scores
from rmer.evaluation.suite import Tier, white_box
from rmer.systems.frozen import FrozenNetwork

# A budget of a whole standard deviation, within which every model must break.
HUGE = 1.0
HUGE_STEPS = 10


def controls(tier: Tier, surrogate: FrozenNetwork | None) -> dict[str, Attack]:
    """Return the attacks at the reported budget that only serve to check the reported ones, by name."""
    found: dict[str, Attack] = {
        "single_step": SingleStep(L1),
        "pgd": PGD(tier.steps, losses=L1, restarts=1),
        "square": Square(tier.queries),
        "more_steps": APGD(2 * tier.steps, L1, restarts=1),
    }
    found |= {kind: Noise(kind, draws=1) for kind in KINDS}
    if surrogate is not None:
        found["transfer"] = Transfer(surrogate, APGD(tier.steps, L1, restarts=1))
    return found


@dataclass(frozen=True, eq=False)
class Subject:
    """One model under evaluation: clips [clips, 1, frames, bands], labels [clips, targets], threat models."""

    network: FrozenNetwork
    inputs: Tensor
    labels: Tensor
    targets: tuple[str, ...]
    threat_at: Callable[[float], Threat]
    seed: int
    batch_size: int
    # What the training logged about these clips (metric -> value), and the MAE of the constant predictor.
    trained: Mapping[str, float]
    constant_mae: float
    # Other trained systems or seeds that have the weights of this model.
    twins: Sequence[str]


def control_cost(tier: Tier, targets: int, *, transfer: bool) -> int:
    """Return the gradients a clip that the controls take, a query counted as a third of one."""
    found = controls(tier, None)
    passes = [attack.passes(targets) for attack in found.values()] + [_huge().passes(targets)]
    if transfer:
        passes.append(APGD(tier.steps, L1, restarts=1).passes(targets))
    return sum(cost.in_gradients for cost in passes)


def gather(
    subject: Subject,
    tier: Tier,
    points: Sequence[Point],
    reported: Point,
    saved: Mapping[str, Tensor],
    *,
    surrogate: FrozenNetwork | None = None,
    other_norm: Mapping[str, Mapping[float, Damage]] | None = None,
    progress: Progress | None = None,
    resume: Path | None = None,
) -> Evidence:
    """Run the controls at the reported budget and return what the sanity checks judge.

    ``saved`` holds metric -> adversaries as read back from the artifacts; ``other_norm`` the curve of the
    same model under the other norm, where it was evaluated; ``progress`` and ``resume`` as for a sweep.
    """
    network, inputs, labels = subject.network, subject.inputs, subject.labels
    threat = reported.threat

    def run(name: str, attack: Attack, within: Threat) -> Floats:
        found = _run(subject, name, attack, within, resume)
        if progress is not None:
            progress(attack.passes(labels.shape[1]).in_gradients * len(inputs))
        return found

    truth = labels.cpu().double().numpy()
    found = {name: run(name, attack, threat) for name, attack in controls(tier, surrogate).items()}
    twice = found.pop("more_steps")
    huge = run("huge", _huge(), subject.threat_at(HUGE))
    searches = compare_searches(
        network,
        inputs,
        labels,
        white_box(tier)[0],
        points,
        seed=subject.seed,
        batch_size=subject.batch_size,
        progress=progress,
        resume=resume,
    )
    clean = predict(network, inputs)
    few = slice(0, 2)
    damages = {name: _damage(truth, {"mae": of}, subject.targets) for name, of in found.items()}
    damages["apgd"] = _damage(truth, reported.predictions, subject.targets, corr="corr")
    cold = {point.epsilon: _cold(truth, point, subject) for point in points}
    return Evidence(
        norm=threat.norm,
        epsilon=reported.epsilon,
        clean=_damage(truth, {"mae": clean}, subject.targets, corr="mae"),
        constant_mae=subject.constant_mae,
        damages=damages,
        twice_the_steps=_united(truth, reported.predictions, twice),
        huge_epsilon=_damage(truth, {"mae": huge}, subject.targets),
        cold={**(other_norm or {}), threat.norm: cold},
        searches=searches,
        gradients=measure_gradients(network, inputs, labels),
        slope_errors=derivative_errors(network, inputs, labels),
        repeats=measure_repeats(network, inputs[few]),
        seeds=measure_seeds(PGD(1, losses=L1, keep="last"), network, inputs[few], labels[few], threat),
        inputs=measure_inputs(inputs, threat.floor),
        budget=measure_budget(inputs, saved, threat),
        gradients_spent=sum(result.gradients for point in points for result in point.results),
        gradients_planned=_planned(points, tier, labels),
        reported={
            metric: _worst(truth, reported, metric, subject.targets) for metric in reported.predictions
        },
        rescored=rescore(network, saved, truth, subject.targets),
        trained=subject.trained,
        labels=truth,
        predictions=clean,
        twins=subject.twins,
    )


def _run(subject: Subject, name: str, attack: Attack, threat: Threat, resume: Path | None) -> Floats:
    """Return the predictions for the adversaries of one control, [clips, targets]."""
    result = attack(
        subject.network,
        subject.inputs,
        subject.labels,
        threat,
        seed=subject.seed,
        batch_size=subject.batch_size,
        resume=None if resume is None else resume / name,
    )
    return predict(subject.network, result.adversaries)


def _huge() -> Attack:
    return PGD(HUGE_STEPS, losses=L1, restarts=1)


def _planned(points: Sequence[Point], tier: Tier, labels: Tensor) -> int:
    warm = any("warm_won" in result.columns for point in points for result in point.results)
    a_point = sum(attack.passes(labels.shape[1]).gradients for attack in white_box(tier))
    # Every budget but the first has a warm start besides, of each attack.
    more = 2 * tier.steps * (len(points) - 1) if warm else 0
    return len(labels) * (a_point * len(points) + more)


def _damage(
    truth: Floats, predictions: Mapping[str, Floats], targets: Sequence[str], *, corr: str = ""
) -> Damage:
    """Score predictions: metric that they are worst for -> [clips, targets]; ``corr`` names those of corr."""
    raw = predictions["mae"]
    clipped = predictions.get("mae_clipped", raw)
    correlation = regression_scores(truth, predictions[corr], targets).mean["corr"] if corr else None
    return Damage.of(truth, raw, clipped, correlation)


def _united(truth: Floats, predictions: Mapping[str, Floats], more: Floats) -> Damage:
    """Return the damage of the reported attack with one more start, of twice the steps."""

    def worse(metric: str, clipped: bool) -> float:
        both = [clip_errors(truth, found, clipped=clipped) for found in (predictions[metric], more)]
        return float(np.maximum(*both).mean())

    return Damage(worse("mae", clipped=False), worse("mae_clipped", clipped=True))


def _cold(truth: Floats, point: Point, subject: Subject) -> Damage:
    """Return the damage of cold starts alone."""
    columns: dict[str, Tensor] = {}
    for result in point.results:
        columns |= result.columns
    if "cold_mae" not in columns:
        return _damage(truth, point.predictions, subject.targets, corr="corr")
    values = {metric: float(columns[f"cold_{metric}"].mean()) for metric in ("mae", "mae_clipped", "corr")}
    return Damage(values["mae"], values["mae_clipped"], -values["corr"])


def _worst(truth: Floats, point: Point, metric: str, targets: Sequence[str]) -> float:
    return regression_scores(truth, point.predictions[metric], targets).mean[metric]
