"""The steps from the published protocol to the corrected one, and from spectrograms to sounds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import pandas as pd

from rmer.attacks.attack_domains import SPECTROGRAM, WAVEFORM

# Training protocol, attack protocol, what is attacked -> what the step is, in their order.
STEPS = {
    ("published", "published", SPECTROGRAM): "as published",
    ("published", "bridge", SPECTROGRAM): "bridge",
    ("published", "corrected", SPECTROGRAM): "corrected attack",
    ("corrected", "corrected", SPECTROGRAM): "corrected training and attack",
    ("corrected", "corrected", WAVEFORM): "audible domain",
}


@dataclass(frozen=True, eq=False)
class ProtocolStep:
    """One step from the published protocol to the corrected one; without runs it is missing.

    Attributes
    ----------
    title, train_protocol, attack_protocol, domain : Which step.
    attack : Name of the attack.
    epsilon : Budget in standardised units; of sounds, as a ratio of amplitudes.
    norm, level : Of sounds: norm of the budget, and the budget in dB.
    violations, perturbations : How many perturbations exceed the budget, of how many; NaN where runs do not
        say.
    constant : MAE of the constant predictor.
    scores : One row for each system and metric: ``system``, ``seeds``, ``metric``, ``clean``, ``adv``,
        ``delta`` and their population standard deviations over seeds (``clean_std``, ...).
    changes : What differs from the step before, apart from what the step is about.
    """

    title: str
    train_protocol: str
    attack_protocol: str
    domain: str = SPECTROGRAM
    attack: str = ""
    epsilon: float = math.nan
    norm: str = ""
    level: float = math.nan
    violations: float = math.nan
    perturbations: float = math.nan
    constant: float = math.nan
    scores: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=["system", "metric"]))
    changes: Sequence[str] = ()

    @property
    def missing(self) -> bool:
        """Whether no run belongs to the step."""
        return self.scores.empty
