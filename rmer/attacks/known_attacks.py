"""The attacks by name; a package beside this one adds one by an entry point of the group ``rmer.attacks``."""

from __future__ import annotations

from rmer.attacks.apgd import APGD
from rmer.attacks.escalation import Escalation
from rmer.attacks.fgsm import FGSM
from rmer.attacks.method import AttackMethod
from rmer.attacks.minimum_norm import MinimumNorm
from rmer.attacks.noise import Noise
from rmer.attacks.pgd import PGD
from rmer.attacks.published import BridgeAttack, PublishedAttack
from rmer.attacks.square import Square
from rmer.attacks.suite import Suite
from rmer.attacks.transfer import Transfer
from rmer.registry import Registry

OWN: tuple[type[AttackMethod], ...] = (
    PublishedAttack,
    BridgeAttack,
    Suite,
    APGD,
    Escalation,
    PGD,
    FGSM,
    Square,
    Transfer,
    MinimumNorm,
    Noise,
)
ATTACKS = Registry[type[AttackMethod]]("attack", "rmer.attacks", {attack.name: attack for attack in OWN})
