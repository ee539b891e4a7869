"""What computes on a GPU without waiting for it; the device ``meta`` stands for the GPU (:mod:`waiting`)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from networks import linear_regressor, synthetic_data
from regressors import BANDS, LinearBottleneck, spectrograms
from torch import Tensor
from waiting import DEVICE, crossings

from rmer.attacks import published
from rmer.attacks.apgd import APGD
from rmer.attacks.base import Attack
from rmer.attacks.fgsm import FGSM
from rmer.attacks.known_attacks import ATTACKS
from rmer.attacks.minimum_norm import MinimumNorm
from rmer.attacks.noise import KINDS, Noise
from rmer.attacks.objectives import CorrelationObjective, ErrorObjective, Objective, SteeringObjective
from rmer.attacks.pgd import PGD
from rmer.attacks.problem import Problem, clip_generator
from rmer.attacks.published import OPTIMISERS, BridgeAttack, PublishedAttack
from rmer.attacks.ranked_objectives import OutputObjective, SignsObjective
from rmer.attacks.square import Square
from rmer.attacks.threat import Norm, Threat
from rmer.attacks.transfer import Transfer
from rmer.systems.catalogue import CATALOGUE
from rmer.systems.devices import fixed_shapes, prepare_device
from rmer.systems.frozen import FrozenNetwork
from rmer.training.fit import _Training
from rmer.training.protocol import TrainProtocol, resolve_fit

CLIPS = 4
ERRORS: tuple[Objective, ...] = (ErrorObjective("l1"), OutputObjective(), SignsObjective())
JOINT = (CorrelationObjective(),)
STEERED = (SteeringObjective("c_prob", 0, "up", "melody"),)

# Attack with a loop of so many steps.
LOOPS: dict[str, Callable[[int], Attack]] = {
    "published": lambda steps: PublishedAttack(max_iters=steps),
    "published, mse and penalty": lambda steps: PublishedAttack(
        max_iters=steps, conv_method="mse", alpha=1.0
    ),
    "bridge": lambda steps: BridgeAttack(max_iters=steps),
    "single step": lambda steps: FGSM(ERRORS),
    "pgd": lambda steps: PGD(steps, losses=ERRORS, restarts=3),
    "pgd, last": lambda steps: PGD(steps, keep="last"),
    "pgd, joint": lambda steps: PGD(steps, losses=JOINT),
    "pgd, steering": lambda steps: PGD(steps, losses=STEERED),
    "apgd": lambda steps: APGD(steps, ERRORS, restarts=3),
    "apgd, joint": lambda steps: APGD(steps, JOINT, restarts=1),
    "square": lambda steps: Square(1 + steps),
}
each_norm = pytest.mark.parametrize("norm", ["linf", "l2"])


def network() -> FrozenNetwork:
    return FrozenNetwork(LinearBottleneck(targets=8).to(DEVICE), batch_size=2)


def problem(frozen: FrozenNetwork, norm: Norm) -> Problem:
    inputs, labels = spectrograms(CLIPS), torch.rand(CLIPS, 8)
    box = torch.full((BANDS,), -0.9), torch.full((BANDS,), 0.9)
    threat = Threat(norm, torch.tensor([0.1, 0.2, 0.3, 0.4]), *box)
    generators = [clip_generator(0, clip) for clip in range(CLIPS)]
    return Problem(inputs, labels, threat, generators).on(frozen)


def sent(attack: Attack, norm: Norm = "linf") -> list[str]:
    """Run an attack on the device and return what it sent there; it raises where it reads something back."""
    frozen = network()
    posed = problem(frozen, norm)
    with crossings() as found:
        attack.run(frozen, posed)
    return found


@each_norm
@pytest.mark.parametrize("name", LOOPS)
def test_no_step_of_an_attack_waits(name: str, norm: Norm) -> None:
    attack = LOOPS[name]
    assert len(sent(attack(2), norm)) == len(sent(attack(4), norm))


@each_norm
@pytest.mark.parametrize("kind", KINDS)
def test_noise_is_sent_once_a_draw(kind: str, norm: Norm) -> None:
    assert len(sent(Noise(kind, draws=3), norm)) == 3  # type: ignore[arg-type]


@each_norm
def test_no_bisection_waits_but_for_the_start_of_its_search(norm: Norm) -> None:
    def found(steps: int, bisections: int) -> int:
        attack = MinimumNorm(0.1, APGD(steps, restarts=1), bisections)
        frozen = network()
        posed = problem(frozen, norm)
        with crossings() as sent:
            attack._bisected(frozen, posed, posed.inputs, posed.labels[:, 0])
        return len(sent)

    assert found(1, 2) == found(2, 2) == 2


def test_a_transfer_on_one_device_waits_no_more_than_its_attack() -> None:
    frozen = network()
    posed = problem(frozen, "linf")
    with crossings() as found:
        Transfer(frozen, APGD(3, restarts=1)).run(frozen, posed)
    assert len(found) == len(sent(APGD(3, restarts=1)))


def test_every_attack_is_held_to_it() -> None:
    looped = {attack(1).name for attack in LOOPS.values()}
    waiting = {"escalation"}  # after each start it asks which clips go on
    assert looped | {Noise.name, MinimumNorm.name, Transfer.name} | waiting == set(ATTACKS) - {"suite"}


@pytest.mark.parametrize("optimiser", sorted({*OPTIMISERS} - {"ASGD"}))
def test_no_optimiser_of_the_published_attack_waits(optimiser: str) -> None:
    few, more = (len(sent(PublishedAttack(max_iters=steps, optimiser=optimiser))) for steps in (2, 4))
    assert few == more


def test_asgd_waits_as_it_keeps_its_step_size_on_the_device() -> None:
    with pytest.raises(RuntimeError, match="meta"):
        sent(PublishedAttack(max_iters=2, optimiser="ASGD"))


def sent_by_an_epoch(system: str, protocol: TrainProtocol, clips: int) -> list[str]:
    """Run the steps of an epoch on the device and return what is sent there."""
    config = resolve_fit(CATALOGUE[system], protocol, seed=6, adversarial_iterations=2, batch_size=4)
    if config.adversarial is not None:
        config = replace(config, adversarial=replace(config.adversarial, every=1))
    training = _Training(synthetic_data(train=clips, validation=2), config, DEVICE, None, None)
    with crossings() as found:
        training._steps(1)
    return found


@pytest.mark.parametrize(
    ("system", "protocol"), [("A2M2E", "published"), ("A2M2E", "corrected"), ("aA2E", "published")]
)
def test_of_an_epoch_the_order_of_clips_alone_is_sent(system: str, protocol: TrainProtocol) -> None:
    assert len(sent_by_an_epoch(system, protocol, clips=8)) == 1


def test_corrected_adversarial_steps_send_the_start_of_their_search() -> None:
    assert len(sent_by_an_epoch("aA2M2E", "corrected", clips=8)) == 1 + 2


def test_float32_is_ieee_float32_on_a_gpu_whatever_was_asked_for_before() -> None:
    before = torch.backends.fp32_precision
    torch.backends.cudnn.allow_tf32 = True
    torch.backends.fp32_precision = "tf32"
    try:
        prepare_device(torch.device("cuda"))
        assert torch.backends.cudnn.conv.fp32_precision == "ieee"
        assert torch.backends.cuda.matmul.fp32_precision == "ieee"
        assert not torch.backends.cudnn.allow_tf32
        assert not torch.backends.cuda.matmul.allow_tf32
        assert torch.backends.cudnn.deterministic
    finally:
        torch.backends.fp32_precision = before


def test_algorithms_are_tried_for_attacks_on_a_gpu_alone() -> None:
    assert not torch.backends.cudnn.benchmark
    for device, tried in (("cuda", True), ("cpu", False)):
        with fixed_shapes(torch.device(device)):
            assert torch.backends.cudnn.benchmark == tried
        assert not torch.backends.cudnn.benchmark


WAITS: dict[str, Callable[[Tensor], object]] = {
    "bool": lambda values: bool((values > 0).any()),
    "float": lambda values: float(values.sum()),
    "item": lambda values: values.sum().item(),
    "tolist": lambda values: values.tolist(),
    "numpy": lambda values: values.numpy(),
    "cpu": lambda values: values.cpu(),
    "to": lambda values: values.to("cpu"),
    "nonzero": lambda values: values.nonzero(),
    "mask": lambda values: values[values > 0],
    "unique": lambda values: values.unique(),
    "sent": lambda values: torch.ones(3).to(values),
    "number": lambda values: torch.tensor(1.0).to(values),
    "made": lambda values: torch.tensor([1.0], device=values.device),
    "as": lambda values: torch.as_tensor([1.0], device=values.device),
    "new": lambda values: values.new_tensor(1.0),
    "index": lambda values: values[torch.tensor([0])],
    "list": lambda values: values[[0]],
    "copied": lambda values: values.copy_(torch.ones(values.shape)),
}


@pytest.mark.parametrize("wait", WAITS)
def test_a_wait_that_is_put_into_a_loop_is_found(wait: str, monkeypatch: pytest.MonkeyPatch) -> None:
    moved = PGD._moved

    def waiting(self: PGD, posed: Problem, iterate: Tensor, gradient: Tensor) -> Tensor:
        WAITS[wait](gradient)
        return moved(self, posed, iterate, gradient)

    monkeypatch.setattr(PGD, "_moved", waiting)
    with pytest.raises((AssertionError, RuntimeError, NotImplementedError, TypeError)):
        test_no_step_of_an_attack_waits("pgd, last", "linf")


def test_a_look_at_convergence_now_and_then_changes_the_cost_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    model = linear_regressor(3)
    generator = torch.Generator().manual_seed(3)
    inputs = torch.randn(5, 1, 6, 10, generator=generator, dtype=torch.float64)
    far = torch.tensor([-0.3, -0.5, -0.9, -1.0, -1.2], dtype=torch.float64)[:, None]
    labels = model(inputs)["output"].detach() + far
    found = {}
    for every in (1, 7, 50):
        monkeypatch.setitem(published.LOOK_EVERY, "cpu", every)
        for attack in (PublishedAttack, BridgeAttack):
            run = attack(max_iters=60, conv_method="mse")
            found[attack.name, every] = run(model, inputs, labels, Threat("linf", 0.05))
    for name in ("published", "bridge"):
        always = found[name, 1]
        assert always.columns["converged"].all(), "else nothing is tested"
        assert len(always.columns["iterations"].unique()) > 1
        for every in (7, 50):
            other = found[name, every]
            assert torch.equal(other.adversaries, always.adversaries)
            assert all(torch.equal(other.columns[key], always.columns[key]) for key in always.columns)
        assert always.gradients < found[name, 7].gradients < found[name, 50].gradients
