"""A frozen model whose convolutions, where nearly all of its arithmetic is, run in bfloat16."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from rmer.systems.listening_network import ListeningNetwork
from rmer.systems.network import Prediction

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_POOLS = (nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d)


class ReducedModel(nn.Module):
    """Calls a copy of a model with convolutions in bfloat16 and all else in the model's own arithmetic.

    Beyond the convolutions there are few numbers, so their exactness costs nothing, and bfloat16's spacing
    near 1 is .0078: with pooling and linear layers in float32, the scores of a search's iterates are told
    apart twelve times as well. A model that mixes both kinds by itself (a weight that it uses outside of a
    layer, say), or has no convolution to be found, such as an exported program, runs in bfloat16 throughout.

    Without ``earlier`` the first half of the convolutions stays as it is, or a model that mixes, all of it.
    """

    def __init__(self, model: nn.Module, *, earlier: bool = True) -> None:
        super().__init__()
        self.earlier = earlier
        parameter = next(model.parameters(), None)
        self._own = torch.float32 if parameter is None else parameter.dtype
        self.whole = not any(isinstance(module, _CONVOLUTIONS) for module in model.modules())
        self._given = [model]  # in a list: not a part of this module
        self._model = (
            _throughout(model) if self.whole else _with_reduced_convolutions(model, self._own, earlier)
        )

    def forward(self, inputs: Tensor) -> Prediction:
        """Return the prediction for ``inputs`` [batch, ...] in the model's own dtype."""
        try:
            prediction = self._model(inputs)
        except RuntimeError as error:
            if self.whole or self._model is self._given[0] or isinstance(error, torch.OutOfMemoryError):
                raise
            self.whole = self.earlier
            self._model = _throughout(self._given[0]) if self.earlier else self._given[0]
            return self.forward(inputs)
        units = prediction["c_prob"]
        output = prediction["output"].to(self._own)
        return {"output": output, "c_prob": None if units is None else units.to(self._own)}


def _with_reduced_convolutions(model: nn.Module, own: torch.dtype, earlier: bool) -> nn.Module:
    copied = copy.deepcopy(model)
    convolutions = [module for module in copied.modules() if isinstance(module, _CONVOLUTIONS)]
    reduced = convolutions[0 if earlier else len(convolutions) // 2 :]
    for module in copied.modules():
        if any(module is one for one in reduced):
            module.to(torch.bfloat16).register_forward_pre_hook(_in(torch.bfloat16))
        elif isinstance(module, _POOLS) or next(module.parameters(recurse=False), None) is not None:
            module.register_forward_pre_hook(_in(own))
    return copied


def _throughout(model: nn.Module) -> nn.Module:
    copied = copy.deepcopy(model)
    # A row of samples begins with whole numbers that bfloat16 does not hold: what hears it stays as it is.
    reduced = copied.model if isinstance(copied, ListeningNetwork) else copied
    reduced.to(torch.bfloat16).register_forward_pre_hook(_in(torch.bfloat16))
    return copied


def _in(dtype: torch.dtype) -> Callable[[nn.Module, tuple[Any, ...]], tuple[Any, ...]]:
    """Return a hook that hands a module's floating-point inputs on in an arithmetic."""

    def convert(module: nn.Module, given: tuple[Any, ...]) -> tuple[Any, ...]:
        return tuple(
            value.to(dtype) if isinstance(value, Tensor) and value.is_floating_point() else value
            for value in given
        )

    return convert
