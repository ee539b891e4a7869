"""The plan of a study: its parameters, and what they come to for a given size."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from rmer.attacks.attack_domains import SPECTROGRAM, WAVEFORM
from rmer.attacks.known_attacks import ATTACKS
from rmer.attacks.threat import NORMS
from rmer.data.audio.filterbank import FPS
from rmer.data.dataset import EMOTIONS
from rmer.data.readers.collection import Collected
from rmer.data.readers.known_readers import DEFAULT_READER
from rmer.data.tables.ratings import check_targets
from rmer.data.tables.target_names import asked_for
from rmer.errors import UserError
from rmer.execution.engine_params import EngineParams
from rmer.nearest import did_you_mean
from rmer.parameters import Parameters, choice, listed, name_choice, preset, taking
from rmer.stages.attack.attack_defaults import defaults_of
from rmer.stages.attack.attack_params import AttackParams
from rmer.stages.attack.victims import model_in_words
from rmer.stages.data.data_params import DataParams
from rmer.stages.data.demo_data import DemoParams
from rmer.stages.data.preprocess import PreprocessParams
from rmer.stages.study.variants import (
    OF_SOUND,
    OF_SPECTROGRAMS,
    SoundParams,
    attack_variants,
    chosen_domains,
    sound_norms,
)
from rmer.stages.train_params import TrainingParams, TrainParams
from rmer.systems.catalogue import System, groups, resolve
from rmer.systems.devices import check_device_name
from rmer.systems.network import PUBLISHED_OPTIONS, options_of
from rmer.training.protocol import AdversarialParams

# Length of a demo clip, as a multiple of the excerpt that is drawn from it: 15 s for the published 10 s.
CLIP_LENGTH = 1.5
LONGEST_CLIP = 60.0  # seconds

PUBLISHED_SEEDS = "6,21,42,796,950,2025,2324,2451,3100,7192"

# What a parameter that is not given comes to. "small" shows within minutes, on two cores, what systems
# learn and attacks break; "full" is the published study.
SIZES: dict[str, dict[str, Any]] = {
    "small": {
        "systems": "A2E,A2M2E,aA2E,placebo", "seeds": "6,21", "attacks": "suite", "clips": 280,
        "train_protocol": "corrected", "frames": 56, "width": 0.125, "dropout": 0.0, "epochs": 22,
        "lr": 2e-2, "lr_schedule": "cosine", "batch_size": 8, "adversarial_iterations": 1, "max_iters": 50,
        "steps": 20, "tier": "brief", "precision": "fp32", "sound_norms": "masking", "sound_tier": "brief",
        "listen": 1, "engine": "local",
    },
    "full": {
        "systems": "published", "seeds": PUBLISHED_SEEDS, "attacks": "published,bridge,suite", "clips": 360,
        "train_protocol": "published", "frames": 313, "width": 1.0, "dropout": 0.3, "epochs": 199, "lr": 5e-4,
        "lr_schedule": "constant", "batch_size": 8, "adversarial_iterations": None, "max_iters": 1000,
        "steps": 40, "tier": "paper", "precision": "fp32", "sound_norms": "masking,snr",
        "sound_tier": "paper", "listen": 5, "engine": "serial",
    },
}  # fmt: skip
# Parameters of an attack that a study hands on: all but those that it chooses itself, and those that mean
# something else in training (lr).
OF_ATTACKS = [
    name
    for name in AttackParams.names("result", "machine")
    if name not in ("attack", "source_system", "domain", *OF_SOUND, *TrainingParams.names())
]


@dataclass(frozen=True)
class DesignParams(Parameters):
    """What a study is made of."""

    size: str = choice("small", "small (minutes) or full (as published): defaults", choices=tuple(SIZES))
    study: str = name_choice("", "name of the group of runs; default: made of these parameters")
    systems: str = choice("", f"systems or groups ({', '.join(groups())}), by commas")
    seeds: str = choice("", "training seeds, by commas")
    attacks: str = choice("", "attacks, by commas (published, bridge, suite, pgd, ...)")
    clips: int | None = choice(None, "clips of the demo data", low=11, high=100_000)
    register: str = name_choice(
        "", "name in MLflow's registry for the model of the best validation correlation"
    )
    register_fold: int = choice(
        0, "cross-validation: the fold whose best model is registered, from 1", low=0, high=1000
    )


@dataclass(frozen=True)
@taking(OF_ATTACKS, AttackParams)
class AttackingParams(Parameters):
    """How the models of a study are attacked."""


@dataclass(frozen=True)
@preset(SIZES)
class StudyParams(EngineParams, AttackingParams, SoundParams, TrainingParams, DataParams, DesignParams):
    """Parameters of ``main``: those of the design, and those that its stages and the engine take."""

    def sized(self) -> StudyParams:
        """Return the parameters with those not given set by ``size``."""
        sizes = SIZES[self.size].items()
        return replace(self, **{name: value for name, value in sizes if getattr(self, name) in (None, "")})


@dataclass(frozen=True)
class Plan:
    """What a study will do: one data set, ``systems`` x ``seeds`` x folds models, each under every attack."""

    params: StudyParams
    systems: list[System]
    seeds: list[int]
    attacks: list[str]
    domains: list[str] = field(default_factory=list)

    @property
    def folds(self) -> list[int]:
        """The folds that models are trained for; 0 alone without cross-validation."""
        return list(range(1, self.params.folds + 1)) or [0]

    @property
    def models(self) -> list[tuple[System, int, int]]:
        """System, seed and fold of every model, seed by seed, so that an early look sees all systems."""
        return [(system, seed, fold) for seed in self.seeds for fold in self.folds for system in self.systems]

    @property
    def of_attacks(self) -> dict[str, Any]:
        """The parameters that attacks are handed."""
        return {name: getattr(self.params, name) for name in (*OF_ATTACKS, "precision", "device", "study")}

    @property
    def attack_variants(self) -> dict[str, dict[str, Any]]:
        """What is done to every model: name -> parameters (:func:`rmer.stages.study.variants`)."""
        norms = sound_norms(self.params)
        return attack_variants(self.attacks, self.domains, norms, self.of_attacks)

    @property
    def sound(self) -> dict[str, str]:
        """Attack on the sound -> its size and budgets; empty of a study of spectrograms."""
        found = {name: self.attack_params(name, "") for name in self.attack_variants}
        return {
            name: f"{params.settings.get('tier', '')} {'; '.join(params.budgets_in_words)}, reported "
            f"{params.settings['budget']:g} dB".lstrip()
            for name, params in found.items()
            if params.on_sound
        }

    def source_of(self, system: System) -> System | None:
        """Return the system that adversaries are transferred from: the first other one that is no control."""
        others = [other for other in self.systems if other != system and not other.permuted_concepts]
        return others[0] if others else None

    def demo_params(self, folder: str) -> DemoParams:
        """Return the parameters of stage demo_data, where no other data is given."""
        seconds = max(1.0, round(CLIP_LENGTH * (self.params.frames or 0) / FPS, 1))
        return DemoParams(out_dir=folder, clips=self.params.clips or 0, seconds=min(seconds, LONGEST_CLIP))

    def preprocess_params(self, folder: str) -> PreprocessParams:
        """Return the parameters of stage preprocess for the data in ``folder``."""
        shared = _shared(self.params, PreprocessParams)
        if self.params.size == "small" and not self.params.soundtracks_dir:
            shared["workers"] = shared["workers"] or 1  # the demo clips are read before others have started
        return PreprocessParams(**{**shared, "soundtracks_dir": folder, "data_dir": ""})

    def train_params(self, system: System, seed: int, fold: int, dataset_run_id: str) -> TrainParams:
        """Return the parameters of stage train for one model, one of :attr:`models`."""
        shared = _shared(self.params, TrainParams)
        if not system.adversarial:
            shared = {name: shared[name] for name in shared if name not in AdversarialParams.names()}
        # A study of networks may have a system that is none, which they do not concern.
        for name in PUBLISHED_OPTIONS.keys() - options_of(system.arch):
            shared.pop(name, None)
        shared |= {"system": system.name, "seed": seed, "fold": fold, "dataset_run_id": dataset_run_id}
        return TrainParams(**shared)

    def attack_params(self, name: str, train_run_id: str, folder: str = "") -> AttackParams:
        """Return the parameters of stage attack for one model and one of :attr:`attack_variants`.

        ``folder`` is that of the recordings, for attacks on the sound.
        """
        chosen = self.attack_variants[name]
        attack = chosen["attack"]
        of_others = _settings(ATTACKS) - set(defaults_of(attack))
        if chosen.get("domain") == WAVEFORM:
            of_others |= set(OF_SPECTROGRAMS)
            chosen = {**chosen, **{name: getattr(self.params, name) for name in OF_SOUND}}
            chosen |= {"soundtracks_dir": folder, "tier": self.params.sound_tier if attack == "suite" else ""}
        if ATTACKS[attack].protocol != "corrected":
            of_others |= {"epsilon"}  # the reported one of corrected attacks
        shared = {key: value for key, value in self.of_attacks.items() if key not in of_others}
        return AttackParams(**{**shared, **chosen, "train_run_id": train_run_id})


def make_plan(params: StudyParams) -> Plan:
    """Resolve sizes, systems, seeds and attacks.

    Raises UserError for what is not known, and for whatever else a stage of the plan would refuse by its
    parameters: nothing has been computed or written by then.
    """
    given, params = params, params.sized()
    check_device_name(params.device)
    _check_registration(params)
    attacks = listed(params.attacks)
    unknown = [name for name in attacks if name not in ATTACKS]
    if params.soundtracks_dir and given.clips is not None:
        mend = "Leave it out: all clips of soundtracks_dir are used"
        raise UserError("is the size of the demo data", where="parameter clips", mend=mend)
    if unknown or not attacks:
        what = f"no attack is called {', '.join(unknown)}" if unknown else "no attack is named"
        mend = did_you_mean(unknown, ATTACKS, f"Known are {', '.join(ATTACKS)}")
        raise UserError(what, where="parameter attacks", mend=mend)
    domains = chosen_domains(params, attacks)
    plan = Plan(params, resolve(params.systems), _seeds(params.seeds), attacks, domains)
    _check_stages(plan)
    return plan


def _check_registration(params: StudyParams) -> None:
    if unusable := sorted(set(params.register) & set("/:")):
        mend = "Leave it out"
        raise UserError(f"{params.register!r} has a {unusable[0]}", where="parameter register", mend=mend)
    if params.register and params.folds and not params.register_fold:
        mend = "Give register_fold, to get the best model of one fold, or leave folds out"
        what = f"each of {params.folds} folds has models of its own, whose scores do not compare"
        raise UserError(what, where="parameter register", mend=mend)
    if params.register_fold and not params.register:
        raise UserError("nothing is registered", where="parameter register_fold", mend="Give register, too")
    if params.register_fold > params.folds:
        mend = f"Give one of 1 to {params.folds}" if params.folds else "Leave it out, or give folds"
        what = f"there is no fold {params.register_fold} of {params.folds}"
        raise UserError(what, where="parameter register_fold", mend=mend)


def _check_stages(plan: Plan) -> None:
    """Raise UserError where a stage would refuse its parameters; making them checks them."""
    params = plan.params
    if not params.soundtracks_dir:
        plan.demo_params("")
        if params.dataset != DEFAULT_READER:
            mend = "Give the folder of the data set"
            raise UserError("is not given", where="parameter data_dir", mend=mend)
        if unknown := [target for target in asked_for(params.targets) if target not in EMOTIONS]:
            mend = f"Give some of {', '.join(EMOTIONS)}, or soundtracks_dir"
            mend = did_you_mean(unknown, EMOTIONS, mend)
            raise UserError(f"demo data has no {', '.join(unknown)}", where="parameter targets", mend=mend)
    if params.dataset == DEFAULT_READER:
        check_targets(list(asked_for(params.targets)))
    plan.preprocess_params(params.soundtracks_dir).reader()
    if (norm := plan.of_attacks["norm"]) and norm not in NORMS:
        mend = "Give it as sound_norms"
        raise UserError(f"{norm} is no norm of spectrograms", where="parameter norm", mend=mend)
    plan.preprocess_params(params.soundtracks_dir)
    for system in plan.systems:
        plan.train_params(system, plan.seeds[0], plan.folds[0], "")
    for name in plan.attack_variants:
        plan.attack_params(name, "")
    if unused := _unused(plan):
        mend = "Leave it out, or add an attack that does"
        raise UserError("no attack of the study uses it", where=f"parameter {unused[0]}", mend=mend)
    alone = [system.name for system in plan.systems if plan.source_of(system) is None]
    # A study with a name of its own may hold models of other systems already.
    if "transfer" in plan.attacks and alone and not params.study:
        what = f"there is no other system to transfer to {', '.join(alone)} from"
        raise UserError(what, where="parameter attacks", mend="Add a system, or leave transfer out")


def model_job(system: System, seed: int, fold: int) -> str:
    """Return the name of the job that trains a model."""
    return model_in_words(system.name, seed, fold)


def attack_job_name(system: System, seed: int, fold: int, attack: str) -> str:
    """Return the name of the job that does one of the attacks to a model."""
    return f"{model_job(system, seed, fold)} | {attack}"


def check_concepts(plan: Plan, collected: Collected) -> None:
    """Raise UserError before anything is computed, where a system learns concepts and the data have none.

    The files may lack more than that, which is told first.
    """
    learners = [system.name for system in plan.systems if system.supervises_concepts]
    if learners and not collected.concepts:
        collected.checked()
        what = f"{', '.join(learners)} learn concepts, and there are no Mid-level annotations"
        mend = "Give midlevel_dir, or other systems (blackbox and adversarial need none)"
        raise UserError(what, where=plan.params.soundtracks_dir, mend=mend)


LEAST_GROUPS = 3  # to be tested, validated and trained on


def check_folds(plan: Plan, collected: Collected) -> None:
    """Raise UserError before anything is computed, where there are fewer albums than folds."""
    if not plan.params.folds:
        return
    albums = collected.checked().clips["album"]
    groups = albums[albums != ""].nunique() + int((albums == "").sum())
    if plan.params.folds > groups or groups < LEAST_GROUPS:
        what = f"{groups} albums (or clips without one) cannot make {plan.params.folds} folds"
        raise UserError(what, where=str(plan.params.soundtracks_dir or "demo data"), mend="Give fewer")


def _seeds(text: str) -> list[int]:
    try:
        # Python itself reads digits of all scripts.
        seeds = [int(part) for part in listed(text)] if text.isascii() else []
    except ValueError:
        seeds = []
    if not seeds or any(not 0 <= seed < 2**31 for seed in seeds):
        mend = "Give whole numbers from 0, separated by commas"
        raise UserError(f"{text!r} is no list of seeds", where="parameter seeds", mend=mend)
    return list(dict.fromkeys(seeds))


def _settings(attacks: Iterable[str]) -> set[str]:
    return {name for attack in attacks for name in defaults_of(attack)}


def _unused(plan: Plan) -> list[str]:
    """Return the settings that were given and belong to other attacks than those of the plan."""
    used: set[str] = set()
    for chosen in plan.attack_variants.values():
        domain = chosen.get("domain", SPECTROGRAM)
        names = set(defaults_of(chosen["attack"], domain))
        used |= names - set(OF_SPECTROGRAMS) if domain == WAVEFORM else names
    of_others = _settings(ATTACKS) | {"budget", "budgets"}
    of_others -= used | set(SIZES[plan.params.size])
    given = {**plan.of_attacks, **{name: getattr(plan.params, name) for name in OF_SOUND}}
    return [name for name, value in given.items() if name in of_others and value not in (None, "")]


def _shared(params: StudyParams, stage: type[Parameters]) -> dict[str, Any]:
    """Return the parameters that the study hands to a stage under the same name."""
    return {name: value for name, value in params.as_dict().items() if name in stage.names()}
