"""A network made ready for attack: evaluation mode, weights frozen, batch norm folded, passes counted."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from rmer.systems.arithmetic import Precision
from rmer.systems.compiled import CompiledModel
from rmer.systems.devices import prepare_device
from rmer.systems.network import Prediction

Loss = Callable[[Prediction], Tensor]


class FrozenNetwork:
    """Predictions and input gradients of a fixed model, and how many of each were asked for.

    Any module that meets the model contract will do. Weights get no gradients and each batch norm is folded
    into the convolution before it, which leaves the function unchanged up to rounding (gradients agree to
    3e-5 of a maximum of 9e-3 in float32) and makes a gradient about 1.6 times cheaper on a CPU.

    ``precision`` bf16 takes gradients, and nothing else, from a copy in bfloat16: its spacing near 1 is
    .0078, so predictions that are compared or reported stay in the model's own arithmetic. ``exact`` False
    does without this beside gradients, where it costs a pass of its own: for adversarial training, which
    reports nothing of its attacks and takes its own steps in bf16 too. ``compile`` takes gradients (and the
    predictions that come with them in fp32) from a compiled copy, the same up to rounding.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        fold: bool = True,
        precision: Precision = "fp32",
        exact: bool = True,
        batch_size: int = 8,
        compile: bool = False,
    ) -> None:
        self.model = _frozen_copy(model, fold)
        self.precision = precision
        self.exact = exact
        self.batch_size = batch_size
        self._reduced = _frozen_copy(self.model, False).to(torch.bfloat16) if precision == "bf16" else None
        parameter = next(self.model.parameters(), None)
        self.device = torch.device("cpu") if parameter is None else parameter.device
        self.dtype = torch.float32 if parameter is None else parameter.dtype
        prepare_device(self.device)
        differentiated = self.model if self._reduced is None else self._reduced
        self._compiled = CompiledModel(differentiated, self.device) if compile else None
        self.forwards = 0
        self.gradients = 0

    def predict(self, inputs: Tensor) -> Prediction:
        """Return ``output`` [batch, targets] and ``c_prob`` [batch, concepts] or None, without a graph."""
        self.forwards += len(inputs)
        with torch.no_grad():
            prediction = self.model(inputs)
        return {"output": prediction["output"], "c_prob": prediction["c_prob"]}

    def predict_in_batches(self, inputs: Tensor) -> Prediction:
        """Return :meth:`predict` of any number of clips, ``batch_size`` at a time."""
        parts = [self.predict(batch) for batch in torch.split(inputs, self.batch_size)]
        units = [part["c_prob"] for part in parts]
        return {
            "output": torch.cat([part["output"] for part in parts]),
            "c_prob": None if any(unit is None for unit in units) else torch.cat(units),  # type: ignore[arg-type]
        }

    def gradient(self, inputs: Tensor, loss: Loss) -> tuple[Prediction, Tensor]:
        """Return the prediction at ``inputs`` and the gradient of the summed loss there.

        ``loss`` maps a prediction to one value a clip [batch]; as clips do not interact in evaluation mode,
        the gradient of the sum holds each clip's own gradient.
        """
        prediction, gradient = self._differentiate(inputs, loss)
        return (self.predict(inputs) if self._reduced is not None and self.exact else prediction), gradient

    def gradient_alone(self, inputs: Tensor, loss: Loss) -> Tensor:
        """Return the gradient without the prediction, which in bf16 would cost a pass of its own."""
        return self._differentiate(inputs, loss)[1]

    def _differentiate(self, inputs: Tensor, loss: Loss) -> tuple[Prediction, Tensor]:
        self.gradients += len(inputs)
        inputs = inputs.detach().requires_grad_(True)
        with torch.enable_grad():
            if self._reduced is None:
                prediction: Prediction = (self._compiled or self.model)(inputs)
            else:
                reduced = (self._compiled or self._reduced)(inputs.to(torch.bfloat16))
                prediction = _map(reduced, lambda value: value.to(inputs.dtype))
            (gradient,) = torch.autograd.grad(loss(prediction).sum(), inputs)
        if self._compiled is not None:  # its buffers are used again
            return _map(prediction, lambda value: value.detach().clone()), gradient.clone()
        return _map(prediction, Tensor.detach), gradient


def _map(prediction: Prediction, function: Callable[[Tensor], Tensor]) -> Prediction:
    units = prediction["c_prob"]
    return {"output": function(prediction["output"]), "c_prob": None if units is None else function(units)}


def _frozen_copy(model: nn.Module, fold: bool) -> nn.Module:
    if isinstance(model, torch.fx.GraphModule):
        # An exported program is in evaluation mode for good: .eval() raises on it and it has nothing to fold.
        return copy.deepcopy(model).requires_grad_(False)
    frozen = copy.deepcopy(model).eval().requires_grad_(False)
    return _fold_batch_norms(frozen).to(memory_format=torch.channels_last) if fold else frozen


def _fold_batch_norms(module: Any) -> Any:
    """Replace each (convolution, batch norm) pair inside a Sequential by one convolution, in place."""
    for child in module.children():
        _fold_batch_norms(child)
    if isinstance(module, nn.Sequential):
        for index in range(len(module) - 1):
            convolution, norm = module[index], module[index + 1]
            if isinstance(convolution, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                module[index] = fuse_conv_bn_eval(convolution, norm).requires_grad_(False)
                module[index + 1] = nn.Identity()
    return module
