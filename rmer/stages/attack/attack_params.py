"""Parameters of stage ``attack``: from flags, or a file that knows the published keys."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rmer.attacks.apgd import APGD
from rmer.attacks.base import Attack
from rmer.attacks.minimum_norm import WITHIN_RADIUS, MinimalPerturbation
from rmer.attacks.noise import KINDS, Noise
from rmer.attacks.objectives import Objective, check_losses
from rmer.attacks.pgd import PGD, SingleStep
from rmer.attacks.published import OPTIMISERS, BridgeAttack, PublishedAttack
from rmer.attacks.square import Square
from rmer.attacks.threat import NORMS
from rmer.attacks.transfer import ON_SURROGATE
from rmer.errors import UserError
from rmer.evaluation.suite import REPORTED, TIERS
from rmer.parameters import Parameters, listed, param
from rmer.plain_yaml import read_yaml_file
from rmer.systems.arithmetic import PRECISIONS

# Attack protocol of each attack.
PROTOCOLS = {"published": "published", "bridge": "bridge"} | dict.fromkeys(
    ("suite", "apgd", "pgd", "single_step", "square", "transfer", "minimal", "noise"), "corrected"
)
# Parameters that are called otherwise in the classes of attacks.
IN_CLASS = {"loss": "losses", "noise": "kind"}


def defaults_of(attack: Attack | type[Attack], *parameters: str) -> dict[str, Any]:
    """Return the values of some parameters that an attack, or the fields of its class, come with."""
    values = {name: getattr(attack, IN_CLASS.get(name, name)) for name in parameters}
    return {name: _losses_text(value) if name == "loss" else value for name, value in values.items()}


def _losses_text(losses: tuple[Objective, ...]) -> str:
    return ",".join(loss.name for loss in losses)


# Parameters that belong to some attacks only, with the value that each attack gives them where the user gives
# none; to give one to another attack is an error. What is a setting of the attack itself is as in its class.
OPTIMISED = ("max_iters", "lr", "conv_method", "sign", "optimiser", "alpha")
CORRECTED: dict[str, Any] = {"epsilon": REPORTED, "epsilons": "", "norm": "linf", "attack_seed": 21}
SOURCE: dict[str, Any] = {"source_system": "", "source_run_id": ""}
SETTINGS: dict[str, dict[str, Any]] = {
    "published": {"epsilon": 0.001, **defaults_of(PublishedAttack, *OPTIMISED)},
    "bridge": {"epsilon": 0.001, **defaults_of(BridgeAttack, *OPTIMISED)},
    "suite": {**CORRECTED, "tier": "quick", "warm": False, **SOURCE},
    "apgd": {**CORRECTED, **defaults_of(APGD, "steps", "restarts", "loss"), "warm": False},
    "pgd": {**CORRECTED, **defaults_of(PGD, "steps", "restarts", "loss")},
    "single_step": {**CORRECTED, **defaults_of(SingleStep, "loss")},
    "square": {**CORRECTED, **defaults_of(Square, "queries")},
    "transfer": {**CORRECTED, **defaults_of(ON_SURROGATE, "steps"), **SOURCE},
    "minimal": {
        **CORRECTED,
        "epsilon": 0.1,
        **defaults_of(WITHIN_RADIUS, "steps"),
        **defaults_of(MinimalPerturbation, "growth", "bisections"),
    },
    "noise": {**CORRECTED, **defaults_of(Noise, "noise", "draws")},
}


def quoted(name: str) -> str:
    """Return for a help text which attacks have a parameter, and its default: ``apgd, transfer 100, pgd 40``.

    The default of more than half of all attacks comes last, as ``else .01``.
    """
    users: dict[str, list[str]] = {}
    for attack, values in SETTINGS.items():
        if name in values:
            users.setdefault(_shown(values[name]), []).append(attack)
    usual = [shown for shown, attacks in users.items() if len(attacks) > len(SETTINGS) / 2]
    parts = [
        f"{', '.join(attacks)} {shown}".strip() for shown, attacks in users.items() if shown not in usual
    ]
    return ", ".join([*parts, *(f"else {shown}" for shown in usual)])


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:g}".removeprefix("0")
    return "" if value is None else str(value)


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
        f"budget a cell, standardised units; of several, the reported one ({quoted('epsilon')})",
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
    max_iters: int | None = param(None, f"iterations ({quoted('max_iters')})", low=1, high=10_000_000)
    lr: float | None = param(None, f"learning rate ({quoted('lr')})", low=1e-12, high=1e6)
    conv_method: str = param("", f"criterion ({quoted('conv_method')})", choices=("", "corr", "mse"))
    sign: bool | None = param(None, f"step along the gradient's sign ({quoted('sign')})")
    optimiser: str = param("", f"optimiser of torch.optim ({quoted('optimiser')})", choices=("", *OPTIMISERS))
    alpha: float | None = param(
        None, f"weight of the loss against a penalty on the perturbation ({quoted('alpha')})", low=1e-12
    )
    steps: int | None = param(None, f"steps of a start ({quoted('steps')})", low=1, high=10_000_000)
    restarts: int | None = param(None, f"random starts ({quoted('restarts')})", low=1, high=10_000)
    loss: str = param(
        "",
        f"losses of the starts, in turn ({quoted('loss')}): l1, mse, outputs, signs; "
        "or one of corr, up:<emotion or concept>, down:<...>",
    )
    warm: bool | None = param(
        None, f"start also from the adversaries of the next smaller budget ({quoted('warm')})"
    )
    queries: int | None = param(None, f"queries a clip ({quoted('queries')})", low=1, high=10_000_000)
    source_system: str = param(
        "", f"system that adversaries are crafted on ({quoted('source_system')})", kind="name"
    )
    source_run_id: str = param(
        "", f"train run that adversaries are crafted on ({quoted('source_run_id')})", kind="name"
    )
    growth: float | None = param(
        None, f"growth of a clip's MAE that is looked for ({quoted('growth')})", low=1e-12, high=1e6
    )
    bisections: int | None = param(None, f"bisections of the budget ({quoted('bisections')})", low=1, high=60)
    noise: str = param("", f"kind of noise ({quoted('noise')})", choices=("", *KINDS))
    draws: int | None = param(
        None, f"draws of noise, the worst of which counts ({quoted('draws')})", low=1, high=100_000
    )
    attack_seed: int | None = param(
        None, f"seed of all that is random ({CORRECTED['attack_seed']})", low=0, high=2**31
    )
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
        self._check_losses()
        _ = self.budgets  # a bad list raises

    def _check_losses(self) -> None:
        """Raise UserError for losses that are none, do not mix, or are more than there are starts."""
        if not self.loss:
            return
        losses, starts = listed(self.loss), self.settings.get("restarts")
        check_losses(losses)
        if starts is not None and len(losses) > starts:
            raise UserError(
                f"{len(losses)} losses ({', '.join(losses)}) need as many starts, and there "
                f"{'is' if starts == 1 else 'are'} {starts}",
                where="parameter loss",
                mend="Raise restarts, or leave some out",
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
        """All budgets of the run, ascending.

        Raises UserError where the reported one is not among them, or is 0 and a curve or a least budget is
        wanted.
        """
        if self.attack in ("suite", "minimal") and self.epsilon_report == 0:
            what = f"the {self.attack} attack looks for nothing within a budget of 0"
            raise UserError(what, where="parameter epsilon", mend="Give a number above 0")
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
