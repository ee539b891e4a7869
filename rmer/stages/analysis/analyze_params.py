"""Parameters of stage ``analyze``."""

from __future__ import annotations

from dataclasses import dataclass

from rmer.attacks.attack_domains import DOMAINS, SPECTROGRAM, WAVEFORM
from rmer.attacks.sound_budgets import SOUND_NORMS
from rmer.attacks.threat import NORMS
from rmer.data.folds import folds_of
from rmer.data.splits import ALL
from rmer.errors import UserError, shown
from rmer.evaluation.bootstrap import SEED
from rmer.evaluation.comparison import CORR_MARGIN, MAE_MARGIN, PRIMARY, SECONDARY
from rmer.parameters import Parameters, choice, name_choice, param, place
from rmer.stages.analysis.alike import DIMENSIONS
from rmer.tracking import Tag

REFERENCE = "A2M2E"
SPLITS = ("published", "album", "official")
ATTACKED = ("test", "validation", ALL)
_NORMS: dict[str, tuple[str, ...]] = {SPECTROGRAM: NORMS, WAVEFORM: SOUND_NORMS}


@dataclass(frozen=True)
class AnalyzeParams(Parameters):
    """Parameters of ``analyze``: an empty one does not narrow the selection."""

    study: str = name_choice("", "attack runs of this group")
    origin: str = choice("", "where runs come from", choices=("", "computed", "imported", "external"))
    train_protocol: str = choice("", "protocol of training", choices=("", "published", "corrected"))
    attack_protocol: str = choice("", "protocol of attacks", choices=("", "published", "bridge", "corrected"))
    attack: str = name_choice("", "runs of this attack (published, bridge, suite, pgd, ...)")
    tier: str = name_choice("", "size of the suite of attacks (quick, paper)")
    domain: str = choice("", "what was attacked; default: both, the sound first", choices=("", *DOMAINS))
    norm: str = choice(
        "",
        "norm of the budget; suites: shown under all",
        choices=("", *dict.fromkeys((*NORMS, *SOUND_NORMS))),
    )
    epsilon: float | None = choice(None, "reported budget a cell, standardised units", low=0.0, high=1e6)
    budget: float | None = choice(None, "reported budget of attacks on sound, dB", low=-200.0, high=200.0)
    attack_seed: str = name_choice("", "seed of the attack's random starts")
    dataset: str = name_choice("", "digest of the data set (tag rmer.dataset)")
    trained_on: str = name_choice(
        "", "digest of the data that models were trained on (tag rmer.trained_on, else rmer.dataset)"
    )
    split_scheme: str = name_choice("", f"split ({', '.join(SPLITS)}), or cross-validation (5-fold)")
    split: str = choice("", "attacked part of the data; all: of other data", choices=("", *ATTACKED))
    where: str = choice("", "settings of attack and training, by commas (steps=40,training.epochs=199)")
    systems: str = choice("", "systems, separated by commas")
    reference: str = param(REFERENCE, "system that the tests compare all others with")
    margin_mae: float = param(MAE_MARGIN, "margin of equivalence, clipped MAE", low=1e-9, high=1.0)
    margin_corr: float = param(CORR_MARGIN, "margin of equivalence, correlation", low=1e-9, high=2.0)
    bootstrap_seed: int = param(SEED, "seed of the bootstrap", low=0, high=2**31)
    ladder: str = choice("", "further studies to look for steps from published to corrected in, by commas")
    bundle: str = place("", "folder to write tables, figures and text for a paper to")
    emotions: str = choice("", "emotions of the scatter plot; default: tension,tender")
    scatter_systems: str = choice("", "systems of the scatter plot; default: A2B2E,A2M2E,aA2B2E")
    scatter_seed: str = choice("", "seed of the scatter plot; default: 21 where present")
    allow_mixed: bool = param(False, "compare runs that differ in more than system", role="guard")

    def __post_init__(self) -> None:
        super().__post_init__()
        self.settings()
        if self.split_scheme not in ("", *SPLITS) and not folds_of(self.split_scheme):
            mend = f"Choose one of: {', '.join(SPLITS)}, or a cross-validation such as 5-fold"
            what = f"{shown(self.split_scheme)} is not one of its values"
            raise UserError(what, where="parameter split_scheme", mend=mend)
        others = {self._of_sound: "epsilon", self._of_spectrograms: "budget"}
        for wrong, name in others.items():
            if wrong and getattr(self, name) is not None:
                mend = "Leave it out, or choose the other domain or norm"
                raise UserError("is of the other domain", where=f"parameter {name}", mend=mend)
        if self.domain and self.norm and self.norm not in _NORMS[self.domain]:
            mend = f"Choose one of: {', '.join(_NORMS[self.domain])}"
            what = f"{self.norm} is no norm of domain {self.domain}"
            raise UserError(what, where="parameter norm", mend=mend)

    @property
    def _of_sound(self) -> bool:
        return self.domain == WAVEFORM or self.norm in set(SOUND_NORMS) - set(NORMS)

    @property
    def _of_spectrograms(self) -> bool:
        return self.domain == SPECTROGRAM or self.norm in set(NORMS) - set(SOUND_NORMS)

    @property
    def domains(self) -> tuple[str, ...]:
        """The domains whose runs are looked for: both, unless a parameter speaks of one of them."""
        if self._of_sound or self.budget is not None:
            return (WAVEFORM,)
        # A budget a cell, or a norm that either has, means spectrograms, as before there was sound.
        if self._of_spectrograms or self.epsilon is not None or self.norm:
            return (SPECTROGRAM,)
        return DOMAINS

    def settings(self) -> dict[str, str]:
        """Return the settings that attack runs must have: name -> value.

        A value may hold commas (``loss=l1,mse``): a part without ``=`` goes on with the value before it.
        Raises UserError where there is none before it.
        """
        found: dict[str, str] = {}
        for part in filter(None, self.where.split(",")):
            name, equals, value = part.partition("=")
            if equals:
                found[name.strip()] = value.strip()
            elif found:
                found[next(reversed(found))] += f",{part.rstrip()}"
            else:
                mend = "Give them as name=value, separated by commas"
                raise UserError(f"{self.where!r} names no settings", where="parameter where", mend=mend)
        return found

    def tags(self) -> dict[str, str]:
        """Return the tags that attack runs must have; runs on spectrograms have none of the domain."""
        values = {tag: getattr(self, name) for tag, name in DIMENSIONS.items()}
        for tag, number in ((Tag.EPSILON, self.epsilon), (Tag.BUDGET, self.budget)):
            values[tag] = "" if number is None else f"{number:g}"
        values[Tag.DOMAIN] = WAVEFORM if self.domains == (WAVEFORM,) else ""
        return {tag: value for tag, value in values.items() if value}

    @property
    def margins(self) -> dict[str, float]:
        """Endpoint -> margin of equivalence."""
        return {PRIMARY: self.margin_mae, SECONDARY: self.margin_corr}
