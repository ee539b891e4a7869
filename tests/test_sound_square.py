"""Square on the sound: windows of the music's spectrum, budgets, a known optimum, and what queries buy."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from sounds import FRAMES, listening, sound_files, threat
from torch import Tensor, nn

from rmer.attacks.losses import absolute_error
from rmer.attacks.noise import Noise
from rmer.attacks.problem import Problem, clip_generator
from rmer.attacks.sound_budgets import SOUND_NORMS
from rmer.attacks.sound_windows import SoundWindows
from rmer.attacks.square import Square
from rmer.data.audio.masking import stft
from rmer.data.audio.recordings import HEADER, Header, changeable
from rmer.systems.network import Prediction

BUDGETS = [("linf", -60.0), ("snr", 30.0), ("masking", -6.0)]
NAMES = ("ordinary", "to its end", "repeated", "faint")
pytestmark = pytest.mark.rounding


def windows(norm: str = "masking", names: tuple[str, ...] = NAMES) -> SoundWindows:
    rows = sound_files(names).rows()
    generators = [clip_generator(1, clip) for clip in range(len(rows))]
    within = threat(norm, dict(BUDGETS)[norm], rows)
    return SoundWindows(Problem(rows, torch.zeros(len(rows), 3), within, generators))


def test_a_window_covers_its_share_of_what_can_change_and_nothing_else() -> None:
    moves = windows()
    start = moves.start()
    assert start.shape == (4, 69, 1 + (sound_files().rows().shape[-1] - HEADER) // 512)
    assert torch.equal(start, start[:, :, :1].expand_as(start)), "stripes along time"
    assert set(start.unique().tolist()) == {-1.0, 1.0}
    rows = moves.problem.inputs[:, 0]
    for share in (1.0, 0.3, 0.01, 1e-6):
        for corner in (0.0, 0.5, 0.999):
            changed = moves.changed(start, share, torch.full((4, 6), corner)) != start
            for clip, row in zip(changed, rows, strict=True):
                end = -(-int(row[Header.HIGH]) // 512)
                assert int(row[Header.LOW]) <= 1
                assert not clip[:, end:].any()
                height, length = (max(round(side * share**0.5), 1) for side in (69, end))
                # Gains of another size are new; one of the old size shows where its sign is another.
                assert int(clip.any(1).sum()) <= height
                assert int(clip.any(0).sum()) == length


def test_a_gain_above_zero_makes_the_music_louder_and_one_below_softer() -> None:
    moves = windows("snr", ("ordinary",))
    rows = moves.problem.inputs
    before = stft(rows[:, 0, HEADER:]).abs()[0, 40:400, 8:-8]  # where it is loud
    for sign in (1.0, -1.0):
        found = moves.adversaries(torch.full_like(moves.start(), sign))
        after = stft(found[:, 0, HEADER:]).abs()[0, 40:400, 8:-8]
        assert float((((after - before) * sign) > 0).float().mean()) > 0.95, sign


@pytest.mark.parametrize(("norm", "budget"), BUDGETS)
def test_settled_rows_hold_the_budget_and_use_it(norm: str, budget: float) -> None:
    rows = sound_files().rows()
    within = threat(norm, budget, rows)
    network = listening()
    found = Square(20)(network, rows, network.predict(rows)["output"], within, seed=2)
    assert not found.violations.any()
    for saved in (found.adversaries, *found.also.values()):
        assert torch.equal(saved, saved.round())
        assert not within.violations(rows, saved).any()
        assert (within.used(rows, saved) > 0.9).all()
    assert (found.gradients, found.forwards) == (0, 21 * len(rows))


@pytest.mark.parametrize(("norm", "budget"), BUDGETS)
def test_stronger_than_as_many_draws_of_noise_and_than_fewer_queries(norm: str, budget: float) -> None:
    rows, network = sound_files(NAMES).rows(), listening()
    within = threat(norm, budget, rows)
    labels = torch.rand(len(rows), 3, generator=torch.Generator().manual_seed(1))
    clean = absolute_error(network.predict(rows)["output"], labels)

    def added(attack: Square | Noise) -> float:
        found = attack(network, rows, labels, within, seed=1).adversaries
        return float((absolute_error(network.predict(found)["output"], labels) - clean).mean())

    noise, few, many = added(Noise("gaussian", draws=120)), added(Square(12)), added(Square(120))
    assert few < many
    assert 1.5 * max(noise, 0.0) < many


class InPhase(nn.Module):
    """Linear in the samples of one clip: weights are its spectrum at magnitude 1, louder here, softer there.

    As gains of +-1 on a grid of 3 x 4 windows make them, so that the search could find them in full.
    """

    def __init__(self) -> None:
        super().__init__()
        moves = windows("snr", ("ordinary",))
        signs = torch.tensor([[1.0, -1.0, -1.0, 1.0], [-1.0, 1.0, 1.0, -1.0], [1.0, 1.0, -1.0, -1.0]])
        frames = moves._phases.shape[2]
        gains = signs.repeat_interleave(23, 0)[:, torch.arange(frames) * 4 // frames]
        rows = moves.problem.inputs
        found = moves.adversaries(gains[None]) - rows
        self.weights = nn.Parameter(torch.where(changeable(rows), found, 0.0)[0, 0])

    def forward(self, rows: Tensor) -> Prediction:
        return {"output": (rows[:, 0] @ self.weights)[:, None] / self.weights.norm(), "c_prob": None}


def test_most_of_what_a_linear_function_in_phase_with_the_music_can_be_moved() -> None:
    rows = sound_files(("ordinary",)).rows().double()
    model = InPhase().double()
    labels = model(rows)["output"].detach() - 1e-3
    # Cauchy and Schwarz: no change of this norm moves it by more than that norm.
    best = float(rows[..., HEADER:].norm()) * 10 ** (-30 / 20)
    shares = []
    for queries in (1, 40, 400):
        found = Square(queries)(model, rows, labels, threat("snr", 30.0, rows), seed=3).adversaries
        shares.append(abs(float((model(found)["output"] - labels).detach())) / best)
    assert shares == sorted(shares)
    assert 0.6 < shares[-1] <= 1.001, shares


@pytest.mark.parametrize("norm", SOUND_NORMS)
def test_clips_do_not_depend_on_their_batch(norm: str) -> None:
    """In float64, where rounding decides between no two candidates."""
    rows = sound_files(NAMES).rows().double()

    class Loudness(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.tensor(1e-3, dtype=torch.float64))

        def forward(self, heard: Tensor) -> Prediction:
            parts = heard[:, 0, HEADER:].unfold(1, 2000, 2000)
            return {"output": parts.square().mean(2).sqrt()[:, :4] * self.scale, "c_prob": None}

    labels = Loudness()(rows)["output"].detach() - 1e-3
    within = threat(norm, dict(BUDGETS)[norm], rows)
    whole, pairs = (
        Square(15)(Loudness(), rows, labels, within, seed=1, batch_size=size).adversaries for size in (4, 2)
    )
    assert float((whole - rows).abs().max()) > 0
    assert float((whole - pairs).abs().max()) <= 1, "steps may round otherwise"
    alone = Square(15)(Loudness(), rows[:1], labels[:1], within.of([0]), seed=1).adversaries
    assert float((whole[:1] - alone).abs().max()) <= 1
    other = Square(15)(Loudness(), rows, labels, within, seed=2).adversaries
    assert np.mean((whole != other).numpy()) > 0.1


def test_budgets_of_each_clip_are_its_own() -> None:
    rows, network = sound_files(NAMES[:2]).rows(), listening()
    within = threat("linf", -60.0, rows)
    radii = torch.tensor([within.epsilon, within.epsilon / 4], dtype=torch.float64)
    labels = network.predict(rows)["output"]  # any change is a worse prediction
    found = Square(10)(network, rows, labels, replace(within, epsilon=radii), seed=1)
    assert found.linf.tolist() == [32.0, 8.0]
    assert FRAMES == 24, "rows of so many frames are long enough to have windows"
