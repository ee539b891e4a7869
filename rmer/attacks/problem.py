"""What an attack is given: one batch of clips with its budget and the random numbers of each clip."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from rmer.attacks.objectives import Objective
from rmer.attacks.result import Crafted
from rmer.attacks.threat import Threat
from rmer.systems.frozen import FrozenNetwork

Progress = Callable[[float], object]
# Called with a name and what computes a part of a batch: returns the part, computed now or before.
Remember = Callable[[str, Callable[[], Crafted]], Crafted]


def forget(name: str, compute: Callable[[], Crafted]) -> Crafted:
    """Compute a part of a batch and keep it nowhere."""
    return compute()


def untold(clips: float) -> None:
    """Tell nobody."""


@dataclass(frozen=True)
class Problem:
    """One batch to attack.

    Attributes
    ----------
    inputs : [batch, 1, frames, bands], standardised
    labels : [batch, targets], what the attack moves away from
    threat : the budget and the box
    generators : one stream of random numbers a clip, so that its fate does not depend on its batch
    warm_start : adversaries of a smaller budget to start from, shaped like inputs, or None
    remember, progress : keep finished parts and tell of them (with the number of clips that they are worth),
        for pooled attacks
    clips : place of the clip of each row [batch], where several rows are of one clip (in several budgets);
        the first rows are one of each
    """

    inputs: Tensor
    labels: Tensor
    threat: Threat
    generators: list[torch.Generator]
    warm_start: Tensor | None = None
    remember: Remember = forget
    progress: Progress = untold
    clips: Tensor | None = None

    def uniform(self) -> Tensor:
        """Draw numbers uniform in [-1, 1), shaped like the inputs."""
        return self.draw(torch.rand, *self.inputs.shape[1:]).to(self.inputs) * 2 - 1

    def gaussian(self) -> Tensor:
        """Draw numbers of the standard normal distribution, shaped like the inputs."""
        return self.draw(torch.randn, *self.inputs.shape[1:]).to(self.inputs)

    def draw(self, distribution: Callable[..., Tensor], *shape: int) -> Tensor:
        """Draw numbers of ``torch.rand`` or ``torch.randn`` from the stream of each clip, [batch, *shape]."""
        return torch.stack([distribution(shape, generator=generator) for generator in self.generators])

    def random_start(self) -> Tensor:
        """Draw a start inside the budget."""
        return self.threat.random_start(self.inputs, self.uniform())

    def settled(self, part: Crafted) -> Crafted:
        """Return what was crafted with its adversaries as they are stored.

        Most clips have one adversary for all metrics, which is settled once.
        """
        adversaries = self.threat.settle(self.inputs, part.adversaries)
        also = {}
        for metric, values in part.also.items():
            rows = (values != part.adversaries).flatten(1).any(1).nonzero().flatten()
            also[metric] = adversaries.clone()
            if len(rows):
                also[metric][rows] = self.threat.of(rows).settle(self.inputs[rows], values[rows])
        return replace(part, adversaries=adversaries, also=also)

    def started(self, network: FrozenNetwork, objective: Objective) -> Objective:
        """Return the objective made ready for this batch."""
        return objective.started(network, self.inputs, self.labels, self.threat)

    def of(self, clips: Tensor) -> Problem:
        """Return the problem of some of the clips, given by their places (int64)."""
        places = clips.tolist()
        warm = None if self.warm_start is None else self.warm_start[clips]
        generators = [self.generators[place] for place in places]
        inputs, labels, threat = self.inputs[clips], self.labels[clips], self.threat.of(places)
        same = None if self.clips is None else self.clips[clips.to(self.clips.device)]
        return Problem(inputs, labels, threat, generators, warm, self.remember, self.progress, same)

    def on(self, network: FrozenNetwork) -> Problem:
        """Return the problem on the device and in the arithmetic of a network."""
        device, dtype = network.device, network.dtype
        warm = None if self.warm_start is None else self.warm_start.to(device, dtype)
        inputs, labels = self.inputs.to(device, dtype), self.labels.to(device, dtype)
        return replace(self, inputs=inputs, labels=labels, warm_start=warm, threat=self.threat.on(device))


def clip_generator(seed: int, index: int) -> torch.Generator:
    """Return the random stream of the clip at place ``index``."""
    state = np.random.SeedSequence([seed, index]).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(state[0] >> np.uint64(1)))
