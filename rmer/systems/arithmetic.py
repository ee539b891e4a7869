"""Arithmetic of gradients: float32, or bfloat16 where the processor multiplies it natively."""

from __future__ import annotations

from typing import Literal

import torch
from torch import nn

Precision = Literal["fp32", "bf16"]
PRECISIONS = ("fp32", "bf16", "auto")


def has_native_bf16(device: torch.device) -> bool:
    """Return whether a device has instructions that multiply bfloat16 matrices, and may use them."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    if device.type != "cpu" or torch.cpu.get_capabilities().get("avx512_bf16") is not True:
        return False
    # oneDNN runs the convolutions, and may be held to older instructions (ONEDNN_MAX_CPU_ISA), which the
    # processor's own list does not show.
    return torch.backends.mkldnn.is_available() and bool(  # type: ignore[no-untyped-call]
        torch.ops.mkldnn._is_mkldnn_bf16_supported()
    )


def has_matrix_units() -> bool:
    """Return whether the CPU has units for bfloat16 matrices (AMX) besides vector instructions."""
    return torch.cpu.get_capabilities().get("amx_bf16") is True


def precision_for(model: nn.Module, wanted: Precision) -> Precision:
    """Return the arithmetic that gradients of a model are taken in: fp32 where any part of it needs that.

    A module says so by an attribute ``needs_float32``.
    """
    needed = any(getattr(module, "needs_float32", False) for module in model.modules())
    return "fp32" if needed else wanted
