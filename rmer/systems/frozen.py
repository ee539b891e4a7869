"""A network made ready for attack: evaluation mode, weights frozen, batch norm folded, passes counted."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_conv_bn_weights

from rmer.systems.arithmetic import Precision, precision_for
from rmer.systems.compiled import CompiledModel
from rmer.systems.devices import prepare_device
from rmer.systems.network import Prediction
from rmer.systems.reduced import ReducedModel

Loss = Callable[[Prediction], Tensor]


@dataclass
class Spent:
    """Passes through a network, one a clip.

    ``reduced`` of the gradients had all convolutions in bfloat16, and ``finer`` of them the later half.
    """

    gradients: int = 0
    forwards: int = 0
    reduced: int = 0
    finer: int = 0


class FrozenNetwork:
    """Predictions and input gradients of a fixed model, and how many of each were asked for.

    Any module that meets the model contract will do. Weights get no gradients and each batch norm is folded
    into the convolution before it, which leaves the function unchanged up to rounding (gradients agree to
    3e-5 of a maximum of 9e-3 in float32) and makes a gradient about 1.6 times cheaper on a CPU.

    ``precision`` bf16 takes gradients, and the predictions that come with them, from a copy whose
    convolutions run in bfloat16. Its scores tell iterates of a search apart to about 2e-5 and are for that
    alone: :meth:`predict` stays in the model's own arithmetic, as does all of :attr:`full`, and all of a
    model that needs it (:func:`rmer.systems.arithmetic.precision_for`). ``compile`` takes gradients (and the
    predictions that come with them) from a compiled copy, the same up to rounding.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        fold: bool = True,
        precision: Precision = "fp32",
        batch_size: int = 8,
        compile: bool = False,
    ) -> None:
        self.model = _frozen_copy(model, fold)
        self.precision = precision_for(self.model, precision)
        self.batch_size = batch_size
        self._reduced = ReducedModel(self.model) if self.precision == "bf16" else None
        parameter = next(self.model.parameters(), None)
        # A model without parameters may hear by buffers: the front end of a function on audio.
        held = parameter if parameter is not None else next(self.model.buffers(), None)
        self.device = torch.device("cpu") if held is None else held.device
        self.dtype = torch.float32 if parameter is None else parameter.dtype
        prepare_device(self.device)
        differentiated = self._reduced or self.model
        self._compiled = CompiledModel(differentiated, self.device) if compile else None
        self.spent = Spent()

    def follow(self, model: nn.Module) -> None:
        """Take over the weights that ``model``, of which this is a copy, has by now.

        For training, where copying a small model for every batch takes as long as attacking it.
        """
        _take_over(self.model, model)
        if self._reduced is not None:
            self._reduced = ReducedModel(self.model)
        self.__dict__.pop("finer", None)

    @property
    def gradients(self) -> int:
        """Gradients so far, one a clip."""
        return self.spent.gradients

    @property
    def forwards(self) -> int:
        """Predictions without a gradient so far, one a clip."""
        return self.spent.forwards

    @cached_property
    def full(self) -> FrozenNetwork:
        """The network with gradients in the model's own arithmetic; what it spends is counted here."""
        if self._reduced is None:
            return self
        full = copy.copy(self)
        full.precision, full._reduced, full._compiled = "fp32", None, None
        return full

    @cached_property
    def finer(self) -> FrozenNetwork:
        """The network with gradients that have only the later half of the convolutions in bfloat16.

        Where all are, 6 % of a gradient's cells have another sign than in float32 (published network trained
        on real music); here 1 %, for half the time of float32. What it spends is counted here.
        """
        if self._reduced is None or self._reduced.whole:
            return self.full
        if not self._reduced.earlier:
            return self
        finer = copy.copy(self)
        finer._reduced, finer._compiled = ReducedModel(self.model, earlier=False), None
        return finer

    def predict(self, inputs: Tensor) -> Prediction:
        """Return ``output`` [batch, targets] and ``c_prob`` [batch, concepts] or None, without a graph."""
        return self._predict(self.model, inputs)

    def predict_in_batches(self, inputs: Tensor) -> Prediction:
        """Return :meth:`predict` of any number of clips, in even batches of at most ``batch_size``."""
        return self._in_batches(self.model, inputs)

    def estimate_in_batches(self, inputs: Tensor) -> Prediction:
        """Return the predictions that would come with gradients, without these."""
        return self._in_batches(self._reduced or self.model, inputs)

    def batches(self, *clips: Tensor) -> Iterator[tuple[Tensor, ...]]:
        """Cut tensors [clips, ...] alike into batches of at most ``batch_size`` clips, as even as can be."""
        count = max(1, -(-len(clips[0]) // self.batch_size))
        return zip(*(torch.tensor_split(values, count) for values in clips), strict=True)

    def gradient(self, inputs: Tensor, loss: Loss) -> tuple[Prediction, Tensor]:
        """Return the prediction at ``inputs`` and the gradient of the summed loss there.

        ``loss`` maps a prediction to one value a clip [batch]; as clips do not interact in evaluation mode,
        the gradient of the sum holds each clip's own gradient. Both are of the copy in bfloat16, if there is
        one.
        """
        self.spent.gradients += len(inputs)
        inputs = inputs.detach().requires_grad_(True)
        with torch.enable_grad():
            if self._reduced is not None:
                self.spent.reduced += len(inputs) if self._reduced.earlier else 0
                self.spent.finer += 0 if self._reduced.earlier else len(inputs)
            prediction: Prediction = (self._compiled or self._reduced or self.model)(inputs)
            (gradient,) = torch.autograd.grad(loss(prediction).sum(), inputs)
        if self._compiled is not None:  # its buffers are used again
            return _map(prediction, lambda value: value.detach().clone()), gradient.clone()
        return _map(prediction, Tensor.detach), gradient

    def _predict(self, model: nn.Module, inputs: Tensor) -> Prediction:
        self.spent.forwards += len(inputs)
        with torch.no_grad():
            prediction = model(inputs)
        return {"output": prediction["output"], "c_prob": prediction["c_prob"]}

    def _in_batches(self, model: nn.Module, inputs: Tensor) -> Prediction:
        return joined([self._predict(model, batch) for (batch,) in self.batches(inputs)])


def joined(parts: Sequence[Prediction]) -> Prediction:
    """Return the predictions of several batches as one."""
    units = [part["c_prob"] for part in parts]
    return {
        "output": torch.cat([part["output"] for part in parts]),
        "c_prob": None if any(unit is None for unit in units) else torch.cat(units),  # type: ignore[arg-type]
    }


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
    for index, convolution, norm in _pairs(module):
        module[index] = fuse_conv_bn_eval(convolution, norm).requires_grad_(False)
        module[index + 1] = nn.Identity()
    return module


def _pairs(module: nn.Module) -> list[tuple[int, nn.Conv2d, nn.BatchNorm2d]]:
    """Return the convolutions of a Sequential that a batch norm follows, with their places; else none."""
    found = itertools.pairwise(module) if isinstance(module, nn.Sequential) else ()
    return [
        (index, convolution, norm)
        for index, (convolution, norm) in enumerate(found)
        if isinstance(convolution, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d)
    ]


def _take_over(frozen: nn.Module, model: nn.Module) -> None:
    """Set the tensors of a frozen copy of ``model``, with batch norms folded or not, to what they are now."""
    known: dict[str, Tensor] = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    for name, module in model.named_modules():
        start = f"{name}." if name else ""
        for index, convolution, norm in _pairs(module):
            if isinstance(frozen.get_submodule(f"{start}{index + 1}"), nn.Identity):
                known[f"{start}{index}.weight"], known[f"{start}{index}.bias"] = _fused(convolution, norm)
    with torch.no_grad():
        for name, tensor in itertools.chain(frozen.named_parameters(), frozen.named_buffers()):
            tensor.copy_(known[name])


def _fused(conv: nn.Conv2d, norm: Any) -> tuple[Tensor, Tensor]:
    return fuse_conv_bn_weights(
        conv.weight, conv.bias, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
    )
