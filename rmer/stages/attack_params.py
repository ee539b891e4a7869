"""Parameters of stage ``attack``: from flags, or a file that knows the published keys."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from rmer.attacks.base import Attack
from rmer.attacks.losses import objectives
from rmer.attacks.pgd import PGD
from rmer.attacks.published import BridgeAttack, PublishedAttack
from rmer.attacks.threat import Threat
from rmer.data.standardised import Standardised
from rmer.errors import UserError
from rmer.parameters import Parameters, param
from rmer.systems.precision import PRECISIONS

# Attack protocol of each attack, and the budget that it declares where none is given.
PROTOCOLS = {"published": "published", "bridge": "bridge", "pgd": "corrected"}
DEFAULT_EPSILON = {"published": 0.001, "bridge": 0.001, "pgd": 0.01}
# Parameters that belong to some attacks only; to give one to another attack is an error.
SETTINGS = {
    "published": ("max_iters", "lr", "conv_method", "sign", "optimiser", "alpha"),
    "bridge": ("max_iters", "lr", "conv_method", "sign", "optimiser", "alpha"),
    "pgd": ("norm", "steps", "restarts", "loss", "attack_seed"),
}
# Keys of the published configuration file that are called otherwise here, or that have one legal value.
RENAMED = {"clip_eps": "epsilon"}
FIXED = {"mode": ("untargeted",), "target": ("random", None)}


@dataclass(frozen=True)
class AttackParams(Parameters):
    """Parameters of ``attack``."""

    attack: str = param("published", "which attack", choices=tuple(PROTOCOLS))
    system: str = param("", "attack models of this system")
    seed: str = param("", "attack models of this training seed")
    train_protocol: str = param("", "attack models of this protocol", choices=("", "published", "corrected"))
    train_run_id: str = param("", "attack the model of this run")
    model_uri: str = param("", "attack this MLflow model or checkpoint file")
    dataset_run_id: str = param("", "preprocess run; default: the one that the model was trained on")
    study: str = param("", "name of the group of runs")
    split_scheme: str = param(
        "", "split that the model of model_uri was trained on", choices=("", "published", "album")
    )
    split: str = param("test", "part of the data to attack", choices=("test", "validation"))
    config: str = param("", "YAML file of attack parameters (the published keys are known)")
    epsilon: float | None = param(
        None, "budget in standardised units (published, bridge .001, else .01)", low=0.0, high=1e6
    )
    norm: str = param("linf", "norm of the budget (pgd)", choices=("linf", "l2"))
    max_iters: int = param(1000, "iterations (published, bridge)", low=1, high=10_000_000)
    lr: float = param(0.002, "learning rate (published, bridge)", low=1e-12, high=1e6)
    conv_method: str = param("corr", "criterion (published, bridge)", choices=("corr", "mse"))
    sign: bool = param(True, "step along the gradient's sign (published, bridge)")
    optimiser: str = param("Adam", "optimiser of torch.optim (published, bridge)")
    alpha: float | None = param(
        None, "weight of the loss against a penalty on the perturbation (published, bridge)", low=1e-12
    )
    steps: int = param(40, "steps of a restart (pgd)", low=1, high=10_000_000)
    restarts: int = param(1, "random starts (pgd)", low=1, high=10_000)
    loss: str = param("mse", "loss whose gradient is followed (pgd)", choices=("mse", "l1"))
    attack_seed: int = param(21, "seed of random starts (pgd)", low=0, high=2**31)
    attack_batch_size: int = param(8, "clips attacked at once", low=1, high=100_000)
    precision: str = param("fp32", "arithmetic of gradients; auto: bf16 where native", choices=PRECISIONS)
    device: str = param("auto", "auto, cpu, cuda or cuda:<number>")

    def __post_init__(self) -> None:
        super().__post_init__()
        for field in dataclasses.fields(self):
            users = [attack for attack, names in SETTINGS.items() if field.name in names]
            if users and self.attack not in users and getattr(self, field.name) != field.default:
                raise UserError(
                    f"the {self.attack} attack does not use it",
                    where=f"parameter {field.name}",
                    mend=f"Leave it out, or choose attack {' or '.join(users)}",
                )

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any], *, where: str = "parameters") -> AttackParams:
        """Build from a mapping; what it does not give is taken from the YAML file that it names, if any."""
        given = {name: value for name, value in values.items() if value != ""}
        file = str(given.get("config", ""))
        return super().from_mapping({**_from_file(file), **given} if file else given, where=file or where)

    def build(self) -> Attack:
        """Return the attack with its settings."""
        if self.attack == "pgd":
            return PGD(self.steps, losses=objectives([self.loss], ()), restarts=self.restarts)
        kind = PublishedAttack if self.attack == "published" else BridgeAttack
        return kind(
            max_iters=self.max_iters,
            lr=self.lr,
            conv_method=self.conv_method,  # type: ignore[arg-type]
            sign=self.sign,
            optimiser=self.optimiser,
            alpha=self.alpha,
        )

    def threat(self, data: Standardised) -> Threat:
        """Return the budget. Published and bridge know no box: the bridge changes one thing only."""
        epsilon = DEFAULT_EPSILON[self.attack] if self.epsilon is None else self.epsilon
        if self.attack == "pgd":
            return Threat(self.norm, epsilon, data.floor, data.ceiling)  # type: ignore[arg-type]
        return Threat("linf", epsilon)


def _from_file(path: str) -> dict[str, Any]:
    """Return the parameters in a YAML file, under the names of this project."""
    values = _read_yaml(Path(path))
    for key, allowed in FIXED.items():
        if key in values and values.pop(key) not in allowed:
            raise UserError(
                f"{key}: only {allowed[0]} is supported, as in the published code",
                where=path,
                mend="Mend or leave out that line",
            )
    return {RENAMED.get(key, key): value for key, value in values.items()}


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except OSError as error:
        raise UserError(f"cannot be read ({error.strerror})", where=str(path), mend="Check config") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"is not YAML ({reason})", where=str(path), mend="Mend the file") from error
    if not isinstance(values, dict):
        raise UserError("is not a list of key: value lines", where=str(path), mend="Mend the file")
    return {str(key): value for key, value in values.items()}
