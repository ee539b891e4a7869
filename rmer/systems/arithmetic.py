"""Arithmetic of gradients: float32, or bfloat16 where the processor multiplies it natively."""

from __future__ import annotations

from typing import Literal

import torch

Precision = Literal["fp32", "bf16"]
PRECISIONS = ("fp32", "bf16", "auto")


def resolve_precision(name: str, device: torch.device) -> Precision:
    """Return the precision called ``name``; ``auto`` is bf16 where the device has instructions for it."""
    if name == "bf16" or (name == "auto" and has_native_bf16(device)):
        return "bf16"
    return "fp32"


def has_native_bf16(device: torch.device) -> bool:
    """Return whether a device multiplies bfloat16 matrices faster than float32 ones."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    # torch.cpu.get_capabilities names what oneDNN, which runs the convolutions, can use.
    return device.type == "cpu" and torch.cpu.get_capabilities().get("avx512_bf16") is True
