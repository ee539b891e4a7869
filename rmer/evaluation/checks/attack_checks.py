"""Sanity checks of attacks and of what they saved (see :mod:`rmer.evaluation.checks.sanity`)."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping
from dataclasses import replace

from rmer.attacks.losses import NO_DAMAGE
from rmer.evaluation.checks.measurements import (
    ERRORS,
    NOISES,
    AttackedScores,
    Measurements,
    NotMeasuredError,
    Verdict,
    measured,
)

# Share of the damage that a stronger attack may miss of a weaker one's: both are searches, and on a nearly
# linear model they end within a few per cent of each other.
ORDER_SLACK = 0.05
# Noise may do this share of the attack's damage. A gradient adds up over thousands of cells where noise
# averages out: on networks of the study noise does .02 at most.
NOISE_SHARE = 0.1
# Relative change of the MAE when the number of steps is doubled.
MORE_STEPS = 0.02
# Shares of the adversarial MAE and of the damage that gradients in bfloat16 may cost.
REDUCED_SEARCH = 0.001
REDUCED_DAMAGE = 0.01
# Share of the damage that an adaptive search may miss of the fixed one's.
ADAPTIVE_DAMAGE = 0.002
# Between numbers that should be one number: float32 predictions averaged over clips, in another batch size.
SAME_NUMBER = 1e-4
# Share of the radius that the largest perturbation must use; what L2 steps lose to the box depends on it.
BUDGET_USED = {"linf": 0.99, "l2": 0.5, "snr": 0.5, "masking": 0.5}
# Share of cells that may differ between two attacks with one seed: the sign of a gradient near zero follows
# rounding, which is not fixed on a GPU. With another seed, at least this share must differ.
SAME_SEED = 0.02
OTHER_SEED = 0.5

ITERATED = ("pgd", "apgd")


def budget_held(measurements: Measurements) -> Verdict:
    """Clips whose saved adversary leaves the ball or the box."""
    violations = measured(measurements.budget, "the budget of the saved adversaries").violations
    return Verdict(violations, 0, violations == 0, "clips outside the ball or the box, in the saved arrays")


def budget_used(measurements: Measurements) -> Verdict:
    """Largest saved perturbation, as a share of the radius that is reported."""
    used = measured(measurements.budget, "the budget of the saved adversaries").used
    limit = BUDGET_USED[measurements.norm]
    return Verdict(used, limit, used >= limit, f"largest {measurements.norm} norm / radius")


def gradients_spent(measurements: Measurements) -> Verdict:
    """Gradients that the reported attack computed, against those that its settings ask for."""
    spent = measured(measurements.gradients_spent, "the number of gradients")
    planned = measured(measurements.gradients_planned, "the planned number of gradients")
    return Verdict(spent, planned, spent >= planned, "gradients of one clip, over clips, steps and restarts")


def seed_changes_the_attack(measurements: Measurements) -> Verdict:
    """Share of cells that differ with another seed; with the same seed, hardly any may."""
    seeds = measured(measurements.seeds, "the effect of the seed")
    passed = seeds.same <= SAME_SEED and seeds.other >= OTHER_SEED
    return Verdict(seeds.other, OTHER_SEED, passed, f"with the same seed {seeds.same:.3g} of cells differ")


def saved_adversaries_rescore(measurements: Measurements) -> Verdict:
    """Largest relative difference between a reported number and the score of the array that is stored."""
    if not measurements.reported or not measurements.rescored:
        raise NotMeasuredError("the saved adversaries were not scored")
    differences = {
        metric: _relative(value, measurements.rescored.get(metric, {}).get(metric))
        for metric, value in measurements.reported.items()
    }
    worst = _largest(differences)
    return Verdict(differences[worst], SAME_NUMBER, differences[worst] <= SAME_NUMBER, f"the most: {worst}")


def worst_for_its_own_metric(measurements: Measurements) -> Verdict:
    """Share of the damage by one metric that the adversaries chosen for it miss of the others'."""
    if len(measurements.rescored) < 2:
        raise NotMeasuredError("there are saved adversaries for one metric only")
    clean = measured(measurements.clean, "the clean score")
    shares = {
        f"{metric}: adversaries for {metric} against those for {other}": _missed(
            _damage(metric, scores[metric], clean), _damage(metric, own[metric], clean)
        )
        for metric, own in measurements.rescored.items()
        for other, scores in measurements.rescored.items()
        if other != metric
    }
    return _at_most(shares, ORDER_SLACK)


def damage_grows_with_epsilon(measurements: Measurements) -> Verdict:
    """Largest fall of the damage from one budget to the next, as a share of the damage before."""
    curve = measured(measurements.cold.get(measurements.norm), "the curve of cold starts")
    if len(curve) < 2:
        raise NotMeasuredError("the curve has fewer than two budgets")
    pairs = itertools.pairwise(sorted(curve))
    clean = measured(measurements.clean, "the clean score")
    return _in_order(clean, [(f"{a:g} against {b:g}", curve[a], curve[b]) for a, b in pairs])


def l2_at_least_linf(measurements: Measurements) -> Verdict:
    """Share of the L-inf damage that the L2 attack misses, whose ball contains the L-inf ball."""
    linf, l2 = (measured(measurements.cold.get(norm), f"the {norm} curve") for norm in ("linf", "l2"))
    budgets = sorted(budget for budget in linf.keys() & l2.keys() if budget > 0)
    if not budgets:
        raise NotMeasuredError("the curves of the two norms share no budget")
    clean = measured(measurements.clean, "the clean score")
    return _in_order(clean, [(f"linf against l2 at {at:g}", linf[at], l2[at]) for at in budgets])


def iterated_at_least_single_step(measurements: Measurements) -> Verdict:
    """Share of the single step's damage that PGD or APGD misses."""
    weak, attacked = _of(measurements, "fgsm"), measurements.attacked
    pairs = [(f"fgsm against {name}", weak, attacked[name]) for name in ITERATED if name in attacked]
    if not pairs:
        raise NotMeasuredError("no iterated attack was run")
    return _in_order(_compared_clean(measurements), pairs)


def white_box_at_least_black_box(measurements: Measurements) -> Verdict:
    """Share of the damage of Square, which sees no gradient, that APGD misses."""
    return _weaker_than_reported(measurements, "square")


def white_box_at_least_transfer(measurements: Measurements) -> Verdict:
    """Share of the damage of another model's adversaries that the reported attack misses."""
    return _weaker_than_reported(measurements, "transfer")


def attack_beats_noise(measurements: Measurements) -> Verdict:
    """Damage of the worst noise of the same size, as a share of the damage of the reported attack."""
    clean, attack = _compared_clean(measurements), _reported(measurements)
    controls = [name for name in NOISES if name in measurements.attacked]
    if not controls or measurements.epsilon == 0:
        raise NotMeasuredError("no noise was tried" if not controls else "the budget is 0")
    shares = {}
    for metric, name in itertools.product(ERRORS, controls):
        done = getattr(attack, metric) - getattr(clean, metric)
        noise = getattr(measurements.attacked[name], metric) - getattr(clean, metric)
        # An attack that does nothing does not beat noise that does nothing.
        shares[f"{metric} under {name} noise"] = noise / done if not done <= NO_DAMAGE else math.inf
    return _at_most(shares, NOISE_SHARE)


def more_steps_change_little(measurements: Measurements) -> Verdict:
    """Relative change of the MAE when the reported attack takes twice the steps, or queries."""
    clean = _compared_clean(measurements)
    once, twice = _reported(measurements), measured(measurements.twice_the_steps, "twice the steps")
    changes = {}
    for metric in ERRORS:
        before, after = getattr(once, metric), getattr(twice, metric)
        # Where damage is small beside the clean MAE, its own change says more.
        share = abs(after - before) / max(_damage(metric, before, clean), NO_DAMAGE)
        name = f"{metric} {before:.4f}, then {after:.4f}, {100 * share:.2g} % of the damage"
        changes[name] = abs(after - before) / max(before, NO_DAMAGE)
    return _at_most(changes, MORE_STEPS)


def reduced_search_as_strong(measurements: Measurements) -> Verdict:
    """Share of a float32 search's MAE that the search with reduced gradients misses, at the worst budget."""
    pairs = measured(measurements.precisions, "a search with float32 gradients")
    if not pairs:
        raise NotMeasuredError("gradients are float32")
    losses: dict[str, float] = {}
    failing = []
    for epsilon, both in pairs.items():
        for metric in ERRORS:
            exact, reduced, share = (
                getattr(both.exact, metric),
                getattr(both.reduced, metric),
                both.damage_loss(metric),
            )
            losses[
                f"{metric} at epsilon {epsilon:g} {reduced:.4f}, with float32 gradients {exact:.4f}, "
                f"{100 * share:.2g} % of the damage"
            ] = both.loss(metric)
        within = [
            both.loss(metric) <= REDUCED_SEARCH and both.damage_loss(metric) <= REDUCED_DAMAGE
            for metric in ERRORS
        ]
        if not all(within):
            failing.append(f"{epsilon:g}")
    verdict = replace(_at_most(losses, REDUCED_SEARCH), passed=not failing)
    return replace(verdict, detail=f"fails at {', '.join(failing)}; {verdict.detail}") if failing else verdict


def adaptive_search_as_strong(measurements: Measurements) -> Verdict:
    """Share of the fixed search's damage that an adaptive one misses on a sample of clips, at the worst."""
    pairs = measured(measurements.fixed, "the fixed search beside the adaptive one")
    if not pairs:
        raise NotMeasuredError("the search is a fixed one")
    losses = {
        f"{metric} at epsilon {epsilon:g} {getattr(both.reduced, metric):.4f}, by the fixed search "
        f"{getattr(both.exact, metric):.4f}, {both.clips} clips": both.damage_loss(metric)
        for epsilon, both in pairs.items()
        for metric in ERRORS
    }
    return _at_most(losses, ADAPTIVE_DAMAGE)


def huge_epsilon_breaks_the_model(measurements: Measurements) -> Verdict:
    """Clipped MAE at a huge budget, which must lie above the MAE of the constant predictor."""
    huge = measured(measurements.huge_epsilon, "a huge epsilon").mae_clipped
    constant = measured(measurements.constant_mae, "the constant predictor")
    clean = measured(measurements.clean, "the clean score").mae_clipped
    if clean > constant:
        raise NotMeasuredError(
            f"the clean MAE, {clean:.4f}, lies above the constant predictor's, {constant:.4f}, already"
        )
    return Verdict(huge, constant, huge > constant, "clipped MAE, against the constant predictor's MAE")


def _weaker_than_reported(measurements: Measurements, weak: str) -> Verdict:
    name = f"{weak} against {measurements.searched_by}"
    pair = (name, _of(measurements, weak), _reported(measurements))
    return _in_order(_compared_clean(measurements), [pair])


def _compared_clean(measurements: Measurements) -> AttackedScores:
    """Return the clean scores of the clips that controls were made on."""
    return measured(measurements.compared_clean or measurements.clean, "the clean score")


def _in_order(clean: AttackedScores, pairs: Iterable[tuple[str, AttackedScores, AttackedScores]]) -> Verdict:
    """Judge named pairs of attacks: the damage of the first must not be larger than that of the second."""
    shares = {}
    for name, weak, strong in pairs:
        for metric in (*ERRORS, "corr"):
            found = [getattr(scores, metric) for scores in (weak, strong, clean)]
            if None not in found:
                lesser, greater = (_damage(metric, value, clean) for value in found[:2])
                shares[f"{metric}: {name}"] = _missed(lesser, greater)
    return _at_most(shares, ORDER_SLACK)


def _damage(metric: str, score: float, clean: AttackedScores) -> float:
    """Return how much worse a score is than the clean one; NaN where the latter is not known."""
    before = getattr(clean, metric)
    if before is None:
        return math.nan
    return float(before - score if metric == "corr" else score - before)


def _missed(weak: float, strong: float) -> float:
    missed = weak - strong
    return 0.0 if missed <= NO_DAMAGE else missed / max(weak, NO_DAMAGE)


def _at_most(values: Mapping[str, float], limit: float) -> Verdict:
    worst = _largest(values)
    return Verdict(values[worst], limit, values[worst] <= limit, f"the most: {worst}")


def _largest(values: Mapping[str, float]) -> str:
    """Return the name of the largest value; NaN, which passes no check, is larger than any."""
    return max(values, key=lambda name: math.inf if math.isnan(values[name]) else values[name])


def _relative(value: float, again: float | None) -> float:
    if again is None:
        return math.inf
    if math.isnan(value) and math.isnan(again):
        return 0.0
    return abs(value - again) / max(1.0, abs(value))


def _reported(measurements: Measurements) -> AttackedScores:
    return _of(measurements, measurements.searched_by)


def _of(measurements: Measurements, attack: str) -> AttackedScores:
    return measured(measurements.attacked.get(attack), f"the attack {attack}")
