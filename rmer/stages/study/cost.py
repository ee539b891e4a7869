"""What a study or an attack will cost: gradients, FLOPs, seconds on this machine, and disk."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import chain

import numpy as np
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from rmer.attacks.method import Aim
from rmer.attacks.sound_threat import SoundThreat
from rmer.data.audio.filterbank import BANDS
from rmer.data.audio.recordings import Recording, row_samples
from rmer.data.audio.transformations import variants
from rmer.data.dataset import Normalisation
from rmer.data.splits import published_split
from rmer.data.tables.target_names import asked_for
from rmer.stages.attack.attack import victims_of
from rmer.stages.attack.attack_params import AttackParams
from rmer.stages.attack.attack_setup import gradients_of_run
from rmer.stages.decided_precision import decided_precision
from rmer.stages.study.plan import Plan, check_concepts
from rmer.systems.arithmetic import Precision
from rmer.systems.devices import clips_at_once, resolve_device
from rmer.systems.frozen import FrozenNetwork
from rmer.systems.listening_network import ListeningNetwork
from rmer.systems.network import BottleneckNetwork, PlainNetwork, build_network
from rmer.tracking import Store
from rmer.training.protocol import FitConfig

BATCH = 8
# A train run stores a network's best weights as checkpoint and as exported model; if asked for, also the last
# and the best ones and Adam's two moments.
COPIES_PER_TRAIN_RUN, COPIES_IN_STATE = 2, 4
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
    """One clip: seconds and floating-point operations of a training step and of an attack gradient.

    ``sound_seconds`` is a gradient with respect to the sound, through the front end, and the projection to
    what is masked; 0 where there is no attack on sound.
    """

    step_seconds: float
    gradient_seconds: float
    sound_seconds: float
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
            *(f"- on the sound, {name}: {text}" for name, text in plan.sound.items()),
            f"- {estimate(plan, *_data(plan))}",
            "Nothing was run. Leave out dry_run to do it.",
        ]
    )


def _data(plan: Plan) -> tuple[int, tuple[str, ...]]:
    """Return the number of clips, and the targets."""
    params = plan.params
    if not params.soundtracks_dir:
        return params.clips or 0, tuple(asked_for(params.targets))
    collected = plan.preprocess_params(params.soundtracks_dir).collect().checked()
    check_concepts(plan, collected)
    return len(collected.clips), collected.emotions


def estimate(plan: Plan, clips: int, targets: tuple[str, ...]) -> Estimate:
    """Count what a plan needs for so many ``clips`` and ``targets``, and time one batch of each kind here."""
    parts = {part: len(rows) for part, rows in published_split(clips).items()}
    frames, aim = plan.params.frames or 0, Aim(targets)
    training = attack = heard = 0
    for system, seed in plan.models:
        config = plan.train_params(system, seed, "").resolve_fit()
        training += (1 if system.fitted_at_once else config.epochs) * parts["train"]
        crafted = _adversarial_gradients(config, parts)
        attack += crafted
        heard += crafted if config.on_sound else 0
    for name in plan.attack_variants:
        for system in plan.systems:
            attacking = plan.attack_params(name, "")
            transfer = plan.source_of(system) is not None
            gradients = _gradients(attacking, aim, clips=parts["test"], transfer=transfer)
            attack += len(plan.seeds) * gradients
            heard += len(plan.seeds) * gradients if attacking.on_sound else 0
    network = build_network("bottleneck", width=plan.params.width)
    unit = _time_one(network, frames, plan.params.device, plan.params.precision, on_sound=heard > 0)
    copies = COPIES_PER_TRAIN_RUN + COPIES_IN_STATE * plan.params.keep_state
    weights = sum(value.nbytes for value in network.state_dict().values())
    models, attacks = len(plan.models), len(plan.models) * len(plan.attack_variants)
    chosen = [plan.attack_params(name, "") for name in plan.attack_variants]
    stored = sum(ARRAYS.get(one.attack, 2) * _adversary_bytes(one, frames) for one in chosen)
    return Estimate(
        runs=2 + models + attacks + len(plan.attacks),
        training_gradients=training,
        attack_gradients=attack,
        flops=training * unit.step_flops + attack * unit.gradient_flops,
        seconds=training * unit.step_seconds
        + (attack - heard) * unit.gradient_seconds
        + heard * unit.sound_seconds,
        bytes=models * copies * weights + 4 * frames * BANDS * clips + models * stored * parts["test"],
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
    own = isinstance(first.model, (PlainNetwork, BottleneckNetwork))  # others may know no training mode
    network = copy.deepcopy(first.model) if own else build_network("bottleneck")
    unit = _time_one(network, frames, params.device, params.precision, on_sound=params.on_sound)
    total = sum(gradients)
    found = Estimate(
        runs=models,
        training_gradients=0,
        attack_gradients=total,
        flops=total * unit.gradient_flops,
        seconds=total * (unit.sound_seconds if params.on_sound else unit.gradient_seconds),
        bytes=_adversary_bytes(params, frames) * models * clips * ARRAYS.get(params.attack, 2),
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


def _adversary_bytes(params: AttackParams, frames: int) -> int:
    """Return what one adversary takes: a spectrogram, or the file of a clip half as long again."""
    return 3 * row_samples(frames) if params.on_sound else 4 * frames * BANDS


def _adversarial_gradients(config: FitConfig, parts: dict[str, int]) -> int:
    if config.adversarial is None:
        return 0
    iterations, epochs = config.adversarial.iterations, config.epochs // config.adversarial.every
    published = config.train_protocol == "published"
    clips = parts["train"] if published else parts["train"] // 2 + parts["validation"]
    return epochs * clips * iterations


def _time_one(
    network: nn.Module, frames: int, device_name: str, precision_name: str, *, on_sound: bool = False
) -> Unit:
    """Time and count one clip of each kind, at their usual batch size."""
    device = resolve_device(device_name)
    precision = decided_precision(precision_name, device)
    network = network.to(device)
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

    sound_seconds = _time_sound(network, frames, precision, device) if on_sound else 0.0
    with FlopCounterMode(display=False) as counter:
        frozen.predict(inputs)
    forward = counter.get_total_flops() / BATCH
    # Backward, a layer costs as much again for its inputs, and once more for its weights when training.
    return Unit(
        step_seconds=_seconds(step, device) / BATCH,
        gradient_seconds=_seconds(gradient, device) / len(attacked),
        sound_seconds=sound_seconds,
        step_flops=3 * forward,
        gradient_flops=2 * forward,
    )


def _time_sound(network: nn.Module, frames: int, precision: Precision, device: torch.device) -> float:
    """Time a step of a search on the sound of one clip: gradient, direction, projection to what is masked."""
    noise = np.random.default_rng(0).normal(0, 3000, row_samples(frames)).clip(-30000, 30000)
    rows = torch.from_numpy(Recording(noise.astype(np.int16), 0).row(frames))[None, None].to(device)
    rows = rows.repeat(clips_at_once(device), 1, 1)
    listening = ListeningNetwork(network, Normalisation(0.0, 1.0), frames).to(device)
    frozen = FrozenNetwork(listening, precision=precision)
    threat = SoundThreat.around("masking", 0.5, rows.cpu()).on(device)

    def step() -> None:
        gradient = frozen.gradient(rows, lambda found: found["output"].square().mean(1))[1]
        threat.project(rows, rows + threat.radius(rows) * threat.steepest(gradient))

    return _seconds(step, device) / len(rows)


def _seconds(call: Callable[[], None], device: torch.device) -> float:
    def finish() -> None:
        call()
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    finish()
    started = time.perf_counter()
    finish()
    return time.perf_counter() - started
