"""Gathers what the report of an analysis is made of from what was read from the store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rmer.data.published_logs import are_published_labels
from rmer.evaluation.protocol_steps import ProtocolStep
from rmer.report.contents import Contents
from rmer.report.readable import REPORTED_2019
from rmer.report.system_tables import in_order
from rmer.stages.analysis.analyze_params import AnalyzeParams
from rmer.stages.analysis.explanations import read_explanations
from rmer.stages.analysis.reading import AnalysedRuns, used_runs
from rmer.stages.analysis.scatter import scatter_emotions, scatter_models
from rmer.tracking import Store


def contents_of(
    store: Store,
    params: AnalyzeParams,
    runs: AnalysedRuns,
    steps: Sequence[ProtocolStep],
    selection: Mapping[str, str],
) -> Contents:
    """Return the contents; ``selection`` maps parameters to the values that all runs share.

    Raises UserError where the scatter plot is to show what there is not, or an explanation is not what its
    run logged.
    """
    models = runs.models
    scatter = scatter_models(models, params.scatter_systems, params.scatter_seed)
    emotions = scatter_emotions(models, params.emotions)
    explained, unexplained = read_explanations(store, runs.chosen, list(in_order(models)))
    return Contents(
        groups=runs.groups,
        logged=runs.metrics,
        runs=used_runs(store, runs),
        selection=selection,
        reference=params.reference,
        margins=params.margins,
        bootstrap_seed=params.bootstrap_seed,
        corrected=runs.corrected,
        is_suite=runs.is_suite,
        reported=REPORTED_2019 if are_published_labels(runs.first_clips) else {},
        reported_epsilon=runs.reported_epsilon,
        checks=runs.checks,
        precision_checks=runs.precision_checks,
        reduced=sum(item.reduced for item in runs.selected),
        steps=steps,
        explained=explained,
        unexplained=unexplained,
        scatter=scatter,
        emotions=emotions,
    )
