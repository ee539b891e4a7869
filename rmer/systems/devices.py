"""Where to compute, and with what arithmetic on a GPU."""

from __future__ import annotations

import ctypes
import functools
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from rmer.errors import UserError, shown

MEND = "Use auto, cpu, cuda or cuda:<number>"
# Parameters of mallopt(3), from <malloc.h>.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
# Larger buffers are still mapped for themselves, and given back when freed.
_KEPT = 2**30


def resolve_device(name: str) -> torch.device:
    """Return the device called ``name``; ``auto`` is the first GPU where there is one, else the CPU.

    Raises UserError for a name that torch does not know and for a device that is not there.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    check_device_name(name)
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"cannot compute on {name!r} ({reason})", where="device", mend=MEND) from error
    return device


def check_device_name(name: str) -> None:
    """Raise UserError for what no machine of ours computes on; torch knows more (meta computes nothing)."""
    if not re.fullmatch(r"auto|cpu|cuda(:[0-9]{1,3})?", name):
        raise UserError(f"cannot compute on {shown(name)}", where="device", mend=MEND)


def clips_at_once(device: torch.device) -> int:
    """Return how many clips an attack takes at once: on a CPU more than 8 are no faster."""
    return 8 if device.type == "cpu" else 64


def prepare_device(device: torch.device) -> None:
    """Set what this process needs to compute on a device.

    On a CPU memory is kept. On a GPU float32 is IEEE float32: by default convolutions would round their
    inputs to TF32 (10 bits of mantissa), which is no arithmetic to compare predictions in; and convolutions
    use algorithms that repeat their results. Both hold for the process from then on.
    """
    if device.type == "cpu":
        _keep_freed_memory()
    elif device.type == "cuda":
        # Read when cuBLAS starts; without it its sums may differ from call to call.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        # The old switches first, so that whoever asks one gets an answer; the new one outranks what is set
        # for all backends.
        torch.backends.cuda.matmul.allow_tf32 = False
        torch.backends.cudnn.allow_tf32 = False
        torch.backends.cudnn.fp32_precision = "ieee"
        torch.backends.cudnn.deterministic = True


@functools.cache
def _keep_freed_memory() -> None:
    """Let this process use the memory of freed tensors again; elsewhere than on glibc do nothing.

    Every pass through the network allocates and frees the same hundreds of megabytes. glibc hands large freed
    buffers to the kernel, and fetching them again, page by page and cleared anew, was measured at a sixth of
    the time of a gradient. The process then holds on to its largest use of memory, which was needed anyway.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
        mallopt(_M_MMAP_THRESHOLD, _KEPT)


@contextmanager
def fixed_shapes(device: torch.device) -> Iterator[None]:
    """Let cuDNN try its algorithms once for each shape of the block, and take the fastest one.

    Which one wins may differ from process to process, and with it the last bits: not for training, which
    would carry them on from step to step.
    """
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = before or device.type == "cuda"
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before
