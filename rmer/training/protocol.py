"""The two training protocols, as one resolved configuration that says everything a fit depends on."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal

from rmer.attacks.attack_domains import DOMAINS, SPECTROGRAM, WAVEFORM, Domain
from rmer.attacks.sound_budgets import LEAST_LINF_DB, REPORTED_DB, SOUND_NORMS
from rmer.attacks.threat import NORMS, Norm
from rmer.errors import UserError
from rmer.parameters import Parameters, param
from rmer.systems.arithmetic import PRECISIONS, Precision
from rmer.systems.catalogue import LastLayer, System
from rmer.systems.network import DROPOUT, PUBLISHED_OPTIONS

TrainProtocol = Literal["published", "corrected"]
# Values that go without saying: runs from before there was a choice are the same ones.
_FIRST = {**PUBLISHED_OPTIONS, "last_layer": "joint", "lr_schedule": "constant"}
# What becomes of the learning rate over the epochs.
LR_SCHEDULES = ("constant", "cosine")


@dataclass(frozen=True)
class FitParams(Parameters):
    """How any system is fitted; a field that is added here is part of every :class:`FitConfig`."""

    epochs: int = param(199, "largest number of epochs", low=1, high=100_000)
    lr: float = param(5e-4, "learning rate of Adam", low=1e-12, high=10.0)
    lr_schedule: str = param(
        "constant",
        "learning rate over the epochs: constant, or from lr to 0 along a cosine",
        choices=LR_SCHEDULES,
    )
    batch_size: int = param(8, "clips a step", low=1, high=4096)
    patience: int = param(50, "epochs without improvement before stopping", low=1, high=100_000)
    precision: str = param("fp32", "arithmetic of gradients; auto: bf16 where faster", choices=PRECISIONS)
    width: float = param(
        1.0, "channels of the network as a share of the published ones", low=1 / 64, high=8.0
    )
    dropout: float = param(
        DROPOUT, "share of the channels dropped in training, after each pooling", low=0.0, high=0.9
    )


@dataclass(frozen=True)
class AdversarialParams(Parameters):
    """How systems that are trained adversarially meet attacks, where their protocol has such a number."""

    adversarial_iterations: int | None = param(
        None, "attack iterations in adversarial training (published 50, corrected 10)", low=1, high=100_000
    )
    adversarial_domain: str = param(
        SPECTROGRAM, "what it attacks (corrected): spectrograms, or the sound of the clips", choices=DOMAINS
    )
    adversarial_norm: str = param(
        "",
        "norm of its budget (corrected): linf, or l2 (radius epsilon x root of cells); waveform: masking, "
        "snr or linf",
        choices=("", *dict.fromkeys((*NORMS, *SOUND_NORMS))),
    )
    adversarial_epsilon: float = param(
        0.02, "that budget a cell (corrected), standardised units", low=1e-6, high=100.0
    )
    adversarial_budget: float | None = param(
        None,
        "that budget of waveform in dB (masking -6, snr 40, linf -60)",
        low=-200.0,
        high=200.0,
    )
    adversarial_share: float = param(0.5, "attacked share of each batch (corrected)", low=1e-6, high=1.0)

    def __post_init__(self) -> None:
        super().__post_init__()
        sound = self.adversarial_domain == WAVEFORM
        norms = SOUND_NORMS if sound else NORMS
        if self.adversarial_norm and self.adversarial_norm not in norms:
            what = f"{self.adversarial_norm} is no norm of domain {self.adversarial_domain}"
            mend = f"Choose one of: {', '.join(norms)}"
            raise UserError(what, where="parameter adversarial_norm", mend=mend)
        other, default = ("adversarial_epsilon", 0.02) if sound else ("adversarial_budget", None)
        if getattr(self, other) != default:
            mend = "Give adversarial_budget, in dB" if sound else "Choose adversarial_domain waveform"
            what = f"domain {self.adversarial_domain} does not use it"
            raise UserError(what, where=f"parameter {other}", mend=mend)
        if sound and self.sound_norm == "linf" and self.sound_budget < LEAST_LINF_DB:
            what = f"{self.sound_budget:g} dBFS is less than a step of 16 bit, which no sample can change by"
            mend = f"Give a budget above {LEAST_LINF_DB:.1f}"
            raise UserError(what, where="parameter adversarial_budget", mend=mend)

    @property
    def sound_norm(self) -> str:
        """The norm of domain waveform."""
        return self.adversarial_norm or "masking"

    @property
    def sound_budget(self) -> float:
        """The budget of domain waveform, in dB."""
        given = self.adversarial_budget
        return REPORTED_DB[self.sound_norm] if given is None else given


@dataclass(frozen=True)
class AdversarialTraining:
    """How a system meets attacked inputs while it is trained.

    Published: on every ``every``-th epoch each clean step is followed by a step on the whole batch, attacked
    without an enforced budget (``iterations`` of the published attack), on the emotion loss alone.
    Corrected: in every epoch a ``share`` of each batch is attacked before its one step, on the system's full
    loss, by PGD of ``iterations`` steps of epsilon / 4 from a random start. ``epsilon`` is in standardised
    units a cell: the L2 ball has the radius ``epsilon * sqrt(cells)``. With ``domain`` "waveform" (None is
    spectrograms) the samples of the clips are attacked, within ``budget`` in dB
    (:mod:`rmer.attacks.sound_budgets`).
    """

    iterations: int
    every: int = 1
    norm: Norm | None = None
    epsilon: float | None = None
    share: float | None = None
    domain: Domain | None = None
    budget: float | None = None

    @property
    def on_sound(self) -> bool:
        """Whether the samples of recordings are attacked."""
        return self.domain == WAVEFORM


@dataclass(frozen=True, kw_only=True)
class FitConfig(FitParams):
    """Everything but the data that determines the fitted weights.

    Attributes
    ----------
    train_protocol : the rules that the other values were resolved from
    emotion_weight, concept_weight : weights of the two mean squared errors
    stop_on_concepts : whether validation correlation of concepts adds to the stopping criterion
    drop_last : whether an incomplete last batch is left out, in training and in validation (published)
    last_layer : what the layer from concepts to emotions is fitted on
    """

    train_protocol: TrainProtocol
    arch: str
    emotion_weight: float
    concept_weight: float
    seed: int
    stop_on_concepts: bool
    drop_last: bool
    precision: Precision = "fp32"
    adversarial: AdversarialTraining | None = None
    permuted_concepts: bool = False
    last_layer: LastLayer = "joint"

    @property
    def on_sound(self) -> bool:
        """Whether adversarial training attacks the samples of recordings."""
        return self.adversarial is not None and self.adversarial.on_sound

    @property
    def names_concepts(self) -> bool:
        """Whether the fitted network's concept units stand for the concepts of the data set."""
        return self.concept_weight > 0 and not self.permuted_concepts

    @property
    def first_kept(self) -> int:
        """First epoch whose network may be kept: of an adversarially trained system, the first attacked one.

        Before it the network is that of the same system without adversarial training, bit for bit.
        """
        return 1 if self.adversarial is None else self.adversarial.every

    def lr_of(self, epoch: int) -> float:
        """Return the learning rate in an epoch, numbered from 1.

        Cosine: as in Loshchilov & Hutter, "SGDR", ICLR 2017, without restarts; the last epoch's is the last
        above 0. A short training ends calm, where a constant rate leaves it to chance which epoch is good.
        """
        if self.lr_schedule == "constant":
            return self.lr
        return self.lr * (1 + math.cos(math.pi * (epoch - 1) / self.epochs)) / 2

    def check_epochs(self) -> None:
        """Raise UserError where training would end before adversarial training acted."""
        if self.epochs < self.first_kept:
            raise UserError(
                f"adversarial training acts first in epoch {self.first_kept} of the {self.train_protocol} "
                f"protocol, and {self.epochs} is the last",
                where="parameter epochs",
                mend=f"Give {self.first_kept} or more, or leave out adversarially trained systems",
            )

    def values(self) -> dict[str, Any]:
        """Return plain values by the names that users give them, such as ``adversarial_epsilon``."""
        values = asdict(self)
        for name, value in _FIRST.items():
            if values[name] == value:
                del values[name]
        values["adversarial"] = self.adversarial is not None
        if self.adversarial is not None:
            settings = {name: value for name, value in asdict(self.adversarial).items() if value is not None}
            values |= {f"adversarial_{name}": value for name, value in settings.items()}
        return values


def resolve_fit(
    system: System, protocol: TrainProtocol, *, seed: int, has_concepts: bool = True, **given: Any
) -> FitConfig:
    """Turn a system and a protocol into a configuration.

    ``given`` are fields of :class:`FitParams` (with the precision of this device) and
    :class:`AdversarialParams`. The published protocol adds the correlation of the bottleneck units to the
    stopping criterion even where no loss supervises them (A2B2E); it can only do so where the data set has
    concept labels.
    """
    published = protocol == "published"
    names = [name for name in AdversarialParams.names() if name in given]
    attacked = AdversarialParams(**{name: given.pop(name) for name in names})
    adversarial = None
    if system.adversarial and published:
        adversarial = AdversarialTraining(iterations=attacked.adversarial_iterations or 50, every=5)
    elif system.adversarial and attacked.adversarial_domain == WAVEFORM:
        adversarial = AdversarialTraining(
            iterations=attacked.adversarial_iterations or 10,
            domain=WAVEFORM,
            norm=attacked.sound_norm,  # type: ignore[arg-type]
            budget=attacked.sound_budget,
            share=attacked.adversarial_share,
        )
    elif system.adversarial:
        adversarial = AdversarialTraining(
            iterations=attacked.adversarial_iterations or 10,
            epsilon=attacked.adversarial_epsilon,
            norm=attacked.adversarial_norm or "linf",  # type: ignore[arg-type]
            share=attacked.adversarial_share,
        )
    without_labels = system.permuted_concepts or not has_concepts
    return FitConfig(
        **given,
        train_protocol=protocol,
        arch=system.arch,
        emotion_weight=system.task_loss_weight,
        concept_weight=1.0 - system.task_loss_weight if system.supervises_concepts else 0.0,
        seed=seed,
        stop_on_concepts=published and system.has_bottleneck and not without_labels,
        drop_last=published,
        adversarial=adversarial,
        permuted_concepts=system.permuted_concepts,
        last_layer=system.last_layer,
    )
