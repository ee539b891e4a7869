"""Parameters of stage ``attack``: from flags, or a file that knows the published keys."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rmer.attacks.noise import KINDS
from rmer.attacks.threat import NORMS
from rmer.errors import UserError
from rmer.evaluation.suite import REPORTED, TIERS
from rmer.parameters import Parameters, listed, param
from rmer.plain_yaml import read_yaml_file
from rmer.systems.precision import PRECISIONS

# Attack protocol of each attack.
PROTOCOLS = {"published": "published", "bridge": "bridge"} | dict.fromkeys(
    ("suite", "apgd", "pgd", "single_step", "square", "transfer", "minimal", "noise"), "corrected"
)
# Parameters that belong to some attacks only, with the value that each attack gives them where the user gives
# none; to give one to another attack is an error.
PUBLISHED: dict[str, Any] = {
    "epsilon": 0.001,
    "max_iters": 1000,
    "lr": 0.002,
    "conv_method": "corr",
    "sign": True,
    "optimiser": "Adam",
    "alpha": None,
}
CORRECTED: dict[str, Any] = {"epsilon": REPORTED, "epsilons": "", "norm": "linf", "attack_seed": 21}
SETTINGS: dict[str, dict[str, Any]] = {
    "published": PUBLISHED,
    "bridge": PUBLISHED,
    "suite": {**CORRECTED, "tier": "quick", "warm": False, "source_system": "", "source_run_id": ""},
    "apgd": {**CORRECTED, "steps": 100, "restarts": 2, "loss": "l1,mse", "warm": False},
    "pgd": {**CORRECTED, "steps": 40, "restarts": 1, "loss": "mse"},
    "single_step": {**CORRECTED, "loss": "l1"},
    "square": {**CORRECTED, "queries": 1000},
    "transfer": {**CORRECTED, "steps": 100, "source_system": "", "source_run_id": ""},
    "minimal": {**CORRECTED, "epsilon": 0.1, "steps": 20, "growth": 0.1, "bisections": 10},
    "noise": {**CORRECTED, "noise": "uniform", "draws": 10},
}
# Keys of the published configuration file that are called otherwise here, or that have one legal value.
RENAMED = {"clip_eps": "epsilon"}
FIXED = {"mode": ("untargeted",), "target": ("random", None)}


@dataclass(frozen=True)
class AttackParams(Parameters):
    """Parameters of ``attack``."""

    attack: str = param("published", "which attack", choices=tuple(PROTOCOLS))
    system: str = param("", "attack models of this system", kind="name")
    seed: str = param("", "attack models of this training seed", kind="name")
    train_protocol: str = param("", "attack models of this protocol", choices=("", "published", "corrected"))
    train_run_id: str = param("", "attack the model of this run", kind="name")
    model_uri: str = param("", "attack this MLflow model or checkpoint file", kind="path")
    dataset_run_id: str = param(
        "", "preprocess run; default: the one that the model was trained on", kind="name"
    )
    study: str = param(
        "",
        "group whose models are attacked, and that the runs join; default: models of the newest data set",
        kind="name",
    )
    split_scheme: str = param(
        "", "split that the model of model_uri was trained on", choices=("", "published", "album")
    )
    split: str = param("test", "part of the data to attack", choices=("test", "validation"))
    config: str = param("", "YAML file of attack parameters (the published keys are known)", kind="path")
    tier: str = param("", "size of the suite", choices=("", *TIERS))
    epsilon: float | None = param(
        None,
        "budget a cell, standardised units; of several, the reported one (published, bridge .001, "
        "minimal .1, else .01)",
        low=0.0,
        high=1e6,
    )
    epsilons: str = param(
        "", "several budgets, separated by commas, in one run; default of suite: its tier's"
    )
    norm: str = param(
        "",
        "norm of the budget; l2 has the radius epsilon x root of the number of cells",
        choices=("", *NORMS),
    )
    max_iters: int | None = param(None, "iterations (published, bridge 1000)", low=1, high=10_000_000)
    lr: float | None = param(None, "learning rate (published, bridge .002)", low=1e-12, high=1e6)
    conv_method: str = param("", "criterion (published, bridge corr)", choices=("", "corr", "mse"))
    sign: bool | None = param(None, "step along the gradient's sign (published, bridge true)")
    optimiser: str = param("", "optimiser of torch.optim (published, bridge Adam)")
    alpha: float | None = param(
        None, "weight of the loss against a penalty on the perturbation (published, bridge)", low=1e-12
    )
    steps: int | None = param(
        None, "steps of a start (apgd, transfer 100, pgd 40, minimal 20)", low=1, high=10_000_000
    )
    restarts: int | None = param(None, "random starts (apgd 2, pgd 1)", low=1, high=10_000)
    loss: str = param(
        "",
        "losses of the starts, in turn (apgd l1,mse, pgd mse, single_step l1): l1, mse, outputs, signs; "
        "or one of corr, up:<emotion or concept>, down:<...>",
    )
    warm: bool | None = param(
        None, "start also from the adversaries of the next smaller budget (suite, apgd)"
    )
    queries: int | None = param(None, "queries a clip (square 1000)", low=1, high=10_000_000)
    source_system: str = param("", "system that adversaries are crafted on (transfer, suite)", kind="name")
    source_run_id: str = param("", "train run that adversaries are crafted on (transfer, suite)", kind="name")
    growth: float | None = param(
        None, "growth of a clip's MAE that is looked for (minimal .1)", low=0.0, high=1e6
    )
    bisections: int | None = param(None, "bisections of the budget (minimal 10)", low=1, high=60)
    noise: str = param("", "kind of noise (noise uniform)", choices=("", *KINDS))
    draws: int | None = param(
        None, "draws of noise, the worst of which counts (noise 10)", low=1, high=100_000
    )
    attack_seed: int | None = param(None, "seed of all that is random (21)", low=0, high=2**31)
    attack_batch_size: int = param(
        0, "clips attacked at once; 0: 8 on a CPU, 64 on a GPU", low=0, high=100_000
    )
    compile: bool = param(False, "take gradients from a compiled model (torch.compile)")
    precision: str = param("fp32", "arithmetic of gradients; auto: bf16 where native", choices=PRECISIONS)
    device: str = param("auto", "auto, cpu, cuda or cuda:<number>")
    dry_run: bool = param(False, "say what would be done and what it would cost, and stop")

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

    @property
    def settings(self) -> dict[str, Any]:
        """The parameters of this attack, those not given at the attack's default."""
        defaults = SETTINGS[self.attack]
        given = {name: getattr(self, name) for name in defaults}
        return {name: defaults[name] if value in (None, "") else value for name, value in given.items()}

    @property
    def epsilon_report(self) -> float:
        """The budget whose adversaries are stored and scored."""
        return float(self.settings["epsilon"])

    @property
    def budgets(self) -> list[float]:
        """All budgets of the run, ascending; raises UserError where the reported one is not among them."""
        text = self.settings.get("epsilons", "")
        if not text:
            budgets = list(TIERS[self.settings["tier"]].epsilons) if self.attack == "suite" else []
            return sorted({*budgets, self.epsilon_report})
        try:
            budgets = sorted({float(part) for part in listed(text)})
        except ValueError:
            budgets = []
        if not budgets or not all(0 < budget < 1e6 for budget in budgets):
            mend = "Give numbers above 0, separated by commas"
            raise UserError(f"{text!r} is no list of budgets", where="parameter epsilons", mend=mend)
        if self.epsilon_report not in budgets:
            raise UserError(
                f"{text} does not hold the reported budget {self.epsilon_report:g}",
                where="parameter epsilons",
                mend="Add it, or name the one to be reported with epsilon",
            )
        return budgets


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
    if "config" in values:
        raise UserError("names another file of parameters", where=path, mend="Put all of them into one")
    for key, name in RENAMED.items():
        if {key, name} <= set(values):
            mend = "Leave one of them out"
            raise UserError(f"{key} and {name} are the same parameter", where=path, mend=mend)
    return {RENAMED.get(key, key): value for key, value in values.items()}


def _read_yaml(path: Path) -> dict[str, Any]:
    values = read_yaml_file(path, mend="Check config") or {}
    if not isinstance(values, dict):
        raise UserError("is not a list of key: value lines", where=str(path), mend="Mend the file")
    return {str(key): value for key, value in values.items()}
