"""Whether a robustness evaluation can be believed: named checks of its numbers, each with value and limit.

An attack that fails looks like a model that is robust. Each check notices one way to fail. What a failed
check means and what to do about it is told in ``docs/sanity-checks.md``, under the name of the check.

In the spirit of Carlini et al., "On Evaluating Adversarial Robustness" (2019), and of the checks of
AutoAttack (Croce & Hein, ICML 2020), for regression.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence

import pandas as pd

from rmer.attacks.square import Square
from rmer.evaluation.checks import attack_checks, model_checks
from rmer.evaluation.checks.measurements import AttackedScores, Check, Measurements, NotMeasuredError, Verdict

__all__ = ["CHECKS", "AttackedScores", "Check", "Measurements", "failed", "judge", "table"]

CHECKS: dict[str, Callable[[Measurements], Verdict]] = {
    check.__name__: check
    for check in (
        model_checks.evaluation_mode,
        model_checks.normalisation_matches,
        model_checks.clean_score_matches_training,
        model_checks.weights_of_no_other_system,
        model_checks.labels_in_order,
        model_checks.share_of_zero_gradients,
        model_checks.gradient_matches_finite_differences,
        attack_checks.budget_held,
        attack_checks.budget_used,
        attack_checks.gradients_spent,
        attack_checks.seed_changes_the_attack,
        attack_checks.saved_adversaries_rescore,
        attack_checks.worst_for_its_own_metric,
        attack_checks.damage_grows_with_epsilon,
        attack_checks.l2_at_least_linf,
        attack_checks.iterated_at_least_single_step,
        attack_checks.white_box_at_least_black_box,
        attack_checks.white_box_at_least_transfer,
        attack_checks.attack_beats_noise,
        attack_checks.more_steps_change_little,
        attack_checks.reduced_search_as_strong,
        attack_checks.adaptive_search_as_strong,
        attack_checks.huge_epsilon_breaks_the_model,
    )
}
# What cannot be asked of a model that is known by its predictions alone.
OF_GRADIENTS = frozenset(
    check.__name__
    for check in (
        model_checks.share_of_zero_gradients,
        model_checks.gradient_matches_finite_differences,
        attack_checks.gradients_spent,
        attack_checks.iterated_at_least_single_step,
        attack_checks.white_box_at_least_black_box,
        attack_checks.reduced_search_as_strong,
        attack_checks.adaptive_search_as_strong,
    )
)


def judge(measurements: Measurements) -> list[Check]:
    """Return every check of :data:`CHECKS`, in order."""
    checks = []
    for name, check in CHECKS.items():
        try:
            if measurements.searched_by == Square.name and name in OF_GRADIENTS:
                raise NotMeasuredError("not measured: the model gives no gradient")
            checks.append(Check(name, **vars(check(measurements))))
        except NotMeasuredError as missing:
            checks.append(Check(name, math.nan, math.nan, None, str(missing)))
    return checks


def failed(checks: Sequence[Check]) -> int:
    """Return how many checks failed; one that could not be judged has not."""
    return sum(check.passed is False for check in checks)


def table(checks: Sequence[Check]) -> pd.DataFrame:
    """Return columns check, value, limit, passed (true, false or missing) and detail."""
    rows = [dataclasses.asdict(check) for check in checks]
    frame = pd.DataFrame(rows, columns=["name", "value", "limit", "passed", "detail"])
    return frame.rename(columns={"name": "check"}).astype({"passed": "boolean"})
