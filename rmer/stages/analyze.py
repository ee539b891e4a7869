"""Stage ``analyze``: tables, tests, figures and a report over the attack runs that tags select."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pandas as pd

import rmer
from rmer.data.published_logs import are_published_labels
from rmer.errors import UserError
from rmer.evaluation.attacked import AttackedModel
from rmer.parameters import Parameters, listed, param
from rmer.report.figures import label_versus_prediction, performance_difference, performance_table
from rmer.report.findings import caveats, headline
from rmer.report.html import Report, ReportFigure, UsedRun, render
from rmer.report.readable import (
    REPORTED_2019,
    latex,
    markdown,
    readable_attacks,
    readable_table,
    readable_tests,
)
from rmer.report.tables import attacks_table, in_order, systems_table, tests_table
from rmer.stages.selection import DIMENSIONS, Selected, select_attack_runs, shared_tags
from rmer.tracking import Artifact, Origin, Outcome, Run, RunSpec, Stage, Store, Tag

READERS = 8
LONGEST_NOTE = 7500
REFERENCE = "A2M2E"
# What the paper's scatter plot shows, where it is there.
SCATTER_EMOTIONS, SCATTER_SYSTEMS, SCATTER_SEED = ("tension", "tender"), ("A2B2E", "A2M2E", "aA2B2E"), "21"


@dataclass(frozen=True)
class AnalyzeParams(Parameters):
    """Parameters of ``analyze``: an empty one does not narrow the selection."""

    study: str = param("", "attack runs of this group")
    origin: str = param(
        "", "computed, imported or external runs", choices=("", "computed", "imported", "external")
    )
    train_protocol: str = param(
        "", "models trained under this protocol", choices=("", "published", "corrected")
    )
    attack_protocol: str = param(
        "", "attacks under this protocol", choices=("", "published", "bridge", "corrected")
    )
    attack: str = param("", "runs of this attack (published, bridge, pgd, ...)")
    norm: str = param("", "norm of the budget", choices=("", "linf", "l2"))
    epsilon: float | None = param(None, "budget in standardised units", low=0.0, high=1e6)
    attack_seed: str = param("", "seed of the attack's random starts")
    dataset: str = param("", "digest of the data set (tag rmer.dataset)")
    split_scheme: str = param("", "published or album split", choices=("", "published", "album"))
    split: str = param("", "attacked part of the data", choices=("", "test", "validation"))
    systems: str = param("", "systems, separated by commas")
    reference: str = param(REFERENCE, "system that the tests compare all others with")
    emotions: str = param("", "emotions of the scatter plot; default: tension,tender")
    scatter_systems: str = param("", "systems of the scatter plot; default: A2B2E,A2M2E,aA2B2E")
    scatter_seed: str = param("", "seed of the scatter plot; default: 21 where present")
    allow_mixed: bool = param(False, "compare runs that differ in more than their system, side by side")

    def tags(self) -> dict[str, str]:
        """Return the tags that attack runs must have."""
        values = {tag: getattr(self, name) for tag, name in DIMENSIONS.items()}
        values[Tag.EPSILON] = "" if self.epsilon is None else f"{self.epsilon:g}"
        return {tag: value for tag, value in values.items() if value}


@dataclass(frozen=True, eq=False)
class Analysis:
    """What an analysis gives back: tables in full precision, the report, and the run that holds them."""

    outcome: Outcome
    systems: pd.DataFrame
    tests: pd.DataFrame
    attacks: pd.DataFrame
    report: Report

    @property
    def text(self) -> str:
        """The findings and the table as Markdown."""
        findings = "\n".join(f"- {sentence}" for sentence in self.report.headline)
        return f"{findings}\n\n{markdown(self.report.systems)}"


def analyze(store: Store, params: AnalyzeParams) -> Analysis:
    """Analyse the attack runs that the parameters select; the same runs are analysed once.

    Raises UserError, before a run is opened, where the selection is empty or mixed (see
    :func:`rmer.stages.selection.select_attack_runs`) or a per-clip table cannot be used.
    """
    selected = select_attack_runs(
        store,
        params.tags(),
        study=params.study,
        systems=listed(params.systems),
        allow_mixed=params.allow_mixed,
    )
    models = _read(store, selected)
    shown, emotions = scatter_models(models, params), scatter_emotions(models, params.emotions)
    systems, tests = systems_table(models), tests_table(models, params.reference)
    attacks = attacks_table(models, {item.record.run_id: item.record.metrics for item in selected})
    reported = REPORTED_2019 if _on_soundtracks(store, selected[0]) else {}
    shared = shared_tags(selected)
    selection = {"study": params.study} if params.study else {}
    selection |= {DIMENSIONS[tag]: value for tag, value in shared.items()}
    report = Report(
        title=_title(len(systems), shared.get(Tag.ATTACK, "unnamed")),
        headline=headline(systems, tests),
        selection=selection,
        systems=readable_table(systems, reported),
        tests=readable_tests(tests),
        attacks=readable_attacks(attacks),
        figures=_figures(systems, reported, models, shown, emotions),
        caveats=caveats(systems, attacks, selection),
        runs=_used_runs(store, models, selected),
    )
    spec = RunSpec(
        stage=Stage.ANALYZE,
        name=" ".join(filter(None, ["analysis |", shared.get(Tag.ATTACK), params.study])),
        config=_config(models, params, shown, emotions),
        tags={**shared, Tag.ORIGIN: Origin.COMPUTED},
        study=params.study or None,
    )
    outcome = store.perform(spec, lambda run: _log(run, report, systems, tests, attacks))
    return Analysis(outcome, systems, tests, attacks, report)


def scatter_emotions(models: Sequence[AttackedModel], wanted: str) -> list[str]:
    """Return the emotions of the scatter plot: those wanted, else the paper's, else the first two."""
    targets = models[0].targets
    unknown = [name for name in listed(wanted) if name not in targets]
    if unknown:
        raise UserError(
            f"no target is called {', '.join(unknown)}",
            where="parameter emotions",
            mend=f"The runs have {', '.join(targets)}",
        )
    default = [name for name in SCATTER_EMOTIONS if name in targets] or list(targets[:2])
    return listed(wanted) or default


def scatter_models(models: Sequence[AttackedModel], params: AnalyzeParams) -> dict[str, AttackedModel]:
    """Return row name -> model of the scatter plot: those wanted, else the paper's, else the first three."""
    rows = in_order(models)
    wanted = listed(params.scatter_systems)
    systems = {row[0].system for row in rows.values()}
    unknown = [name for name in wanted if name not in systems | set(rows)]
    if unknown:
        raise UserError(
            f"no attacked system is called {', '.join(unknown)}",
            where="parameter scatter_systems",
            mend=f"There are {', '.join(rows)}",
        )
    names = wanted or [name for name in SCATTER_SYSTEMS if name in systems] or list(rows)[:3]
    chosen = [row for name in names for row in rows if name in (row, rows[row][0].system)]
    seed = params.scatter_seed or SCATTER_SEED
    shown = {
        row: next((model for model in rows[row] if model.seed == seed), rows[row][0]) for row in chosen[:6]
    }
    without = [row for row, model in shown.items() if model.seed != seed]
    if params.scatter_seed and without:
        raise UserError(
            f"{', '.join(without)} has no run of seed {seed}",
            where="parameter scatter_seed",
            mend=f"Its seeds are {', '.join(model.seed for model in rows[without[0]])}",
        )
    return shown


def _read(store: Store, selected: Sequence[Selected]) -> list[AttackedModel]:
    """Read the per-clip tables, several at a time, since a server answers slowly but to many."""

    def read(item: Selected) -> AttackedModel:
        run_id = item.record.run_id
        table = store.read_table(run_id, Artifact.ADVERSARY_CLIPS)
        return AttackedModel.from_table(
            table, name=item.name, system=item.system, seed=item.seed, run_id=run_id
        )

    with ThreadPoolExecutor(READERS) as pool:
        models = list(pool.map(read, selected))
    for model in models[1:]:
        if model.targets != models[0].targets:
            raise UserError(
                f"has targets {', '.join(model.targets)}, but run {models[0].run_id} "
                f"{', '.join(models[0].targets)}",
                where=f"run {model.run_id}",
                mend="Narrow with dataset",
            )
    return models


def _title(systems: int, attack: str) -> str:
    return f"{systems} system{'s' if systems > 1 else ''} under the {attack} attack"


def _on_soundtracks(store: Store, item: Selected) -> bool:
    """Tell whether the values of 2019, measured on Soundtracks, may stand beside these."""
    return are_published_labels(store.read_table(item.record.run_id, Artifact.ADVERSARY_CLIPS))


def _config(
    models: Sequence[AttackedModel],
    params: AnalyzeParams,
    shown: Mapping[str, AttackedModel],
    emotions: Sequence[str],
) -> dict[str, Any]:
    # A digest, because the ids of a large study are longer than a parameter may be.
    runs = "\n".join(sorted(f"{model.name} {model.seed} {model.run_id}" for model in models))
    return {
        "version": rmer.__version__,
        "runs": hashlib.sha256(runs.encode()).hexdigest()[:16],
        "number_of_runs": len(models),
        "reference": params.reference,
        "emotions": list(emotions),
        "scatter": [f"{name} s{model.seed}" for name, model in shown.items()],
    }


def _figures(
    systems: pd.DataFrame,
    reported: Mapping[str, float],
    models: Sequence[AttackedModel],
    shown: Mapping[str, AttackedModel],
    emotions: Sequence[str],
) -> dict[str, ReportFigure]:
    """Return artifact name -> figure."""
    seeds = ", ".join(dict.fromkeys(model.seed for model in shown.values()))
    return {
        "diff_performance": ReportFigure(
            "Loss of performance",
            "Adversarial minus clean MAE. Boxes: quartiles over seeds; dots: seeds.",
            performance_difference(models),
        ),
        "true_vs_pred": ReportFigure(
            "Label versus prediction",
            f"Ratings against predictions for clean and attacked clips of one model each (seed {seeds}). "
            "Insets: clean predictions alone.",
            label_versus_prediction(shown, emotions),
        ),
        "performance_table": ReportFigure(
            "Performance without attack",
            "Table 1 of the paper: correlation averaged over emotions, and MAE; mean ± standard deviation "
            "over seeds." + (" *: reported in 2019." if reported else ""),
            performance_table(systems, reported),
        ),
    }


def _used_runs(store: Store, models: Sequence[AttackedModel], selected: Sequence[Selected]) -> list[UsedRun]:
    records = {item.record.run_id: item.record for item in selected}
    web = f"{store.uri.rstrip('/')}/#/" if store.uri.startswith(("http://", "https://")) else ""
    runs = []
    for row in in_order(models).values():
        for model in row:
            record = records[model.run_id]
            trained = record.tags.get(Tag.TRAIN_RUN_ID, "")
            runs.append(
                UsedRun(
                    system=model.name,
                    seed=model.seed,
                    run_id=model.run_id,
                    train_run_id=trained,
                    url=f"{web}experiments/{record.experiment_id}/runs/{model.run_id}" if web else "",
                    # Any experiment in the address will do: the page of a run finds the right one.
                    train_url=f"{web}experiments/{record.experiment_id}/runs/{trained}"
                    if web and trained
                    else "",
                )
            )
    return runs


def _log(run: Run, report: Report, systems: pd.DataFrame, tests: pd.DataFrame, attacks: pd.DataFrame) -> None:
    run.table(systems, "tables/systems.csv")
    run.table(tests, "tables/tests.csv")
    run.table(attacks, "tables/attacks.csv")
    used = [(used.system, used.seed, used.run_id, used.train_run_id) for used in report.runs]
    run.table(pd.DataFrame(used, columns=["system", "seed", "run_id", "train_run_id"]), "tables/runs.csv")
    run.text(markdown(report.systems), "tables/systems.md")
    caption = "Mean and standard deviation over seeds. Values of 2019 as reported."
    run.text(latex(report.systems, caption), "tables/systems.tex")
    for name, drawing in report.figures.items():
        run.figure(drawing.figure, f"figures/{name}")
    run.text(render(report), Artifact.REPORT)
    for row in systems.to_dict("records"):
        group = re.sub(r"[^\w. -]", "_", str(row["system"]))
        run.metrics({f"{group}/{name}": value for name, value in row.items() if name != "system"})
    run.note(_note(report))


def _note(report: Report) -> str:
    findings = "\n".join(f"- {sentence}" for sentence in report.headline)
    caveats = "\n".join(f"- {sentence}" for sentence in report.caveats)
    note = f"{findings}\n\n{markdown(report.systems)}\nWhat limits these numbers:\n\n{caveats}\n"
    return note if len(note) <= LONGEST_NOTE else f"{findings}\n\nSee {Artifact.REPORT}.\n"
