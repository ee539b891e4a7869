"""A whole evaluation of a small trained model in seconds, for tests of sanity checks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from rmer.attacks.base import Attack
from rmer.attacks.suite import Tier, white_box
from rmer.attacks.threat import Threat
from rmer.data.dataset import EMOTIONS, Normalisation
from rmer.evaluation.budgets import Point, sweep
from rmer.evaluation.checks.controls import Background, gather
from rmer.evaluation.checks.measurements import AttackedScores, Check
from rmer.evaluation.checks.sanity import judge
from rmer.evaluation.metrics import constant_mae, regression_scores
from rmer.evaluation.subject import Subject
from rmer.systems.arithmetic import Precision
from rmer.systems.frozen import FrozenNetwork

CLIPS, FRAMES, BANDS = 16, 12, 32
TARGETS = EMOTIONS
TIER = Tier(("linf",), (0.05, 0.1, 0.2), steps=8, restarts=2, joint_restarts=1, queries=50)
REPORTED = 0.1

ThreatAt = Callable[[float], Threat]


class SmallNetwork(nn.Module):
    """Two convolutions with batch norm and dropout, as the study's network in small."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            *(nn.Conv2d(1, 4, 5, stride=2, padding=2), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout2d(0.1)),
            *(nn.Conv2d(4, 8, 3, stride=2, padding=1), nn.BatchNorm2d(8), nn.ReLU()),
            nn.AdaptiveAvgPool2d((1, 4)),
        )
        self.head = nn.Linear(32, len(TARGETS))

    def forward(self, inputs: Tensor) -> dict[str, Tensor | None]:
        return {"output": self.head(self.features(inputs).flatten(1)), "c_prob": None}


@dataclass(frozen=True, eq=False)
class Clips:
    """Raw spectrograms [clips, frames, bands] (>= 0) and labels [clips, targets] that follow from them."""

    raw: np.ndarray
    labels: Tensor

    def inputs(self, normalisation: Normalisation) -> Tensor:
        return torch.from_numpy(normalisation.standardise(self.raw))[:, None]


@cache
def music() -> tuple[Clips, Clips, Normalisation]:
    """Return training clips, clips to attack, and the normalisation fitted on the former.

    Emotions follow the loudness of the lower and of the upper half of the bands.
    """
    rng = np.random.default_rng(0)

    def clips(count: int) -> Clips:
        loudness = rng.uniform(0.1, 0.9, (count, 2))
        raw = rng.gamma(2.0, 0.5, (count, FRAMES, BANDS)) * loudness.repeat(BANDS // 2, 1)[:, None]
        raw[:, :, -1] = 0.0  # a silent band
        mixture = rng.normal(0, 0.01, (count, len(TARGETS)))
        mixture += (loudness - 0.5) @ np.tile([[1.2, 0.0, 0.6, -0.6], [0.0, -1.2, 0.6, 0.6]], 2)
        return Clips(raw.astype(np.float32), torch.from_numpy((0.5 + mixture).astype(np.float32)))

    train, attacked = clips(64), clips(CLIPS)
    return train, attacked, Normalisation(float(train.raw.mean()), float(train.raw.std()))


@cache
def trained(seed: int = 0) -> SmallNetwork:
    """Return a network that was trained for some seconds; in evaluation mode.

    It is trained in float64 and so is the same one on every CPU (see :func:`regressors.trained`).
    """
    train, _, normalisation = music()
    inputs, labels = train.inputs(normalisation).double(), train.labels.double()
    torch.manual_seed(seed)
    network = SmallNetwork().double()
    optimiser = torch.optim.Adam(network.parameters(), 0.01)
    for _ in range(40):
        for batch in torch.randperm(len(inputs)).split(32):
            optimiser.zero_grad()
            (network(inputs[batch])["output"] - labels[batch]).square().mean().backward()
            optimiser.step()
    return network.float().eval()


def scores(model: nn.Module) -> dict[str, float]:
    """Return what the training would have logged about the clips to attack."""
    _, attacked, normalisation = music()
    inputs = attacked.inputs(normalisation)
    found = Subject(FrozenNetwork(model), inputs, attacked.labels, threat_at).predicted(inputs)
    return dict(regression_scores(attacked.labels.numpy(), found, TARGETS).mean)


def box() -> tuple[Tensor, Tensor]:
    """Return floor and ceiling [bands] of the clips."""
    train, _, normalisation = music()
    return torch.full((BANDS,), normalisation.silence), train.inputs(normalisation).amax((0, 1, 2))


def threat_at(epsilon: float, norm: str = "linf") -> Threat:
    return Threat.per_cell(norm, epsilon, FRAMES * BANDS, *box())


@dataclass(frozen=True, eq=False, kw_only=True)
class Evaluation:
    """An evaluation in the parts in which it can go wrong; as it stands, nothing is wrong."""

    folder: Path
    model: nn.Module
    inputs: Tensor
    labels: Tensor
    logged_by_training: Mapping[str, float]
    precision: Precision = "fp32"
    threat_at: ThreatAt = threat_at
    # The reported attacks, and the labels and budgets that they get (None: those that all else gets).
    attacks: tuple[Attack, ...] = white_box(TIER)
    attacked_labels: Tensor | None = None
    attacked_within: ThreatAt | None = None
    # What happens to the points of the curve, and to the saved adversaries.
    after_sweep: Callable[[list[Point]], list[Point]] = list
    saved: Callable[[dict[str, Tensor]], dict[str, Tensor]] = dict
    surrogate: nn.Module | None = None
    other_norm: Mapping[str, Mapping[float, AttackedScores]] | None = None
    twins: tuple[str, ...] = ()

    @classmethod
    def sound(cls, folder: Path, **changed: Any) -> Evaluation:
        """Return a sound evaluation, but for what is ``changed``."""
        _, attacked, normalisation = music()
        sound = {
            "model": trained(),
            "inputs": attacked.inputs(normalisation),
            "labels": attacked.labels,
            "logged_by_training": scores(trained()),
        }
        return cls(folder=folder, **{**sound, **changed})

    @cached_property
    def network(self) -> FrozenNetwork:
        return FrozenNetwork(self.model, precision=self.precision, batch_size=CLIPS)

    def subject(self) -> Subject:
        return Subject(self.network, self.inputs, self.labels, self.threat_at, seed=3, batch_size=CLIPS)

    def points(self) -> list[Point]:
        """Attack within all budgets."""
        labels = self.labels if self.attacked_labels is None else self.attacked_labels
        within = self.attacked_within or self.threat_at
        return sweep(replace(self.subject(), labels=labels, threat_at=within), self.attacks, TIER.epsilons)

    def checks(self) -> dict[str, Check]:
        """Attack, save, read back and judge; return the checks by name."""
        points = self.after_sweep(self.points())
        reported = next(point for point in points if point.epsilon == REPORTED)
        saved = self.saved(self._read_back(reported))
        train, _, _ = music()
        background = Background(
            targets=TARGETS,
            trained=self.logged_by_training,
            constant_mae=constant_mae(train.labels.numpy(), self.labels.numpy()),
            twins=self.twins,
            surrogate=None if self.surrogate is None else FrozenNetwork(self.surrogate, batch_size=CLIPS),
            other_norm=self.other_norm or {},
        )
        reported = replace(reported, threat=self.threat_at(REPORTED))
        measurements = gather(self.subject(), background, TIER, points, reported, saved)
        return {check.name: check for check in judge(measurements)}

    def _read_back(self, point: Point) -> dict[str, Tensor]:
        found = {}
        for metric, adversaries in point.adversaries.items():
            np.save(self.folder / f"{metric}.npy", adversaries[:, 0].numpy(), allow_pickle=False)
            found[metric] = torch.from_numpy(np.load(self.folder / f"{metric}.npy"))[:, None]
        return found
