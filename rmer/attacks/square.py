"""Square attack (Andriushchenko et al., ECCV 2020): random search that asks for predictions alone."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import ClassVar, Protocol

import torch
from torch import Tensor

from rmer.attacks.objectives import Objective
from rmer.attacks.problem import Problem
from rmer.attacks.result import Crafted, Passes
from rmer.attacks.search import L1, Best, ObjectiveAttack
from rmer.attacks.sound_threat import SoundThreat
from rmer.attacks.sound_windows import SoundWindows
from rmer.attacks.threat import Threat, beside, l2_norms, steepest
from rmer.errors import UserError
from rmer.parameters import param
from rmer.systems.frozen import FrozenNetwork

# Queries out of PLANNED at which the share of the spectrogram that a square covers is halved (section 5).
PLANNED = 10_000
HALVINGS = (10, 50, 200, 1000, 2000, 4000, 6000, 8000)
# The L2 attack begins with a grid of this many tiles along the shorter side of the spectrogram.
TILES = 5


@dataclass(frozen=True)
class Square(ObjectiveAttack):
    """Change one window at a time and keep the change where it raises the clip's value.

    A black-box attack: it asks for predictions only, ``queries`` a clip, and once for the clean clip's. What
    it raises is the main value of ``losses[0]`` (the MAE; for ``up:`` and ``down:`` the unit steered). Kept
    per clip and metric is the best of all that was asked, the clean clip included.

    The window starts at a share ``p_init`` of the spectrogram, halved by the paper's schedule rescaled to
    ``queries``. L-inf: starts with stripes of +-epsilon, one sign a band, and sets squares to +-epsilon.
    L2: starts with a grid of bumps, and moves the budget of one square, with what the box has left unused,
    into a bump in another. The clip to the box follows each change. On the sound, windows are of its
    short-time spectrum (:mod:`rmer.attacks.sound_windows`), which the paper does not have.
    """

    queries: int = param(1000, "queries a clip", low=1, high=10_000_000)
    p_init: float = 0.3
    losses: tuple[Objective, ...] = L1

    name: ClassVar[str] = "square"
    random: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.queries < 1:
            raise UserError("needs at least one query", where=self.name, mend="Raise queries")
        if not 0 < self.p_init <= 1:
            raise UserError(f"{self.p_init} is no share", where="p_init", mend="Give a share, 0 to 1")
        if self.losses[0].joint:
            what = "clips are searched one by one, and a joint loss has no value of each clip"
            raise UserError(what, where=self.name, mend="Use loss l1 or mse")

    def passes(self, targets: int) -> Passes:
        return Passes(0, 1 + self.queries)

    def run(self, network: FrozenNetwork, problem: Problem) -> Crafted:
        best = Best.of_clean(network, problem, self.losses[0])
        moves = _moves(problem)
        state = moves.start()
        reached = self._asked(network, problem, moves.adversaries(state), best)
        draws = problem.draw(torch.rand, self.queries - 1, 6).to(problem.inputs.device)
        for query in range(1, self.queries):
            share = self.p_init * covered(query / self.queries)
            changed = moves.changed(state, share, draws[:, query - 1])
            values = self._asked(network, problem, moves.adversaries(changed), best)
            better = values > reached
            state = torch.where(beside(better, state), changed, state)
            reached = torch.where(better, values, reached)
        return best.crafted()

    def _asked(self, network: FrozenNetwork, problem: Problem, candidates: Tensor, best: Best) -> Tensor:
        values = self.losses[0].values(network.predict_in_batches(candidates), problem.labels)
        best.update(candidates, values)
        return values[self.metric]


class Moves(Protocol):
    """Where the search begins, and how one state of it [batch, ...] becomes another."""

    def start(self) -> Tensor:
        """Return the first state."""

    def changed(self, state: Tensor, share: float, draws: Tensor) -> Tensor:
        """Return the state with a window changed that covers a share of it; ``draws`` [batch, 6] say how."""

    def adversaries(self, state: Tensor) -> Tensor:
        """Return the adversaries that a state stands for, within the budget, shaped like the inputs."""


def _moves(problem: Problem) -> Moves:
    if isinstance(problem.threat, SoundThreat):
        return SoundWindows(problem)
    return Corners(problem) if problem.threat.norm == "linf" else Bumps(problem)


@dataclass(frozen=True, eq=False)
class Corners:
    """The moves within an L-inf ball; states are adversaries."""

    problem: Problem

    def start(self) -> Tensor:
        return self.problem.threat.project(self.problem.inputs, stripes(self.problem))

    def changed(self, state: Tensor, share: float, draws: Tensor) -> Tensor:
        inputs, threat = self.problem.inputs, self.problem.threat
        changed = _set_window(inputs, state, threat, _side(inputs, share), draws)
        return threat.project(inputs, changed)

    def adversaries(self, state: Tensor) -> Tensor:
        return state


@dataclass(frozen=True, eq=False)
class Bumps:
    """The moves within an L2 ball; states are adversaries."""

    problem: Problem
    _patterns: dict[int, Tensor] = field(default_factory=dict)

    def start(self) -> Tensor:
        return self.problem.threat.project(self.problem.inputs, bumps(self.problem))

    def changed(self, state: Tensor, share: float, draws: Tensor) -> Tensor:
        inputs, threat = self.problem.inputs, self.problem.threat
        side = _side(inputs, share, odd=True)
        if side not in self._patterns:
            self._patterns[side] = bump(side).to(inputs)
        return threat.project(inputs, _move_budget(inputs, state, threat, self._patterns[side], draws))

    def adversaries(self, state: Tensor) -> Tensor:
        return state


def covered(done: float) -> float:
    """Return by what the initial share is multiplied when a share ``done`` of the queries is spent."""
    return 0.5 ** sum(done * PLANNED > halving for halving in HALVINGS)


def stripes(problem: Problem) -> Tensor:
    """Return the L-inf start: +-epsilon, one random sign a band, constant over time."""
    signs = _signs(problem.draw(torch.rand, 1, 1, problem.inputs.shape[-1])).to(problem.inputs)
    return problem.inputs + problem.threat.radius(problem.inputs) * signs


def bumps(problem: Problem) -> Tensor:
    """Return the L2 start: a grid of bumps of random sign and orientation, at the full radius."""
    frames, bands = problem.inputs.shape[2:]
    side = max(min(frames, bands) // TILES, 1)
    rows, columns = frames // side, bands // side
    draws = problem.draw(torch.rand, 2, rows, columns).to(problem.inputs)
    pattern = bump(side).to(draws)
    tiles = torch.where(draws[:, 1, :, :, None, None] < 0.5, pattern, pattern.T)
    tiles = tiles * _signs(draws[:, 0])[..., None, None]
    delta = torch.zeros_like(problem.inputs)
    # The tiles are centred; what is left at the borders is no tile.
    top, left = (frames - rows * side) // 2, (bands - columns * side) // 2
    grid = tiles.transpose(2, 3).reshape(-1, 1, rows * side, columns * side)
    delta[:, :, top : top + rows * side, left : left + columns * side] = grid
    return problem.inputs + problem.threat.radius(delta) * steepest(delta, "l2")


def bump(side: int) -> Tensor:
    """Return the pattern of the L2 attack, [side, side] of norm 1: a hill beside a valley (section 3.3)."""
    pattern = torch.cat([_hill(side // 2, side), -_hill(side - side // 2, side)])
    return steepest(pattern[None], "l2")[0]


def _hill(rows: int, columns: int) -> Tensor:
    """Return the sum over distances k >= that to the centre of 1 / (k + 1)^2, up to half the longer side."""
    far = (torch.arange(rows)[:, None] - rows // 2).abs()
    distance = torch.maximum(far, (torch.arange(columns) - columns // 2).abs())
    terms = 1.0 / torch.arange(1, max(rows, columns) // 2 + 2, dtype=torch.float64).square()
    return terms.flip(0).cumsum(0).flip(0)[distance]


def _set_window(inputs: Tensor, current: Tensor, threat: Threat, side: int, draws: Tensor) -> Tensor:
    """Set a random window of each clip to x +- epsilon, one sign a window; ``draws`` is [batch, 6]."""
    window = _window(inputs, side, draws[:, 1], draws[:, 2])
    corner = inputs + threat.radius(inputs) * _signs(draws[:, 0]).to(inputs).view(-1, 1, 1, 1)
    changed = current.clone()
    changed[window] = corner[window]
    return changed


def _move_budget(inputs: Tensor, current: Tensor, threat: Threat, pattern: Tensor, draws: Tensor) -> Tensor:
    """Empty one random window of each clip and let another have all that is free; ``draws`` is [batch, 6].

    ``pattern`` [side, side] is the bump of windows of that side.
    """
    side = len(pattern)
    delta = current - inputs
    filled = _window(inputs, side, draws[:, 2], draws[:, 3])
    emptied = _window(inputs, side, draws[:, 4], draws[:, 5])
    old = steepest(delta[filled], "l2")
    delta[filled] = 0.0
    delta[emptied] = 0.0
    # In float64: a norm summed in float32 misses 1e-6, which a large budget would be exceeded by.
    left = threat.radius(inputs).view(-1).double().square() - l2_norms(delta.double()).square()
    free = left.clamp_min(0.0).sqrt().to(delta)
    flipped = (draws[:, 1] < 0.5).view(-1, 1, 1)
    new = old + _signs(draws[:, 0]).to(inputs).view(-1, 1, 1) * torch.where(flipped, pattern, pattern.T)
    delta[filled] = steepest(new, "l2") * free.view(-1, 1, 1)
    return inputs + delta


def _side(inputs: Tensor, share: float, *, odd: bool = False) -> int:
    """Return the side of a square that covers a share of the spectrogram, as far as it fits."""
    frames, bands = inputs.shape[2:]
    side = max(round(math.sqrt(share * frames * bands)), 3 if odd else 1)
    return min(side + (odd and side % 2 == 0), frames, bands)


def _window(inputs: Tensor, side: int, down: Tensor, across: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the index of one window a clip; ``down`` and ``across`` [batch] place it, uniform in [0, 1)."""
    batch, _, frames, bands = inputs.shape
    cells = torch.arange(side, device=inputs.device)
    rows = (down * (frames - side + 1)).long()[:, None] + cells
    columns = (across * (bands - side + 1)).long()[:, None] + cells
    clips = torch.arange(batch, device=inputs.device).view(-1, 1, 1)
    return clips, torch.zeros_like(clips), rows[:, :, None], columns[:, None, :]


def _signs(draws: Tensor) -> Tensor:
    return torch.where(draws < 0.5, -1.0, 1.0)
