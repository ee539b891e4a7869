"""The two training protocols, as one resolved configuration that says everything a fit depends on."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from rmer.attacks.threat import Norm
from rmer.errors import UserError
from rmer.systems.arithmetic import Precision
from rmer.systems.catalogue import System

TrainProtocol = Literal["published", "corrected"]


@dataclass(frozen=True)
class AdversarialTraining:
    """How a system meets attacked inputs while it is trained.

    Published: on every ``every``-th epoch each clean step is followed by a step on the whole batch, attacked
    without an enforced budget (``iterations`` of the published attack), on the emotion loss alone.
    Corrected: in every epoch a ``share`` of each batch is attacked before its one step, on the system's full
    loss, by PGD of ``iterations`` steps of epsilon / 4 from a random start. ``epsilon`` is in standardised
    units a cell: the L2 ball has the radius ``epsilon * sqrt(cells)``.
    """

    iterations: int
    every: int = 1
    epsilon: float | None = None
    norm: Norm | None = None
    share: float | None = None


@dataclass(frozen=True)
class FitConfig:
    """Everything but the data that determines the fitted weights.

    Attributes
    ----------
    train_protocol : the rules that the other values were resolved from
    emotion_weight, concept_weight : weights of the two mean squared errors
    stop_on_concepts : whether validation correlation of concepts adds to the stopping criterion
    drop_last : whether an incomplete last batch is left out, in training and in validation (published)
    """

    train_protocol: TrainProtocol
    arch: str
    emotion_weight: float
    concept_weight: float
    seed: int
    lr: float
    batch_size: int
    epochs: int
    patience: int
    stop_on_concepts: bool
    drop_last: bool
    precision: Precision = "fp32"
    adversarial: AdversarialTraining | None = None
    permuted_concepts: bool = False

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

    def check_epochs(self) -> None:
        """Raise UserError where training would end before adversarial training acted."""
        if self.epochs < self.first_kept:
            raise UserError(
                f"adversarial training acts first in epoch {self.first_kept} of the {self.train_protocol} "
                f"protocol, and {self.epochs} is the last",
                where="parameter epochs",
                mend=f"Give {self.first_kept} or more, or leave out adversarially trained systems",
            )

    def as_dict(self) -> dict[str, Any]:
        """Return plain values by the names that users give them, such as ``adversarial_epsilon``."""
        values = asdict(self)
        values["adversarial"] = self.adversarial is not None
        if self.adversarial is not None:
            settings = {name: value for name, value in asdict(self.adversarial).items() if value is not None}
            values |= {f"adversarial_{name}": value for name, value in settings.items()}
        return values


def resolve_fit(
    system: System,
    protocol: TrainProtocol,
    *,
    seed: int,
    lr: float = 5e-4,
    batch_size: int = 8,
    epochs: int = 199,
    patience: int = 50,
    has_concepts: bool = True,
    adversarial_iterations: int | None = None,
    adversarial_epsilon: float = 0.02,
    adversarial_norm: Norm = "linf",
    adversarial_share: float = 0.5,
    precision: Precision = "fp32",
) -> FitConfig:
    """Turn a system and a protocol into a configuration.

    The published protocol adds the correlation of the bottleneck units to the stopping criterion even where
    no loss supervises them (A2B2E); it can only do so where the data set has concept labels.
    """
    published = protocol == "published"
    supervised = system.supervises_concepts
    adversarial = None
    if system.adversarial and published:
        adversarial = AdversarialTraining(iterations=adversarial_iterations or 50, every=5)
    elif system.adversarial:
        adversarial = AdversarialTraining(
            iterations=adversarial_iterations or 10,
            epsilon=adversarial_epsilon,
            norm=adversarial_norm,
            share=adversarial_share,
        )
    return FitConfig(
        train_protocol=protocol,
        arch=system.arch,
        emotion_weight=system.task_loss_weight,
        concept_weight=1.0 - system.task_loss_weight if supervised else 0.0,
        seed=seed,
        lr=lr,
        batch_size=batch_size,
        epochs=epochs,
        patience=patience,
        stop_on_concepts=published
        and system.has_bottleneck
        and has_concepts
        and not system.permuted_concepts,
        drop_last=published,
        precision=precision,
        adversarial=adversarial,
        permuted_concepts=system.permuted_concepts,
    )
