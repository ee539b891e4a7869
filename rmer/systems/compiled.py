"""A frozen model compiled by torch, for the same shape again and again."""

from __future__ import annotations

import os
import shutil

import torch
from torch import Tensor, nn

from rmer.errors import UserError
from rmer.systems.network import Prediction

# What torch compiles with: its CPU code is C++; on a GPU, Triton builds launchers in C.
COMPILERS = {"cpu": ("CXX", ("g++",)), "cuda": ("CC", ("gcc", "clang"))}


class CompiledModel:
    """Calls a model through ``torch.compile``; on a GPU its passes become CUDA graphs.

    Every size of a batch is compiled anew, which takes long, so a smaller batch than one before is filled up
    to its size with copies of its first clip. What is returned, and gradients through it, lie in buffers
    that the next call uses again: clone what is to be kept.

    Raises UserError where no compiler is installed.
    """

    def __init__(self, model: nn.Module, device: torch.device) -> None:
        variable, names = COMPILERS.get(device.type, COMPILERS["cpu"])
        if not any(map(shutil.which, (os.environ.get(variable, ""), *names))):
            what = f"torch finds no compiler ({' or '.join(names)})"
            mend = f"Install one, name one in {variable}, or leave compile out"
            raise UserError(what, where="parameter compile", mend=mend)
        mode = "reduce-overhead" if device.type == "cuda" else "default"
        self._model = torch.compile(model, dynamic=False, mode=mode)
        self.sizes: set[int] = set()

    def __call__(self, inputs: Tensor) -> Prediction:
        """Return the prediction for ``inputs`` [batch, 1, frames, bands]."""
        clips = len(inputs)
        size = min((known for known in self.sizes if known >= clips), default=clips)
        self.sizes.add(size)
        if size > clips:
            inputs = torch.cat([inputs, inputs[:1].expand(size - clips, *inputs.shape[1:])])
        torch.compiler.cudagraph_mark_step_begin()  # type: ignore[no-untyped-call]
        found = self._model(inputs)
        units = found["c_prob"]
        return {"output": found["output"][:clips], "c_prob": None if units is None else units[:clips]}
