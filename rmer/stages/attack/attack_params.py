"""Parameters of stage ``attack``: from flags, or a file that knows the published keys.

What is a setting of an attack is declared in the attack's class, also in that of another package, and becomes
a parameter here; an empty one stands for the attack's own default.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rmer.attacks.attack_domains import DOMAINS, SPECTROGRAM, WAVEFORM
from rmer.attacks.known_attacks import ATTACKS
from rmer.attacks.method import AttackMethod
from rmer.attacks.sound_budgets import (
    REPORTED_DB,
    SOUND_NORMS,
    UNITS,
    budget_of,
    epsilon_of,
    sound_step,
)
from rmer.attacks.suite import TIERS, Suite, Tier
from rmer.attacks.threat import NORMS
from rmer.data.audio.transformations import TRANSFORMATIONS
from rmer.errors import UserError
from rmer.evaluation.budgets import curve_step
from rmer.nearest import did_you_mean
from rmer.parameters import Parameters, choice, listed, machine, model_choice, name_choice, param, place
from rmer.plain_yaml import read_yaml_file
from rmer.report.readable import epsilon_in_words
from rmer.stages.attack.attack_defaults import SEED, defaults_of, quoted, with_settings_of_attacks
from rmer.stages.attack.budget_lists import budgets_of_sound, budgets_of_spectrograms
from rmer.systems.arithmetic import PRECISIONS

# Keys of the published configuration file that are called otherwise here, or that have one legal value.
RENAMED = {"clip_eps": "epsilon"}
FIXED = {"mode": ("untargeted",), "target": ("random", None)}


@dataclass(frozen=True)
@with_settings_of_attacks
class AttackParams(Parameters):
    """Parameters of ``attack``: these, and all settings of attacks."""

    attack: str = param("published", "which attack", choices=tuple(ATTACKS))
    system: str = model_choice("", "attack models of this system")
    seed: str = model_choice("", "attack models of this training seed")
    train_protocol: str = model_choice("", "models of this protocol", choices=("", "published", "corrected"))
    train_run_id: str = model_choice("", "attack the model of this run")
    model_uri: str = model_choice(
        "",
        "attack this MLflow model, checkpoint file, model at an address or of code (my.py:name)",
        kind="path",
    )
    dataset_run_id: str = name_choice(
        "",
        "preprocess run, or digest of its data; default: the models' own; of others all clips are attacked",
    )
    trained_on: str = name_choice(
        "", "preprocess run, or digest of its data, that models were trained on; default: dataset_run_id"
    )
    study: str = name_choice("", "group of models and runs; default: models of the newest data set")
    split_scheme: str = choice(
        "", "split of the model of model_uri", choices=("", "published", "album", "official")
    )
    split: str = param("test", "part of the data to attack", choices=("test", "validation"))
    config: str = place("", "YAML file of attack parameters (the published keys are known)")
    epsilon: float | None = param(
        None,
        f"budget a cell, standardised units; of several, the reported one ({quoted('epsilon')})",
        low=0.0,
        high=1e6,
    )
    epsilons: str = param("", "several budgets in one run, by commas; default of suite: its tier's")
    domain: str = param(SPECTROGRAM, "what is attacked: spectrograms, or the sound itself", choices=DOMAINS)
    budget: float | None = param(
        None,
        "budget of domain waveform in dB; of several, the reported one (masking -6, snr 40, linf -60)",
        low=-200.0,
        high=200.0,
    )
    budgets: str = param("", "several budgets of domain waveform, by commas; default of suite: its own")
    norm: str = param(
        "",
        "norm of the budget; l2: radius epsilon x root of cells. Domain waveform: masking (over what "
        "the clip masks), snr, linf (dBFS)",
        choices=("", *dict.fromkeys((*NORMS, *SOUND_NORMS))),
    )
    transformations: str = param(
        "",
        f"domain waveform: what the attack is to survive, by commas ({', '.join(TRANSFORMATIONS)}); each "
        "costs as much as the clip itself, shift twice",
    )
    soundtracks_dir: str = place("", "folder of the clips, for domain waveform; default: as at preprocess")
    listen: int = choice(5, "clips to listen to of domain waveform, the worst first", low=0, high=100_000)
    attack_seed: int | None = param(None, f"seed of all that is random ({SEED})", low=0, high=2**31)
    warm_start: bool | None = param(
        None, f"start also from the adversaries of the next smaller budget ({quoted('warm_start')})"
    )
    source_system: str = param("", f"system to craft adversaries on ({quoted('source_system')})", kind="name")
    source_run_id: str = name_choice("", f"run of the model to craft on ({quoted('source_run_id')})")
    attack_batch_size: int = machine(0, "clips at once; 0: 8 on a CPU, 64 on a GPU", low=0, high=100_000)
    compile: bool = machine(False, "take gradients from a compiled model (torch.compile)")
    precision: str = param("fp32", "arithmetic of gradients; auto: bf16 where faster", choices=PRECISIONS)
    device: str = machine("auto", "auto, cpu, cuda or cuda:<number>")
    dry_run: bool = machine(False, "say what would be done and what it would cost, and stop")

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_domain()
        used = {attack: defaults_of(attack, self.domain) for attack in ATTACKS}
        for name in dict.fromkeys(name for values in used.values() for name in values):
            if name not in used[self.attack] and getattr(self, name) not in (None, ""):
                users = " or ".join(attack for attack, values in used.items() if name in values)
                what, mend = f"the {self.attack} attack does not use it", f"choose attack {users}"
                raise UserError(what, where=f"parameter {name}", mend=f"Leave it out, or {mend}")
        own = {name: getattr(self, name) for name in self.method.settings()}
        self.method.check({name: value for name, value in own.items() if value not in (None, "")})
        _ = self.all_epsilons  # a bad list raises
        for name in ("model_uri", "train_run_id"):
            if self.trained_on and getattr(self, name):
                mend = (
                    f"Leave it out: the run of a model says so, and without one, all that is known is {name}"
                )
                raise UserError(f"{name} names the model", where="parameter trained_on", mend=mend)

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any], *, where: str = "parameters") -> AttackParams:
        """Build from a mapping; what it does not give is taken from the YAML file that it names, if any."""
        given = {name: value for name, value in values.items() if value != ""}
        file = str(given.get("config", ""))
        return super().from_mapping({**_from_file(file), **given} if file else given, where=file or where)

    def _check_domain(self) -> None:
        """Raise UserError for parameters of the other domain, and for an attack or norm that it has not."""
        sound = self.domain == WAVEFORM
        of_sound = ("budget", "budgets", "transformations", "soundtracks_dir")
        others = ("epsilon", "epsilons") if sound else of_sound
        for name in others:
            if getattr(self, name) not in (None, ""):
                mend = "Give budget, in dB" if sound else f"Choose domain {WAVEFORM}"
                what = f"domain {self.domain} does not use it"
                raise UserError(what, where=f"parameter {name}", mend=mend)
        norms = SOUND_NORMS if sound else NORMS
        if self.norm and self.norm not in norms:
            mend = f"Choose one of: {', '.join(norms)}"
            raise UserError(
                f"{self.norm} is no norm of domain {self.domain}", where="parameter norm", mend=mend
            )
        if sound and not self.method.on_sound:
            mend = f"Choose one of: {', '.join(name for name, known in ATTACKS.items() if known.on_sound)}"
            what = f"the {self.attack} attack works on spectrograms alone"
            raise UserError(what, where="parameter attack", mend=mend)
        if unknown := [name for name in self.transformation_names if name not in TRANSFORMATIONS]:
            mend = did_you_mean(unknown, TRANSFORMATIONS, f"Give some of {', '.join(TRANSFORMATIONS)}")
            what = f"no transformation is called {', '.join(unknown)}"
            raise UserError(what, where="parameter transformations", mend=mend)
        if self.transformation_names and self.suite is not None:
            what = "the checks of a suite judge attacks on the clip as it is"
            raise UserError(what, where="parameter transformations", mend="Give another attack, such as apgd")

    @property
    def transformation_names(self) -> list[str]:
        """What the attack is to survive, in the order of :data:`TRANSFORMATIONS`."""
        order = [*TRANSFORMATIONS]
        return sorted(
            listed(self.transformations), key=lambda name: order.index(name) if name in order else -1
        )

    @property
    def method(self) -> type[AttackMethod]:
        """What the attack is."""
        return ATTACKS[self.attack]

    @property
    def on_sound(self) -> bool:
        """Whether the samples of recordings are attacked."""
        return self.domain == WAVEFORM

    @property
    def settings(self) -> dict[str, Any]:
        """The parameters of this attack, those not given at the attack's default."""
        defaults = defaults_of(self.attack, self.domain)
        given = {name: getattr(self, name) for name in defaults}
        found = {name: defaults[name] if value in (None, "") else value for name, value in given.items()}
        if self.transformation_names:
            found["transformations"] = ",".join(self.transformation_names)
        if self.on_sound and found["budget"] is None:
            found["budget"] = REPORTED_DB[found["norm"]]
        return found

    @property
    def own_settings(self) -> dict[str, Any]:
        """Those of :attr:`settings` that the attack's class declares."""
        return {name: value for name, value in self.settings.items() if name in self.method.settings()}

    @property
    def suite(self) -> Tier | None:
        """The size of a suite of attacks, which is evaluated and checked; None for a single attack."""
        return TIERS[self.settings["tier"]] if self.method is Suite else None

    @property
    def reported_epsilon(self) -> float:
        """The budget whose adversaries are stored and scored; of sounds, as a ratio of amplitudes."""
        settings = self.settings
        if self.on_sound:
            return epsilon_of(settings["norm"], settings["budget"])
        return float(settings["epsilon"])

    @property
    def all_epsilons(self) -> list[float]:
        """All budgets of the run, ascending; of sounds, as ratios of amplitudes.

        Raises UserError where the reported one is not among them, or is 0 and a curve or a least budget is
        wanted, or two of a curve have one step.
        """
        if self.on_sound:
            return budgets_of_sound(self.settings, self.suite)
        return budgets_of_spectrograms(
            self.settings,
            self.method,
            self.method.epsilons(self.own_settings),
            is_curve=self.suite is not None,
        )

    def step_of(self, epsilon: float) -> int:
        """Return the step of a budget in ``curve/*``: units of .0001, or of sounds tenths of a dB."""
        return sound_step(epsilon) if self.on_sound else curve_step(epsilon)

    @property
    def budgets_in_words(self) -> list[str]:
        """All budgets of the run as they are shown, smallest first: ``.01``, or ``-6 dB``."""
        if not self.on_sound:
            return [epsilon_in_words(epsilon) for epsilon in self.all_epsilons]
        norm = self.settings["norm"]
        return [f"{budget_of(norm, epsilon):.4g} {UNITS[norm]}" for epsilon in self.all_epsilons]


def _from_file(path: str) -> dict[str, Any]:
    """Return the parameters in a YAML file, under the names of this project."""
    read = read_yaml_file(Path(path), mend="Check config") or {}
    if not isinstance(read, dict):
        raise UserError("is not a list of key: value lines", where=str(Path(path)), mend="Mend the file")
    values = {str(key): value for key, value in read.items()}
    for key, allowed in FIXED.items():
        if key in values and values.pop(key) not in allowed:
            what = f"{key}: only {allowed[0]} is supported, as in the published code"
            raise UserError(what, where=path, mend="Mend or leave out that line")
    if "config" in values:
        raise UserError("names another file of parameters", where=path, mend="Put all of them into one")
    for key, name in RENAMED.items():
        if {key, name} <= set(values):
            mend = "Leave one of them out"
            raise UserError(f"{key} and {name} are the same parameter", where=path, mend=mend)
    return {RENAMED.get(key, key): value for key, value in values.items()}
