"""Sanity checks: a sound evaluation passes all of them, and each planted fault is caught by name."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import pytest
import torch
from evaluations import (
    BANDS,
    CLIPS,
    REPORTED,
    TARGETS,
    TIER,
    Evaluation,
    SmallNetwork,
    box,
    music,
    scores,
    threat_at,
    trained,
)
from networks import Wrapped, linear_regressor
from torch import Tensor, nn

import rmer.attacks.apgd
import rmer.attacks.base
from rmer.attacks.apgd import APGD
from rmer.attacks.base import Attack, BudgetError
from rmer.attacks.fgsm import FGSM
from rmer.attacks.objectives import CorrelationObjective, ErrorObjective
from rmer.attacks.pgd import PGD
from rmer.attacks.problem import Problem, clip_generator
from rmer.attacks.result import Crafted, Passes
from rmer.attacks.threat import Threat
from rmer.data.dataset import Normalisation
from rmer.evaluation.budgets import Point
from rmer.evaluation.checks.measurements import AttackedScores, Measurements, NotMeasuredError
from rmer.evaluation.checks.probes import (
    Budget,
    Gradients,
    Inputs,
    Repeats,
    derivative_errors,
    measure_budget,
    measure_gradients,
    measure_inputs,
)
from rmer.evaluation.checks.sanity import CHECKS, failed, judge, table
from rmer.evaluation.metrics import clip_to_scale, regression_scores
from rmer.systems.frozen import FrozenNetwork

L1 = (ErrorObjective("l1"),)
CORRELATION = APGD(TIER.steps, (CorrelationObjective(),), restarts=1)
pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.rounding]
Fault = Callable[[Path, pytest.MonkeyPatch], Evaluation]
BLIND = ("gradient_matches_finite_differences", "white_box_at_least_black_box")
# Faults of one expression: the checks that must notice each, and what is not as in a sound evaluation.
CHANGES: dict[str, tuple[set[str], Callable[[], dict[str, Any]]]] = {
    "unclamped_attack": ({"budget_held"}, lambda: {"attacks": (Unclamped(), CORRELATION)}),
    "box_ignored": ({"budget_held"}, lambda: {"attacked_within": partial(Threat, "linf")}),
    "epsilon_taken_for_log10_units": (
        {"budget_used"},
        lambda: {"attacked_within": lambda epsilon: threat_at(epsilon * music()[2].std)},
    ),
    "epsilon_in_log10_units_attacked": (
        {"budget_held"},
        lambda: {"attacked_within": lambda epsilon: threat_at(epsilon / music()[2].std)},
    ),
    "adversaries_of_two_metrics_swapped": (
        {"worst_for_its_own_metric"},
        lambda: {"saved": lambda saved: {**saved, "mae": saved["corr"], "corr": saved["mae"]}},
    ),
    "model_of_another_seed": ({"clean_score_matches_training"}, lambda: {"model": trained(1)}),
    "adversarial_training_that_never_acted": (
        {"weights_of_no_other_system"},
        lambda: {"twins": ("A2B2E s6",)},
    ),
    "labels_shuffled": (
        {"labels_in_order", "clean_score_matches_training"},
        lambda: {"labels": music()[1].labels.roll(1, 0)},
    ),
    "attack_on_another_clips_labels": (
        {"iterated_at_least_single_step"},
        lambda: {"attacked_labels": music()[1].labels.roll(1, 0)},
    ),
    "inputs_not_standardised": (
        {"normalisation_matches", "clean_score_matches_training"},
        lambda: {"inputs": music()[1].inputs(Normalisation(0.0, 1.0))},
    ),
    "dropout_active": ({"evaluation_mode"}, lambda: {"model": AlwaysDropping(trained())}),
    "gradients_masked_by_rounding_the_input": (
        {"share_of_zero_gradients", *BLIND},
        lambda: {"model": nn.Sequential(Rounded(), trained())},
    ),
    "gradients_masked_and_a_surrogate_at_hand": (
        {"white_box_at_least_transfer"},
        lambda: {"model": nn.Sequential(Rounded(), trained()), "surrogate": trained()},
    ),
    "gradients_stopped_in_half_of_the_bands": (
        {"share_of_zero_gradients"},
        lambda: {"model": nn.Sequential(HalfStopped(), trained())},
    ),
    "gradients_of_the_wrong_sign": (
        {"huge_epsilon_breaks_the_model", *BLIND},
        lambda: {"model": nn.Sequential(Reversed(), trained())},
    ),
    "too_few_steps": (
        {"more_steps_change_little", "gradients_spent"},
        lambda: {"attacks": (PGD(2, 0.1, L1), CORRELATION)},
    ),
    "single_step_taken_for_an_iterated_attack": (
        {"gradients_spent"},
        lambda: {"attacks": (FGSM(L1), CORRELATION)},
    ),
    "model_that_ignores_its_input": (
        {"attack_beats_noise", "share_of_zero_gradients"},
        lambda: {"model": Constant()},
    ),
}
FAULTS: list[Any] = [
    pytest.param(lambda folder, _, change=change: Evaluation.sound(folder, **change()), checks, id=name)
    for name, (checks, change) in CHANGES.items()
]


def caught_by(*checks: str) -> Callable[[Fault], Fault]:
    """Register a planted fault, with the checks that must notice it."""

    def register(fault: Fault) -> Fault:
        FAULTS.append(pytest.param(fault, set(checks), id=fault.__name__))
        return fault

    return register


def test_a_sound_evaluation_passes_every_check(tmp_path: Path) -> None:
    l2 = partial(threat_at, norm="l2")
    other = Evaluation.sound(tmp_path, threat_at=l2)
    sound = Evaluation.sound(tmp_path, surrogate=trained(1), other_norm={"l2": curve(other)})
    reduced = Evaluation.sound(tmp_path, precision="bf16")
    one_norm_and_model = {"l2_at_least_linf", "white_box_at_least_transfer", "adaptive_search_as_strong"}
    for evaluation, unknown in (
        (sound, {"reduced_search_as_strong", "adaptive_search_as_strong"}),
        (other, {"reduced_search_as_strong", *one_norm_and_model}),
        (reduced, one_norm_and_model),
    ):
        checks = evaluation.checks().values()
        assert [check for check in checks if check.passed is False] == []
        assert {check.name for check in checks if check.passed is None} == unknown


@caught_by("l2_at_least_linf")
def l2_radius_without_the_number_of_cells(folder: Path, _: pytest.MonkeyPatch) -> Evaluation:
    other = Evaluation.sound(folder, threat_at=lambda epsilon: Threat("l2", epsilon, *box()))
    return Evaluation.sound(folder, other_norm={"l2": curve(other)})


@caught_by("damage_grows_with_epsilon")
def budgets_reversed(folder: Path, _: pytest.MonkeyPatch) -> Evaluation:
    def reverse(points: list[Point]) -> list[Point]:
        return [replace(a, epsilon=b.epsilon) for a, b in zip(points, reversed(points), strict=True)]

    return Evaluation.sound(folder, after_sweep=reverse)


@caught_by("saved_adversaries_rescore")
def last_iterate_reported_and_best_one_saved(folder: Path, _: pytest.MonkeyPatch) -> Evaluation:
    sound = Evaluation.sound(folder)
    last = PGD(TIER.steps, keep="last")(sound.network, sound.inputs, sound.labels, threat_at(REPORTED))
    predictions = sound.subject().predicted(last.adversaries)
    return Evaluation.sound(folder, after_sweep=reporting(lambda _: {"mae": predictions}))


@caught_by("saved_adversaries_rescore")
def stale_artefact(folder: Path, _: pytest.MonkeyPatch) -> Evaluation:
    stale = Evaluation.sound(folder, model=trained(1)).points()[1].adversaries
    return Evaluation.sound(folder, saved=lambda _: stale)


@caught_by("saved_adversaries_rescore")
def clipped_error_reported_as_raw(folder: Path, _: pytest.MonkeyPatch) -> Evaluation:
    model = Stretched(trained())  # some of its predictions leave the rating scale
    return Evaluation.sound(
        folder,
        model=model,
        logged_by_training=scores(model),
        after_sweep=reporting(lambda point: {"mae": clip_to_scale(point.predictions["mae"])}),
    )


@caught_by("seed_changes_the_attack")
def seed_ignored(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Evaluation:
    monkeypatch.setattr(rmer.attacks.base, "clip_generator", lambda seed, index: clip_generator(0, index))
    return Evaluation.sound(folder)


@caught_by("seed_changes_the_attack")
def random_numbers_not_seeded(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Evaluation:
    drawn = itertools.count()
    monkeypatch.setattr(
        rmer.attacks.base, "clip_generator", lambda seed, index: clip_generator(next(drawn), index)
    )
    return Evaluation.sound(folder)


@caught_by("share_of_zero_gradients", "clean_score_matches_training")
def predictions_taken_for_labels(folder: Path, _: pytest.MonkeyPatch) -> Evaluation:
    sound = Evaluation.sound(folder)
    return Evaluation.sound(folder, labels=sound.network.predict(sound.inputs)["output"])


@caught_by("normalisation_matches")
def inputs_standardised_twice(folder: Path, _: pytest.MonkeyPatch) -> Evaluation:
    _, attacked, normalisation = music()
    again = normalisation.standardise(attacked.inputs(normalisation).numpy())
    return Evaluation.sound(folder, inputs=torch.from_numpy(again))


@caught_by("clean_score_matches_training")
def normalisation_of_other_clips(folder: Path, _: pytest.MonkeyPatch) -> Evaluation:
    _, attacked, _ = music()
    own = Normalisation(float(attacked.raw.mean()), float(attacked.raw.std()))
    return Evaluation.sound(folder, inputs=attacked.inputs(own))


@caught_by("clean_score_matches_training")
def training_clips_attacked(folder: Path, _: pytest.MonkeyPatch) -> Evaluation:
    train, _, normalisation = music()
    inputs, labels = train.inputs(normalisation)[:CLIPS], train.labels[:CLIPS]
    return Evaluation.sound(folder, inputs=inputs, labels=labels)


@caught_by("evaluation_mode")
def exported_in_training_mode(folder: Path, _: pytest.MonkeyPatch) -> Evaluation:
    network = SmallNetwork()
    network.load_state_dict(trained().state_dict())
    network.features[3] = nn.Identity()  # no dropout: batch norm alone
    example = Evaluation.sound(folder).inputs
    program = torch.export.export(
        network.train(), (example,), dynamic_shapes={"inputs": {0: torch.export.Dim("batch")}}
    )
    return Evaluation.sound(folder, model=program.module())


@caught_by("iterated_at_least_single_step", "white_box_at_least_black_box")
def attack_descends(folder: Path, _: pytest.MonkeyPatch) -> Evaluation:
    return Evaluation.sound(folder, attacks=(Misled(TIER.steps, restarts=2, factor=-1.0), CORRELATION))


@caught_by("iterated_at_least_single_step", "white_box_at_least_black_box")
def steps_of_size_zero(folder: Path, _: pytest.MonkeyPatch) -> Evaluation:
    return Evaluation.sound(folder, attacks=(Misled(TIER.steps, restarts=2, factor=0.0), CORRELATION))


@caught_by("reduced_search_as_strong")
def gradients_that_bfloat16_cannot_compute_alone(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Evaluation:
    monkeypatch.setattr(rmer.attacks.apgd, "polish", lambda *_: None)  # no steps in float32 at the end
    model = nn.Sequential(Shifted(), trained())
    return Evaluation.sound(folder, model=model, precision="bf16")


@pytest.mark.parametrize(("fault", "expected"), FAULTS)
def test_a_planted_fault_is_caught(
    fault: Fault, expected: set[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checks = fault(tmp_path, monkeypatch).checks().values()
    found = {check.name for check in checks if check.passed is False}
    assert expected <= found, "\n".join(str(check) for check in checks)


def test_an_attack_that_must_hold_its_budget_stops_the_evaluation(tmp_path: Path) -> None:
    class Forgetful(Unclamped):
        enforced = True

    with pytest.raises(BudgetError, match="unclamped"):
        Evaluation.sound(tmp_path, attacks=(Forgetful(), CORRELATION)).checks()


def test_what_was_not_measured_is_neither_passed_nor_failed() -> None:
    checks = judge(Measurements(norm="linf", epsilon=0.01))
    assert [check.name for check in checks] == list(CHECKS)
    assert {check.passed for check in checks} == {None}
    assert all(check.detail and math.isnan(check.value) and math.isnan(check.limit) for check in checks)
    assert failed(checks) == 0


@pytest.mark.parametrize(
    ("measurements", "name"),
    [
        ({"clean": AttackedScores(0.1, 0.1), "trained": {"mae": math.nan}}, "clean_score_matches_training"),
        (
            {"huge_epsilon": AttackedScores(1.0, math.nan), "constant_mae": 0.2},
            "huge_epsilon_breaks_the_model",
        ),
        ({"twice_the_steps": AttackedScores(math.nan, 0.5)}, "more_steps_change_little"),
        ({"slope_errors": np.array([math.nan, 0.0])}, "gradient_matches_finite_differences"),
        ({"gradients": Gradients(np.zeros(2), np.full(2, math.nan))}, "share_of_zero_gradients"),
        ({"repeats": Repeats(math.nan, 0.0)}, "evaluation_mode"),
        ({"inputs": Inputs(math.nan, 1.0, None)}, "normalisation_matches"),
        ({"budget": Budget(0, math.nan)}, "budget_used"),
        (
            {"cold": {"linf": {0.01: AttackedScores(0.2, 0.2), 0.1: AttackedScores(math.nan, 0.3)}}},
            "damage_grows_with_epsilon",
        ),
        (
            {"attacked": {"apgd": AttackedScores(math.nan, 0.2), "sign": AttackedScores(0.2, 0.2)}},
            "attack_beats_noise",
        ),
        ({"reported": {"mae": 0.3}, "rescored": {"mae": {"mae": math.nan}}}, "saved_adversaries_rescore"),
        ({"reported": {"mae": 0.3}, "rescored": {"corr": {"corr": 0.1}}}, "saved_adversaries_rescore"),
    ],
)
def test_what_is_not_a_number_fails(measurements: dict[str, Any], name: str) -> None:
    known = {"clean": AttackedScores(0.1, 0.1), "attacked": {"apgd": AttackedScores(0.3, 0.3)}}
    checks = judge(Measurements(norm="linf", epsilon=0.01, **{**known, **measurements}))
    assert {check.name: check.passed for check in checks}[name] is False


def test_the_table_has_a_line_a_check_and_counts_failures(tmp_path: Path) -> None:
    checks = judge(Measurements(norm="linf", epsilon=0.01, budget=Budget(2, 1.5), repeats=Repeats(0.0, 1e-7)))
    assert failed(checks) == 1
    table(checks).to_csv(tmp_path / "sanity.csv", index=False)
    read = pd.read_csv(tmp_path / "sanity.csv").set_index("check")
    assert list(read) == ["value", "limit", "passed", "detail"]
    assert len(read) == len(CHECKS)
    assert read.loc["budget_held", ["value", "limit", "passed"]].tolist() == [2.0, 0.0, False]
    assert read.loc["evaluation_mode", "passed"] is True
    assert math.isnan(read.loc["labels_in_order", "passed"])


@pytest.mark.parametrize(
    ("weak", "strong", "missed"),
    [(0.30, 0.30, 0.0), (0.30, 0.40, 0.0), (0.30, 0.292, 0.04), (0.30, 0.20, 0.5), (0.30, 0.10, 1.0)],
)
def test_order_is_judged_by_the_share_of_damage_that_is_missed(
    weak: float, strong: float, missed: float
) -> None:
    attacked = {"square": AttackedScores(weak, 0.2), "apgd": AttackedScores(strong, 0.2)}
    measurements = Measurements(norm="linf", epsilon=0.01, clean=AttackedScores(0.1, 0.1), attacked=attacked)
    verdict = CHECKS["white_box_at_least_black_box"](measurements)
    assert verdict.value == pytest.approx(missed, abs=1e-12)
    assert verdict.passed is (missed <= 0.05)


def test_correlations_must_fall_with_epsilon() -> None:
    curve = {
        0.0: AttackedScores(0.1, 0.1, 0.7),
        0.01: AttackedScores(0.2, 0.2, -0.3),
        0.1: AttackedScores(0.3, 0.3, 0.2),
    }
    measurements = Measurements(
        norm="linf", epsilon=0.01, clean=AttackedScores(0.1, 0.1, 0.7), cold={"linf": curve}
    )
    verdict = CHECKS["damage_grows_with_epsilon"](measurements)
    assert verdict.value == pytest.approx(0.5)
    assert not verdict.passed
    assert "corr: 0.01 against 0.1" in verdict.detail


def test_a_model_without_correlation_is_no_proof_of_shuffled_labels() -> None:
    rng = np.random.default_rng(0)
    labels, predictions = rng.uniform(size=(20, 8)), rng.uniform(size=(20, 8))
    measurements = Measurements(norm="linf", epsilon=0.01, labels=labels, predictions=predictions)
    with pytest.raises(NotMeasuredError, match="permuted labels reach"):
        CHECKS["labels_in_order"](measurements)
    assert not CHECKS["labels_in_order"](replace(measurements, trained={"corr": 0.6})).passed
    assert CHECKS["labels_in_order"](replace(measurements, predictions=labels + predictions)).passed


def test_a_model_that_is_broken_already_cannot_be_broken() -> None:
    known = {"clean": AttackedScores(0.3, 0.3), "huge_epsilon": AttackedScores(0.4, 0.4), "constant_mae": 0.2}
    with pytest.raises(NotMeasuredError, match="already"):
        CHECKS["huge_epsilon_breaks_the_model"](Measurements(norm="linf", epsilon=0.01, **known))


def test_gradients_and_slopes_of_a_linear_regressor() -> None:
    model = linear_regressor(targets=3)
    inputs = torch.randn(4, 1, 6, 10, dtype=torch.float64)
    labels = torch.zeros(4, 3, dtype=torch.float64)
    gradients = measure_gradients(FrozenNetwork(model), inputs, labels)
    found = 2 / 3 * model(inputs)["output"] @ model.weights
    assert np.allclose(gradients.largest, found.abs().amax(1).detach().numpy())
    assert (gradients.zero_share == 0).all()
    # Central differences of a parabola are exact.
    assert (derivative_errors(FrozenNetwork(model), inputs, labels) < 1e-9).all()


def test_measured_budget_and_inputs() -> None:
    inputs = torch.zeros(3, 1, 2, 2)
    saved = torch.zeros(3, 1, 2, 2)
    saved[1, 0, 0, 0], saved[2, 0, 1, 1] = 0.5, -1.5
    threat = Threat("linf", 1.0, torch.tensor([-2.0, -2.0]))
    assert measure_budget(inputs, {"mae": inputs, "corr": saved}, threat) == Budget(1, 1.5)
    assert measure_inputs(saved + 0.25, torch.tensor([-1.0, -2.0])) == Inputs(
        pytest.approx(0.25 - 1 / 12), pytest.approx(float(saved.std())), pytest.approx(0.75)
    )


def test_every_check_is_explained() -> None:
    page = (Path(__file__).parent.parent / "docs" / "sanity-checks.md").read_text()
    assert re.findall(r"^## `(\w+)`", page, re.MULTILINE) == list(CHECKS)


def curve(evaluation: Evaluation) -> dict[float, AttackedScores]:
    """Return the damage of each budget, of the adversaries that are worst for it."""
    labels = evaluation.labels.numpy()

    def score(point: Point, metric: str) -> float:
        return regression_scores(labels, point.predictions[metric], TARGETS).mean[metric]

    return {
        point.epsilon: AttackedScores(score(point, "mae"), score(point, "mae_clipped"), score(point, "corr"))
        for point in evaluation.points()
    }


def reporting(predictions: Callable[[Point], dict[str, Any]]) -> Callable[[list[Point]], list[Point]]:
    """Return what replaces some of the predictions of the reported point."""

    def replaced(points: list[Point]) -> list[Point]:
        return [
            replace(point, predictions=point.predictions | predictions(point))
            if point.epsilon == REPORTED
            else point
            for point in points
        ]

    return replaced


@dataclass(frozen=True)
class Backwards(Threat):
    """Takes another direction for the steepest."""

    factor: ClassVar[float]

    def steepest(self, gradient: Tensor) -> Tensor:
        return self.factor * super().steepest(gradient)


@dataclass(frozen=True)
class Misled(APGD):
    """APGD whose steps are multiplied by a factor."""

    factor: float = 1.0

    def run(self, network: FrozenNetwork, problem: Problem) -> Crafted:
        misleading = type("Misleading", (Backwards,), {"factor": self.factor})
        return super().run(network, replace(problem, threat=misleading(**vars(problem.threat))))


class Unclamped(Attack):
    """Takes one step over the border; says that it need not hold a budget."""

    name: ClassVar[str] = "unclamped"
    metric: ClassVar[str] = "mae"
    enforced: ClassVar[bool] = False

    def run(self, network: FrozenNetwork, problem: Problem) -> Crafted:
        adversaries = problem.inputs + 1.01 * problem.threat.radius(problem.inputs)
        return Crafted(adversaries, {"mae_clipped": adversaries})

    def passes(self, targets: int) -> Passes:
        return Passes(0, 0)


class Rounded(nn.Module):
    def forward(self, inputs: Tensor) -> Tensor:
        return (inputs * 8).round() / 8


class HalfStopped(nn.Module):
    def forward(self, inputs: Tensor) -> Tensor:
        return torch.cat([inputs[..., : BANDS // 2].detach(), inputs[..., BANDS // 2 :]], -1)


class Reversed(nn.Module):
    def forward(self, inputs: Tensor) -> Tensor:
        return 2 * inputs.detach() - inputs


class Shifted(nn.Module):
    """Adds what it takes away: nothing in float32, and in bfloat16 all that is smaller than 1."""

    def __init__(self) -> None:
        super().__init__()
        self.add = nn.Conv2d(1, 1, 1)
        nn.init.ones_(self.add.weight)
        nn.init.constant_(self.add.bias, 256.0)

    def forward(self, inputs: Tensor) -> Tensor:
        shifted: Tensor = self.add(inputs)
        return shifted - 256.0


class AlwaysDropping(Wrapped):
    def forward(self, inputs: Tensor) -> dict[str, Tensor | None]:
        return self.network(nn.functional.dropout(inputs, 0.1, training=True))


class Stretched(Wrapped):
    def forward(self, inputs: Tensor) -> dict[str, Tensor | None]:
        return {"output": 1.5 * self.network(inputs)["output"] - 0.25, "c_prob": None}


class Constant(nn.Module):
    def forward(self, inputs: Tensor) -> dict[str, Tensor | None]:
        return {"output": 0.5 + 0 * inputs.mean((1, 2, 3))[:, None].expand(-1, len(TARGETS)), "c_prob": None}
