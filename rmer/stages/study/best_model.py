"""The best model of a study under a name of its own."""

from __future__ import annotations

import math

from rmer.errors import UserError
from rmer.systems.catalogue import known_system
from rmer.tracking import Stage, Store, Tag

ALIAS = "best"
METRIC = "validation/emotion/corr"


def register_best(store: Store, study: str, name: str, fold: int = 0) -> str:
    """Register the study's model with the best correlation on the validation clips; return a sentence.

    Controls do not count, nor do models of a cross-validation, unless ``fold`` names theirs: each fold has
    validation clips of its own, so scores of two folds do not compare. Raises UserError where no training of
    the study has that score.
    """
    runs = [
        run
        for run in store.find(Stage.TRAIN, study=study)
        if not math.isnan(run.metrics.get(METRIC, math.nan))
        and not _is_control(run.tags.get(Tag.SYSTEM, ""))
        and int(run.tags.get(Tag.FOLD, 0)) == fold
    ]
    if not runs:
        what = f"no model of study {study!r}{f', fold {fold}' if fold else ''} has {METRIC}"
        raise UserError(what, where="parameter register", mend="Train one, with clips to validate on")
    best = max(runs, key=lambda run: run.metrics[METRIC])
    version = store.register(best.run_id, name, ALIAS)
    return (
        f"{best.name} ({METRIC} {best.metrics[METRIC]:.3f}) is version {version} of {name}: "
        f"models:/{name}@{ALIAS}"
    )


def _is_control(system: str) -> bool:
    known = known_system(system)
    return known is not None and known.permuted_concepts
