"""Projected ascent with momentum, whose steps shrink along a cosine from twice the budget to nothing.

Few steps of it find what a hundred of APGD find: the shrinking steps settle the cells whose slope changes its
sign nearby, and the averaged gradient forgets what rounding adds to single ones.

Sources: momentum from Dong et al., "Boosting Adversarial Attacks with Momentum" (MI-FGSM), CVPR 2018; the
schedule from Loshchilov & Hutter, "SGDR", ICLR 2017.
"""

from __future__ import annotations

import math

from torch import Tensor

from rmer.attacks.objectives import Objective
from rmer.attacks.problem import Problem
from rmer.attacks.search import Best
from rmer.attacks.threat import beside
from rmer.systems.frozen import FrozenNetwork

# Share of the average that the gradients before have.
MOMENTUM = 0.5
# The first step, in radii of the budget.
FIRST_STEP = 2.0
# A search in bfloat16 ends with a few finer steps, the first of so many radii. In small budgets, where all
# that counts are the signs of small slopes, gradients in bfloat16 alone miss 1.2 % of the damage, and with
# these steps .3 %.
POLISHING, POLISHING_STEP = 5, 0.5


def climb(
    network: FrozenNetwork, problem: Problem, objective: Objective, start: Tensor, best: Best, *, steps: int
) -> None:
    """Follow one objective from ``start``, in bfloat16 with a few finer steps at the end.

    These go on from the iterate that seems the best by the predictions that came with gradients: only when
    they are done is it worth predicting again.
    """
    last = _ascended(network, problem, objective, start, best, steps=steps, first=FIRST_STEP)
    finer = network.finer
    if finer is network:
        best.settle(objective, last)
    else:
        _finer_steps(finer, problem, objective, best.promising(objective.metric), best)


def polish(problem: Problem, objective: Objective, best: Best) -> None:
    """Take a few finer steps from the best iterates of a search in bfloat16, by the main metric."""
    finer = best.network.finer
    if finer is not best.network:
        _finer_steps(finer, problem, objective, best.iterates[objective.metric], best)


def _finer_steps(
    finer: FrozenNetwork, problem: Problem, objective: Objective, start: Tensor, best: Best
) -> None:
    objective = problem.started(finer, objective)
    last = _ascended(finer, problem, objective, start, best, steps=POLISHING, first=POLISHING_STEP)
    best.settle(objective, last)


def _ascended(
    network: FrozenNetwork,
    problem: Problem,
    objective: Objective,
    start: Tensor,
    best: Best,
    *,
    steps: int,
    first: float,
) -> Tensor:
    """Return the last iterate of a search from ``start`` [batch, ...]; ``best`` notes all before it."""
    threat, iterate, average, outputs = problem.threat, start, None, None
    for number in range(steps):
        prediction, _, gradient = objective.ascend(network, iterate, problem.labels, outputs)
        outputs = prediction["output"]
        best.note(network, iterate, objective.values(prediction, problem.labels))
        gradient = gradient / beside(gradient.abs().flatten(1).mean(1).clamp_min(1e-30), gradient)
        average = gradient if average is None else MOMENTUM * average + (1 - MOMENTUM) * gradient
        size = first * (1 + math.cos(math.pi * number / steps)) / 2
        step = size * threat.radius(iterate) * threat.steepest(average)
        iterate = threat.project(problem.inputs, iterate + step)
    return iterate
