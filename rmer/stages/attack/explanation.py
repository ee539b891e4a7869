"""The explanation of an attacked bottleneck by its concepts: logged with the attack."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
import pandas as pd
from torch import nn

from rmer.evaluation.concepts import (
    FLOAT32_TOLERANCE,
    AttackedConcepts,
    ConceptLayer,
    effects_table,
    identity_error,
    movement_table,
    shift_table,
)
from rmer.evaluation.endpoints import Floats
from rmer.evaluation.fitting_layer import fitting_layer
from rmer.evaluation.interventions import repair_table, what_if_table
from rmer.evaluation.leakage import CONTROLS, TASK, leakage_means, leakage_table
from rmer.evaluation.metrics import regression_scores
from rmer.report import concept_figures as draw
from rmer.report.sections.concepts_section import findings, reason_without
from rmer.stages.attack.victims import Victim
from rmer.systems.network import BottleneckNetwork
from rmer.tracking import Run

WEIGHTS_TABLE, LEAKAGE_TABLE = "tables/concept_weights.csv", "tables/concept_leakage.csv"
REASON = "tables/concepts.txt"
BRIEF_SHUFFLES = 2
# Of concepts that leakage could be told of.
LEAKAGE = f"concept/{TASK}"
# Every explained run has it, so that an analysis knows without asking for files.
IDENTITY = "concept/identity_error"


def log_explanation(run: Run, victim: Victim, table: pd.DataFrame, *, brief: bool = False) -> list[str]:
    """Log what the concepts of an attacked model say, or as a text why they say nothing.

    ``table`` is the per-clip table of the attack run, ``adversaries/clips.csv``. ``brief`` draws one figure,
    and controls leakage by few shuffles. Returns what happened to the concepts in sentences, none where they
    say nothing.

    Raises ValueError when the layer of a network of the study does not turn the table's concepts into its
    predictions: then the table is wrong.
    """
    if not victim.concepts:
        run.text(f"No explanation by concepts: {reason_without(victim.system)}.\n", REASON)
        if victim.features:
            _log_features(run, victim, table)
        return []
    layer = concept_layer(victim.model, table, victim.dataset.emotions, victim.concepts)
    if layer is None:
        run.text(
            "No explanation by concepts: no linear layer of the model maps its predicted concepts to its "
            f"predicted emotions, within {FLOAT32_TOLERANCE:g}, on the clean and the attacked clips.\n",
            REASON,
        )
        return []
    model = AttackedConcepts.from_table(table, layer)
    tables = {
        "concept_weights": layer.table(),
        "concept_effects": effects_table(model),
        "concept_shift": shift_table(model),
        "concept_movement": movement_table(model),
        "concept_what_if": what_if_table(model),
        "concept_repair": repair_table(model),
        "concept_leakage": leakage_table(model, shuffles=BRIEF_SHUFFLES if brief else CONTROLS),
    }
    for name, frame in tables.items():
        run.table(frame, f"tables/{name}.csv")
    run.metrics({IDENTITY: identity_error(table, layer), **_metrics(model, tables)})
    systems = {victim.system: [model]}
    run.figure(draw.concept_shift(systems), "figures/concept_shift")
    if not brief:
        for figure in (draw.concept_weights, draw.concept_movement, draw.concept_repair):
            run.figure(figure(systems), f"figures/{figure.__name__}")
        run.figure(draw.concept_effects(systems, layer.emotions), "figures/concept_effects")
    return findings(victim.system, [model])


def _log_features(run: Run, victim: Victim, table: pd.DataFrame) -> None:
    """Log through which features the attack moves a model that computes them: nobody rates these."""
    emotions, features = victim.dataset.emotions, victim.features

    def columns(prefix: str, names: Sequence[str]) -> Floats:
        found: Floats = table[[f"{prefix}{name}" for name in names]].to_numpy(np.float64)
        return found

    clean, adversarial = columns("clean_feature_", features), columns("adv_feature_", features)
    predicted, labels = columns("clean_", emotions), columns("label_", emotions)
    layer, _ = fitting_layer(victim.model, emotions, features, lambda tried: tried.error(clean, predicted))
    if layer is None:
        return
    rated = np.full(clean.shape, np.nan)
    model = AttackedConcepts(layer, tuple(table["clip"].astype(str)), labels, rated, clean, adversarial)
    tables = {
        "feature_weights": layer.table(),
        "feature_effects": effects_table(model),
        "feature_shift": shift_table(model).drop(columns=["clean_mae", "adv_mae"]),
        "feature_movement": movement_table(model),
    }
    for name, frame in tables.items():
        run.table(frame.rename(columns={"concept": "feature"}), f"tables/{name}.csv")


def concept_layer(
    model: nn.Module, table: pd.DataFrame, emotions: Sequence[str], concepts: Sequence[str]
) -> ConceptLayer | None:
    """Return the linear layer from concepts to emotions: the last one that does what the table says.

    Any weights of the right shape are tried, whatever their names (those of exported programs too), on the
    clean and the attacked clips of a per-clip table. None where no layer fits, or a prediction is not finite.
    Raises ValueError where that happens to a network of the study with finite predictions.
    """
    layer, best = fitting_layer(model, emotions, concepts, partial(identity_error, table))
    if layer is None and isinstance(model, BottleneckNetwork) and np.isfinite(best):
        raise ValueError(f"bias + sum of effects misses the predictions of the network by {best:.1g}")
    return layer


def _metrics(model: AttackedConcepts, tables: dict[str, pd.DataFrame]) -> dict[str, float]:
    """Return the scores of concepts against ratings, leakage, and the MAE after interventions.

    ``concept/repair/mae`` is that of attacked clips with every concept set to its rating, ``mae_best`` the
    smallest on the way there; ``concept/undo/mae_first`` that with one concept set to its clean value.
    """
    repair, metrics = tables["concept_repair"], concept_scores(model)
    leakage = leakage_means(tables["concept_leakage"])
    metrics |= {f"concept/{name}": value for name, value in leakage.items() if not np.isnan(value)}
    attacked = repair["input"] == "adversarial"
    rated, undone = (repair["mae"][attacked & (repair["replaced_by"] == by)] for by in ("rated", "clean"))
    return metrics | {
        "concept/repair/mae": float(rated.iloc[-1]),
        "concept/repair/mae_best": float(rated.min()),
        "concept/undo/mae_first": float(undone.iloc[1]),
    }


def concept_scores(model: AttackedConcepts) -> dict[str, float]:
    """Return how well the concepts are predicted before and under the attack."""
    found: dict[str, float] = {}
    for kind, predicted in (("clean", model.clean), ("adv", model.adversarial)):
        scores = regression_scores(model.rated, predicted, model.layer.concepts).mean
        found |= {f"{kind}/concept/{name}": scores[name] for name in ("mae", "corr")}
    return found
