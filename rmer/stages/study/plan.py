"""The plan of a study: its parameters, and what they come to for a given size."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

from rmer.data.collection import Collected
from rmer.data.dataset import EMOTIONS
from rmer.data.soundness import MIN_SECONDS
from rmer.data.soundtracks import SCALE_MAX, check_targets
from rmer.errors import UserError
from rmer.evaluation.suite import TIERS
from rmer.execution.engine_params import EngineParams
from rmer.parameters import Parameters, listed, param
from rmer.stages.attack.attack_params import PROTOCOLS, SETTINGS, AttackParams
from rmer.stages.data.demo_data import DemoParams
from rmer.stages.data.preprocess import PreprocessParams
from rmer.stages.train import TrainParams
from rmer.systems.arithmetic import PRECISIONS
from rmer.systems.catalogue import System, resolve
from rmer.systems.devices import check_device_name

PUBLISHED_SEEDS = "6,21,42,796,950,2025,2324,2451,3100,7192"

# What a parameter that is not given comes to. "small" finishes within minutes on two cores; "full" is the
# published study.
SIZES: dict[str, dict[str, Any]] = {
    "small": {
        "seeds": "6,21",
        "clips": 60,
        "frames": 64,
        "epochs": 8,
        "adversarial_iterations": 5,
        "max_iters": 50,
        "steps": 20,
        "tier": "quick",
        "precision": "auto",
    },
    "full": {
        "seeds": PUBLISHED_SEEDS,
        "clips": 360,
        "frames": 313,
        "epochs": 199,
        "adversarial_iterations": None,
        "max_iters": 1000,
        "steps": 40,
        "tier": "paper",
        "precision": "fp32",
    },
}


@dataclass(frozen=True)
class DesignParams(Parameters):
    """What a study does; parameters without a default take one from ``size``."""

    size: str = param("small", "small (minutes) or full (as published)", choices=tuple(SIZES))
    study: str = param(
        "", "name of the group of runs; default: one that stands for these parameters", kind="name"
    )
    soundtracks_dir: str = param(
        "", "folder with the clips and ratings; default: demo data is made", kind="path"
    )
    ratings: str = param("", "ratings CSV; default: in soundtracks_dir", kind="path")
    midlevel_dir: str = param(
        "", "Mid-level annotations; default: metadata_annotations in soundtracks_dir", kind="path"
    )
    tracklist: str = param("", "track list CSV; default: in soundtracks_dir, if there", kind="path")
    targets: str = param(",".join(EMOTIONS), "columns of the ratings to predict, separated by commas")
    scale_max: float = param(SCALE_MAX, "ratings are divided by this", low=1e-6, high=1e6)
    systems: str = param(
        "published", "systems or groups (published, blackbox, interpretable, adversarial, all), by commas"
    )
    seeds: str = param("", "training seeds, by commas (small 6,21; full the ten published)")
    train_protocol: str = param("published", "training protocol", choices=("published", "corrected"))
    attacks: str = param("published,bridge,suite", "attacks, by commas (published, bridge, suite, pgd, ...)")
    tier: str = param("", "size of the suite (small quick, full paper)", choices=("", *TIERS))
    clips: int | None = param(None, "clips of the demo data (small 60, full 360)", low=11, high=100_000)
    frames: int | None = param(None, "excerpt length (small 64, full 313)", low=8, high=100_000)
    epochs: int | None = param(None, "most epochs (small 8, full 199)", low=1, high=100_000)
    adversarial_iterations: int | None = param(
        None, "attack iterations in adversarial training (small 5, full by protocol)", low=1, high=100_000
    )
    max_iters: int | None = param(
        None, "iterations of the published and bridge attack (small 50, full 1000)", low=1, high=10_000_000
    )
    steps: int | None = param(
        None, "steps of a single corrected attack, such as pgd (small 20, full 40)", low=1, high=10_000_000
    )
    epsilon: float | None = param(
        None, "reported budget a cell of corrected attacks, standardised units", low=0.0, high=1e6
    )
    precision: str = param(
        "", "arithmetic of gradients (small auto: bf16 where native; full fp32)", choices=("", *PRECISIONS)
    )
    compile: bool = param(False, "attacks take gradients from a compiled model (torch.compile)")
    min_seconds: float = param(MIN_SECONDS, "clips that sound for less are an error", low=0.1, high=600.0)
    workers: int = param(0, "processes of preprocessing; 0: one a core", low=0, high=1024)
    device: str = param("auto", "auto, cpu, cuda or cuda:<number>")
    dry_run: bool = param(False, "say what would be done and what it would cost, and stop")


@dataclass(frozen=True)
class StudyParams(EngineParams, DesignParams):
    """Parameters of ``main``: those of the design, then those of the engine."""

    def sized(self) -> StudyParams:
        """Return the parameters with those not given set by ``size``."""
        missing = {
            name: value for name, value in SIZES[self.size].items() if getattr(self, name) in (None, "")
        }
        return replace(self, **missing)


@dataclass(frozen=True)
class Plan:
    """What a study will do: one data set, ``systems`` x ``seeds`` models, each under every attack."""

    params: StudyParams
    systems: list[System]
    seeds: list[int]
    attacks: list[str]

    @property
    def models(self) -> list[tuple[System, int]]:
        """Every model, seed by seed, so that an early look sees all systems."""
        return [(system, seed) for seed in self.seeds for system in self.systems]

    @property
    def assaults(self) -> dict[str, dict[str, str]]:
        """What is done to every model: name -> parameters; a suite is one run for each norm of its tier."""
        found: dict[str, dict[str, str]] = {}
        for attack in self.attacks:
            norms = TIERS[self.params.tier].norms if attack == "suite" else ("",)
            for norm in norms:
                name = attack if norm in ("", "linf") else f"{attack} {norm}"
                found[name] = {"attack": attack, "norm": norm}
        return found

    def source_of(self, system: System) -> System | None:
        """Return the system that adversaries are transferred from: the first other one that is no control."""
        others = [other for other in self.systems if other != system and not other.permuted_concepts]
        return others[0] if others else None

    def named(self, study: str) -> Plan:
        """Return the plan under another name of its group of runs."""
        return replace(self, params=replace(self.params, study=study))

    def demo_params(self, folder: str) -> DemoParams:
        """Return the parameters of stage demo_data, where no other data is given."""
        return DemoParams(out_dir=folder, clips=self.params.clips or 0)

    def preprocess_params(self, folder: str) -> PreprocessParams:
        """Return the parameters of stage preprocess for the data in ``folder``."""
        return PreprocessParams(**{**_shared(self.params, PreprocessParams), "soundtracks_dir": folder})

    def train_params(self, system: System, seed: int, dataset_run_id: str) -> TrainParams:
        """Return the parameters of stage train for one model."""
        shared = _shared(self.params, TrainParams)
        if not system.adversarial:
            del shared["adversarial_iterations"]
        return TrainParams(
            **{**shared, "system": system.name, "seed": seed, "dataset_run_id": dataset_run_id}
        )

    def attack_params(self, name: str, train_run_id: str) -> AttackParams:
        """Return the parameters of stage attack for one model and one of :attr:`assaults`."""
        chosen = self.assaults[name]
        attack = chosen["attack"]
        of_others = {name for names in SETTINGS.values() for name in names} - set(SETTINGS[attack])
        shared = {k: v for k, v in _shared(self.params, AttackParams).items() if k not in of_others}
        epsilon = self.params.epsilon if PROTOCOLS[attack] == "corrected" else None
        changed = {**chosen, "train_run_id": train_run_id, "epsilon": epsilon, "train_protocol": ""}
        return AttackParams(**{**shared, **changed})


def make_plan(params: StudyParams) -> Plan:
    """Resolve sizes, systems, seeds and attacks.

    Raises UserError for what is not known, and for whatever else a stage of the plan would refuse by its
    parameters: nothing has been computed or written by then.
    """
    given, params = params, params.sized()
    check_device_name(params.device)
    attacks = listed(params.attacks)
    unknown = [name for name in attacks if name not in PROTOCOLS]
    if params.soundtracks_dir and given.clips is not None:
        mend = "Leave it out: all clips of soundtracks_dir are used"
        raise UserError("is the size of the demo data", where="parameter clips", mend=mend)
    if unknown or not attacks:
        raise UserError(
            f"no attack is called {', '.join(unknown)}" if unknown else "no attack is named",
            where="parameter attacks",
            mend=f"Known are {', '.join(PROTOCOLS)}",
        )
    plan = Plan(params, resolve(params.systems), _seeds(params.seeds), attacks)
    _check_stages(plan)
    return plan


def _check_stages(plan: Plan) -> None:
    """Raise UserError where a stage would refuse its parameters; making them checks them."""
    params = plan.params
    if not params.soundtracks_dir:
        plan.demo_params("")
        if unknown := [target for target in listed(params.targets) if target not in EMOTIONS]:
            mend = f"Give some of {', '.join(EMOTIONS)}, or soundtracks_dir"
            raise UserError(f"demo data has no {', '.join(unknown)}", where="parameter targets", mend=mend)
    check_targets(listed(params.targets))
    plan.preprocess_params(params.soundtracks_dir)
    for system in plan.systems:
        plan.train_params(system, plan.seeds[0], "")
    for name in plan.assaults:
        plan.attack_params(name, "")
    alone = [system.name for system in plan.systems if plan.source_of(system) is None]
    # A study with a name of its own may hold models of other systems already.
    if "transfer" in plan.attacks and alone and not params.study:
        raise UserError(
            f"there is no other system to transfer to {', '.join(alone)} from",
            where="parameter attacks",
            mend="Add a system, or leave transfer out",
        )


def check_concepts(plan: Plan, collected: Collected) -> None:
    """Raise UserError before anything is computed, where a system learns concepts and the data have none.

    The files may lack more than that, which is told first.
    """
    learners = [system.name for system in plan.systems if system.supervises_concepts]
    if learners and not collected.concepts:
        collected.checked()
        raise UserError(
            f"{', '.join(learners)} learn concepts, and there are no Mid-level annotations",
            where=plan.params.soundtracks_dir,
            mend="Give midlevel_dir, or other systems (blackbox and adversarial need none)",
        )


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


def _shared(params: StudyParams, stage: type[Parameters]) -> dict[str, Any]:
    """Return the parameters that the study hands to a stage under the same name."""
    names = {field.name for field in fields(stage)} & {field.name for field in fields(params)}
    return {name: getattr(params, name) for name in names}
