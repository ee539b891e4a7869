"""Reads how attacked bottlenecks explain themselves by their concepts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from rmer.evaluation.concepts import AttackedConcepts, ConceptLayer, identity_error
from rmer.report.sections.concepts_section import reason_without
from rmer.stages.analysis.selection import Selected
from rmer.stages.attack.agreement import require_scores
from rmer.stages.attack.explanation import (
    IDENTITY,
    LEAKAGE,
    LEAKAGE_TABLE,
    WEIGHTS_TABLE,
    concept_scores,
)
from rmer.tracking import Artifact, RunRecord, Store
from rmer.tracking.integrity import altered


def read_explanations(
    store: Store, selected: Sequence[Selected], rows: Sequence[str]
) -> tuple[dict[str, list[AttackedConcepts]], dict[str, str]]:
    """Return the explained models of attack runs by row name, and for the other rows why there are none.

    ``rows`` gives the order of the rows. Models with other concepts or emotions than the first are left out,
    with this as the reason. Raises UserError where tables of a run are not what it logged.
    """
    explained: dict[str, list[AttackedConcepts]] = {}
    without: dict[str, str] = {}
    names: tuple[tuple[str, ...], tuple[str, ...]] | None = None
    for item in sorted(selected, key=lambda item: rows.index(item.name)):
        if IDENTITY not in item.record.metrics:
            without[item.name] = reason_without(item.system)
            continue
        model = _read_model(store, item.record)
        own = model.layer.emotions, model.layer.concepts
        names = names or own
        if own == names:
            explained.setdefault(item.name, []).append(model)
        else:
            without[item.name] = "other concepts or emotions"
    return explained, without


def _read_model(store: Store, record: RunRecord) -> AttackedConcepts:
    """Read layer and concepts of a run; raises UserError where they are not what it logged."""
    weights = store.read_table(record.run_id, WEIGHTS_TABLE)
    clips = store.read_table(record.run_id, Artifact.ADVERSARY_CLIPS)
    try:
        layer = ConceptLayer.from_table(weights)
        model, error = AttackedConcepts.from_table(clips, layer), identity_error(clips, layer)
    except (KeyError, ValueError) as problem:
        what = (
            f"{WEIGHTS_TABLE} does not turn the concepts of {Artifact.ADVERSARY_CLIPS} into its predictions"
        )
        raise altered(record.run_id, record.name, what) from problem
    require_scores(record, WEIGHTS_TABLE, {IDENTITY: error})
    require_scores(record, Artifact.ADVERSARY_CLIPS, concept_scores(model))
    if LEAKAGE not in record.metrics:  # too few clips, or a run from before it was measured
        return model
    return replace(model, leakage=store.read_table(record.run_id, LEAKAGE_TABLE))
