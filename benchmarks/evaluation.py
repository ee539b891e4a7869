"""Time and peak memory of an evaluation under attack, each in a process of its own.

    python -m benchmarks.evaluation --clips 36 --frames 313 --epsilons 1 --threads 2

prints ``{"seconds": ..., "mb": ...}``: steps are few, since they cost time and no memory.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from pathlib import Path

import click
import torch

from benchmarks.data import SMALL, noise
from benchmarks.measuring import Result, Row, Settings, Target, silence
from benchmarks.reference import Published
from rmer.attacks.threat import Threat
from rmer.data.frontend import FRAMES
from rmer.evaluation.suite import Tier, white_box
from rmer.evaluation.sweep import sweep
from rmer.systems.frozen import FrozenNetwork
from rmer.systems.network import build_network
from rmer.systems.precision import resolve_precision

CLIPS = 36
STEPS = 3
# Of the corrected evaluation's paper tier.
EPSILONS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1)
LARGEST = 3000.0  # MB


def peak_memory(settings: Settings) -> Result:
    """Measure the peak memory of a process that attacks 36 clips at full size."""
    frames = SMALL if settings.quick else FRAMES
    rows = []
    published = None
    name = f"peak memory, {CLIPS} clips, {frames} frames"
    if settings.reference is not None:
        published = run_evaluation(clips=1, frames=frames, epsilons=1, reference=settings.reference)["mb"]
        rows.append(Row(name, "published attack, clip by clip", published, "MB"))
    found = run_evaluation(clips=CLIPS, frames=frames, epsilons=1)
    limit = (Target("value", LARGEST),) if frames == FRAMES else ()
    faster = None if published is None else published / found["mb"]
    rows.append(Row(name, "suite of attacks", found["mb"], "MB", published=faster, targets=limit))
    return Result(
        rows, notes=["Peak memory is that of the whole process: Python, torch and the clips included."]
    )


def run_evaluation(
    *, clips: int, frames: int, epsilons: int, reference: Path | None = None
) -> dict[str, float]:
    """Run this module in a new process; return its seconds (imports left out) and peak memory in MB."""
    command = [sys.executable, "-m", "benchmarks.evaluation", "--clips", clips, "--frames", frames]
    command += ["--epsilons", epsilons, "--threads", torch.get_num_threads()]
    command += ["--reference", reference] if reference else []
    root = Path(__file__).resolve().parent.parent
    done = subprocess.run(list(map(str, command)), cwd=root, check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, float] = json.loads(done.stdout)
    return found


@click.command()
@click.option("--clips", type=int)
@click.option("--frames", type=int)
@click.option("--epsilons", type=int)
@click.option("--threads", type=int)
@click.option("--reference", type=click.Path(path_type=Path))
def main(clips: int, frames: int, epsilons: int, threads: int, reference: Path | None) -> None:
    """Attack clips and print seconds and peak memory."""
    torch.set_num_threads(threads)
    data = noise(2, 1, frames, test=clips)
    started = time.perf_counter()
    if reference is not None:
        code = Published(reference)
        network = code.network()
        with silence():
            for clip in range(clips):
                code.attack_clip(
                    network, data.test.inputs[clip : clip + 1], data.test.labels[clip : clip + 1], STEPS
                )
    else:
        tier = Tier(("linf",), EPSILONS[:epsilons], STEPS, 2, 1, 0)
        precision = resolve_precision("auto", torch.device("cpu"))
        model = FrozenNetwork(build_network("bottleneck"), precision=precision)
        box = (data.floor, data.ceiling)
        sweep(
            model,
            data.test.inputs,
            data.test.labels,
            white_box(tier),
            tier.epsilons,
            lambda epsilon: Threat("linf", epsilon, *box),
        )
    seconds = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # kB on Linux
    print(json.dumps({"seconds": seconds, "mb": peak}))


if __name__ == "__main__":
    main()
