"""Controls of a corrected evaluation: attacks and probes that say whether its numbers can be believed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from torch import Tensor

from rmer.attacks.apgd import APGD
from rmer.attacks.base import Attack
from rmer.attacks.fgsm import FGSM
from rmer.attacks.noise import KINDS, Noise
from rmer.attacks.pgd import PGD
from rmer.attacks.search import L1
from rmer.attacks.sound_budgets import HUGE_DB, epsilon_of
from rmer.attacks.sound_threat import SoundThreat
from rmer.attacks.square import Square
from rmer.attacks.suite import Tier, fixed_search, white_box
from rmer.attacks.threat import Threat
from rmer.attacks.transfer import Transfer
from rmer.evaluation.budgets import Point
from rmer.evaluation.checks.measurements import AttackedScores, Measurements, PrecisionPair
from rmer.evaluation.checks.probes import (
    SOUND_STEPS,
    STEPS,
    derivative_errors,
    measure_budget,
    measure_gradients,
    measure_inputs,
    measure_repeats,
    measure_seeds,
    rescore,
)
from rmer.evaluation.endpoints import Floats
from rmer.evaluation.gradient_precision import compare_precisions, compare_with_fixed
from rmer.evaluation.metrics import clip_errors, regression_scores
from rmer.evaluation.subject import Subject
from rmer.systems.black_box import is_black_box
from rmer.systems.frozen import FrozenNetwork

# A budget of a whole standard deviation, within which every model must break.
HUGE = 1.0
# Clips of an adaptive tier that are searched by the fixed attack too, at the reported and the largest budget.
FIXED, FIXED_BUDGETS = 3, 2
AT_HUGE = PGD(10, losses=L1, restarts=1)
# What tells seeds apart: one step from a random start. Without gradients it is noise, as two adversaries of
# Square, of signs alone, agree in half of all cells by chance.
SEEDED, SEEDED_BLACK_BOX = PGD(1, losses=L1, keep="last"), Noise("uniform", draws=1)


def controls(
    tier: Tier, surrogate: FrozenNetwork | None, *, on_sound: bool = False, black_box: bool = False
) -> dict[str, Attack]:
    """Return the attacks at the reported budget that only serve to check the reported ones, by name.

    On sound Square is left out, so that suites cost what they always have: there every query passes the
    front end and a projection. A model that is known by its predictions alone (``black_box``) is attacked by
    Square, and has that with twice the queries, as the others have twice the steps.
    """
    found: dict[str, Attack] = {
        "fgsm": FGSM(L1),
        "pgd": PGD(tier.steps, losses=L1, restarts=1),
        "square": Square(tier.queries),
        "more_steps": APGD(2 * tier.steps, L1, restarts=1),
    }
    if on_sound:
        del found["square"]
    if black_box:
        found = {"more_steps": Square(2 * tier.queries)}
    found |= {kind: Noise(kind, draws=1) for kind in KINDS}
    if surrogate is not None:
        found["transfer"] = Transfer(surrogate, APGD(tier.steps, L1, restarts=1))
    return found


def at_huge(tier: Tier, *, black_box: bool = False) -> Attack:
    """Return the attack within a budget that every model must break at."""
    return Square(tier.queries) if black_box else AT_HUGE


@dataclass(frozen=True, eq=False)
class Background:
    """What is known of a model besides its subject.

    Attributes
    ----------
    targets : their names
    trained : what the training logged about the clips, metric -> value
    constant_mae : MAE of the constant predictor
    twins : other trained systems or seeds that have the weights of this model
    surrogate : another model, to craft adversaries on, if there is one
    other_norm : the curve of the same model under the other norm, where it was evaluated, by that norm
    """

    targets: tuple[str, ...]
    trained: Mapping[str, float]
    constant_mae: float
    twins: Sequence[str] = ()
    surrogate: FrozenNetwork | None = None
    other_norm: Mapping[str, Mapping[float, AttackedScores]] = field(default_factory=dict)


def control_cost(
    tier: Tier,
    targets: int,
    *,
    clips: int,
    transfer: bool,
    on_sound: bool = False,
    black_box: bool = False,
) -> int:
    """Return the gradients that the controls take, a query counted as a third of one."""
    attacks = list(controls(tier, None, on_sound=on_sound, black_box=black_box).values())
    if transfer:
        attacks.append(APGD(tier.steps, L1, restarts=1))
    cost = sum(attack.passes(targets).in_gradients for attack in attacks)
    total = cost * min(tier.controlled or clips, clips)
    broken = min(tier.broken or clips, clips)
    total += at_huge(tier, black_box=black_box).passes(targets).in_gradients * broken
    if tier.adaptive and not black_box:
        total += fixed_search(tier).passes(targets).in_gradients * min(FIXED, clips) * FIXED_BUDGETS
    return total


def gather(
    subject: Subject,
    background: Background,
    tier: Tier,
    points: Sequence[Point],
    reported: Point,
    saved: Mapping[str, Tensor],
) -> Measurements:
    """Run the controls at the reported budget and return what the sanity checks judge.

    ``saved`` holds metric -> adversaries as read back from the artifacts. Some tiers have their controls made
    on a random sample of the clips.
    """
    network, inputs, labels = subject.network, subject.inputs, subject.labels
    threat, targets, truth = reported.threat, background.targets, subject.truth
    rows = subject.sample(tier.controlled) if tier.controlled else list(range(len(inputs)))
    sample = subject.of(rows) if tier.controlled else subject

    def run(name: str, attack: Attack) -> Floats:
        within = threat.of(rows)
        return sample.predicted(sample.attacked(attack, within, f"controls/{name}").adversaries)

    on_sound, black_box = isinstance(threat, SoundThreat), is_black_box(network.model)
    attacks = controls(tier, background.surrogate, on_sound=on_sound, black_box=black_box)
    found = {name: run(name, attack) for name, attack in attacks.items()}
    twice = found.pop("more_steps")
    huge = _at_huge(subject, tier, threat, black_box=black_box)
    clean, few = subject.clean, subject.first(2)
    seen = {metric: predictions[rows] for metric, predictions in reported.predictions.items()}
    attacked = {name: _scores(sample.truth, {"mae": of}, targets) for name, of in found.items()}
    searched_by = Square.name if black_box else APGD.name
    attacked[searched_by] = _scores(sample.truth, seen, targets, corr="corr")
    cold = {point.epsilon: _cold(truth, point, targets) for point in points}
    fixed = {} if black_box else _beside_fixed(subject, tier, points, reported)
    reduced = network.precision != "fp32"
    return Measurements(
        norm=threat.norm,
        epsilon=reported.epsilon,
        searched_by=searched_by,
        clean=_scores(truth, {"mae": clean}, targets, corr="mae"),
        compared_clean=_scores(sample.truth, {"mae": clean[rows]}, targets, corr="mae"),
        constant_mae=background.constant_mae,
        attacked=attacked,
        twice_the_steps=_united(sample.truth, seen, twice),
        huge_epsilon=huge,
        cold={**background.other_norm, threat.norm: cold},
        # An adaptive search in bfloat16 is compared with the fixed one in float32 at once.
        precisions=(fixed if reduced else {})
        if tier.adaptive
        else compare_precisions(subject, white_box(tier)[0], points),
        fixed=fixed,
        gradients=None if black_box else measure_gradients(network, inputs, labels, threat),
        slope_errors=None
        if black_box
        else derivative_errors(network, inputs, labels, SOUND_STEPS if on_sound else STEPS),
        repeats=measure_repeats(network, few.inputs),
        seeds=measure_seeds(
            SEEDED_BLACK_BOX if black_box else SEEDED,
            network,
            few.inputs,
            few.labels,
            threat.of(slice(2)),
        ),
        inputs=measure_inputs(subject.seen(inputs), threat.floor),
        budget=measure_budget(inputs, saved, threat),
        gradients_spent=sum(result.gradients for point in points for result in point.results),
        gradients_planned=None if black_box else _planned(points, tier, labels),
        reported={
            metric: regression_scores(truth, found, targets).mean[metric]
            for metric, found in reported.predictions.items()
        },
        rescored=rescore(network, saved, truth, targets),
        trained=background.trained,
        labels=truth,
        predictions=clean,
        twins=background.twins,
    )


def _at_huge(subject: Subject, tier: Tier, threat: Threat, *, black_box: bool) -> AttackedScores:
    """Score the attack within a huge budget of the norm of ``threat``."""
    rows = subject.sample(tier.broken or len(subject.inputs))
    few = subject.of(rows)
    size = epsilon_of(threat.norm, HUGE_DB[threat.norm]) if isinstance(threat, SoundThreat) else HUGE
    within = subject.threat_at(size).of(rows)
    found = few.attacked(at_huge(tier, black_box=black_box), within, "controls/huge").adversaries
    raw, clipped = (clip_errors(few.truth, few.predicted(found), clipped=cut) for cut in (False, True))
    return AttackedScores(float(raw.mean()), float(clipped.mean()))


def _beside_fixed(
    subject: Subject, tier: Tier, points: Sequence[Point], reported: Point
) -> dict[float, PrecisionPair]:
    """Compare an adaptive search with the fixed one: a few clips, the reported and the largest budget."""
    if not tier.adaptive:
        return {}
    rows = subject.sample(FIXED)
    chosen = {point.epsilon: point for point in (reported, points[-1])}
    return compare_with_fixed(subject.of(rows), fixed_search(tier), list(chosen.values()), rows)


def _planned(points: Sequence[Point], tier: Tier, labels: Tensor) -> int:
    warm = any("warm_won" in result.columns for point in points for result in point.results)
    a_point = sum(attack.least_passes(labels.shape[1]).gradients for attack in white_box(tier))
    # Every budget but the first has a warm start besides, of each attack.
    more = 2 * tier.steps * (len(points) - 1) if warm and not tier.adaptive else 0
    return len(labels) * (a_point * len(points) + more)


def _scores(
    truth: Floats, predictions: Mapping[str, Floats], targets: Sequence[str], *, corr: str = ""
) -> AttackedScores:
    """Score predictions: metric that they are worst for -> [clips, targets].

    ``corr`` names those of the correlation, which is left out where no attack aimed at it.
    """
    raw = predictions["mae"]
    clipped = predictions.get("mae_clipped", raw)
    aimed = predictions.get(corr)
    correlation = None if aimed is None else regression_scores(truth, aimed, targets).mean["corr"]
    return AttackedScores.of(truth, raw, clipped, correlation)


def _united(truth: Floats, predictions: Mapping[str, Floats], more: Floats) -> AttackedScores:
    """Score the reported attack with one more start, of twice the steps."""

    def worse(metric: str, clipped: bool) -> float:
        both = [clip_errors(truth, found, clipped=clipped) for found in (predictions[metric], more)]
        return float(np.maximum(*both).mean())

    return AttackedScores(worse("mae", clipped=False), worse("mae_clipped", clipped=True))


def _cold(truth: Floats, point: Point, targets: Sequence[str]) -> AttackedScores:
    columns: dict[str, Tensor] = {}
    for result in point.results:
        columns |= result.columns
    if "cold_mae" not in columns:
        return _scores(truth, point.predictions, targets, corr="corr")
    mae, clipped, corr = (float(columns[f"cold_{name}"].mean()) for name in ("mae", "mae_clipped", "corr"))
    return AttackedScores(mae, clipped, -corr)
