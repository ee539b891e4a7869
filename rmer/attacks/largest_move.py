"""The objective of fragility: move one output as far as can be, the one that gives way most easily."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from rmer.attacks.objectives import Ascent, Objective
from rmer.attacks.threat import Threat
from rmer.systems.frozen import FrozenNetwork
from rmer.systems.network import Prediction


@dataclass(frozen=True, eq=False)
class LargestMove(Objective):
    """Push one output of each clip up or down; what counts is how far the most moved output moves.

    ``directions`` [clips, targets] are 0 but for 1 or -1 at the output that is pushed. Value ``move`` is the
    largest absolute difference of any output from the labels, which should be the clean predictions.
    """

    directions: Tensor
    name = metric = "move"

    @classmethod
    def easiest(cls, network: FrozenNetwork, inputs: Tensor, threat: Threat) -> LargestMove:
        """Return the objective that pushes, of each clip, the output with the largest dual norm of its slope.

        That is the one which any small budget moves most. It takes a gradient of every output.
        """
        outputs = network.predict_in_batches(inputs)["output"]
        targets = outputs.shape[1]
        slopes = torch.stack(
            [
                network.gradient(inputs, lambda found, k=target: found["output"][:, k])[1].flatten(1)  # type: ignore[misc]
                for target in range(targets)
            ],
            1,
        )
        ways = torch.stack([torch.eye(targets), -torch.eye(targets)], 1).flatten(0, 1).to(inputs)
        reach = threat.dual_norms(slopes, ways)
        return cls(ways[reach.argmax(1)])

    def ascend(
        self, network: FrozenNetwork, iterates: Tensor, labels: Tensor, before: Tensor | None = None
    ) -> Ascent:
        prediction, gradient = network.gradient(iterates, self._pushed)
        return Ascent(prediction, self._pushed(prediction), gradient)

    def values(self, prediction: Prediction, labels: Tensor) -> dict[str, Tensor]:
        return {"move": (prediction["output"] - labels).abs().amax(1)}

    def _pushed(self, prediction: Prediction) -> Tensor:
        return (self.directions * prediction["output"]).sum(1)
