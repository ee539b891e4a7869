"""What a study or an attack will cost: gradients, FLOPs, seconds on this machine, and disk."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable
from dataclasses import astuple, dataclass
from itertools import chain

import joblib
import numpy as np
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from rmer.attacks.method import Aim
from rmer.attacks.sound_threat import SoundThreat
from rmer.data.audio.filterbank import BANDS
from rmer.data.audio.frontend import audio2spect
from rmer.data.audio.recordings import Recording, row_samples
from rmer.data.audio.transformations import variants
from rmer.data.dataset import Normalisation
from rmer.data.folds import VALIDATION
from rmer.data.splits import published_split
from rmer.data.tables.target_names import asked_for
from rmer.execution.engine_params import EngineParams
from rmer.execution.scheduler import local_places
from rmer.stages.attack.attack import victims_of
from rmer.stages.attack.attack_params import AttackParams
from rmer.stages.attack.attack_setup import gradients_of_run
from rmer.stages.decided_precision import decided_precision
from rmer.stages.study.plan import Plan, attack_job_name, check_concepts, check_folds, model_job
from rmer.systems.arithmetic import Precision
from rmer.systems.black_box import is_black_box
from rmer.systems.devices import clips_at_once, resolve_device
from rmer.systems.frozen import FrozenNetwork
from rmer.systems.listening_network import ListeningNetwork
from rmer.systems.network import BottleneckNetwork, PlainNetwork, build_network
from rmer.threads import torch_threads
from rmer.tracking import Store
from rmer.training.protocol import FitConfig

BATCH = 8
# A train run stores a network's best weights as checkpoint and as exported model; if asked for, also the last
# and the best ones and Adam's two moments.
COPIES_PER_TRAIN_RUN, COPIES_IN_STATE = 2, 4
# Seconds besides what is computed, on one core of 2024: a model exported, tables and figures of an attack,
# the page of sounds, an analysis; everything imported; and a clip of demo data made and read.
TRAINING, ATTACK, ATTACK_ON_SOUND, ANALYSIS, STARTING, SECONDS_A_CLIP = 2.5, 2.5, 8.0, 6.0, 12.0, 0.06
# Sounds that a suite makes files of, for each clip and budget: those of its attacks and metrics.
SETTLED = 4
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
            f"operations; about {self.seconds / 60:,.1f} minutes on this machine; "
            f"{self.bytes / 1e9:.2f} GB of artifacts"
        )


@dataclass(frozen=True)
class Unit:
    """One clip: seconds of a training step and of an attack gradient.

    ``sound_seconds`` is a gradient with respect to the sound, through the front end, and the projection to
    what is masked; ``settled_seconds`` a sound made a file and read again. Both are 0 where there is no
    attack on sound.
    """

    step_seconds: float
    gradient_seconds: float
    sound_seconds: float
    settled_seconds: float


@dataclass(frozen=True)
class Load:
    """What a job computes: clips of training steps, gradients of attacks, sounds; and seconds besides."""

    training: int = 0
    attack: int = 0  # on spectrograms
    heard: int = 0  # on the sound
    settled: int = 0
    fixed: float = 0.0

    def __add__(self, other: Load) -> Load:
        return Load(*(mine + theirs for mine, theirs in zip(astuple(self), astuple(other), strict=True)))

    def seconds(self, unit: Unit) -> float:
        """Return how long it takes where one clip takes so long."""
        return (
            self.fixed
            + self.training * unit.step_seconds
            + self.attack * unit.gradient_seconds
            + self.heard * unit.sound_seconds
            + self.settled * unit.settled_seconds
        )


def describe(plan: Plan) -> str:
    """Return the plan in words: its runs, and what they cost."""
    params = plan.params
    source = params.soundtracks_dir or f"demo data of {params.clips} clips"
    systems = ", ".join(system.name for system in plan.systems)
    seeds = ", ".join(map(str, plan.seeds))
    return "\n".join(
        [
            f"Study {params.study} on {source}, excerpts of {params.frames} frames:".replace("  ", " "),
            f"- {len(plan.models)} models: {systems}; seeds {seeds}; "
            + (f"{params.folds} folds; " if params.folds else "")
            + f"{params.train_protocol} training, "
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
    check_folds(plan, collected)
    return len(collected.clips), collected.emotions


def estimate(plan: Plan, clips: int, targets: tuple[str, ...]) -> Estimate:
    """Count what a plan needs for so many ``clips`` and ``targets``, and time one batch of each kind here."""
    parts, frames = _parts(clips, plan.params.folds), plan.params.frames or 0
    loads = _loads(plan, parts, targets)
    network, unit = _timed(plan, loads)
    copies = COPIES_PER_TRAIN_RUN + COPIES_IN_STATE * plan.params.keep_state
    weights = sum(value.nbytes for value in network.state_dict().values())
    models, attacks = len(plan.models), len(loads) - len(plan.models)
    chosen = [plan.attack_params(name, "") for name in plan.attack_variants]
    stored = sum(ARRAYS.get(one.attack, 2) * _adversary_bytes(one, frames) for one in chosen)
    total = sum(loads.values(), Load())
    work = sum(load.seconds(unit) for load in loads.values()) / jobs_at_once(plan)
    return Estimate(
        runs=2 + models + attacks + len(plan.attacks),
        training_gradients=total.training,
        attack_gradients=total.attack + total.heard,
        flops=_flops(network, frames, training=total.training, gradients=total.attack + total.heard),
        seconds=work + STARTING + SECONDS_A_CLIP * clips / joblib.cpu_count() + ANALYSIS * len(plan.attacks),
        bytes=models * copies * weights + 4 * frames * BANDS * clips + models * stored * parts["test"],
    )


def planned_seconds(plan: Plan, clips: int, targets: tuple[str, ...]) -> dict[str, float]:
    """Return the seconds that each job of a study will take here, by its name."""
    loads = _loads(plan, _parts(clips, plan.params.folds), targets)
    unit = _timed(plan, loads)[1]
    return {name: load.seconds(unit) for name, load in loads.items()}


def jobs_at_once(plan: Plan) -> int:
    """Return how many jobs will run side by side on this machine; of a Ray cluster nothing is known."""
    params = plan.params
    if params.engine != "local":
        return 1
    most = min(params.jobs_at_once or len(plan.models), len(plan.models))
    return len(local_places(EngineParams.of(params), most, may_use_gpu=params.device != "cpu"))


def _loads(plan: Plan, parts: dict[str, int], targets: tuple[str, ...]) -> dict[str, Load]:
    """Return what each job of a plan computes, by its name."""
    loads, aim = {}, Aim(targets)
    for model in plan.models:
        config = plan.train_params(*model, "").resolve_fit()
        crafted = _adversarial_gradients(config, parts)
        heard = crafted if config.on_sound else 0
        training = (1 if model[0].fitted_at_once else config.epochs) * parts["train"]
        loads[model_job(*model)] = Load(training, crafted - heard, heard, fixed=TRAINING)
        for name in plan.attack_variants:
            attacking = plan.attack_params(name, "")
            transfer = plan.source_of(model[0]) is not None
            gradients = _gradients(attacking, aim, clips=parts["test"], transfer=transfer)
            job = attack_job_name(*model, name)
            if not attacking.on_sound:
                loads[job] = Load(attack=gradients, fixed=ATTACK)
                continue
            settled = parts["test"] * (SETTLED * len(attacking.all_epsilons) + 1)
            loads[job] = Load(heard=gradients, settled=settled, fixed=ATTACK_ON_SOUND)
    return loads


def _timed(plan: Plan, loads: dict[str, Load]) -> tuple[nn.Module, Unit]:
    """Return the largest network of a plan, and one clip of it timed, on the threads that a job will have."""
    params, on_sound = plan.params, any(load.heard for load in loads.values())
    network = build_network("bottleneck", width=params.width or 1.0)
    threads = params.job_cpus or max(1, joblib.cpu_count() // jobs_at_once(plan))
    with torch_threads(threads if params.engine == "local" else params.job_cpus):
        return network, _time_one(
            network, params.frames or 0, params.device, params.precision or "fp32", on_sound=on_sound
        )


def _parts(clips: int, folds: int) -> dict[str, int]:
    """Return the sizes of the parts of a split, about those of the largest fold of a cross-validation."""
    if not folds:
        return {part: len(rows) for part, rows in published_split(clips).items()}
    test, validation = math.ceil(clips / folds), round(clips * VALIDATION)
    return {"train": clips - test - validation, "validation": validation, "test": test}


def describe_attack(store: Store, params: AttackParams) -> str:
    """Return the attack in words: the models that it would attack, and what that costs."""
    victims = victims_of(store, params)
    first = next(victims)
    clips, _, frames, _ = first.data.part(params.split).inputs.shape
    # A later model may lack the concepts that a loss names, as in the run.
    aims = (
        Aim(victim.dataset.emotions, victim.concepts, black_box=is_black_box(victim.model))
        for victim in chain([first], victims)
    )
    gradients = [_gradients(params, aim, clips=clips, transfer=True) for aim in aims]
    models = len(gradients)
    own = isinstance(first.model, (PlainNetwork, BottleneckNetwork))  # others may know no training mode
    network = copy.deepcopy(first.model) if own else build_network("bottleneck")
    unit = _time_one(network, frames, params.device, params.precision, on_sound=params.on_sound)
    total = sum(gradients)
    load = Load(attack=total, fixed=ATTACK * models)
    if params.on_sound:
        settled = clips * models * (SETTLED * len(params.all_epsilons) + 1)
        load = Load(heard=total, settled=settled, fixed=ATTACK_ON_SOUND * models)
    found = Estimate(
        runs=models,
        training_gradients=0,
        attack_gradients=total,
        flops=_flops(network, frames, gradients=total),
        seconds=load.seconds(unit),
        bytes=_adversary_bytes(params, frames) * models * clips * ARRAYS.get(params.attack, 2),
    )
    budgets = ", ".join(params.budgets_in_words)
    unknown = (
        f"\n- {first.system} gives no gradient: three of its predictions count as one, which makes "
        f"about {3 * total:,} of them; the time that it takes for these is not known and not counted"
        if is_black_box(first.model)
        else ""
    )
    return (
        f"Attack {params.attack} on {models} model{'s' if models > 1 else ''} ({first.system} first), "
        f"{clips} clips of {frames} frames, budgets {budgets}:\n- {found}{unknown}\n"
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
    """Time one clip of each kind, at their usual batch size."""
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

    sound, settled = _time_sound(network, frames, precision, device) if on_sound else (0.0, 0.0)
    return Unit(
        step_seconds=_seconds(step, device) / BATCH,
        gradient_seconds=_seconds(gradient, device) / len(attacked),
        sound_seconds=sound,
        settled_seconds=settled,
    )


def _flops(network: nn.Module, frames: int, *, training: int = 0, gradients: int) -> float:
    """Return the floating-point operations of so many clips of training steps, and gradients of attacks."""
    inputs = torch.zeros(1, 1, frames, BANDS, device=next(network.parameters()).device)
    with FlopCounterMode(display=False) as counter:
        FrozenNetwork(network).predict(inputs)
    # Backward, a layer costs as much again for its inputs, and once more for its weights when training.
    return float(counter.get_total_flops() * (3 * training + 2 * gradients))


def _time_sound(
    network: nn.Module, frames: int, precision: Precision, device: torch.device
) -> tuple[float, float]:
    """Time a step of a search on the sound of one clip (gradient, direction, projection), and its end.

    The projection is to what is masked; at the end the sound is made a file, which is read again.
    """
    noise = np.random.default_rng(0).normal(0, 3000, row_samples(frames)).clip(-30000, 30000)
    rows = torch.from_numpy(Recording(noise.astype(np.int16), 0).row(frames))[None, None].to(device)
    rows = rows.repeat(clips_at_once(device), 1, 1)
    listening = ListeningNetwork(network, Normalisation(0.0, 1.0), frames).to(device)
    frozen = FrozenNetwork(listening, precision=precision)
    threat = SoundThreat.around("masking", 0.5, rows.cpu()).on(device)
    found = rows

    def step() -> None:
        nonlocal found
        gradient = frozen.gradient(rows, lambda found: found["output"].square().mean(1))[1]
        found = threat.project(rows, rows + threat.radius(rows) * threat.steepest(gradient))

    def end() -> None:
        threat.settle(rows, found)
        for _ in rows:
            audio2spect("madmom")(noise / 32768)

    return _seconds(step, device) / len(rows), _seconds(end, device) / len(rows)


def _seconds(call: Callable[[], None], device: torch.device) -> float:
    def finish() -> None:
        call()
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    finish()
    started = time.perf_counter()
    finish()
    return time.perf_counter() - started
