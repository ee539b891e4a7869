"""Stage ``analyze``: tables, tests, figures and a report over the attack runs that tags select."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

import rmer
from rmer.data.published_logs import are_published_labels
from rmer.errors import UserError
from rmer.evaluation.protocol_steps import ProtocolStep
from rmer.parameters import listed
from rmer.report.contents import Contents
from rmer.report.html import Report, render
from rmer.report.latex import latex_table
from rmer.report.readable import REPORTED_2019, markdown
from rmer.report.system_tables import in_order
from rmer.report.whole_report import report_of
from rmer.stages.analysis.alike import DIMENSIONS
from rmer.stages.analysis.analyze_params import REFERENCE, AnalyzeParams
from rmer.stages.analysis.bundle import write_bundle
from rmer.stages.analysis.distinct import require_distinct
from rmer.stages.analysis.explanations import read_explanations
from rmer.stages.analysis.protocol_step_runs import find_protocol_steps
from rmer.stages.analysis.reading import AnalysedRuns, read_runs, used_runs
from rmer.stages.analysis.scatter import scatter_emotions, scatter_models
from rmer.stages.analysis.selection import Selected, select_attack_runs, shared_tags
from rmer.tracking import Artifact, Origin, Outcome, Run, RunRecord, RunSpec, Stage, Store, Tag

LONGEST_NOTE = 7500


@dataclass(frozen=True, eq=False)
class Analysis:
    """What an analysis gives back: the report, and the run that holds it."""

    outcome: Outcome
    report: Report

    @property
    def tables(self) -> Mapping[str, pd.DataFrame]:
        """Name (``systems``, ``comparisons``, ``curves``, ...) -> what is logged under ``tables/``."""
        return self.report.tables

    @property
    def systems(self) -> pd.DataFrame:
        """One row a system: means over seeds."""
        return self.tables["systems"]

    @property
    def text(self) -> str:
        """The findings and the table as Markdown."""
        sentences = "\n".join(f"- {sentence}" for sentence in self.report.headline)
        return f"{sentences}\n\n{markdown(self.report.systems)}"


def analyze(store: Store, params: AnalyzeParams) -> Analysis:
    """Analyse the attack runs that the parameters select; the same runs are analysed once.

    Raises UserError, before a run is opened, where the selection is empty or mixed
    (:func:`rmer.stages.analysis.selection.select_attack_runs`), a table of a run cannot be used, or two of
    the systems or seeds are one model.
    """
    systems = listed(params.systems)
    tags, where, mixed = params.tags(), params.settings(), params.allow_mixed
    selected = select_attack_runs(
        store, tags, study=params.study, systems=systems, where=where, allow_mixed=mixed
    )
    _check_named(store, params, selected)
    runs = read_runs(store, selected)
    require_distinct(store, runs)
    steps, step_records = find_protocol_steps(
        store, runs, study=params.study, further=listed(params.ladder), systems=systems
    )
    shared = shared_tags(selected)
    selection = {"study": params.study} if params.study else {}
    selection |= {DIMENSIONS[tag]: value for tag, value in shared.items()} | where
    contents = _contents(store, params, runs, steps, selection)
    report = report_of(contents)
    spec = RunSpec(
        stage=Stage.ANALYZE,
        name=" ".join(filter(None, ["analysis |", shared.get(Tag.ATTACK), params.study])),
        config={
            **_config(params, selected, step_records),
            "emotions": list(contents.emotions),
            "scatter": [f"{name} s{model.seed}" for name, model in contents.scatter.items()],
        },
        tags={**shared, Tag.ORIGIN: Origin.COMPUTED},
        study=params.study or None,
    )
    files = write_bundle(store, params, runs, report, step_records) if params.bundle else []

    def body(run: Run) -> None:
        _log(run, report)
        for file in files:
            run.file(Path(params.bundle).expanduser() / file, str(Path("bundle", file.parent)))

    return Analysis(store.perform(spec, body), report)


def _contents(
    store: Store,
    params: AnalyzeParams,
    runs: AnalysedRuns,
    steps: Sequence[ProtocolStep],
    selection: Mapping[str, str],
) -> Contents:
    """Return what the report is made of; ``selection`` maps parameters to the values that all runs share.

    Raises UserError where the scatter plot is to show what there is not, or an explanation is not what its
    run logged.
    """
    models = runs.models
    scatter = scatter_models(models, params.scatter_systems, params.scatter_seed)
    emotions = scatter_emotions(models, params.emotions)
    explained, unexplained = read_explanations(store, runs.chosen, list(in_order(models)))
    return Contents(
        groups=runs.groups,
        logged={item.record.run_id: item.record.metrics for item in runs.selected},
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
        reduced=sum(item.record.params.get("cfg.precision", "fp32") != "fp32" for item in runs.selected),
        steps=steps,
        explained=explained,
        unexplained=unexplained,
        scatter=scatter,
        emotions=emotions,
    )


def _check_named(store: Store, params: AnalyzeParams, selected: Sequence[Selected]) -> None:
    """Raise UserError where a system or study is named that there is not: it would be left out in silence."""
    rows = sorted({item.system for item in selected} | {item.name for item in selected})
    if params.reference != REFERENCE and params.reference not in rows:
        what = f"no attacked system is called {params.reference}"
        raise UserError(what, where="parameter reference", mend=f"There are {', '.join(rows)}")
    for study in listed(params.ladder):
        if not store.find(Stage.ATTACK, study=study):
            mend = "Name studies that attacked something, separated by commas"
            raise UserError(f"no finished attack run in study {study!r}", where="parameter ladder", mend=mend)


def _config(
    params: AnalyzeParams, selected: Sequence[Selected], steps: Sequence[RunRecord]
) -> dict[str, Any]:
    # Digests, because the ids of a large study are longer than a parameter may be.
    rows = sorted(f"{item.name} {item.seed} {item.record.run_id}" for item in selected)
    return {
        "version": rmer.__version__,
        "runs": _digest(rows),
        "number_of_runs": len(rows),
        "ladder_runs": _digest(sorted({record.run_id for record in steps})),  # as digests have it
        **params.as_dict("result"),
        "bundle": bool(params.bundle),
    }


def _digest(lines: Sequence[str]) -> str:
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def _log(run: Run, report: Report) -> None:
    for name, table in report.tables.items():
        run.table(table, f"tables/{name}.csv")
    run.text(markdown(report.systems), "tables/systems.md")
    run.text(latex_table(report.systems, report.systems_caption), "tables/systems.tex")
    for name, drawing in report.figures.items():
        run.figure(drawing.figure, f"figures/{name}")
    run.text(render(report), Artifact.REPORT)
    run.metrics(_metrics(report.tables))
    run.note(_note(report))


def _metrics(tables: Mapping[str, pd.DataFrame]) -> dict[str, float]:
    """Return <system>/<column of systems.csv>, and of robustness.csv and comparisons.csv what that lacks."""
    metrics: dict[str, float] = {}
    for row in tables["systems"].to_dict("records"):
        group = _group(row.pop("system"))
        metrics |= {f"{group}/{name}": value for name, value in row.items()}
    for row in tables["robustness"].to_dict("records"):
        for kind in ("clean", "adv", "delta", "auc"):
            metrics.setdefault(f"{_group(row['system'])}/{kind}_{row['metric']}", row[kind])
    for row in tables["comparisons"].to_dict("records"):
        stem = f"{_group(row['a'])} - {_group(row['b'])}/{row['endpoint'].replace('/', '_')}"
        metrics |= {f"{stem}_difference": row["difference"], f"{stem}_p_holm": row["p_holm"]}
    return {name: float(value) for name, value in metrics.items() if not math.isnan(value)}


def _group(system: object) -> str:
    return re.sub(r"[^\w. -]", "_", str(system))


def _note(report: Report) -> str:
    findings = "\n".join(f"- {sentence}" for sentence in report.headline)
    caveats = "\n".join(f"- {sentence}" for sentence in report.caveats)
    note = f"{findings}\n\n{markdown(report.systems)}\nWhat limits these numbers:\n\n{caveats}\n"
    return note if len(note) <= LONGEST_NOTE else f"{findings}\n\nSee {Artifact.REPORT}.\n"
