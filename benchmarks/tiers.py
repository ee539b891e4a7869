"""What the tiers of the corrected evaluation cost for one model, and the damage that each of them finds."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd
import torch

from benchmarks.data import Subject as Victim
from benchmarks.data import subject
from benchmarks.measuring import Result, Row, Settings, Target, interleave
from rmer.attacks.suite import TIERS, Tier, white_box
from rmer.attacks.threat import Norm, Threat
from rmer.evaluation.budgets import Point, sweep
from rmer.evaluation.checks.measurements import ERRORS, AttackedScores
from rmer.evaluation.subject import Subject
from rmer.systems.arithmetic import Precision
from rmer.systems.fastest_precision import resolve_precision
from rmer.systems.frozen import FrozenNetwork, Spent
from rmer.systems.network import Prediction

NORMS: tuple[Norm, ...] = ("linf", "l2")
# Clips that the fixed tier searches, and all clips with --quick.
SAMPLED, QUICK_SAMPLED, QUICK_CLIPS = 3, 1, 4
MOST_OF_FIXED, MOST_LOST = 10.0, 0.2  # per cent
Damage = Mapping[float, AttackedScores]  # budget -> what attacks add to the errors of the sampled clips


@dataclass(frozen=True)
class Units:
    """Seconds that a clip takes: a gradient in float32, in bfloat16 and between; a prediction in float32."""

    gradient: float
    reduced: float
    finer: float
    forward: float

    def equivalents(self, spent: Spent) -> float:
        """Return how many gradients in float32 take the time of what was spent."""
        cheaper = spent.reduced * self.reduced + spent.finer * self.finer
        others = cheaper + spent.forwards * self.forward
        return spent.gradients - spent.reduced - spent.finer + others / self.gradient


@dataclass(frozen=True)
class Evaluated:
    """One tier in one norm: passes and seconds for all clips, and the damage to the sampled ones."""

    spent: Spent
    seconds: float
    damage: Damage


def tiers(settings: Settings) -> Result:
    """Evaluate one model by the tiers ``quick``, ``paper`` and ``paper_fixed`` in both norms."""
    victim, device = subject(settings), settings.device
    precision = resolve_precision("auto", device)
    clips = QUICK_CLIPS if settings.quick else len(victim.inputs)
    units = measure_units(victim, precision, device, settings)
    rows: list[Row] = []
    costs, damages = [], []
    for norm in NORMS:
        found: dict[str, Evaluated] = {}
        for name in ("quick", "paper", "paper_fixed"):
            network = _frozen(victim, precision, device)
            attacked = Subject(
                network, victim.inputs[:clips], victim.labels[:clips], _threats(victim, norm), 1
            )
            chosen = attacked.sample(QUICK_SAMPLED if settings.quick else SAMPLED)
            budgets = TIERS["quick" if settings.quick else name].epsilons
            if name == "paper_fixed":
                found[name] = evaluate_sample(attacked, TIERS[name], budgets, chosen, units)
            else:
                found[name] = evaluate(attacked, TIERS[name], budgets, chosen)
        costs += [cost_row(norm, name, one, units) for name, one in found.items()]
        damages += damage_rows(norm, found)
        rows += _rows(f"thorough evaluation, {norm}, {clips} clips", found, units)
    title = f"({victim.name}, {clips} clips, gradients in {precision})"
    return Result(
        rows,
        {
            f"Cost of the tiers {title}": pd.DataFrame(costs),
            f"Damage of the tiers {title}": pd.DataFrame(damages),
        },
        _notes(units, len(chosen)),
    )


def _notes(units: Units, sampled: int) -> list[str]:
    reduced, finer, forward = (
        f"{part / units.gradient:.2f}" for part in (units.reduced, units.finer, units.forward)
    )
    return [
        "An fp32-equivalent is the time of one fp32 gradient: gradients in the arithmetic of the search "
        f"({reduced}), those with only later convolutions in it ({finer}) and fp32 predictions ({forward}) "
        "count by their measured time over it.",
        f"Of the fixed tier, the attack on the error searches {sampled} of the clips, drawn at random, and "
        "its cost is extrapolated to all of them; the attack on the correlation is not run, since it takes "
        "the same steps for every clip. Damage is what attacks add to the errors of the drawn clips in each "
        "tier; a loss is a share of the fixed tier's damage.",
    ]


def measure_units(victim: Victim, precision: Precision, device: torch.device, settings: Settings) -> Units:
    """Time gradients and predictions of a batch."""
    exact, used = _frozen(victim, "fp32", device), _frozen(victim, precision, device)
    inputs = victim.inputs[: exact.batch_size].to(device)
    ways = {
        "gradient": lambda: exact.gradient(inputs, _loss),
        "reduced": lambda: used.gradient(inputs, _loss),
        "finer": lambda: used.finer.gradient(inputs, _loss),
        "forward": lambda: exact.predict(inputs),
    }
    times = interleave(ways, repeats=settings.repeats, seconds=settings.seconds)
    return Units(**{name: statistics.median(values) / len(inputs) for name, values in times.items()})


def evaluate(attacked: Subject, tier: Tier, budgets: Sequence[float], chosen: Sequence[int]) -> Evaluated:
    """Run the attacks of a tier on all clips."""
    started = time.perf_counter()
    points = sweep(attacked, white_box(tier), budgets)
    return Evaluated(
        attacked.network.spent, time.perf_counter() - started, damage(attacked.of(chosen), points, chosen)
    )


def evaluate_sample(
    attacked: Subject, tier: Tier, budgets: Sequence[float], chosen: Sequence[int], units: Units
) -> Evaluated:
    """Run the attack on the error of a fixed tier on the chosen clips alone, and extrapolate its cost.

    The attack on the correlation costs what its steps cost.
    """
    error, joint = white_box(tier)
    few, network = attacked.of(chosen), attacked.network
    started = time.perf_counter()
    points = sweep(few, [error], budgets)
    seconds, clips = time.perf_counter() - started, len(attacked.inputs)
    times, passes = clips / len(chosen), joint.passes(attacked.labels.shape[1])
    runs = clips * len(budgets)
    reduced = passes.gradients if network.precision == "bf16" else 0
    of_joint = Spent(passes.gradients * runs, passes.forwards * runs, reduced * runs, 0)
    spent = Spent(
        round(network.spent.gradients * times) + of_joint.gradients,
        round(network.spent.forwards * times) + of_joint.forwards,
        round(network.spent.reduced * times) + of_joint.reduced,
        round(network.spent.finer * times) + of_joint.finer,
    )
    total = seconds * times + units.equivalents(of_joint) * units.gradient
    return Evaluated(spent, total, damage(few, points, range(len(chosen))))


def damage(few: Subject, points: Sequence[Point], rows: Sequence[int]) -> Damage:
    """Return what the attacks add to the errors of a few clips, which are those at ``rows`` of the points."""
    clean = AttackedScores.of(few.truth, few.predicted(few.inputs), few.predicted(few.inputs))
    found = {}
    for point in points:
        raw, clipped = (point.worst(metric)[list(rows)] for metric in ERRORS)
        scores = AttackedScores.of(few.truth, raw, clipped)
        found[point.epsilon] = AttackedScores(scores.mae - clean.mae, scores.mae_clipped - clean.mae_clipped)
    return found


def cost_row(norm: str, tier: str, one: Evaluated, units: Units) -> dict[str, object]:
    """Return a row of the table of costs."""
    return {
        "norm": norm,
        "tier": tier,
        "gradients": one.spent.gradients,
        "of them bf16": one.spent.reduced,
        "of them finer": one.spent.finer,
        "predictions": one.spent.forwards,
        "fp32-equivalents": round(units.equivalents(one.spent)),
        "seconds": one.seconds,
    }


def damage_rows(norm: str, found: Mapping[str, Evaluated]) -> list[dict[str, object]]:
    """Return the rows of the table of damages: one a budget and metric, with the adaptive tier's loss."""
    rows: list[dict[str, object]] = []
    for epsilon, fixed in found["paper_fixed"].damage.items():
        for metric in ERRORS:
            row: dict[str, object] = {"norm": norm, "epsilon": epsilon, "metric": metric}
            for name, one in found.items():
                row[name] = getattr(one.damage[epsilon], metric) if epsilon in one.damage else ""
            adaptive = getattr(found["paper"].damage[epsilon], metric)
            row["loss"] = lost(adaptive, getattr(fixed, metric))
            rows.append(row)
    return rows


def lost(adaptive: float, fixed: float) -> float:
    """Return the per cent of the fixed search's damage that the adaptive one misses; negative if none."""
    return 100 * (fixed - adaptive) / fixed if fixed > 0 else 0.0


def _rows(name: str, found: Mapping[str, Evaluated], units: Units) -> list[Row]:
    rows = [
        Row(name, f"{tier}, fp32-equivalents", units.equivalents(one.spent), "gradients")
        for tier, one in found.items()
    ]
    of_fixed = 100 * rows[1].value / rows[2].value
    rows.append(Row(name, "paper of paper_fixed", of_fixed, "%", targets=(Target("value", MOST_OF_FIXED),)))
    if found["paper_fixed"].spent.reduced:
        fixed = found["paper_fixed"].spent
        in_fp32 = 100 * rows[1].value / units.equivalents(Spent(fixed.gradients, fixed.forwards))
        rows.append(Row(name, "paper of paper_fixed in fp32", in_fp32, "%"))
    losses = [row["loss"] for row in damage_rows("", found)]
    worst = max(float(str(loss)) for loss in losses)
    rows.append(
        Row(name, "largest loss of damage over budgets", worst, "%", targets=(Target("value", MOST_LOST),))
    )
    return rows


def _frozen(victim: Victim, precision: Precision, device: torch.device) -> FrozenNetwork:
    return FrozenNetwork(victim.network.to(device), precision=precision)


def _threats(victim: Victim, norm: Norm) -> Callable[[float], Threat]:
    cells = victim.inputs[0].numel()
    return lambda epsilon: Threat.per_cell(norm, epsilon, cells, victim.floor, victim.ceiling)


def _loss(prediction: Prediction) -> torch.Tensor:
    return prediction["output"].square().mean(1)
