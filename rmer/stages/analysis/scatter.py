"""Which models and emotions the paper's scatter plot shows."""

from __future__ import annotations

from collections.abc import Sequence

from rmer.errors import UserError
from rmer.evaluation.attacked import AttackedModel
from rmer.nearest import did_you_mean
from rmer.parameters import listed
from rmer.report.system_tables import in_order

# What the paper shows, where it is there.
SCATTER_EMOTIONS, SCATTER_SYSTEMS, SCATTER_SEED = ("tension", "tender"), ("A2B2E", "A2M2E", "aA2B2E"), "21"
MOST_SYSTEMS = 6


def scatter_emotions(models: Sequence[AttackedModel], wanted: str) -> list[str]:
    """Return the emotions of the scatter plot: those wanted, else the paper's, else the first two."""
    targets = models[0].targets
    unknown = [name for name in listed(wanted) if name not in targets]
    if unknown:
        mend = did_you_mean(unknown, targets, f"The runs have {', '.join(targets)}")
        raise UserError(f"no target is called {', '.join(unknown)}", where="parameter emotions", mend=mend)
    default = [name for name in SCATTER_EMOTIONS if name in targets] or list(targets[:2])
    return listed(wanted) or default


def scatter_models(
    models: Sequence[AttackedModel], wanted_systems: str, wanted_seed: str
) -> dict[str, AttackedModel]:
    """Return row name -> model of the scatter plot: those wanted, else the paper's, else the first three."""
    rows = in_order(models)
    wanted = listed(wanted_systems)
    systems = {row[0].system for row in rows.values()}
    unknown = [name for name in wanted if name not in systems | set(rows)]
    if unknown:
        what = f"no attacked system is called {', '.join(unknown)}"
        mend = did_you_mean(unknown, rows, f"There are {', '.join(rows)}")
        raise UserError(what, where="parameter scatter_systems", mend=mend)
    names = wanted or [name for name in SCATTER_SYSTEMS if name in systems] or list(rows)[:3]
    chosen = [row for name in names for row in rows if name in (row, rows[row][0].system)]
    seed, shown = wanted_seed or SCATTER_SEED, {}
    for row in chosen[:MOST_SYSTEMS]:
        shown[row] = next((model for model in rows[row] if model.seed == seed), rows[row][0])
    without = [row for row, model in shown.items() if model.seed != seed]
    if wanted_seed and without:
        what = f"{', '.join(without)} has no run of seed {seed}"
        mend = f"Its seeds are {', '.join(model.seed for model in rows[without[0]])}"
        raise UserError(what, where="parameter scatter_seed", mend=mend)
    return shown
