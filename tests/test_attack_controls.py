"""Noise and transfer: what a white-box attack has to exceed."""

from __future__ import annotations

import pytest
import torch
from networks import linear_regressor
from regressors import BANDS, CELLS, spectrograms, trained
from torch import Tensor, nn

from rmer.attacks.apgd import APGD
from rmer.attacks.fgsm import FGSM
from rmer.attacks.losses import absolute_error, correlation_over_clips
from rmer.attacks.noise import KINDS, Noise, NoiseKind
from rmer.attacks.objectives import CorrelationObjective, ErrorObjective
from rmer.attacks.pgd import PGD
from rmer.attacks.published import PublishedAttack
from rmer.attacks.threat import Threat
from rmer.attacks.transfer import Transfer
from rmer.errors import UserError
from rmer.systems.frozen import FrozenNetwork

EPSILON = 0.2
pytestmark = pytest.mark.rounding


def noise_of(kind: NoiseKind, norm: str) -> Tensor:
    model, inputs = linear_regressor(1, CELLS), spectrograms(60)
    threat = Threat.per_cell(norm, EPSILON, CELLS)  # type: ignore[arg-type]
    result = Noise(kind, draws=1)(model, inputs, torch.zeros(60, 1, dtype=torch.float64), threat, seed=1)
    return (result.adversaries - inputs).flatten(1) / EPSILON


def test_linf_noise_has_the_stated_distribution() -> None:
    uniform, sign, gaussian = (noise_of(kind, "linf") for kind in KINDS)
    cells = uniform.numel()
    assert float(uniform.abs().mean()) == pytest.approx(0.5, abs=4 / cells**0.5)
    assert float(uniform.square().mean()) == pytest.approx(1 / 3, abs=4 / cells**0.5)
    assert torch.allclose(sign.abs(), torch.ones(1, dtype=torch.float64))
    assert float(sign.mean()) == pytest.approx(0, abs=4 / cells**0.5)
    # Of a normal distribution, 31.7 % lie beyond one standard deviation and are cut off there.
    assert float((gaussian.abs() > 1 - 1e-9).double().mean()) == pytest.approx(0.3173, abs=4 / cells**0.5)
    assert float((gaussian.abs() < 0.5).double().mean()) == pytest.approx(0.3829, abs=4 / cells**0.5)


@pytest.mark.parametrize("kind", KINDS)
def test_l2_noise_has_the_full_radius(kind: NoiseKind) -> None:
    noise = noise_of(kind, "l2")
    assert noise.norm(dim=1).tolist() == pytest.approx([CELLS**0.5] * 60)
    largest = {"uniform": 3**0.5, "sign": 1.0, "gaussian": 10.0}[kind]
    assert float(noise.abs().max()) <= 1.15 * largest
    assert float(noise.mean()) == pytest.approx(0, abs=4 / noise.numel() ** 0.5)


def test_one_draw_is_not_compared_with_the_clean_clip() -> None:
    network, inputs, labels = trained(0)
    frozen = FrozenNetwork(network, batch_size=32)
    clean = absolute_error(frozen.predict(inputs)["output"], labels)
    threat = Threat("linf", EPSILON)
    one, ten = (
        Noise("sign", draws)(frozen, inputs, labels, threat, seed=3, batch_size=32) for draws in (1, 10)
    )
    once, worst = (
        absolute_error(frozen.predict(found.adversaries)["output"], labels) for found in (one, ten)
    )
    assert bool((once < clean).any()), "noise may help"
    assert bool((worst >= once).all()), "the worst of ten draws, the first of which is the same"
    assert bool((worst > once).any())
    assert (one.forwards, ten.forwards, one.gradients) == (32, 320, 0)
    clipped = absolute_error(frozen.predict(ten.also["mae_clipped"])["output"].clamp(0, 1), labels)
    assert bool(
        (clipped >= absolute_error(frozen.predict(one.adversaries)["output"].clamp(0, 1), labels)).all()
    )


def test_joint_noise_keeps_the_worst_draw_of_the_split() -> None:
    network, inputs, labels = trained(0)
    frozen, threat = FrozenNetwork(network), Threat("linf", EPSILON)
    joint = Noise("sign", 6, losses=(CorrelationObjective(),))(frozen, inputs, labels, threat, seed=3)
    found = correlation_over_clips(frozen.predict(joint.adversaries)["output"], labels)
    single = Noise("sign", 1)(frozen, inputs, labels, threat, seed=3)
    first = correlation_over_clips(frozen.predict(single.adversaries)["output"], labels)
    assert float(found) < float(first)


@pytest.mark.parametrize("make", [lambda: Noise("pink"), lambda: Noise("sign", draws=0)])
def test_unknown_noise_is_refused(make: object) -> None:
    with pytest.raises(UserError):
        make()  # type: ignore[operator]


class Silent(nn.Module):
    """A victim that must not be asked."""

    def forward(self, inputs: Tensor) -> dict[str, Tensor | None]:
        raise AssertionError("a transfer attack asked its victim")


@pytest.mark.parametrize("inner", [FGSM(), PGD(6), APGD(6, restarts=2)], ids=lambda inner: inner.name)
@pytest.mark.parametrize("batch_size", [5, 32])
def test_transfer_is_the_attack_on_the_surrogate(inner: FGSM | PGD | APGD, batch_size: int) -> None:
    network, inputs, labels = trained(0)
    threat = Threat("linf", 0.1, torch.full((BANDS,), -3.0), torch.full((BANDS,), 3.0))
    direct = inner(network, inputs, labels, threat, seed=9)
    handed = Transfer(network, inner)(Silent(), inputs, labels, threat, seed=9, batch_size=batch_size)
    assert torch.allclose(handed.adversaries, direct.adversaries, atol=1e-6)
    assert torch.allclose(handed.also["mae_clipped"], direct.also["mae_clipped"], atol=1e-6)
    assert (handed.gradients, handed.forwards) == (direct.gradients, direct.forwards)
    own = FrozenNetwork(network)
    itself = Transfer(own, inner)(own, inputs, labels, threat, seed=9)
    assert (itself.gradients, itself.forwards) == (direct.gradients, direct.forwards)


def test_transfer_hurts_another_network_less_than_its_own_attack() -> None:
    (victim, inputs, labels), (surrogate, _, _) = trained(0), trained(1)
    threat, attack = Threat("linf", 0.2), APGD(20, (ErrorObjective("l1"),), restarts=1)
    frozen = FrozenNetwork(victim)
    handed = Transfer(surrogate, attack)(victim, inputs, labels, threat)
    own = attack(victim, inputs, labels, threat)
    weak, strong = (
        absolute_error(frozen.predict(result.adversaries)["output"], labels) for result in (handed, own)
    )
    assert float(weak.mean()) < float(strong.mean())


def test_transfer_between_arithmetics_and_its_limits() -> None:
    network, inputs, labels = trained(0)
    surrogate, _, _ = trained(1, dtype=torch.float64)
    result = Transfer(surrogate, PGD(3))(network, inputs, labels, Threat("l2", 0.5))
    assert result.adversaries.dtype == torch.float32
    joint = Transfer(surrogate, PGD(3, losses=(CorrelationObjective(),)))
    assert joint.joint
    assert joint.metric == "corr"
    with pytest.raises(UserError, match="holds no budget"):
        Transfer(surrogate, PublishedAttack())
