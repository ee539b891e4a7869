"""The numbers that sanity checks judge, and the verdicts that they return."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import numpy.typing as npt

from rmer.attacks.losses import NO_DAMAGE
from rmer.evaluation.checks.probes import Budget, Gradients, Inputs, Repeats, Seeds
from rmer.evaluation.endpoints import Floats
from rmer.evaluation.metrics import clip_errors

Value = TypeVar("Value")
# Scores that grow with damage; correlation falls.
ERRORS = ("mae", "mae_clipped")
# Controls that are random.
NOISES = ("uniform", "sign", "gaussian")


@dataclass(frozen=True)
class Check:
    """One line of ``tables/sanity.csv``.

    ``passed`` is None where the check could not be judged, with the reason in ``detail``; ``value`` and
    ``limit`` are NaN then.
    """

    name: str
    value: float
    limit: float
    passed: bool | None
    detail: str


@dataclass(frozen=True)
class Verdict:
    """A check without its name."""

    value: float
    limit: float
    passed: bool
    detail: str


class NotMeasuredError(Exception):
    """A number that a check needs was not measured; the message says which."""


@dataclass(frozen=True)
class AttackedScores:
    """Scores of adversaries, each of those that are worst for it; ``corr`` of the joint attack, if it ran."""

    mae: float
    mae_clipped: float
    corr: float | None = None

    @classmethod
    def of(
        cls, labels: npt.ArrayLike, raw: npt.ArrayLike, clipped: npt.ArrayLike, corr: float | None = None
    ) -> AttackedScores:
        """Score predictions [clips, targets]: those that are worst for MAE, and those for clipped MAE."""
        return cls(
            mae=float(clip_errors(labels, raw).mean()),
            mae_clipped=float(clip_errors(labels, clipped, clipped=True).mean()),
            corr=corr,
        )


@dataclass(frozen=True)
class PrecisionPair:
    """What two searches from the same starts found on the same ``clips`` (their number).

    Scores are those before the attack (``clean``), and those with gradients in float32 (``exact``) and in
    bfloat16 (``reduced``), all scored in float32.
    """

    clips: int
    clean: AttackedScores
    exact: AttackedScores
    reduced: AttackedScores

    def loss(self, metric: str) -> float:
        """Return the share of the float32 search's MAE that the other misses; negative: it found more."""
        found = float(getattr(self.exact, metric))
        return (found - float(getattr(self.reduced, metric))) / found if found != 0 else 0.0

    def damage_loss(self, metric: str) -> float:
        """Return the share of the float32 search's damage that the other misses; negative: it found more."""
        found, clean = float(getattr(self.exact, metric)), float(getattr(self.clean, metric))
        return (found - float(getattr(self.reduced, metric))) / max(found - clean, NO_DAMAGE)


@dataclass(frozen=True, kw_only=True)
class Measurements:
    """What was measured in one evaluation. What is left out makes its checks say so instead of passing.

    Attributes
    ----------
    norm, epsilon : of the reported threat model
    searched_by : which of ``attacked`` is the reported attack: apgd, or square where no gradient passes the
        model
    clean : scores of the clean clips
    compared_clean : those of the clips that ``attacked`` and ``twice_the_steps`` are of, where these are a
        sample
    constant_mae : MAE of the predictor that always says the mean of the training labels
    attacked : attack -> scores of this attack alone at the reported budget, not of the worst of several:
        fgsm, pgd, apgd, square, transfer; controls uniform, sign, gaussian
    twice_the_steps : scores of the reported attack with twice as many steps, or queries, and everything else
        the same
    huge_epsilon : scores at a huge budget
    cold : norm -> epsilon -> scores of cold starts; epsilon 0 (clean) may be among them
    precisions : epsilon -> the search with reduced gradients beside one with float32 gradients, of the attack
        on each clip's error; empty where gradients are float32 anyway
    fixed : epsilon -> an adaptive search (as ``reduced``) beside the fixed one; empty where none adapts
    gradients, slope_errors, repeats, seeds, inputs, budget : from :mod:`rmer.evaluation.checks.probes`
    gradients_spent, gradients_planned : passes that the reported attack used, and that its settings ask for
    reported : metric -> value that is reported, each of the adversaries that are worst for it
    rescored : metric that saved arrays are worst for -> metric -> their score, read back
    trained : metric -> clean score of this part that the training logged (mae, corr)
    labels, predictions : [clips, targets], of the clean clips
    twins : names of other trained systems, or seeds, whose weights are those of the model
    """

    norm: str
    epsilon: float
    searched_by: str = "apgd"
    clean: AttackedScores | None = None
    compared_clean: AttackedScores | None = None
    constant_mae: float | None = None
    attacked: Mapping[str, AttackedScores] = field(default_factory=dict)
    twice_the_steps: AttackedScores | None = None
    huge_epsilon: AttackedScores | None = None
    cold: Mapping[str, Mapping[float, AttackedScores]] = field(default_factory=dict)
    precisions: Mapping[float, PrecisionPair] | None = None
    fixed: Mapping[float, PrecisionPair] | None = None
    gradients: Gradients | None = None
    slope_errors: Floats | None = None
    repeats: Repeats | None = None
    seeds: Seeds | None = None
    inputs: Inputs | None = None
    budget: Budget | None = None
    gradients_spent: int | None = None
    gradients_planned: int | None = None
    reported: Mapping[str, float] = field(default_factory=dict)
    rescored: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    trained: Mapping[str, float] = field(default_factory=dict)
    labels: Floats | None = None
    predictions: Floats | None = None
    twins: Sequence[str] | None = None


def noise_metrics(measurements: Measurements) -> dict[str, float]:
    """Return ``noise/mae_clipped`` and the like: the worst noise of the reported budget, and what it adds.

    Both are of the clips that have controls; empty where nothing of this was measured.
    """
    noises = [measurements.attacked[kind] for kind in NOISES if kind in measurements.attacked]
    clean = measurements.compared_clean
    if not noises or clean is None:
        return {}
    found: dict[str, float] = {}
    for error in ERRORS:
        worst = max(float(getattr(scores, error)) for scores in noises)
        found |= {f"noise/{error}": worst, f"noise/delta_{error}": worst - float(getattr(clean, error))}
    return found


def measured(value: Value | None, what: str) -> Value:
    """Return ``value``; raise NotMeasuredError where there is none."""
    if value is None:
        raise NotMeasuredError(f"{what} was not measured")
    return value
