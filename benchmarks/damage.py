"""What a search is worth: time to damage, and whether bf16 gradients find adversaries as strong as fp32."""

from __future__ import annotations

import statistics
from functools import partial

import pandas as pd
import torch
from torch import Tensor

from benchmarks.data import Subject, subject
from benchmarks.measuring import Result, Row, Settings, Target, interleave
from benchmarks.reference import Published
from rmer.attacks.apgd import APGD
from rmer.attacks.losses import absolute_error
from rmer.attacks.published import BridgeAttack
from rmer.attacks.result import AttackResult
from rmer.attacks.search import MSE
from rmer.attacks.suite import TIERS, white_box
from rmer.attacks.threat import Threat
from rmer.evaluation import subject as evaluation
from rmer.evaluation.budgets import sweep
from rmer.evaluation.checks.measurements import ERRORS
from rmer.evaluation.gradient_precision import compare_precisions, precision_table
from rmer.systems.arithmetic import Precision
from rmer.systems.frozen import FrozenNetwork

# Iterations of the published attack, and steps of the attack that is to do as much damage.
ITERATIONS, STEPS = 1000, (2, 5, 10, 20, 50, 100)
TIMED_ITERATIONS = 12
PRECISIONS: tuple[Precision, ...] = ("fp32", "bf16")
# The published epsilon, and the one that corrected evaluations report.
DAMAGED = (0.001, 0.01)
LARGEST_LOSS = 2.0  # per cent
# Share of the published growth of MAE at which it counts as reached.
REACHED = 0.98


def time_to_damage(settings: Settings) -> Result:
    """Find the gradients and seconds after which APGD does the damage of 1000 published iterations.

    Both keep to the same budget: the published attack with its epsilon enforced is the bridge attack. Its
    damage is the larger one of its kept perturbation and its last iterate, clip by clip.
    """
    victim, clips = subject(settings), 2
    iterations = ITERATIONS // 10 if settings.quick else ITERATIONS
    inputs, labels = victim.inputs[:clips], victim.labels[:clips]
    published = _published_seconds(settings, victim, clips * iterations)
    rows: list[Row] = []
    records = []
    for epsilon in DAMAGED[:1] if settings.quick else DAMAGED:
        threat, name = victim.threat(epsilon, boxed=False), f"time to damage, epsilon {epsilon:g}"
        exact = FrozenNetwork(victim.network)
        bridge = BridgeAttack(max_iters=iterations)(exact, inputs, labels, threat)
        kept = absolute_error(exact.predict(bridge.adversaries)["output"], labels)
        last = absolute_error(bridge.columns["last_prediction"], labels)
        damage = float(torch.maximum(kept, last).mean())
        clean = float(absolute_error(exact.predict(inputs)["output"], labels).mean())
        wanted = clean + REACHED * (damage - clean)
        baseline = published or bridge.seconds
        rows.append(Row(name, f"published attack, {iterations} iterations", baseline, "s"))
        records.append((epsilon, "clean", "", 0, 0.0, clean))
        records.append((epsilon, "bridge", "fp32", bridge.gradients // clips, bridge.seconds, damage))
        for precision in PRECISIONS:
            network = FrozenNetwork(victim.network, precision=precision)
            result, reached = _shortest(network, inputs, labels, threat, wanted)
            if reached < wanted:
                rows.append(Row(name, f"APGD {precision}: not reached", result.seconds, "s"))
                continue
            records.append((epsilon, "APGD", precision, result.gradients // clips, result.seconds, reached))
            rows.append(
                Row(name, f"APGD {precision}", result.seconds, "s", published=baseline / result.seconds)
            )
    columns = ["epsilon", "attack", "precision", "gradients a clip", "seconds", "MAE"]
    source = "measured over a few iterations of its own code" if published else "that of the bridge attack"
    return Result(
        rows,
        {f"Time to damage ({victim.name}, {clips} clips)": pd.DataFrame(records, columns=columns)},
        [
            f"Damage is growth of MAE; {REACHED:.0%} of the published growth counts as reached. The time of "
            f"the published attack is {source}."
        ],
    )


def search_strength(settings: Settings) -> Result:
    """Compare adversaries found with fp32 and with bf16 gradients, budget by budget, all scored in fp32."""
    victim, clips = subject(settings), 4 if settings.quick else 16
    tier, attack = TIERS["quick"], white_box(TIERS["quick"])[0]
    epsilons = TIERS["quick" if settings.quick else "paper"].epsilons
    network = FrozenNetwork(victim.network, precision="bf16")
    attacked = evaluation.Subject(network, victim.inputs, victim.labels, victim.threat, seed=1).first(clips)
    points = sweep(attacked, [attack], epsilons)
    table = precision_table(compare_precisions(attacked, attack, points, clips=clips))
    rows = [
        Row(
            "adversaries of the bf16 search",
            f"largest loss of {metric} over budgets",
            100 * float(table[f"{metric}_loss"].max()),
            "%",
            targets=(Target("value", LARGEST_LOSS),),
        )
        for metric in ERRORS
    ]
    title = f"Strength of the bf16 search ({victim.name}, {clips} clips, {tier.steps} steps)"
    note = "Losses in the table are shares of the MAE; a negative one means that the bf16 search found more."
    return Result(rows, {title: table}, [note])


def _shortest(
    network: FrozenNetwork, inputs: Tensor, labels: Tensor, threat: Threat, wanted: float
) -> tuple[AttackResult, float]:
    """Return the APGD of the fewest steps that reaches an MAE, else of the most, and its MAE."""
    for steps in STEPS:
        result = APGD(steps, MSE, restarts=1)(network, inputs, labels, threat)
        reached = float(absolute_error(network.predict(result.adversaries)["output"], labels).mean())
        if reached >= wanted:
            break
    return result, reached


def _published_seconds(settings: Settings, victim: Subject, iterations: int) -> float | None:
    """Return the seconds that the published code needs for so many iterations at the size of the clips."""
    if settings.reference is None:
        return None
    code = Published(settings.reference)
    network, clip, labels = code.network(), victim.inputs[:1], torch.rand(1, 8)
    attack = partial(code.attack_clip, network, clip, labels, TIMED_ITERATIONS)
    times = interleave({"published": attack}, repeats=3, seconds=60)["published"]
    return statistics.median(times) / TIMED_ITERATIONS * iterations
