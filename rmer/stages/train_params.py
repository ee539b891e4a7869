"""Parameters of stage ``train``: which model is trained, by which rules, and how."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from rmer.errors import UserError
from rmer.parameters import Parameters, choice, machine, name_choice, param, place
from rmer.systems.arithmetic import Precision
from rmer.systems.catalogue import CATALOGUE, System
from rmer.systems.network import ARCHITECTURES
from rmer.training.protocol import AdversarialParams, FitConfig, FitParams, resolve_fit


@dataclass(frozen=True)
class ModelParams(Parameters):
    """Which model is trained."""

    system: str = param("A2M2E", "system of the catalogue", choices=tuple(CATALOGUE))
    arch: str = param("", "architecture, instead of the system's", choices=("", *ARCHITECTURES))
    task_loss_weight: float | None = param(
        None, "weight of the emotion loss, instead of the system's", low=0.0, high=1.0
    )
    adversarial: bool | None = param(None, "adversarial training or not, instead of the system's")
    seed: int = param(6, "seed of weights, batches and dropout", low=0, high=2**31)

    def resolve_system(self) -> System:
        """Return the system: the catalogue's, with what is given instead."""
        return CATALOGUE[self.system].varied(
            arch=self.arch, task_loss_weight=self.task_loss_weight, adversarial=self.adversarial
        )


@dataclass(frozen=True)
class ProtocolParams(Parameters):
    """By which rules models are trained."""

    train_protocol: str = param("published", "training protocol", choices=("published", "corrected"))
    split_scheme: str = param(
        "auto",
        "split: published, album, official, or auto (where corrected and known: official, else album)",
        choices=("auto", "published", "album", "official"),
    )
    folds: int = param(0, "cross-validation by album: number of folds; 0: none", low=0, high=1000)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.folds == 1:
            mend = "Give at least 2, or 0 for none"
            raise UserError("one fold would leave nothing to train on", where="parameter folds", mend=mend)
        if self.folds and self.split_scheme in ("published", "official"):
            mend = "Leave it out, or leave out folds"
            what = f"folds are by album, and not of the {self.split_scheme} split"
            raise UserError(what, where="parameter split_scheme", mend=mend)


@dataclass(frozen=True)
class TrainingParams(AdversarialParams, FitParams, ProtocolParams):
    """How any model is trained, by itself or in a study."""

    device: str = machine("auto", "auto, cpu, cuda or cuda:<number>")
    keep_state: bool = choice(False, "keep last.pt: weights and optimiser after the last epoch")


@dataclass(frozen=True)
class TrainParams(TrainingParams, ModelParams):
    """Parameters of ``train``."""

    dataset_run_id: str = name_choice("", "preprocess run; default: the newest of the study")
    fold: int = param(0, "cross-validation: the fold that is tested, from 1", low=0, high=1000)
    study: str = name_choice("", "name of the group of runs")
    soundtracks_dir: str = place(
        "", "folder of the clips, for adversarial_domain waveform; default: as at preprocess"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        system = self.resolve_system()
        corrected = self.train_protocol == "corrected"
        used = AdversarialParams.names() if corrected else ("adversarial_iterations",)
        used = used if system.adversarial else ()
        for field in dataclasses.fields(AdversarialParams):  # a number that is given must not be ignored
            if field.name not in used and getattr(self, field.name) != field.default:
                reason = "is not trained adversarially" if not system.adversarial else "has no such setting"
                what = f"{system.name} under the {self.train_protocol} protocol {reason}"
                raise UserError(what, where=f"parameter {field.name}", mend="Leave it out")
        if self.fold > self.folds or bool(self.folds) != bool(self.fold):
            what = f"there is no fold {self.fold} of {self.folds}"
            mend = f"Give one of 1 to {self.folds}" if self.folds else "Give folds, too, or leave it out"
            raise UserError(what, where="parameter fold", mend=mend)
        self.resolve_fit().check_epochs()

    def resolve_fit(self, *, has_concepts: bool = True, precision: Precision = "fp32") -> FitConfig:
        """Return what a fit depends on; ``precision`` is that of this device."""
        given = {name: getattr(self, name) for name in (*FitParams.names(), *AdversarialParams.names())}
        given |= {"seed": self.seed, "has_concepts": has_concepts, "precision": precision}
        return resolve_fit(self.resolve_system(), self.train_protocol, **given)  # type: ignore[arg-type]
