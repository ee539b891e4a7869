"""Which arithmetic of gradients ``auto`` is: bfloat16 where a measurement says that it is clearly faster."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock
from torch import Tensor

from rmer.data.audio.filterbank import BANDS
from rmer.data.audio.frontend import FRAMES
from rmer.files import whole
from rmer.systems.arithmetic import Precision, has_native_bf16
from rmer.systems.frozen import FrozenNetwork
from rmer.systems.network import Prediction, build_network

# How many times faster gradients in bfloat16 must be. With less there is little to win, and where the two are
# about alike the decision would be one of chance.
CLEARLY = 1.3
# Clips of the study's size: less work does not show what matrix units are worth. With so many rounds it takes
# half a second on one core.
CLIPS, ROUNDS = {"cpu": 1, "cuda": 64}, 3
LIMITS = ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA")


def resolve_precision(name: str, device: torch.device, kept: Path | None = None) -> Precision:
    """Return the precision called ``name``; ``auto`` is what is clearly faster on this machine.

    Without instructions for bfloat16 that is fp32, and nothing is measured. ``kept`` is a folder for the
    measurement: the precision is a part of what a run is, so that one machine must not decide now this way
    and now that. The first process measures while others wait, and all take what it found; None measures at
    every call. What is kept counts for one processor, one set of instructions and one torch, so a home that
    several machines share does no harm. A file that cannot be read is written anew.
    """
    if name == "fp32" or (name == "auto" and not has_native_bf16(device)):
        return "fp32"
    return "bf16" if name == "bf16" or _gain(device, kept) >= CLEARLY else "fp32"


def measured_gain(device: torch.device) -> float:
    """Return how many times faster gradients of the study's network are in bfloat16 than in float32.

    The median over rounds, in which both are timed in turn. A CPU is timed with one thread, since jobs of one
    machine, which have other numbers of threads, must come to the same decision, and by the processor time
    of that thread, which other processes hardly change. Random numbers of the process stay as they are.
    """
    with torch.random.fork_rng(devices=[]), _one_thread(device):
        network = build_network("bottleneck").to(device)
        inputs = torch.randn(CLIPS[device.type], 1, FRAMES, BANDS).to(device)
        ways = (FrozenNetwork(network), FrozenNetwork(network, precision="bf16"))
        ratios = []
        for _ in range(1 + ROUNDS):
            exact, reduced = (_seconds(way, inputs) for way in ways)
            ratios.append(exact / reduced)
    return statistics.median(ratios[1:])  # the first round prepares kernels


def machine_facts(device: torch.device) -> dict[str, str]:
    """Return what decides how fast a device is, as far as a measurement can be used again."""
    facts = {"torch": torch.__version__, "clearly": str(CLEARLY)}
    if device.type == "cuda":
        capability = torch.cuda.get_device_capability(device)
        return facts | {"device": torch.cuda.get_device_name(device), "capability": str(capability)}
    flags = [name for name, value in torch.cpu.get_capabilities().items() if value is True]
    limits = {name: os.environ[name] for name in LIMITS if os.environ.get(name)}
    return facts | {"device": cpu_model(), "instructions": " ".join(sorted(flags)), **limits}


def cpu_model() -> str:
    """Return the name of the processor, else of its kind."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _gain(device: torch.device, folder: Path | None) -> float:
    """Return the gain kept for this machine, measured now where there is none."""
    if folder is None:
        return measured_gain(device)
    facts = machine_facts(device)
    name = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]
    file = folder / f"{name}.json"
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(file.with_suffix(".lock")):
        known = _read(file, facts)
        if known is None:
            known = measured_gain(device)
            with whole(file) as place:
                place.write_text(json.dumps({"machine": facts, "gain": known}, indent=1) + "\n")
        return known


def _read(file: Path, facts: dict[str, str]) -> float | None:
    try:
        content: Any = json.loads(file.read_text(encoding="utf-8"))
        gain = content["gain"] if content["machine"] == facts else None
    except (OSError, ValueError, TypeError, KeyError):
        return None
    return gain if isinstance(gain, float) and 0 < gain < float("inf") else None


def _seconds(network: FrozenNetwork, inputs: Tensor) -> float:
    clock = time.perf_counter if inputs.is_cuda else time.thread_time
    started = clock()
    network.gradient(inputs, _loss)
    if inputs.is_cuda:
        torch.cuda.synchronize(inputs.device)
    return clock() - started


def _loss(prediction: Prediction) -> Tensor:
    return prediction["output"].square().mean(1)


@contextmanager
def _one_thread(device: torch.device) -> Iterator[None]:
    before = torch.get_num_threads()
    if device.type == "cpu":
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
