"""What a study will cost: runs, gradients, seconds on this machine, disk. Nothing is opened or written."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from rmer.data.frontend import BANDS
from rmer.data.splits import published_split
from rmer.stages.plan import Plan, check_concepts
from rmer.stages.preprocess import collect_of
from rmer.systems.catalogue import System
from rmer.systems.devices import resolve_device
from rmer.systems.frozen import FrozenNetwork
from rmer.systems.network import build_network
from rmer.systems.precision import resolve_precision
from rmer.training.protocol import FitConfig, resolve_fit

BATCH = 8
# One network's weights. A train run stores them six times over: the best ones as checkpoint and as exported
# model; the last and the best ones and Adam's two moments in the state to go on from.
WEIGHT_BYTES = 4 * 3_940_000
COPIES_PER_TRAIN_RUN = 6


@dataclass(frozen=True)
class Estimate:
    """Upper bounds (early stopping may end a fit sooner): counts, seconds and bytes."""

    runs: int
    training_gradients: int
    attack_gradients: int
    seconds: float
    bytes: int

    def __str__(self) -> str:
        minutes = self.seconds / 60
        return (
            f"{self.runs} runs; at most {self.training_gradients:,} training and "
            f"{self.attack_gradients:,} attack gradients (one clip each); "
            f"about {minutes:,.1f} minutes of computing on this machine; "
            f"{self.bytes / 1e9:.2f} GB of artifacts"
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
            f"- {len(plan.models)} models: {systems}; seeds {seeds}; {params.train_protocol} training, "
            f"at most {params.epochs} epochs",
            f"- {len(plan.models) * len(plan.attacks)} attacks: {', '.join(plan.attacks)}",
            f"- {estimate(plan, _clips(plan))}",
            "Nothing was run. Leave out dry_run to do it.",
        ]
    )


def _clips(plan: Plan) -> int:
    params = plan.params
    if not params.soundtracks_dir:
        return params.clips or 0
    data = plan.preprocess_params(params.soundtracks_dir)
    check_concepts(plan, data)
    return len(collect_of(data).clips)


def estimate(plan: Plan, clips: int) -> Estimate:
    """Count what a plan needs for a data set of ``clips`` clips, and time one batch of each kind here."""
    parts = {part: len(rows) for part, rows in published_split(clips).items()}
    frames = plan.params.frames or 0
    training = attack = 0
    for system, seed in plan.models:
        config = _config(plan, system, seed)
        training += config.epochs * parts["train"]
        attack += _adversarial_gradients(config, parts)
    per_attack = {
        "published": plan.params.max_iters,
        "bridge": plan.params.max_iters,
        "pgd": plan.params.steps,
    }
    for name in plan.attacks:
        attack += len(plan.models) * parts["test"] * (per_attack[name] or 0)
    step_seconds, gradient_seconds = _time_one(plan, frames)
    models, attacks = len(plan.models), len(plan.models) * len(plan.attacks)
    spectrogram_bytes = 4 * frames * BANDS
    return Estimate(
        runs=2 + models + attacks + len(plan.attacks),
        training_gradients=training,
        attack_gradients=attack,
        seconds=training * step_seconds + attack * gradient_seconds,
        bytes=models * COPIES_PER_TRAIN_RUN * WEIGHT_BYTES
        + spectrogram_bytes * (clips + attacks * parts["test"]),
    )


def _config(plan: Plan, system: System, seed: int) -> FitConfig:
    return resolve_fit(
        system,
        plan.params.train_protocol,  # type: ignore[arg-type]
        seed=seed,
        epochs=plan.params.epochs or 0,
        adversarial_iterations=plan.params.adversarial_iterations,
    )


def _adversarial_gradients(config: FitConfig, parts: dict[str, int]) -> int:
    if config.adversarial is None:
        return 0
    iterations, epochs = config.adversarial.iterations, config.epochs // config.adversarial.every
    clips = (
        parts["train"] if config.train_protocol == "published" else parts["train"] // 2 + parts["validation"]
    )
    return epochs * clips * iterations


def _time_one(plan: Plan, frames: int) -> tuple[float, float]:
    """Return seconds a clip of a training step and of an attack gradient, at their usual batch size."""
    device = resolve_device(plan.params.device)
    precision = resolve_precision(plan.params.precision, device)
    network = build_network("bottleneck").to(device)
    inputs = torch.randn(BATCH, 1, frames, BANDS, device=device)
    frozen = FrozenNetwork(network, precision=precision)

    def step() -> None:
        network.train()
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
            loss = network(inputs)["output"].square().mean()
        loss.backward()

    def gradient() -> None:
        frozen.gradient(inputs, lambda found: found["output"].square().mean(1))

    return _seconds(step, device) / BATCH, _seconds(gradient, device) / BATCH


def _seconds(call: Callable[[], None], device: torch.device) -> float:
    call()
    started = time.perf_counter()
    call()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - started
