"""Stage ``analyze``: tables, tests, figures and a report over the attack runs that tags select."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

import pandas as pd

import rmer
from rmer.attacks.attack_domains import DOMAINS
from rmer.data.published_logs import are_published_labels
from rmer.data.tables.class_labels import LabelKind
from rmer.errors import UserError
from rmer.nearest import did_you_mean
from rmer.parameters import listed
from rmer.report.contents import Contents
from rmer.report.html import Report, render
from rmer.report.latex import latex_table
from rmer.report.readable import REPORTED_2019, and_list, markdown
from rmer.report.sections.sound_section import SOUND
from rmer.report.system_tables import in_order
from rmer.report.whole_report import report_of
from rmer.stages.analysis.about import about
from rmer.stages.analysis.alike import DIMENSIONS
from rmer.stages.analysis.analyze_params import REFERENCE, AnalyzeParams
from rmer.stages.analysis.bundle import write_bundle
from rmer.stages.analysis.distinct import require_distinct
from rmer.stages.analysis.domains import SelectedDomains, select_domains
from rmer.stages.analysis.explanations import read_explanations
from rmer.stages.analysis.hearing_runs import read_heard
from rmer.stages.analysis.protocol_step_runs import find_protocol_steps
from rmer.stages.analysis.reading import AnalysedRuns, read_runs, used_runs
from rmer.stages.analysis.scatter import scatter_emotions, scatter_models
from rmer.stages.analysis.selection import Selected, shared_tags
from rmer.stages.descriptions import answer_of, description
from rmer.stages.run_names import run_name
from rmer.tracking import Artifact, Origin, Outcome, Run, RunRecord, RunSpec, Stage, Store, Tag
from rmer.tracking.schema import VERSUS

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


def analyze(store: Store, params: AnalyzeParams) -> Analysis:
    """Analyse the attack runs that the parameters select; the same runs are analysed once.

    Raises UserError, before a run is opened, where the selection is empty or mixed
    (:func:`rmer.stages.analysis.selection.select_attack_runs`), a table of a run cannot be used, or two of
    the systems or seeds are one model.
    """
    found = select_domains(store, params)
    selected = found.main
    _check_named(store, params, selected)
    runs = _distinct_runs(store, selected)
    sound = _distinct_runs(store, found.sound) if found.sound else None
    steps, step_records = find_protocol_steps(
        store,
        [item.record for read in (runs, sound) if read is not None for item in read.chosen],
        study=params.study,
        further=listed(params.ladder),
        systems=listed(params.systems),
    )
    contents = _explained(store, params, runs, _contents(store, params, runs))
    heard = None if sound is None else _contents(store, params, sound)
    told = about(store, params.study, runs, sound)
    contents = replace(contents, steps=steps, sound=heard, note=found.note, about=told)
    report = report_of(contents)
    files = write_bundle(store, params, runs, report, step_records, sound) if params.bundle else []

    def body(run: Run) -> None:
        _log(run, report)
        for file in files:
            run.file(Path(params.bundle).expanduser() / file, str(Path("bundle", file.parent)))

    return Analysis(store.perform(_spec(params, found, step_records, contents), body), report)


def _spec(
    params: AnalyzeParams, found: SelectedDomains, steps: Sequence[RunRecord], contents: Contents
) -> RunSpec:
    shared = shared_tags(found.main)
    if found.sound:
        shared[Tag.DOMAIN] = ", ".join(DOMAINS)
    return RunSpec(
        stage=Stage.ANALYZE,
        name=run_name(shared.get(Tag.ATTACK, ""), "analysis", params.study),
        config={
            **_config(params, found, steps),
            "emotions": list(contents.emotions),
            "scatter": [f"{name} s{model.seed}" for name, model in contents.scatter.items()],
        },
        tags={**shared, Tag.ORIGIN: Origin.COMPUTED},
        study=params.study or None,
    )


def _distinct_runs(store: Store, selected: Sequence[Selected]) -> AnalysedRuns:
    runs = read_runs(store, selected)
    require_distinct(store, runs)
    return runs


def _contents(store: Store, params: AnalyzeParams, runs: AnalysedRuns) -> Contents:
    """Return what the report says of the runs of one domain."""
    selection = {"study": params.study} if params.study else {}
    selection |= {DIMENSIONS[tag]: value for tag, value in shared_tags(runs.selected).items()}
    return Contents(
        groups=runs.groups,
        logged=runs.logged,
        across=_across(runs),
        labels=_labels(runs),
        runs=used_runs(store, runs),
        selection=selection | params.settings(),
        levels=runs.levels,
        heard=read_heard(store, runs),
        reference=params.reference,
        margins=params.margins,
        bootstrap_seed=params.bootstrap_seed,
        corrected=runs.corrected,
        is_suite=runs.is_suite,
        by_predictions=runs.by_predictions,
        reported=REPORTED_2019 if are_published_labels(runs.first_clips) else {},
        reported_epsilon=runs.reported_epsilon,
        checks=runs.checks,
        precision_checks=runs.precision_checks,
        reduced=sum(item.record.params.get("cfg.precision", "fp32") != "fp32" for item in runs.selected),
    )


def _across(runs: AnalysedRuns) -> str:
    """Return which data models were trained on and which they were attacked on, where no run has its own."""
    tags = [item.record.tags for item in runs.selected]
    if not all(Tag.TRAINED_ON in of for of in tags):
        return ""
    own, other = (
        and_list(sorted({of.get(name) or of.get(digest, "") for of in tags}))
        for name, digest in ((Tag.TRAINED_ON_NAME, Tag.TRAINED_ON), (Tag.DATASET_NAME, Tag.DATASET))
    )
    return f"trained on {own}, tested on all clips of {other}"


def _labels(runs: AnalysedRuns) -> LabelKind:
    """Return what the targets are; ratings where runs do not say it."""
    said = {item.record.params.get("cfg.labels", "") for item in runs.selected} - {""}
    return next((kind for kind in get_args(LabelKind) if said == {kind}), "ratings")


def _explained(store: Store, params: AnalyzeParams, runs: AnalysedRuns, contents: Contents) -> Contents:
    """Return the contents with explanations by concepts, and with what the scatter plot shows.

    Raises UserError where the scatter plot is to show what there is not, or an explanation is not what its
    run logged.
    """
    models = runs.models
    explained, unexplained = read_explanations(store, runs.chosen, list(in_order(models)))
    return replace(
        contents,
        explained=explained,
        unexplained=unexplained,
        scatter=scatter_models(models, params.scatter_systems, params.scatter_seed),
        emotions=scatter_emotions(models, params.emotions),
    )


def _check_named(store: Store, params: AnalyzeParams, selected: Sequence[Selected]) -> None:
    """Raise UserError where a system or study is named that there is not: it would be left out in silence."""
    rows = sorted({item.system for item in selected} | {item.name for item in selected})
    if params.reference != REFERENCE and params.reference not in rows:
        what = f"no attacked system is called {params.reference}"
        mend = did_you_mean([params.reference], rows, f"There are {', '.join(rows)}")
        raise UserError(what, where="parameter reference", mend=mend)
    for study in listed(params.ladder):
        if not store.find(Stage.ATTACK, study=study):
            mend = "Name studies that attacked something, separated by commas"
            raise UserError(f"no finished attack run in study {study!r}", where="parameter ladder", mend=mend)


def _config(params: AnalyzeParams, found: SelectedDomains, steps: Sequence[RunRecord]) -> dict[str, Any]:
    # Digests, because the ids of a large study are longer than a parameter may be.
    sound = {"sound_runs": _digest(_rows(found.sound))} if found.sound else {}
    return {
        "version": rmer.__version__,
        "runs": _digest(_rows(found.main)),
        "number_of_runs": len(found.main) + len(found.sound),
        **sound,
        "ladder_runs": _digest(sorted({record.run_id for record in steps})),  # as digests have it
        **params.as_dict("result"),
        "bundle": bool(params.bundle),
    }


def _rows(selected: Sequence[Selected]) -> list[str]:
    return sorted(f"{item.name} {item.seed} {item.record.run_id}" for item in selected)


def _digest(lines: Sequence[str]) -> str:
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def _log(run: Run, report: Report) -> None:
    for name, table in report.tables.items():
        run.table(table, f"tables/{name}.csv")
    run.text(markdown(report.systems), "tables/systems.md")
    run.text(latex_table(report.systems, report.systems_caption), "tables/systems.tex")
    for name, drawing in report.figures.items():
        run.figure(drawing.figure, f"figures/{name}", drawing.svg)
    run.text(render(report), Artifact.REPORT)
    run.metrics(_metrics(report.tables))
    run.note(_note(report, {"report": run.page(Artifact.REPORT), "systems": run.page("tables/systems.csv")}))


def _metrics(tables: Mapping[str, pd.DataFrame]) -> dict[str, float]:
    """Return the columns of systems.csv, and of robustness.csv and comparisons.csv what that lacks."""
    metrics: dict[str, float] = {}
    for row in tables["systems"].to_dict("records"):
        system = str(row.pop("system"))
        metrics |= {versus(system, name): value for name, value in row.items()}
    for row in tables["robustness"].to_dict("records"):
        for kind in ("clean", "adv", "delta", "auc"):
            metrics.setdefault(versus(row["system"], f"{kind}_{row['metric']}"), row[kind])
    for row in tables["classification"].to_dict("records") if "classification" in tables else ():
        for kind in ("clean", "adv", "delta"):
            metrics[versus(row["system"], f"{kind}_{row['metric']}")] = row[kind]
    metrics |= _comparison_metrics(tables["comparisons"])
    if "sound_robustness" in tables:  # beside those of spectrograms: of the norm of the endpoints
        robustness = tables["sound_robustness"]
        for row in robustness[robustness["norm"] == robustness["norm"].iloc[0]].to_dict("records"):
            for kind in ("adv", "delta", "auc"):
                metrics[versus(row["system"], f"{SOUND}{kind}_{row['metric']}")] = row[kind]
        metrics |= _comparison_metrics(tables["sound_comparisons"], SOUND)
    return {name: float(value) for name, value in metrics.items() if not math.isnan(value)}


def _comparison_metrics(table: pd.DataFrame, prefix: str = "") -> dict[str, float]:
    metrics: dict[str, float] = {}
    for row in table.to_dict("records"):
        stem = versus(f"{row['a']} - {row['b']}", f"{prefix}{row['endpoint'].replace('/', '_')}")
        metrics |= {f"{stem}_difference": row["difference"], f"{stem}_p_holm": row["p_holm"]}
    return metrics


def versus(system: object, name: object) -> str:
    """Return what a number of one system, or of two, is called among the metrics."""
    written = re.sub(r"[^\w. -]", "_", str(system))
    return f"{VERSUS}/{written} {name}"


def _note(report: Report, links: Mapping[str, str]) -> str:
    head = description(report.title, answer_of(report), links)
    findings = "\n".join(f"- {sentence}" for sentence in report.headline)
    caveats = "\n".join(f"- {sentence}" for sentence in report.caveats)
    note = f"{head}\n{findings}\n\n{markdown(report.systems)}\nWhat limits these numbers:\n\n{caveats}\n"
    return note if len(note) <= LONGEST_NOTE else f"{head}\n{findings}\n"
