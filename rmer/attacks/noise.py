"""Controls: random noise of the attacker's budget. What noise does, an attack has to exceed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from rmer.attacks.objectives import Objective
from rmer.attacks.problem import Problem
from rmer.attacks.result import Crafted, Passes
from rmer.attacks.search import L1, Best, ObjectiveAttack
from rmer.errors import UserError
from rmer.parameters import param
from rmer.systems.frozen import FrozenNetwork

NoiseKind = Literal["uniform", "sign", "gaussian"]
KINDS: tuple[NoiseKind, ...] = ("uniform", "sign", "gaussian")


@dataclass(frozen=True)
class Noise(ObjectiveAttack):
    """Random noise, projected to the budget and the box.

    L-inf: ``uniform`` in the ball; ``sign``, +-epsilon in every cell; ``gaussian`` of standard deviation
    epsilon, cut off at +-epsilon. L2 and SNR: noise of that kind, scaled to the full radius (before the box
    cuts it). Masking: shaped by what is masked, at the limit in every band.

    Nothing is compared with the clean clip, as a control reports what noise does, which may be little or
    even help. Of several ``draws`` the worst one of each clip is kept (of each split where the objective
    is joint); a draw costs one forward pass a clip.
    """

    noise: NoiseKind = param("uniform", "kind of noise")
    draws: int = param(10, "draws of noise, the worst of which counts", low=1, high=100_000)
    losses: tuple[Objective, ...] = L1

    name: ClassVar[str] = "noise"
    random: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.noise not in KINDS:
            mend = f"Use one of {', '.join(KINDS)}"
            raise UserError(f"{self.noise!r} is no noise", where=self.name, mend=mend)
        if self.draws < 1:
            raise UserError("needs at least one draw", where=self.name, mend="Raise draws")

    def passes(self, targets: int) -> Passes:
        return Passes(0, self.draws)

    def run(self, network: FrozenNetwork, problem: Problem) -> Crafted:
        best = Best(network, problem, *self._drawn(network, problem))
        for _ in range(1, self.draws):
            best.update(*self._drawn(network, problem))
        return best.crafted()

    def _drawn(self, network: FrozenNetwork, problem: Problem) -> tuple[Tensor, dict[str, Tensor]]:
        noise = problem.gaussian() if self.noise == "gaussian" else problem.uniform()
        if self.noise == "sign":
            noise = torch.where(noise < 0, -1.0, 1.0).to(noise)
        threat, inputs = problem.threat, problem.inputs
        drawn = threat.project(inputs, inputs + threat.radius(inputs) * threat.filled(inputs, noise))
        return drawn, self.losses[0].values(network.predict_in_batches(drawn), problem.labels)
