"""A call in a process of its own: its time, and the most memory that the process ever held."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch

from benchmarks.measuring import silence


@dataclass(frozen=True)
class Cost:
    """Seconds of a call, imports left out, and peak memory in MB of the process, imports included."""

    seconds: float
    megabytes: float


def in_new_process(function: Callable[..., object], *args: Any, threads: int = 0) -> Cost:
    """Call a function of a module in a new process; ``threads`` of torch, 0 for as many as here."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(_measured, threads or torch.get_num_threads(), function, args).result()


def _measured(threads: int, function: Callable[..., object], args: tuple[Any, ...]) -> Cost:
    torch.set_num_threads(threads)
    with silence():
        started = time.perf_counter()
        function(*args)
        return Cost(time.perf_counter() - started, _peak())


def _peak() -> float:
    # Not ru_maxrss, which a new process inherits from the one that started it.
    lines = Path("/proc/self/status").read_text().splitlines()
    peak = next(line for line in lines if line.startswith("VmHWM"))
    return int(peak.split()[1]) / 1024
