"""The VGG-style network of the study, in its two architectures.

Source: Chowdhury, Vall, Haunschmid, Widmer, "Towards Explainable Music Emotion Recognition: The Route via
Mid-level Features", ISMIR 2019. Parameter names are those of the published checkpoints, so these load
unchanged, and modules are created and initialised in an order that draws the same random numbers.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Protocol, TypedDict, cast

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from rmer.errors import UserError
from rmer.registry import Registry
from rmer.systems.feature_network import FeatureNetwork
from rmer.systems.weights import require_finite

# Channels of the published network, by the first layer that has them.
CHANNELS = {"conv1": 64, "conv3": 128, "conv5": 256, "conv7": 384, "conv7b": 512, "conv11": 256}
# Share of the channels that the published network drops in training, after each pooling.
DROPOUT = 0.3
# What networks may differ in beside their architecture, as published.
PUBLISHED_OPTIONS = {"width": 1.0, "dropout": DROPOUT}


class Prediction(TypedDict):
    """What a model of the study returns (the model contract)."""

    output: Tensor  # [batch, targets]
    c_prob: Tensor | None  # [batch, concepts], None where the model has no concepts


class Backbone(nn.Module):
    """Convolutions up to global average pooling: [batch, 1, frames, bands] -> [batch, features].

    ``width`` is the number of channels as a share of the published one; with 1 there are 256 features.
    ``dropout`` is the share of channels that training drops after each pooling.
    """

    def __init__(self, width: float = 1.0, dropout: float = DROPOUT) -> None:
        super().__init__()
        first, second, third, fourth, fifth, last = (
            max(1, round(width * channels)) for channels in CHANNELS.values()
        )
        self.conv1 = _convolution(1, first, kernel=5, stride=2)
        self.conv2 = _convolution(first, first)
        self.mp2x2_dropout = nn.Sequential(nn.MaxPool2d(2), nn.Dropout2d(dropout))
        self.conv3 = _convolution(first, second)
        self.conv4 = _convolution(second, second)
        self.conv5 = _convolution(second, third)
        self.conv6 = _convolution(third, third)
        self.conv7 = _convolution(third, fourth)
        self.conv7b = _convolution(fourth, fifth)
        self.conv11 = _convolution(fifth, last, kernel=1)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.features = last

    def forward(self, spectrograms: Tensor) -> Tensor:
        x = self.mp2x2_dropout(self.conv2(self.conv1(spectrograms)))
        x = self.mp2x2_dropout(self.conv4(self.conv3(x)))
        x = self.conv7b(self.conv7(self.conv6(self.conv5(x))))
        return torch.flatten(self.pool(self.conv11(x)), 1)


class PlainNetwork(nn.Module):
    """Audio to emotions in one linear layer (A2E)."""

    has_bottleneck: ClassVar[bool] = False

    def __init__(
        self, targets: int = 8, concepts: int = 0, width: float = 1.0, dropout: float = DROPOUT
    ) -> None:
        super().__init__()
        self.preconcept_model = Backbone(width, dropout)
        self.fc = nn.Linear(self.preconcept_model.features, targets)
        self.apply(_initialise)

    def forward(self, spectrograms: Tensor) -> Prediction:
        """Map [batch, 1, frames, bands] to ``output`` [batch, targets]; ``c_prob`` is None."""
        return {"output": self.fc(self.preconcept_model(spectrograms)), "c_prob": None}

    @staticmethod
    def sizes(state: Mapping[str, Tensor]) -> tuple[int, int] | None:
        """Return targets and concepts of a state dict of this architecture, None for any other."""
        return (len(state["fc.weight"]), 0) if "fc.weight" in state else None


class BottleneckNetwork(nn.Module):
    """Audio to concepts to emotions, both layers linear (A2B2E, A2M2E)."""

    has_bottleneck: ClassVar[bool] = True

    def __init__(
        self, targets: int = 8, concepts: int = 7, width: float = 1.0, dropout: float = DROPOUT
    ) -> None:
        super().__init__()
        self.preconcept_model = Backbone(width, dropout)
        self.fc_ml = nn.Linear(self.preconcept_model.features, concepts)
        self.fc_ml2emo = nn.Linear(concepts, targets)
        self.apply(_initialise)

    def forward(self, spectrograms: Tensor) -> Prediction:
        """Map [batch, 1, frames, bands] to ``output`` [batch, targets] and ``c_prob`` [batch, concepts]."""
        concepts = self.fc_ml(self.preconcept_model(spectrograms))
        return {"output": self.fc_ml2emo(concepts), "c_prob": concepts}

    @staticmethod
    def sizes(state: Mapping[str, Tensor]) -> tuple[int, int] | None:
        """Return targets and concepts of a state dict of this architecture, None for any other."""
        if "fc_ml2emo.weight" not in state:
            return None
        targets, concepts = state["fc_ml2emo.weight"].shape
        return targets, concepts


class Architecture(Protocol):
    """What the class of an architecture offers beside the model contract (its ``forward``)."""

    has_bottleneck: bool

    def __call__(
        self, targets: int, concepts: int, width: float = 1.0, dropout: float = DROPOUT
    ) -> nn.Module:
        """Return an initialised network; draws from torch's global generator.

        ``width`` scales the number of channels, ``dropout`` is the share of them that training drops. One
        that has no such thing may leave the parameter out.
        """

    def sizes(self, state: Mapping[str, Tensor]) -> tuple[int, int] | None:
        """Return targets and concepts of a state dict of this architecture, None for any other."""


ARCHITECTURES: Registry[Architecture] = Registry(
    "architecture",
    "rmer.architectures",
    {"plain": PlainNetwork, "bottleneck": BottleneckNetwork, "features": cast(Architecture, FeatureNetwork)},
)


def unit_names(arch: str) -> tuple[str, ...]:
    """Return what the units of an architecture stand for by themselves, whatever it is trained on; or ()."""
    return getattr(ARCHITECTURES[arch], "unit_names", ())


def build_network(
    arch: str, targets: int = 8, concepts: int = 7, width: float = 1.0, dropout: float = DROPOUT
) -> nn.Module:
    """Return an initialised network (draws from torch's global generator).

    ``width`` is the number of channels as a share of the published one, ``dropout`` the share of them that
    training drops. Raises UserError for an architecture that has no such thing.
    """
    given = {"width": width, "dropout": dropout}
    changed = {name: value for name, value in given.items() if value != PUBLISHED_OPTIONS[name]}
    if unknown := sorted(changed.keys() - options_of(arch)):
        what = f"the {arch} architecture has no {unknown[0]}"
        raise UserError(what, where=f"parameter {unknown[0]}", mend="Leave it out")
    return ARCHITECTURES[arch](targets, concepts, **changed)


def options_of(arch: str) -> set[str]:
    """Return which of :data:`PUBLISHED_OPTIONS` an architecture has."""
    return PUBLISHED_OPTIONS.keys() & inspect.signature(ARCHITECTURES[arch]).parameters.keys()


def _width(state: Mapping[str, Tensor]) -> float:
    """Return the width of a network from its state dict: 1 where it is none of this module."""
    found = {layer: state.get(f"preconcept_model.{layer}.0.weight") for layer in CHANNELS}
    numbers = {layer: len(weight) for layer, weight in found.items() if weight is not None}
    if all(number == CHANNELS[layer] for layer, number in numbers.items()):
        return 1.0
    # Each layer has a rounded number of channels: the width is what all of them allow.
    wide = {layer: number for layer, number in numbers.items() if number > 1}  # no layer has less than one
    low = max(((number - 0.5) / CHANNELS[layer] for layer, number in wide.items()), default=0.0)
    high = min((number + 0.5) / CHANNELS[layer] for layer, number in numbers.items())
    return (low + high) / 2


def load_checkpoint(path: Path) -> nn.Module:
    """Load a state dict (``.safetensors``, or a published ``.pt``) into the architecture that its keys name.

    Nothing is unpickled but tensors. Raises UserError for a file that is no checkpoint of this network, or
    that holds weights that are not numbers.
    """
    if path.exists() and not path.is_file():  # a pipe would be waited for
        raise UserError("is no file", where=str(path), mend="Give a checkpoint file")
    try:
        if path.suffix == ".safetensors":
            state = load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
        sizes = {name: architecture.sizes(state) for name, architecture in ARCHITECTURES.items()}
        arch, (targets, concepts) = next((name, found) for name, found in sizes.items() if found)
        network = build_network(arch, targets, concepts, _width(state))
        network.load_state_dict(state)
    except FileNotFoundError:
        raise UserError("checkpoint not found", where=str(path)) from None
    except Exception as error:  # torch, pickle, zip and safetensors each raise their own kind for a bad file
        what = f"not a checkpoint of this network ({type(error).__name__})"
        mend = "Give a state dict saved by rmer or by the published code"
        raise UserError(what, where=str(path), mend=mend) from error
    require_finite(state, where=str(path), mend="Train again with a smaller lr, or give another checkpoint")
    return network.eval()


def _convolution(inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> nn.Sequential:
    convolution = nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.ReLU())


def _initialise(module: nn.Module) -> None:
    """Kaiming-normal kernels; convolution biases keep PyTorch's default, batch norm starts at (1, 0)."""
    if isinstance(module, (nn.Conv2d, nn.Linear)):
        nn.init.kaiming_normal_(module.weight, mode="fan_in", nonlinearity="relu")
    if isinstance(module, nn.Linear) and module.bias is not None:
        nn.init.zeros_(module.bias)
