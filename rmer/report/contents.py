"""What an analysis found, before any of it is worded or drawn: every section of a report is made of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import pandas as pd

from rmer.attacks.attack_domains import WAVEFORM
from rmer.data.tables.class_labels import LabelKind
from rmer.evaluation.attacked import AttackedModel
from rmer.evaluation.bootstrap import SEED
from rmer.evaluation.comparison import Comparison
from rmer.evaluation.concepts import AttackedConcepts
from rmer.evaluation.gradient_precision import PrecisionCheck
from rmer.evaluation.protocol_steps import ProtocolStep
from rmer.report.class_tables import classification_table
from rmer.report.comparing import compare_models
from rmer.report.heard import Heard
from rmer.report.html import UsedRun
from rmer.report.readable import budget_in_words, sound_budget_in_words
from rmer.report.robustness import robustness_table
from rmer.report.system_tables import attacks_table, systems_table, tests_table


@dataclass(frozen=True, eq=False)
class Contents:
    """The attacked models of an analysis, and what their runs say of them.

    Attributes
    ----------
    groups : Norm -> models, the norm of the endpoints first.
    logged : Run id -> logged metrics.
    runs : Every run with its address.
    about : What was analysed, in words: title -> text.
    selection : Parameter -> value, several joined by commas: which runs were chosen.
    reference : The row that all others are compared with.
    margins, bootstrap_seed : Endpoint -> margin of equivalence, where it is not the metric's own, and the
        seed of the draws.
    corrected, is_suite : Whether every run was attacked under the corrected protocol, and by the suite of
        attacks.
    by_predictions : Row -> queries a clip, of systems that no gradient passes, which a suite attacked by
        their predictions alone.
    reported : System -> clean correlation of 2019, where the ratings are those that it was reported for.
    reported_epsilon : The budget of the endpoints, where all runs agree on it.
    checks : Run in words -> its sanity checks (``tables/sanity.csv``).
    precision_checks, reduced : Runs whose search was repeated with float32 gradients, and how many had
        reduced ones.
    levels : Norm of sounds -> the reported budget in dB, where all runs agree on it; empty of spectrograms.
    heard : What is known of the sounds that were attacked.
    sound : Attacks on the sound, where these stand beside those on spectrograms.
    labels : What targets are: ratings, classes or tags (:mod:`rmer.data.tables.class_labels`).
    note : Why they do not, where they might.
    across : The data that the models were trained on and those that they were tested on, in words, where
        these are others.
    steps : From the published protocol to the corrected one.
    explained, unexplained : Row -> its models explained by concepts, and for other rows why there are none.
    scatter, emotions : Row -> the model that the scatter plot shows, and its emotions.
    """

    groups: Mapping[str, Sequence[AttackedModel]] = field(default_factory=dict)
    logged: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    runs: Sequence[UsedRun] = ()
    about: Mapping[str, str] = field(default_factory=dict)
    selection: Mapping[str, str] = field(default_factory=dict)
    reference: str = ""
    margins: Mapping[str, float] = field(default_factory=dict)
    bootstrap_seed: int = SEED
    corrected: bool = False
    is_suite: bool = False
    by_predictions: Mapping[str, str] = field(default_factory=dict)
    reported: Mapping[str, float] = field(default_factory=dict)
    reported_epsilon: float | None = None
    checks: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    precision_checks: Sequence[PrecisionCheck] = ()
    reduced: int = 0
    levels: Mapping[str, float] = field(default_factory=dict)
    heard: Heard = field(default_factory=Heard)
    sound: Contents | None = None
    labels: LabelKind = "ratings"
    note: str = ""
    across: str = ""
    steps: Sequence[ProtocolStep] = ()
    explained: Mapping[str, Sequence[AttackedConcepts]] = field(default_factory=dict)
    unexplained: Mapping[str, str] = field(default_factory=dict)
    scatter: Mapping[str, AttackedModel] = field(default_factory=dict)
    emotions: Sequence[str] = ()

    @property
    def norm(self) -> str:
        """The norm of the endpoints."""
        return next(iter(self.groups))

    @property
    def folds(self) -> int:
        """The number of folds of the cross-validation; 0 where there is none."""
        return max(len(model.parts) for model in self.models)

    @property
    def on_sound(self) -> bool:
        """Whether the sound was attacked."""
        return self.selection.get("domain") == WAVEFORM

    def budget_of(self, norm: str) -> str:
        """Return the reported budget of a norm in words."""
        if self.on_sound:
            return sound_budget_in_words(norm, self.levels.get(norm))
        return budget_in_words(norm, self.selection.get("epsilon", ""))

    @property
    def through_gradients(self) -> list[str]:
        """The systems that were attacked through their gradients."""
        return [name for name in self.systems["system"] if name not in self.by_predictions]

    @property
    def exceeded(self) -> bool:
        """Whether attacks left the budget that they were given, as the published one does."""
        return bool(self.attacks["violations"].sum() > 0)

    @property
    def allowed(self) -> str:
        """How much the attack may change, in words: ``within L-inf .01``."""
        budget = self.budget_of(self.norm)
        return f"with a budget of {budget}, which is exceeded" if self.exceeded else f"within {budget}"

    @property
    def models(self) -> Sequence[AttackedModel]:
        """The models of the norm of the endpoints."""
        return self.groups[self.norm]

    @cached_property
    def systems(self) -> pd.DataFrame:
        """Scores of every system (:func:`rmer.report.system_tables.systems_table`)."""
        return systems_table(self.models)

    @cached_property
    def tests(self) -> pd.DataFrame:
        """The published test and its variants (:func:`rmer.report.system_tables.tests_table`)."""
        return tests_table(self.models, self.reference)

    @cached_property
    def attacks(self) -> pd.DataFrame:
        """What was done to each system (:func:`rmer.report.system_tables.attacks_table`)."""
        return attacks_table(self.models, self.logged)

    @cached_property
    def robustness(self) -> dict[str, pd.DataFrame]:
        """Norm -> scores before and under attack (:func:`rmer.report.robustness.robustness_table`)."""
        return {norm: robustness_table(models, self.logged) for norm, models in self.groups.items()}

    @cached_property
    def classification(self) -> pd.DataFrame:
        """Scores of classes or tags (:func:`rmer.report.class_tables.classification_table`), if any."""
        return classification_table(self.models, self.logged)

    @cached_property
    def comparisons(self) -> list[Comparison]:
        """The corrected comparison; empty for one system, or for different clips."""
        return compare_models(self.models, self.reference, margins=self.margins, seed=self.bootstrap_seed)
