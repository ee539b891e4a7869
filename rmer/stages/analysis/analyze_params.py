"""Parameters of stage ``analyze``."""

from __future__ import annotations

from dataclasses import dataclass

from rmer.errors import UserError
from rmer.evaluation.bootstrap import SEED
from rmer.evaluation.comparison import CORR_MARGIN, MAE_MARGIN, PRIMARY, SECONDARY
from rmer.parameters import Parameters, param
from rmer.stages.analysis.alike import DIMENSIONS
from rmer.tracking import Tag

REFERENCE = "A2M2E"


@dataclass(frozen=True)
class AnalyzeParams(Parameters):
    """Parameters of ``analyze``: an empty one does not narrow the selection."""

    study: str = param("", "attack runs of this group", kind="name", role="choice")
    origin: str = param(
        "",
        "computed, imported or external runs",
        choices=("", "computed", "imported", "external"),
        role="choice",
    )
    train_protocol: str = param(
        "", "models trained under this protocol", choices=("", "published", "corrected"), role="choice"
    )
    attack_protocol: str = param(
        "", "attacks under this protocol", choices=("", "published", "bridge", "corrected"), role="choice"
    )
    attack: str = param(
        "", "runs of this attack (published, bridge, suite, pgd, ...)", kind="name", role="choice"
    )
    tier: str = param("", "size of the suite of attacks (quick, paper)", kind="name", role="choice")
    norm: str = param(
        "",
        "norm of the budget; a suite is shown under all its norms",
        choices=("", "linf", "l2"),
        role="choice",
    )
    epsilon: float | None = param(
        None, "reported budget a cell, standardised units", low=0.0, high=1e6, role="choice"
    )
    attack_seed: str = param("", "seed of the attack's random starts", kind="name", role="choice")
    dataset: str = param("", "digest of the data set (tag rmer.dataset)", kind="name", role="choice")
    split_scheme: str = param(
        "", "published or album split", choices=("", "published", "album"), role="choice"
    )
    split: str = param("", "attacked part of the data", choices=("", "test", "validation"), role="choice")
    where: str = param(
        "",
        "settings of attack and training, as name=value, by commas (steps=40,training.epochs=199)",
        role="choice",
    )
    systems: str = param("", "systems, separated by commas", role="choice")
    reference: str = param(REFERENCE, "system that the tests compare all others with")
    margin_mae: float = param(MAE_MARGIN, "margin of equivalence, clipped MAE", low=1e-9, high=1.0)
    margin_corr: float = param(CORR_MARGIN, "margin of equivalence, correlation", low=1e-9, high=2.0)
    bootstrap_seed: int = param(SEED, "seed of the bootstrap", low=0, high=2**31)
    ladder: str = param(
        "",
        "further studies to look for steps from published to corrected in, separated by commas",
        role="choice",
    )
    bundle: str = param(
        "", "folder to write tables, figures and text for a paper to", kind="path", role="place"
    )
    emotions: str = param("", "emotions of the scatter plot; default: tension,tender")
    scatter_systems: str = param("", "systems of the scatter plot; default: A2B2E,A2M2E,aA2B2E")
    scatter_seed: str = param("", "seed of the scatter plot; default: 21 where present")
    allow_mixed: bool = param(
        False, "compare runs that differ in more than their system, side by side", role="guard"
    )

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
