"""What holds for every attack: budget and box, batches, seeds, cost, resuming; and the published attack."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from networks import linear_regressor
from regressors import SmallNetwork, labels_before_a_hit, spectrograms, trained
from torch import Tensor

from rmer.attacks.apgd import APGD
from rmer.attacks.base import Attack, BudgetError
from rmer.attacks.fgsm import FGSM
from rmer.attacks.losses import absolute_error, correlation, correlation_over_clips, squared_error
from rmer.attacks.minimum_norm import MinimumNorm
from rmer.attacks.named_objectives import objectives
from rmer.attacks.noise import KINDS, Noise
from rmer.attacks.objectives import CorrelationObjective, ErrorObjective
from rmer.attacks.pgd import PGD
from rmer.attacks.problem import Problem
from rmer.attacks.published import BridgeAttack, PublishedAttack
from rmer.attacks.ranked_objectives import OutputObjective, SignsObjective
from rmer.attacks.result import Crafted, Passes
from rmer.attacks.square import Square
from rmer.attacks.threat import Threat
from rmer.attacks.transfer import Transfer
from rmer.errors import UserError
from rmer.evaluation.metrics import regression_scores
from rmer.systems.frozen import FrozenNetwork
from rmer.systems.network import build_network

FRAMES, BANDS = 6, 10
pytestmark = pytest.mark.rounding


def clips(count: int, dtype: torch.dtype = torch.float64) -> Tensor:
    generator = torch.Generator().manual_seed(3)
    return torch.randn(count, 1, FRAMES, BANDS, generator=generator, dtype=dtype)


def attacks(targets: int) -> list[Attack]:
    """One of each, small."""
    surrogate = trained(1, targets, torch.float64)[0]
    every = (ErrorObjective("l1"), ErrorObjective("mse"), OutputObjective(), SignsObjective())
    return [
        FGSM(every),
        PGD(steps=3, losses=every, restarts=5),
        PGD(steps=3, keep="last"),
        APGD(steps=5, losses=every, restarts=5),
        Square(queries=6),
        *(Noise(kind, draws=2) for kind in KINDS),
        MinimumNorm(1e-6, APGD(3, restarts=1), bisections=3),
        Transfer(surrogate, APGD(3, restarts=1)),
        BridgeAttack(max_iters=6),
        PublishedAttack(max_iters=6),
    ]


ATTACKS = attacks(8)
NAMES = [f"{place}-{attack.name}" for place, attack in enumerate(ATTACKS)]
each = pytest.mark.parametrize("attack", ATTACKS, ids=NAMES)


@each
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_a_clip_meets_the_same_fate_alone_and_in_a_batch(attack: Attack, norm: str) -> None:
    network, inputs, labels = trained(0, dtype=torch.float64)
    frozen = FrozenNetwork(network)
    threat = Threat(norm, torch.tensor([0.1, 0.2, 0.3, 0.4, 0.5], dtype=torch.float64))  # type: ignore[arg-type]
    together, alone = (
        attack(frozen, inputs[:5], labels[:5], threat, seed=7, batch_size=size) for size in (5, 1)
    )
    assert torch.allclose(together.adversaries, alone.adversaries, atol=1e-12)
    assert together.also.keys() == alone.also.keys()
    assert together.columns.keys() == alone.columns.keys()
    for ours, theirs in ((together.also, alone.also), (together.columns, alone.columns)):
        assert all(torch.allclose(ours[key].double(), theirs[key].double(), equal_nan=True) for key in ours)
    assert (together.gradients, together.forwards) == (alone.gradients, alone.forwards)


@each
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_budget_and_box_hold_on_the_saved_arrays(attack: Attack, norm: str) -> None:
    network, inputs, _ = trained(0)
    floor, ceiling = torch.full((10,), -0.9), torch.full((10,), 0.9)
    inputs = inputs[:6].clamp(min=-0.9)  # silence is the floor; some clips exceed the ceiling
    labels = labels_before_a_hit(FrozenNetwork(network).predict(inputs)["output"])
    radii = torch.tensor([0.0, 0.001, 0.1, 0.3, 1.0, 3.0], dtype=torch.float64)
    result = attack(network, inputs, labels, Threat(norm, radii, floor, ceiling), seed=4)  # type: ignore[arg-type]
    sizes = result.linf if norm == "linf" else result.l2
    if not attack.enforced:
        assert result.violations.any(), "the published attack knows no budget"
        return
    assert not result.violations.any()
    for saved in (result.adversaries, *result.also.values()):
        assert saved.dtype == torch.float32
        assert float(saved.min()) >= -0.9
        assert bool((saved <= torch.maximum(inputs, torch.tensor(0.9))).all())
    assert bool((sizes <= radii + 1e-6).all()), "up to the rounding of x + delta in float32"
    assert float(sizes[0]) == 0.0
    assert float(sizes.max()) > 0.0


@pytest.mark.parametrize("seed", range(8))
def test_labels_before_a_hit_are_hit_by_any_network(seed: int) -> None:
    torch.manual_seed(seed)
    network, inputs = SmallNetwork().eval(), torch.randn(6, 1, 12, 10)
    outputs = FrozenNetwork(network).predict(inputs)["output"]
    labels = labels_before_a_hit(outputs)
    assert correlation(outputs, labels).tolist() == pytest.approx([0.9001] * 6, abs=2e-5)
    result = PublishedAttack(max_iters=6)(network, inputs, labels, Threat("linf", 0.001))
    assert bool((result.linf > 0).all()), "each clip is moved"


@each
def test_the_cost_is_what_was_announced(attack: Attack) -> None:
    network, inputs, labels = trained(0)
    result = attack(network, inputs[:5], labels[:5], Threat("linf", 0.2), batch_size=2)
    gradients, forwards = attack.passes(targets=8)
    assert (result.gradients, result.forwards) == (5 * gradients, 5 * forwards)


@each
def test_the_seed_determines_what_is_random_and_nothing_else(attack: Attack) -> None:
    network, inputs, labels = trained(0)
    threat = Threat("linf", 0.2)
    first, again, other = (
        attack(network, inputs[:4], labels[:4], threat, seed=seed).adversaries for seed in (1, 1, 2)
    )
    assert torch.equal(first, again)
    assert torch.equal(first, other) != attack.random


@pytest.mark.parametrize("targets", [1, 2, 8])
def test_any_number_of_outputs(targets: int) -> None:
    network, inputs, labels = trained(0, targets)
    frozen = FrozenNetwork(network)
    clean = absolute_error(frozen.predict(inputs[:4])["output"], labels[:4])
    for attack in attacks(targets):
        if attack.name in ("published", "bridge") and targets == 1:
            attack = replace(attack, conv_method="mse")  # type: ignore[type-var]
        result = attack(frozen, inputs[:4], labels[:4], Threat("linf", 0.2))
        found = absolute_error(frozen.predict(result.adversaries)["output"], labels[:4])
        if isinstance(attack, (FGSM, APGD, Square)) or (attack.name == "pgd" and attack.keep == "best"):
            assert bool((found >= clean - 1e-6).all())


@pytest.mark.parametrize(
    "attack", [*ATTACKS, APGD(4, (CorrelationObjective(),), restarts=1)], ids=lambda a: a.name
)
def test_a_constant_model_is_no_error(attack: Attack) -> None:
    model = linear_regressor(8, 120)
    model.weights.data.zero_()
    inputs, labels = spectrograms(4), torch.rand(4, 8, dtype=torch.float64)
    result = attack(model, inputs, labels, Threat("linf", 0.1), seed=1)
    assert bool(result.adversaries.isfinite().all())


def test_one_constant_output_does_not_stop_a_joint_attack() -> None:
    model, inputs = linear_regressor(3, 120), spectrograms(6)
    model.weights.data[1] = 0.0
    labels = torch.rand(6, 3, dtype=torch.float64)
    before = correlation_over_clips(model(inputs)["output"].detach(), labels)
    found = APGD(20, (CorrelationObjective(),), restarts=1)(
        model, inputs, labels, Threat("linf", 0.05)
    ).adversaries
    assert float(correlation_over_clips(model(found)["output"].detach(), labels)) < float(before) - 0.1


def test_the_joint_objective_is_the_reported_correlation() -> None:
    generator = torch.Generator().manual_seed(1)
    labels, outputs = torch.rand(2, 36, 8, generator=generator, dtype=torch.float64)
    labels[:, 3] = 0.5  # a target without a correlation is left out
    names = [str(target) for target in range(8)]
    reported = regression_scores(labels, outputs, names).mean["corr"]
    assert float(correlation_over_clips(outputs, labels)) == pytest.approx(reported, abs=1e-12)
    values = CorrelationObjective().values({"output": outputs, "c_prob": None}, labels)
    assert values["corr"].tolist() == pytest.approx([-reported] * 36, abs=1e-12)
    outputs[:, 2] = 0.1  # no correlation either, but one that counts as 0
    rest = [target for target in range(8) if target not in (2, 3)]
    others = regression_scores(labels[:, rest], outputs[:, rest], names[:6]).mean["corr"]
    assert float(correlation_over_clips(outputs, labels)) == pytest.approx(others * 6 / 7, abs=1e-12)
    assert float(correlation_over_clips(outputs, labels[:1].expand(36, 8))) == 0.0


def test_a_clip_outside_the_box_by_rounding_stays_its_own_adversary_at_epsilon_zero() -> None:
    inputs = clips(2, torch.float32).clamp(min=-0.5)
    threat = Threat("linf", 0.0, torch.full((BANDS,), -0.4999999), torch.full((BANDS,), 0.1))
    result = PGD(steps=2)(linear_regressor(3).float(), inputs, torch.zeros(2, 3), threat)
    assert torch.equal(result.adversaries, inputs)


def test_pgd_is_never_weaker_than_no_attack() -> None:
    torch.manual_seed(0)
    network, inputs = build_network("plain"), torch.randn(3, 1, 40, 149)
    labels = torch.rand(3, 8)
    frozen = FrozenNetwork(network)
    clean = absolute_error(frozen.predict(inputs)["output"], labels)
    # One huge step from a random corner may well land on a better prediction; the clean clip is kept then.
    result = PGD(steps=1, relative_step=2.0)(frozen, inputs, labels, Threat("linf", 1.0))
    assert bool((absolute_error(frozen.predict(result.adversaries)["output"], labels) >= clean).all())


@dataclass(frozen=True)
class _Unclamped(Attack):
    name: ClassVar[str] = "unclamped"

    def passes(self, targets: int) -> Passes:
        return Passes(0, 0)

    def run(self, network: FrozenNetwork, problem: Problem) -> Crafted:
        return Crafted(problem.inputs + 1.01 * problem.threat.epsilon)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_an_attack_that_forgets_its_budget_fails(norm: str) -> None:
    with pytest.raises(BudgetError, match=r"clips \[0, 1\]"):
        _Unclamped()(linear_regressor(1), clips(2), torch.zeros(2, 1), Threat(norm, 0.1))


def test_an_adversary_that_is_not_a_number_is_a_violation() -> None:
    inputs = clips(2)
    adversaries = inputs.clone()
    adversaries[1, 0, 0, 0] = torch.nan
    assert Threat("linf", 1.0).violations(inputs, adversaries).tolist() == [False, True]


@pytest.mark.parametrize("attack", [PGD(steps=5), APGD(steps=5, restarts=1)], ids=lambda attack: attack.name)
def test_gradients_in_bf16_find_adversaries_as_strong_and_scores_stay_fp32(attack: Attack) -> None:
    torch.manual_seed(3)
    network = build_network("bottleneck").eval()
    inputs, labels, threat = torch.randn(2, 1, 32, 149), torch.rand(2, 8), Threat("linf", 0.05)
    frozen = FrozenNetwork(network, precision="bf16")
    exact = attack(FrozenNetwork(network), inputs, labels, threat)
    reduced = attack(frozen, inputs, labels, threat)
    assert not torch.equal(exact.adversaries, reduced.adversaries)
    assert reduced.adversaries.dtype == torch.float32
    assert torch.equal(frozen.predict(inputs)["output"], FrozenNetwork(network).predict(inputs)["output"])
    strong, stronger = (
        float(absolute_error(frozen.predict(result.adversaries)["output"], labels).mean())
        for result in (reduced, exact)
    )
    assert strong == pytest.approx(stronger, rel=0.02)


@each
def test_finished_batches_are_not_attacked_again(attack: Attack, tmp_path: Path) -> None:
    model, inputs, labels = trained(0, dtype=torch.float64)
    network, inputs, labels, threat = FrozenNetwork(model), inputs[:6], labels[:6], Threat("linf", 0.1)
    whole = attack(network, inputs, labels, threat, seed=1, batch_size=2)
    attack(network, inputs, labels, threat, seed=1, batch_size=2, resume=tmp_path)
    sorted(tmp_path.iterdir())[1].unlink()  # as if the process had died before the second batch
    before = (network.gradients, network.forwards)
    resumed = attack(network, inputs, labels, threat, seed=1, batch_size=2, resume=tmp_path)
    assert torch.equal(resumed.adversaries, whole.adversaries)
    assert all(torch.equal(resumed.also[metric], whole.also[metric]) for metric in whole.also)
    assert resumed.gradients == whole.gradients
    if attack.name != "transfer":  # which asks its surrogate
        assert network.gradients - before[0] == whole.gradients // 3
        assert network.forwards - before[1] == whole.forwards // 3


@pytest.mark.parametrize(
    "damage", [lambda c: c[:99], lambda c: c[: len(c) // 2] + b"x" + c[len(c) // 2 + 1 :]]
)
def test_a_damaged_batch_is_attacked_again(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    model, inputs, labels = trained(0, dtype=torch.float64)
    problem = (FrozenNetwork(model), inputs[:4], labels[:4], Threat("linf", 0.1))
    whole = PGD(2)(*problem, batch_size=2, resume=tmp_path)
    file = sorted(tmp_path.iterdir())[1]
    file.write_bytes(damage(file.read_bytes()))
    assert torch.equal(PGD(2)(*problem, batch_size=2, resume=tmp_path).adversaries, whole.adversaries)


def test_bridge_keeps_the_published_rule_inside_the_budget() -> None:
    model, inputs, threat = linear_regressor(3), clips(2), Threat("linf", 0.001)
    labels = model(inputs)["output"].detach() - 0.3  # mean squared error .09: threshold 0, then .1, .2, ...
    free = PublishedAttack(max_iters=50, conv_method="mse")(model, inputs, labels, threat)
    bound = BridgeAttack(max_iters=50, conv_method="mse")(model, inputs, labels, threat)
    assert free.violations.all(), "the published attack leaves its declared budget"
    assert bound.linf.tolist() == pytest.approx([0.001, 0.001], abs=1e-15), "and the bridge fills it"


def test_published_attack_survives_a_constant_prediction() -> None:
    model = linear_regressor(3)
    model.weights.data.zero_()
    result = PublishedAttack(max_iters=3)(model, clips(2), torch.rand(2, 3).double(), Threat("linf", 0.1))
    assert result.columns["threshold"].isnan().all()
    assert not result.columns["converged"].any()
    assert not result.l2.any()


def test_published_penalty_shrinks_the_perturbation() -> None:
    model, inputs = linear_regressor(3), clips(2)
    labels = model(inputs)["output"].detach() - 0.3
    plain = PublishedAttack(max_iters=20, conv_method="mse")(model, inputs, labels, Threat("linf", 1.0))
    shrunk = PublishedAttack(max_iters=20, conv_method="mse", alpha=1.0)(
        model, inputs, labels, Threat("linf", 1.0)
    )
    assert float(shrunk.l2.max()) < float(plain.l2.max())


@pytest.mark.parametrize(
    "make",
    [
        lambda: PublishedAttack(optimiser="LBFGS"),
        lambda: PublishedAttack(conv_method="rmse"),  # type: ignore[arg-type]
        lambda: objectives(["huber"], ("tension",)),
        lambda: PGD(steps=0),
        lambda: Threat("l1", 0.1),  # type: ignore[arg-type]
        lambda: Threat("linf", -0.1),
        lambda: Threat("linf", float("inf")),
    ],
)
def test_bad_settings_are_user_errors(make: object) -> None:
    with pytest.raises(UserError):
        make()  # type: ignore[operator]


def test_losses_are_per_clip() -> None:
    outputs, labels = torch.tensor([[1.0, 2.0], [0.0, 0.0]]), torch.tensor([[0.0, 4.0], [0.0, 1.0]])
    assert squared_error(outputs, labels).tolist() == [2.5, 0.5]
    assert absolute_error(outputs, labels).tolist() == [1.5, 0.5]
    assert correlation(outputs, labels).tolist()[0] == pytest.approx(1.0)
    assert correlation(outputs, labels)[1].isnan()
