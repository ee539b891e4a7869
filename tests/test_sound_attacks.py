"""Attacks on the sound: rows of samples, their threat model, and the files that are scored."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from sounds import FRAMES, NORMALISATION, SmallListener, clips, listening, sound_files, subject, threat
from torch import Tensor, nn

from rmer.attacks.apgd import APGD
from rmer.attacks.base import Attack, BudgetError
from rmer.attacks.escalation import Escalation
from rmer.attacks.fgsm import FGSM
from rmer.attacks.minimum_norm import MinimumNorm
from rmer.attacks.noise import Noise
from rmer.attacks.objectives import CorrelationObjective, ErrorObjective
from rmer.attacks.pgd import PGD
from rmer.attacks.problem import Problem
from rmer.attacks.ranked_objectives import OutputObjective
from rmer.attacks.result import Crafted
from rmer.attacks.sound_budgets import SOUND_NORMS, budget_of, epsilon_of, sound_step
from rmer.attacks.sound_threat import SoundThreat
from rmer.attacks.suite import Tier, white_box
from rmer.attacks.transfer import Transfer
from rmer.data.audio.masking import noise_to_mask
from rmer.data.audio.recordings import HEADER, Header, Recording, changeable
from rmer.data.preparation.recording_files import FileError
from rmer.errors import UserError
from rmer.evaluation.budgets import sweep
from rmer.evaluation.checks.controls import Background, gather
from rmer.evaluation.checks.sanity import judge
from rmer.systems.frozen import FrozenNetwork
from rmer.systems.listening_network import ListeningNetwork
from rmer.systems.network import Prediction
from rmer.systems.reduced import ReducedModel

L1 = (ErrorObjective("l1"),)
BUDGETS = [("linf", -60.0), ("snr", 30.0), ("masking", -6.0)]


@pytest.mark.parametrize("frontend", ["madmom", "torch"])
def test_a_row_is_heard_as_the_file_that_holds_it(frontend: str, tmp_path: Path) -> None:
    files = sound_files(frontend=frontend)
    rows = files.rows()
    written = files.write(rows, tmp_path)
    assert torch.equal(files.read(written), rows)
    expected = files.spectrograms(written)
    network = listening()
    with torch.no_grad():
        assert (network.model.ear(rows) - expected).abs().max() < 1e-5
        predicted = FrozenNetwork(SmallListener()).predict(expected)["output"]
        assert (network.predict(rows)["output"] - predicted).abs().max() < 1e-6


def test_what_a_row_says_of_its_clip() -> None:
    row = clips()["silence around"].row(FRAMES)
    assert row[: Header.LOW].tolist() == [
        4,
        32,
        clips()["silence around"].peak,
    ]  # ceil(22000 / 704.47) frames
    first = 1234 + int(4 * 22050 / 31.3)
    assert row[HEADER : HEADER + 5].tolist() == clips()["silence around"].samples[first : first + 5].tolist()
    repeated = clips()["repeated"]
    assert (repeated.count, repeated.heard(FRAMES)) == (13, (0, 9000))
    assert repeated.row(FRAMES)[[Header.LOW, Header.HIGH]].tolist() == [1, 8999]
    wraps = clips()["wraps at full scale"]
    assert wraps.peak == 20000, "the magnitude of -32768 is itself to 16 bits"
    unchangeable = ~changeable(torch.from_numpy(wraps.row(FRAMES))[None, None])[0, 0]
    assert {9000, 12000} <= set((unchangeable.nonzero().flatten() - HEADER + wraps.heard(FRAMES)[0]).tolist())


def attacks() -> dict[str, Attack]:
    return {
        "apgd": APGD(4, (*L1, OutputObjective(0)), restarts=2),
        "pgd": PGD(3, losses=L1),
        "escalation": Escalation(first_steps=2, starts=2),
        "fgsm": FGSM(L1),
        "uniform": Noise("uniform", draws=1),
        "sign": Noise("sign", draws=1),
        "joint": APGD(3, (CorrelationObjective(),), 1),
        "transfer": Transfer(listening(), APGD(3, L1, 1)),
    }


@pytest.mark.parametrize(("norm", "budget"), BUDGETS)
def test_saved_files_score_as_attacked_and_hold_the_budget(norm: str, budget: float, tmp_path: Path) -> None:
    """Judged from the files alone, by definitions written down here once more."""
    files = sound_files()
    model, rows = subject(files), files.rows()
    within = threat(norm, budget, rows)
    clean = model.predicted(rows)
    for name, attack in attacks().items():
        found = attack(model.network, rows, model.labels, within, seed=1)
        written = files.write(found.adversaries, tmp_path / name)
        predicted, _ = model.read(written, found.adversaries)
        attacked = model.network.predict_in_batches(found.adversaries)["output"].numpy()
        assert np.abs(predicted - attacked).max() < 1e-6, name
        assert not found.violations.any()
        assert np.abs(predicted - clean).max() > 1e-4, f"{name} does nothing"
        for file, recording in zip(written, files.recordings, strict=True):
            changed = soundfile.read(file, dtype="int16")[0].astype(np.int64)
            before = recording.samples.astype(np.int64)
            begin, end = recording.heard(FRAMES)
            outside = np.r_[0:begin, end : len(before)]
            assert (changed[outside] == before[outside]).all()
            delta, heard = (changed - before)[begin:end], before[begin:end]
            if norm == "linf":
                assert np.abs(delta).max() <= 32768 * 10 ** (budget / 20)
            elif norm == "snr":
                assert 10 * np.log10((heard**2).sum() / max((delta**2).sum(), 1)) >= budget - 1e-4
            else:
                one = [torch.from_numpy(values.astype(np.float64))[None] for values in (heard, delta)]
                assert noise_to_mask(*one).max() <= budget + 1e-3


class Samplewise(nn.Module):
    """A function that is linear in the samples of a row, whose worst perturbations have a closed form."""

    def __init__(self, cells: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(2)
        weights = torch.randn(cells, generator=generator) * 1e-6
        weights[:HEADER] = 0
        self.weights = nn.Parameter(weights)

    def forward(self, rows: Tensor) -> dict[str, Tensor | None]:
        return {"output": rows[:, 0] @ self.weights[:, None], "c_prob": None}


@pytest.mark.parametrize(("norm", "budget"), [("linf", -70.0), ("linf", -60.0), ("snr", 50.0), ("snr", 30.0)])
def test_the_optimum_of_a_linear_model_is_found(norm: str, budget: float) -> None:
    rows = sound_files(("ordinary", "from its start", "faint")).rows()
    model = Samplewise(rows.shape[-1])
    weights = torch.where(changeable(rows), model.weights.detach(), 0.0)[:, 0]
    within = threat(norm, budget, rows)
    if norm == "linf":  # whole steps alone
        best = weights.abs().sum(1) * np.floor(32768 * 10 ** (budget / 20))
    else:
        best = weights.norm(dim=1) * rows[..., HEADER:].norm(dim=2)[:, 0] * 10 ** (-budget / 20)
    labels = model(rows)["output"].detach()
    for attack in (FGSM(L1), APGD(12, L1, 1)):
        # Labels a little off, or the error has no slope at the clean clips.
        result = attack(model, rows, labels - 1e-4, within)
        moved = (model(result.adversaries)["output"] - labels)[:, 0].abs().detach()
        # The peak cuts off what little lies beyond it. Rounding to steps costs more of small budgets:
        # at 50 dB, that of the faint clip is a third of a step, and whole steps cannot follow the optimum.
        assert (moved <= best * 1.001).all()
        least = torch.tensor([0.97, 0.97, 0.4]) if budget == 50 else 0.97
        assert (moved >= best * least).all(), (attack.name, moved / best)


def test_what_masking_allows_grows_with_the_budget_in_proportion() -> None:
    rows = sound_files(("ordinary", "to its end")).rows()
    model = Samplewise(rows.shape[-1])
    labels = model(rows)["output"].detach()
    moved = []
    for budget in (-12.0, 0.0):
        result = FGSM(L1)(model, rows, labels - 1e-4, threat("masking", budget, rows))
        moved.append((model(result.adversaries)["output"] - labels).detach())
    # Rounding, and the frames whose loudest band is lowered, take away a little of both.
    assert torch.allclose(moved[1] / moved[0], torch.tensor(10**0.6), rtol=0.05)


@pytest.mark.parametrize("norm", SOUND_NORMS)
def test_dual_norms_are_how_far_the_steepest_step_goes(norm: str) -> None:
    rows = sound_files(("ordinary", "to its end")).rows()
    within = threat(norm, -6.0, rows)
    slopes = torch.randn(2, 3, rows.shape[-1])
    slopes[..., :HEADER] = 0
    directions = torch.randn(5, 3)
    for place, gradients in enumerate((directions @ slopes).unbind(1)):
        expected = (gradients * within.steepest(gradients[:, None])[:, 0]).sum(1)
        found = within.dual_norms(slopes, directions)[:, place]
        assert torch.allclose(found, expected, rtol=0.02)


def test_budgets_of_less_than_a_step_change_nothing() -> None:
    rows = sound_files(("ordinary", "faint")).rows()
    for norm, budget in (("linf", -90.4), ("snr", 140.0), ("masking", -80.0)):
        within = threat(norm, budget, rows)
        far = rows + 300 * torch.randn(rows.shape)
        assert torch.equal(within.settle(rows, within.project(rows, far)), rows), norm
    one = threat("linf", -90.3, rows)
    assert (one.settle(rows, one.project(rows, rows + 9)) - rows).max() == 1


@pytest.mark.parametrize(("norm", "budget"), BUDGETS)
def test_projection_and_settling(norm: str, budget: float) -> None:
    rows = sound_files().rows()
    within = threat(norm, budget, rows)
    far = rows + 3000 * torch.randn(rows.shape)
    settled = within.settle(rows, within.project(rows, far))
    assert not within.violations(rows, settled).any()
    assert (within.used(rows, settled) > 0.9).all()
    assert torch.equal(within.settle(rows, settled), settled)
    assert torch.equal(within.settle(rows, within.project(rows, rows)), rows)
    start = within.random_start(rows, torch.rand(rows.shape) * 2 - 1)
    assert not within.violations(rows, within.settle(rows, start)).any()
    # A clip's own budget, whatever clips are beside it.
    radii = torch.full((len(rows),), within.epsilon)
    radii[1] /= 2
    some = replace(within, epsilon=radii).of([1, 3])
    alone = threat(norm, budget, rows[3:4])
    together = some.settle(rows[[1, 3]], some.project(rows[[1, 3]], far[[1, 3]]))
    assert torch.allclose(together[1:], alone.settle(rows[3:4], alone.project(rows[3:4], far[3:4])), atol=1)
    assert within.used(rows, rows.index_copy(0, torch.tensor([1]), together[:1]))[1] <= 0.5 + 1e-3


def test_adversaries_of_several_metrics_are_stored_as_each_alone_would_be() -> None:
    rows = sound_files().rows()
    within = threat("masking", -6.0, rows)
    first, second = (
        within.project(
            rows, rows + 300 * torch.randn(rows.shape, generator=torch.Generator().manual_seed(seed))
        )
        for seed in (1, 2)
    )
    second[1:] = first[1:]  # one clip has another adversary for the other metric
    problem = Problem(rows, torch.zeros(len(rows), 2), within, [])
    stored = problem.settled(Crafted(first, {"mae_clipped": second}, {}))
    assert torch.equal(stored.adversaries, within.settle(rows, first))
    assert torch.equal(stored.also["mae_clipped"], within.settle(rows, second))
    assert not torch.equal(stored.also["mae_clipped"][0], stored.adversaries[0])


def off_by(change: Callable[[Tensor, Tensor], None]) -> Callable[[Tensor], Tensor]:
    def changed(rows: Tensor) -> Tensor:
        found = rows.clone()
        change(found, rows)
        return found

    return changed


def beyond_the_peak(found: Tensor, rows: Tensor) -> None:
    found[0, 0, HEADER + 5000] = rows[0, 0, Header.PEAK] + 1


def header(found: Tensor, rows: Tensor) -> None:
    found[0, 0, Header.START] += 1


def a_peak_sample(found: Tensor, rows: Tensor) -> None:
    place = rows[0, 0, HEADER:].abs().argmax() + HEADER
    found[0, 0, place] -= found[0, 0, place].sign()


def first_sample(found: Tensor, rows: Tensor) -> None:
    found[0, 0, HEADER] += 1


def half_a_step(found: Tensor, rows: Tensor) -> None:
    found[0, 0, HEADER + 5000] += 0.5


@pytest.mark.parametrize("norm", SOUND_NORMS)
@pytest.mark.parametrize("fault", [beyond_the_peak, header, a_peak_sample, first_sample, half_a_step])
def test_what_would_change_another_thing_than_samples_is_a_violation(
    norm: str, fault: Callable[[Tensor, Tensor], None]
) -> None:
    rows = sound_files(("from its start", "ordinary")).rows()
    within = threat(norm, {"linf": 0.0, "snr": -60.0, "masking": 200.0}[norm], rows)
    assert within.violations(rows, off_by(fault)(rows)).tolist() == [True, False]


def test_a_budget_measured_on_another_clip_is_found_out() -> None:
    """A faint clip with the budget of a loud one; what masks is computed anew to settle adversaries."""
    rows = sound_files(("ordinary", "faint")).rows()
    model, labels = Samplewise(rows.shape[-1]), torch.rand(2, 1)
    with pytest.raises(BudgetError, match=r"clips \[1\]"):
        FGSM(L1)(model, rows, labels, threat("snr", 30.0, rows).of([1, 0]))
    right = threat("masking", -6.0, rows)
    wrong = right.of([1, 0])
    far = wrong.project(rows, rows + 2 * wrong.steepest(torch.randn(rows.shape)))
    assert right.used(rows, far)[1] > 2
    assert right.violations(rows, far.round()).all()
    assert not right.violations(rows, wrong.settle(rows, far)).any()


def gain_forgotten(network: FrozenNetwork, rows: Tensor) -> Tensor:
    return rows.index_fill(-1, torch.tensor([Header.PEAK.value]), 32767.0)


def excerpt_moved(network: FrozenNetwork, rows: Tensor) -> Tensor:
    moved = rows.clone()
    moved[..., Header.START] += 1
    return moved


@pytest.mark.parametrize("fault", [gain_forgotten, excerpt_moved])
def test_a_chain_that_hears_another_clip_than_the_file_holds_is_found_out(fault: Any) -> None:
    files = sound_files(("ordinary", "to its end"))
    model = subject(files)
    network = model.network.model
    hears = network.ear.forward
    network.ear.forward = lambda rows: hears(fault(model.network, rows))  # type: ignore[method-assign]
    with pytest.raises(FileError, match="what the model gets of the file misses"):
        model.predicted(model.inputs)


def dithered(sound: np.ndarray) -> np.ndarray:
    return np.asarray(sound + np.random.default_rng(0).integers(-1, 2, len(sound)), np.int16)


def clipped(sound: np.ndarray) -> np.ndarray:
    return np.clip(sound, -18000, 18000)


def trimmed(sound: np.ndarray) -> np.ndarray:
    return np.r_[np.zeros(3, np.int16), sound[3:]]


def shortened(sound: np.ndarray) -> np.ndarray:
    return sound[:-1]


@pytest.mark.parametrize("fault", [dithered, clipped, trimmed, shortened])
def test_a_file_that_does_not_hold_its_row_is_found_out(fault: Any, tmp_path: Path) -> None:
    files = sound_files(("from its start", "ordinary"))
    model = subject(files)
    written = files.write(model.inputs, tmp_path)
    sound, rate = soundfile.read(written[0], dtype="int16")
    soundfile.write(written[0], fault(sound), rate, subtype="PCM_16")
    with pytest.raises(FileError):
        model.read(written, model.inputs)


def test_the_least_budget_of_each_clip_in_db() -> None:
    """On a linear model the growth asked for says which ratio is the least one."""
    rows = sound_files(("ordinary", "from its start")).rows()
    model = Samplewise(rows.shape[-1])
    labels = model(rows)["output"].detach() - 1e-4
    weights = torch.where(changeable(rows), model.weights.detach(), 0.0)[:, 0]
    reach = weights.norm(dim=1) * rows[..., HEADER:].norm(dim=2)[:, 0]
    growth = float(reach.min()) * epsilon_of("snr", 40.0)
    attack = MinimumNorm(growth, APGD(6, L1, 1), bisections=12)
    found = attack(model, rows, labels, threat("snr", 20.0, rows)).columns["minimum_epsilon"]
    expected = [budget_of("snr", growth / float(each)) for each in reach]
    assert [budget_of("snr", float(each)) for each in found] == pytest.approx(expected, abs=0.2)


class Averages(nn.Module):
    """A model without a convolution: its outputs are means of bands over time."""

    def forward(self, spectrograms: Tensor) -> Prediction:
        return {"output": spectrograms.mean((1, 2))[:, 20:23], "c_prob": None}


def test_what_hears_a_row_is_never_in_bfloat16() -> None:
    """Samples have five digits, of which bfloat16 holds three; outputs below 2 it holds to .0039."""
    rows = sound_files().rows()
    heard = ListeningNetwork(Averages(), NORMALISATION, FRAMES)
    exact, reduced = heard(rows)["output"], ReducedModel(heard)(rows)["output"]
    assert reduced.dtype == torch.float32
    assert bool((exact.abs() < 2).all())
    torch.testing.assert_close(reduced, exact, atol=0.005, rtol=0)


def apart(first: Tensor, second: Tensor) -> Tensor:
    """Return the norm of the difference of perturbations over that of the first, [clips]."""
    norms = [torch.linalg.vector_norm(values.flatten(1), dim=1) for values in (first - second, first)]
    return norms[0] / norms[1]


def test_clips_do_not_depend_on_their_batch() -> None:
    rows = sound_files().rows()
    labels = torch.rand(len(rows), 3)
    network, within = listening(), threat("masking", -6.0, rows)
    runs = [APGD(2, L1, 1)(network, rows, labels, within, seed=1, batch_size=size) for size in (2, 8)]
    first, second = (run.adversaries - rows for run in runs)
    assert bool((apart(first, second) < 0.05).all()), "rounding to steps may fall otherwise here and there"


def test_all_budgets_at_once_are_what_each_is_alone() -> None:
    model = subject(sound_files(("ordinary", "repeated")))
    attack = Escalation(first_steps=2, starts=2)
    epsilons = [epsilon_of("masking", budget) for budget in (-20.0, -6.0)]
    threats = [model.threat_at(epsilon) for epsilon in epsilons]
    together = model.attacked_at_once(attack, threats, "")
    alone = [model.attacked(attack, threat, "") for threat in threats]
    for one, other in zip(together, alone, strict=True):
        first, second = one.adversaries - model.inputs, other.adversaries - model.inputs
        assert bool((apart(first, second) < 0.05).all())
        assert not one.violations.any()
    points = sweep(model, (attack,), epsilons)
    assert points[1].results[0].columns["starts"].tolist() == [2, 2]
    damage = [np.abs(point.predictions["mae"] - model.truth).mean(1) for point in points]
    assert (damage[1] > damage[0]).all()


def test_names_of_budgets() -> None:
    assert budget_of("snr", epsilon_of("snr", 40.0)) == 40.0
    assert epsilon_of("masking", -6.0) == pytest.approx(0.501187)
    assert epsilon_of("linf", -60.0) == pytest.approx(1e-3)
    steps = [sound_step(epsilon_of(*each)) for each in (("masking", -6.0), ("snr", 40.0), ("masking", 0.0))]
    assert steps == [-60, -400, 0]


def test_a_silent_recording_has_no_row() -> None:
    with pytest.raises(UserError, match="silent"):
        Recording(np.zeros(100, np.int16), 0)
    with pytest.raises(UserError, match="no norm"):
        SoundThreat("l2", 0.1)


def test_a_sound_evaluation_passes_its_checks() -> None:
    """The controls of a suite, all but the squares of spectrograms, scored as files."""
    files = sound_files(("ordinary", "to its end", "repeated"))
    model = subject(files)
    tier = Tier(("masking",), (), steps=5, restarts=2, joint_restarts=1, queries=10)
    budgets = [epsilon_of("masking", budget) for budget in (-20.0, -6.0)]
    points = sweep(model, white_box(tier), budgets)
    background = Background(("a", "b", "c"), {}, 0.2, surrogate=listening())
    saved = points[-1].adversaries
    found = gather(model, background, tier, points, points[-1], saved)
    checks = {check.name: check for check in judge(found)}
    assert "square" not in found.attacked
    held = ("budget_held", "budget_used", "gradients_spent", "seed_changes_the_attack")
    held += ("saved_adversaries_rescore", "damage_grows_with_epsilon", "white_box_at_least_transfer")
    held += ("share_of_zero_gradients", "gradient_matches_finite_differences", "attack_beats_noise")
    assert {name: checks[name].passed for name in held} == dict.fromkeys(held, True), checks
    assert checks["budget_used"].value <= 1.0
