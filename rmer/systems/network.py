"""The VGG-style network of the study, in its two architectures.

Source: Chowdhury, Vall, Haunschmid, Widmer, "Towards Explainable Music Emotion Recognition: The Route via
Mid-level Features", ISMIR 2019. Parameter names are those of the published checkpoints, so these load
unchanged, and modules are created and initialised in an order that draws the same random numbers.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Protocol, TypedDict

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from rmer.errors import UserError
from rmer.registry import Registry
from rmer.systems.weights import require_finite

FEATURES = 256


class Prediction(TypedDict):
    """What a model of the study returns (the model contract)."""

    output: Tensor  # [batch, targets]
    c_prob: Tensor | None  # [batch, concepts], None where the model has no concepts


class Backbone(nn.Module):
    """Convolutions up to global average pooling: [batch, 1, frames, bands] -> [batch, 256]."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = _convolution(1, 64, kernel=5, stride=2)
        self.conv2 = _convolution(64, 64)
        self.mp2x2_dropout = nn.Sequential(nn.MaxPool2d(2), nn.Dropout2d(0.3))
        self.conv3 = _convolution(64, 128)
        self.conv4 = _convolution(128, 128)
        self.conv5 = _convolution(128, 256)
        self.conv6 = _convolution(256, 256)
        self.conv7 = _convolution(256, 384)
        self.conv7b = _convolution(384, 512)
        self.conv11 = _convolution(512, FEATURES, kernel=1)
        self.pool = nn.AdaptiveAvgPool2d(1)

    def forward(self, spectrograms: Tensor) -> Tensor:
        x = self.mp2x2_dropout(self.conv2(self.conv1(spectrograms)))
        x = self.mp2x2_dropout(self.conv4(self.conv3(x)))
        x = self.conv7b(self.conv7(self.conv6(self.conv5(x))))
        return torch.flatten(self.pool(self.conv11(x)), 1)


class PlainNetwork(nn.Module):
    """Audio to emotions in one linear layer (A2E)."""

    has_bottleneck: ClassVar[bool] = False

    def __init__(self, targets: int = 8, concepts: int = 0) -> None:
        super().__init__()
        self.preconcept_model = Backbone()
        self.fc = nn.Linear(FEATURES, targets)
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

    def __init__(self, targets: int = 8, concepts: int = 7) -> None:
        super().__init__()
        self.preconcept_model = Backbone()
        self.fc_ml = nn.Linear(FEATURES, concepts)
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

    def __call__(self, targets: int, concepts: int) -> nn.Module:
        """Return an initialised network; draws from torch's global generator."""

    def sizes(self, state: Mapping[str, Tensor]) -> tuple[int, int] | None:
        """Return targets and concepts of a state dict of this architecture, None for any other."""


ARCHITECTURES: Registry[Architecture] = Registry(
    "architecture", "rmer.architectures", {"plain": PlainNetwork, "bottleneck": BottleneckNetwork}
)


def build_network(arch: str, targets: int = 8, concepts: int = 7) -> nn.Module:
    """Return an initialised network (draws from torch's global generator)."""
    return ARCHITECTURES[arch](targets, concepts)


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
        network = build_network(arch, targets, concepts)
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
