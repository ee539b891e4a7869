"""Parameters of stage ``analyze``."""

from __future__ import annotations

from dataclasses import dataclass

from rmer.errors import UserError
from rmer.evaluation.bootstrap import SEED
from rmer.evaluation.comparison import CORR_MARGIN, MAE_MARGIN, PRIMARY, SECONDARY
from rmer.parameters import Parameters, choice, name_choice, param, place
from rmer.stages.analysis.alike import DIMENSIONS
from rmer.tracking import Tag

REFERENCE = "A2M2E"


@dataclass(frozen=True)
class AnalyzeParams(Parameters):
    """Parameters of ``analyze``: an empty one does not narrow the selection."""

    study: str = name_choice("", "attack runs of this group")
    origin: str = choice("", "where runs come from", choices=("", "computed", "imported", "external"))
    train_protocol: str = choice("", "protocol of training", choices=("", "published", "corrected"))
    attack_protocol: str = choice("", "protocol of attacks", choices=("", "published", "bridge", "corrected"))
    attack: str = name_choice("", "runs of this attack (published, bridge, suite, pgd, ...)")
    tier: str = name_choice("", "size of the suite of attacks (quick, paper)")
    norm: str = choice("", "norm of the budget; suites: shown under all", choices=("", "linf", "l2"))
    epsilon: float | None = choice(None, "reported budget a cell, standardised units", low=0.0, high=1e6)
    attack_seed: str = name_choice("", "seed of the attack's random starts")
    dataset: str = name_choice("", "digest of the data set (tag rmer.dataset)")
    split_scheme: str = choice("", "published or album split", choices=("", "published", "album", "official"))
    split: str = choice("", "attacked part of the data", choices=("", "test", "validation"))
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
        """Return the tags that attack runs must have."""
        values = {tag: getattr(self, name) for tag, name in DIMENSIONS.items()}
        values[Tag.EPSILON] = "" if self.epsilon is None else f"{self.epsilon:g}"
        return {tag: value for tag, value in values.items() if value}

    @property
    def margins(self) -> dict[str, float]:
        """Endpoint -> margin of equivalence."""
        return {PRIMARY: self.margin_mae, SECONDARY: self.margin_corr}
