"""The objective of fragility: move one output as far as can be, the one that gives way most easily."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from rmer.attacks.objectives import ClipObjective
from rmer.attacks.ranked_objectives import output_slopes, up_and_down
from rmer.attacks.threat import Threat
from rmer.systems.frozen import FrozenNetwork
from rmer.systems.network import Prediction


@dataclass(frozen=True, eq=False)
class LargestMove(ClipObjective):
    """Push one output of each clip up or down; what counts is how far the most moved output moves.

    ``directions`` [clips, targets] are 0 but for 1 or -1 at the output that is pushed. Value ``move`` is the
    largest absolute difference of any output from the labels, which should be the clean predictions.
    """

    directions: Tensor
    name = metric = "move"

    @classmethod
    def easiest(cls, network: FrozenNetwork, inputs: Tensor, targets: int, threat: Threat) -> LargestMove:
        """Return the objective that pushes, of each clip, the output with the largest dual norm of its slope.

        That is the one which any small budget moves most. It takes a gradient of every output.
        """
        _, slopes = output_slopes(network, inputs, targets)
        ways = up_and_down(targets).to(inputs)
        return cls(ways[threat.dual_norms(slopes, ways).argmax(1)])

    def loss(self, prediction: Prediction, labels: Tensor) -> Tensor:
        return (self.directions * prediction["output"]).sum(1)

    def values(self, prediction: Prediction, labels: Tensor) -> dict[str, Tensor]:
        return {"move": (prediction["output"] - labels).abs().amax(1)}
