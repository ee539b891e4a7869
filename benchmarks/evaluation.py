"""Peak memory of an evaluation under attack."""

from __future__ import annotations

from pathlib import Path

import torch

from benchmarks.data import SMALL, noise
from benchmarks.measuring import Result, Row, Settings, Target
from benchmarks.processes import in_new_process
from benchmarks.reference import Published
from rmer.attacks.suite import TIERS, Tier, white_box
from rmer.attacks.threat import Threat
from rmer.data.audio.frontend import FRAMES
from rmer.evaluation.budgets import sweep
from rmer.evaluation.subject import Subject
from rmer.systems.fastest_precision import resolve_precision
from rmer.systems.frozen import FrozenNetwork
from rmer.systems.network import build_network

CLIPS = 36
STEPS = 3  # more cost time and no memory
LARGEST = 3000.0  # MB


def peak_memory(settings: Settings) -> Result:
    """Measure the peak memory of a process that attacks 36 clips, at full size unless quick."""
    frames = SMALL if settings.quick else FRAMES
    name = f"peak memory, {CLIPS} clips, {frames} frames"
    found = in_new_process(evaluate, CLIPS, frames, 1).megabytes
    targets = (Target("value", LARGEST),) if frames == FRAMES else ()
    rows = [Row(name, "suite of attacks", found, "MB", targets=targets)]
    if settings.reference is not None:
        published = in_new_process(attack_as_published, settings.reference, frames).megabytes
        rows.insert(0, Row(name, "published attack, clip by clip", published, "MB"))
    note = "Peak memory is that of the whole process: Python, torch and the clips included."
    return Result(rows, notes=[note])


def evaluate(clips: int, frames: int, epsilons: int) -> None:
    """Attack clips as the suite does, in few steps."""
    data = noise(2, 1, frames, test=clips)
    tier = Tier(("linf",), TIERS["paper"].epsilons[:epsilons], STEPS, 2, 1, 0)
    precision = resolve_precision("auto", torch.device("cpu"))
    network = FrozenNetwork(build_network("bottleneck"), precision=precision)

    def threat_at(epsilon: float) -> Threat:
        return Threat("linf", epsilon, data.floor, data.ceiling)

    sweep(Subject(network, data.test.inputs, data.test.labels, threat_at), white_box(tier), tier.epsilons)


def attack_as_published(clone: Path, frames: int) -> None:
    """Attack one clip with the published code, in few iterations: it never holds more than one."""
    code, data = Published(clone), noise(2, 1, frames)
    code.attack_clip(code.network(), data.test.inputs, data.test.labels, STEPS)
