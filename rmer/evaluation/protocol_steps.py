"""The steps from the published protocol to the corrected one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import pandas as pd

# Training protocol, attack protocol -> what the step is, in their order.
STEPS = {
    ("published", "published"): "as published",
    ("published", "bridge"): "bridge",
    ("published", "corrected"): "corrected attack",
    ("corrected", "corrected"): "corrected training and attack",
}


@dataclass(frozen=True, eq=False)
class ProtocolStep:
    """One step from the published protocol to the corrected one; without runs it is missing.

    Attributes
    ----------
    title, train_protocol, attack_protocol : Which step.
    attack : Name of the attack.
    epsilon : Budget in standardised units.
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
    attack: str = ""
    epsilon: float = math.nan
    violations: float = math.nan
    perturbations: float = math.nan
    constant: float = math.nan
    scores: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=["system", "metric"]))
    changes: Sequence[str] = ()

    @property
    def missing(self) -> bool:
        """Whether no run belongs to the step."""
        return self.scores.empty
