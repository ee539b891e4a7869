"""What a study or an attack will cost: gradients, FLOPs, seconds on this machine, and disk."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import chain

import torch
from torch.utils.flop_counter import FlopCounterMode

from rmer.attacks.method import Aim
from rmer.data.audio.filterbank import BANDS
from rmer.data.audio.transformations import variants
from rmer.data.splits import published_split
from rmer.parameters import listed
from rmer.stages.attack.attack import victims_of
from rmer.stages.attack.attack_params import AttackParams
from rmer.stages.attack.attack_setup import gradients_of_run
from rmer.stages.decided_precision import decided_precision
from rmer.stages.study.plan import Plan, check_concepts
from rmer.systems.devices import clips_at_once, resolve_device
from rmer.systems.frozen import FrozenNetwork
from rmer.systems.network import build_network
from rmer.tracking import Store
from rmer.training.protocol import FitConfig

BATCH = 8
# One network's weights. A train run stores them six times over: the best ones as checkpoint and as exported
# model; the last and the best ones and Adam's two moments in the state to go on from.
WEIGHT_BYTES = 4 * 3_940_000
COPIES_PER_TRAIN_RUN = 6
# Gradients whose time a step of training on the sound takes, with front end, projection and settling.
ON_SOUND = {"masking": 3.0, "snr": 1.5, "linf": 1.5}
# Arrays of adversaries in an attack run: one for each metric that it aims at.
ARRAYS = {"published": 1, "bridge": 1, "suite": 3}


@dataclass(frozen=True)
class Estimate:
    """Upper bounds, as early stopping may end a fit sooner: counts, FLOPs, seconds and bytes."""

    runs: int
    training_gradients: int
    attack_gradients: int
    flops: float
    seconds: float
    bytes: int

    def __str__(self) -> str:
        training = f"{self.training_gradients:,} training and " if self.training_gradients else ""
        return (
            f"{self.runs} run{'s' if self.runs > 1 else ''}; at most {training}"
            f"{self.attack_gradients:,} attack gradients (one clip each); {self.flops:.1e} floating-point "
            f"operations; about {self.seconds / 60:,.1f} minutes of computing on this machine; "
            f"{self.bytes / 1e9:.2f} GB of artifacts"
        )


@dataclass(frozen=True)
class Unit:
    """One clip: seconds and floating-point operations of a training step and of an attack gradient."""

    step_seconds: float
    gradient_seconds: float
    step_flops: float
    gradient_flops: float


def describe(plan: Plan) -> str:
    """Return the plan in words: its runs, and what they cost."""
    params = plan.params
    source = params.soundtracks_dir or f"demo data of {params.clips} clips"
    systems = ", ".join(system.name for system in plan.systems)
    seeds = ", ".join(map(str, plan.seeds))
    return "\n".join(
        [
            f"Study {params.study} on {source}, excerpts of {params.frames} frames:".replace("  ", " "),
            f"- {len(plan.models)} models: {systems}; seeds {seeds}; {params.train_protocol} training, "
            f"at most {params.epochs} epochs",
            f"- {len(plan.models) * len(plan.attack_variants)} attacks: {', '.join(plan.attack_variants)}"
            + (f" ({plan.of_attacks['tier']} tier)" if "suite" in plan.attacks else ""),
            f"- {estimate(plan, _clips(plan))}",
            "Nothing was run. Leave out dry_run to do it.",
        ]
    )


def _clips(plan: Plan) -> int:
    params = plan.params
    if not params.soundtracks_dir:
        return params.clips or 0
    collected = plan.preprocess_params(params.soundtracks_dir).collect().checked()
    check_concepts(plan, collected)
    return len(collected.clips)


def estimate(plan: Plan, clips: int) -> Estimate:
    """Count what a plan needs for a data set of ``clips`` clips, and time one batch of each kind here."""
    parts = {part: len(rows) for part, rows in published_split(clips).items()}
    frames, aim = plan.params.frames or 0, Aim(tuple(listed(plan.params.targets)))
    training = attack = 0
    for system, seed in plan.models:
        config = plan.train_params(system, seed, "").resolve_fit()
        training += config.epochs * parts["train"]
        attack += _adversarial_gradients(config, parts)
    for name in plan.attack_variants:
        for system in plan.systems:
            attacking = plan.attack_params(name, "")
            transfer = plan.source_of(system) is not None
            gradients = _gradients(attacking, aim, clips=parts["test"], transfer=transfer)
            attack += len(plan.seeds) * gradients
    unit = _time_one(frames, plan.params.device, plan.params.precision)
    models, attacks = len(plan.models), len(plan.models) * len(plan.attack_variants)
    arrays = sum(ARRAYS.get(chosen["attack"], 2) for chosen in plan.attack_variants.values())
    return Estimate(
        runs=2 + models + attacks + len(plan.attacks),
        training_gradients=training,
        attack_gradients=attack,
        flops=training * unit.step_flops + attack * unit.gradient_flops,
        seconds=training * unit.step_seconds + attack * unit.gradient_seconds,
        bytes=models * COPIES_PER_TRAIN_RUN * WEIGHT_BYTES
        + 4 * frames * BANDS * (clips + models * arrays * parts["test"]),
    )


def describe_attack(store: Store, params: AttackParams) -> str:
    """Return the attack in words: the models that it would attack, and what that costs."""
    victims = victims_of(store, params)
    first = next(victims)
    clips, _, frames, _ = first.data.part(params.split).inputs.shape
    # A later model may lack the concepts that a loss names, as in the run.
    aims = (Aim(victim.dataset.emotions, victim.concepts) for victim in chain([first], victims))
    gradients = [_gradients(params, aim, clips=clips, transfer=True) for aim in aims]
    models = len(gradients)
    unit, total = _time_one(frames, params.device, params.precision), sum(gradients)
    found = Estimate(
        runs=models,
        training_gradients=0,
        attack_gradients=total,
        flops=total * unit.gradient_flops,
        seconds=total * unit.gradient_seconds,
        bytes=4 * frames * BANDS * models * clips * ARRAYS.get(params.attack, 2),
    )
    budgets = ", ".join(params.budgets_in_words)
    return (
        f"Attack {params.attack} on {models} model{'s' if models > 1 else ''} ({first.system} first), "
        f"{clips} clips of {frames} frames, budgets {budgets}:\n- {found}\n"
        "Nothing was run. Leave out dry_run to do it."
    )


def _gradients(params: AttackParams, aim: Aim, *, clips: int, transfer: bool) -> int:
    precision = decided_precision(params.precision, resolve_device(params.device))
    gradients = gradients_of_run(params, aim, clips=clips, precision=precision, transfer=transfer)
    return gradients * (1 + len(variants(params.transformation_names)))


def _adversarial_gradients(config: FitConfig, parts: dict[str, int]) -> int:
    if config.adversarial is None:
        return 0
    iterations, epochs = config.adversarial.iterations, config.epochs // config.adversarial.every
    published = config.train_protocol == "published"
    clips = parts["train"] if published else parts["train"] // 2 + parts["validation"]
    on_sound = str(config.adversarial.norm) if config.adversarial.on_sound else ""
    return round(epochs * clips * iterations * ON_SOUND.get(on_sound, 1.0))


def _time_one(frames: int, device_name: str, precision_name: str) -> Unit:
    """Time and count one clip of each kind, at their usual batch size."""
    device = resolve_device(device_name)
    precision = decided_precision(precision_name, device)
    network = build_network("bottleneck").to(device)
    inputs = torch.randn(BATCH, 1, frames, BANDS, device=device)
    frozen = FrozenNetwork(network, precision=precision)

    def step() -> None:
        network.train()
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
            loss = network(inputs)["output"].square().mean()
        loss.backward()

    attacked = torch.randn(clips_at_once(device), 1, frames, BANDS, device=device)

    def gradient() -> None:
        frozen.gradient(attacked, lambda found: found["output"].square().mean(1))

    with FlopCounterMode(display=False) as counter:
        frozen.predict(inputs)
    forward = counter.get_total_flops() / BATCH
    # Backward, a layer costs as much again for its inputs, and once more for its weights when training.
    return Unit(
        step_seconds=_seconds(step, device) / BATCH,
        gradient_seconds=_seconds(gradient, device) / len(attacked),
        step_flops=3 * forward,
        gradient_flops=2 * forward,
    )


def _seconds(call: Callable[[], None], device: torch.device) -> float:
    def finish() -> None:
        call()
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    finish()
    started = time.perf_counter()
    finish()
    return time.perf_counter() - started
