"""What a benchmark ran on."""

from __future__ import annotations

import os
import platform
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import psutil
import torch

import rmer
from rmer.tracking.git import git_tags
from rmer.tracking.schema import Tag

PACKAGES = ("torch", "numpy", "mlflow")
# What decides how fast matrices are multiplied.
FLAGS = ("avx2", "avx512_f", "avx512_bf16", "amx_bf16")

# Older instructions that a CPU can be held to, to stand for a smaller machine: what oneDNN (convolutions),
# MKL (products) and torch read when they load.
LIMIT = "ONEDNN_MAX_CPU_ISA"
ISAS = {
    "AVX2": {LIMIT: "AVX2", "MKL_ENABLE_INSTRUCTIONS": "AVX2", "ATEN_CPU_CAPABILITY": "avx2"},
    "AVX512_CORE": {LIMIT: "AVX512_CORE"},
    "AVX512_CORE_BF16": {LIMIT: "AVX512_CORE_BF16"},
}


def held_to() -> str:
    """Return the older instructions that this process is held to, or nothing."""
    return os.environ.get(LIMIT, "")


def facts(device: torch.device) -> dict[str, str]:
    """Return the machine with a GPU that is used, versions, code, date, and how busy the machine was."""
    tags = git_tags()
    commit = tags.get(Tag.GIT_COMMIT, "unknown")[:12]
    capabilities = torch.cpu.get_capabilities()
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "commit": f"{commit}, changed since" if tags.get(Tag.GIT_DIRTY) == "true" else commit,
        "CPU": _model(),
        "cores": str(len(os.sched_getaffinity(0))),
        "threads": str(torch.get_num_threads()),
        "flags": ", ".join(flag for flag in FLAGS if capabilities.get(flag)),
        **({"held to": held_to()} if held_to() else {}),
        "memory": f"{psutil.virtual_memory().total / 2**30:.0f} GiB",
        "load before": f"{os.getloadavg()[0]:.1f}",
        "system": platform.platform(terse=True),
        "python": platform.python_version(),
        "rmer": rmer.__version__,
        **({"GPU": torch.cuda.get_device_name(device)} if device.type == "cuda" else {}),
        **{package: version(package) for package in PACKAGES},
    }


def _model() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
