"""What a paper needs of an analysis: LaTeX, figures, a methods paragraph, runs, environment, commands."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterator, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import pandas as pd

import rmer
from rmer.attacks.sound_budgets import UNITS
from rmer.attacks.suite import TIERS, Suite
from rmer.data.csv_tables import table_text
from rmer.errors import UserError
from rmer.figures import save_figure
from rmer.report.html import Report, ReportTable, anchor
from rmer.report.latex import latex_document, latex_table, latex_text
from rmer.report.methods import Methods, methods_sentences
from rmer.report.readable import and_list, number, sound_budget_in_words
from rmer.report.sections.gradient_precision_section import largest_loss
from rmer.stages.analysis.alike import is_by_predictions
from rmer.stages.analysis.analyze_params import AnalyzeParams
from rmer.stages.analysis.parallel import named_runs
from rmer.stages.analysis.reading import AnalysedRuns
from rmer.stages.analysis.reproduce import reproduce_script
from rmer.stages.data.data_params import DataParams
from rmer.stages.train_params import TrainingParams
from rmer.tracking import RunRecord, Store, Tag

README = """\
What a paper needs of this analysis, made by rmer {version}.

tables/           LaTeX (booktabs, graphicx) as in the report, and every table in full precision (CSV)
figures/          PDF and SVG
methods.tex       a methods paragraph, filled from the runs
paper.tex         all of it in one document, to look at: pdflatex paper.tex
runs.csv          every run: training, attack, data, code
environment.json  packages and machine of the analysis, code of the runs
reproduce.sh      the commands that make the runs and this folder anew
"""


def write_bundle(
    store: Store,
    params: AnalyzeParams,
    runs: AnalysedRuns,
    report: Report,
    steps: Sequence[RunRecord],
    sound: AnalysedRuns | None = None,
) -> list[Path]:
    """Write the bundle to the folder that the parameters name; return its files, relative to it.

    ``steps`` are the runs of the steps from the published study to the corrected one, ``sound`` attacks on
    the sound beside those on spectrograms.

    Raises UserError where the folder cannot be written.
    """
    folder = Path(params.bundle).expanduser()
    try:
        return _write(folder, store, params, runs, report, steps, sound)
    except OSError as error:
        raise UserError(f"cannot be written ({error})", where=str(folder), mend="Check bundle") from error


def _write(
    folder: Path,
    store: Store,
    params: AnalyzeParams,
    runs: AnalysedRuns,
    report: Report,
    steps: Sequence[RunRecord],
    sound: AnalysedRuns | None,
) -> list[Path]:
    tables = dict(named_tables(report))
    records = [item.record for item in [*runs.selected, *(sound.selected if sound else ())]]
    trained = named_runs(store, records, Tag.TRAIN_RUN_ID)
    datasets = named_runs(store, records, Tag.DATASET_RUN_ID)
    methods = methods_sentences(_methods(params, runs, report, trained, datasets, sound))
    every = list({record.run_id: record for record in [*records, *steps]}.values())
    made = named_runs(store, every, Tag.TRAIN_RUN_ID)
    prepared = named_runs(store, [*made, *every], Tag.DATASET_RUN_ID)
    texts = {
        "README.txt": README.format(version=rmer.__version__),
        "methods.tex": "\n".join(latex_text(sentence) for sentence in methods) + "\n",
        "paper.tex": latex_document(report.title, list(tables), list(report.figures)),
        "runs.csv": table_text(_runs_table(records, trained)),
        "environment.json": json.dumps(_environment(records), indent=2) + "\n",
        "reproduce.sh": reproduce_script(prepared, made, every, params),
    }
    texts |= {
        f"tables/{name}.tex": latex_table(table.frame, table.caption, name) for name, table in tables.items()
    }
    texts |= {f"tables/{name}.csv": table_text(table) for name, table in report.tables.items()}
    for name, text in texts.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    (folder / "figures").mkdir(exist_ok=True)
    figures = []
    for name, drawn in report.figures.items():
        pdf, svg = (Path("figures") / f"{name}.{kind}" for kind in ("pdf", "svg"))
        save_figure(drawn.figure, folder / pdf, "pdf")
        (folder / svg).write_bytes(drawn.svg)
        figures += [pdf, svg]
    return [*map(Path, texts), *figures]


def named_tables(report: Report) -> Iterator[tuple[str, ReportTable]]:
    """Yield the report's tables under names for files: their section's, numbered where it has several."""
    yield "systems", ReportTable(report.systems_caption, report.systems)
    for section in report.sections:
        name = anchor(section.title)
        for place, table in enumerate(section.tables, start=1):
            yield f"{name}-{place}" if len(section.tables) > 1 else name, table


def _methods(
    params: AnalyzeParams,
    runs: AnalysedRuns,
    report: Report,
    trained: Sequence[RunRecord],
    datasets: Sequence[RunRecord],
    sound: AnalysedRuns | None,
) -> Methods:
    first, model = runs.chosen[0].record, runs.models[0]
    systems: dict[str, list[str]] = {}
    for system, seed in dict.fromkeys((used.system, used.seed) for used in report.runs):
        systems.setdefault(system, []).append(seed)
    return Methods(
        folds=len(model.parts),
        clips=len(model.clips),
        albums=len(set(model.albums)) if all(model.albums) else len(model.clips),
        split=first.tags.get(Tag.SPLIT, ""),
        split_scheme=first.tags.get(Tag.SPLIT_SCHEME, ""),
        systems=systems,
        train_protocol=_tag(runs, Tag.TRAIN_PROTOCOL),
        attack_protocol=_tag(runs, Tag.ATTACK_PROTOCOL),
        reference=params.reference,
        bootstrap_seed=params.bootstrap_seed,
        comparisons=len(report.tables["comparisons"]),
        budget_held=bool(report.tables["attacks"]["violations"].sum(skipna=False) == 0),
        margins=params.margins,
        data=_facts(datasets, ("clips", *DataParams.names("result"))),
        training=_facts(trained, TrainingParams.names("result")),
        attack={} if runs.on_sound else _attack(runs),
        sound=_sound(runs if runs.on_sound else sound),
    )


def _tag(runs: AnalysedRuns, tag: str) -> str:
    return ", ".join(sorted({item.record.tags.get(tag, "") for item in runs.selected}))


def _facts(records: Sequence[RunRecord], names: Sequence[str]) -> dict[str, str]:
    """Return the logged parameters, the values of several kinds of runs separated by slashes."""
    facts = {}
    for name in names:
        every = (record.params.get(f"cfg.{name}") for record in records)
        values = dict.fromkeys(text for text in every if text is not None)
        if values:
            facts[name] = " / ".join(values)
    return facts


def _attack(runs: AnalysedRuns) -> dict[str, str]:
    first = runs.chosen[0].record
    facts = _facts([item.record for item in runs.selected], ("epsilons", "precision", "attack"))
    facts |= {"norms": ",".join(runs.groups), "epsilon": first.tags.get(Tag.EPSILON, "")}
    tier = TIERS.get(first.tags.get(Tag.TIER, "")) if runs.is_suite else None
    if tier is not None:
        facts["tier"] = first.tags[Tag.TIER]
        ascended = [item.record for item in runs.selected if not is_by_predictions(item.record)]
        settings = {name: str(value) for name, value in Suite.implied({"tier": facts["tier"]}).items()}
        if not ascended:
            settings = {}
        elif "cfg.steps" in ascended[0].params:  # so has a tier of fixed starts, whatever it is called now
            fixed = ("steps", "restarts", "joint_restarts")
            settings = {name: ascended[0].params[f"cfg.{name}"] for name in fixed}
        facts |= settings
        if runs.by_predictions:
            facts |= {"by_predictions": and_list(list(runs.by_predictions))}
            facts |= {"queries": and_list(sorted(set(runs.by_predictions.values()), key=int))}
    worst = largest_loss(runs.precision_checks)
    if worst is not None:
        facts |= {"search_clips": str(worst.clips), "search_loss": number(100 * max(worst.value, 0.0))}
        facts["search_runs"] = f"{len(runs.precision_checks)} of {len(runs.selected)}"
    return facts


def _sound(runs: AnalysedRuns | None) -> dict[str, str]:
    if runs is None:
        return {}
    budgets = []
    for norm in runs.groups:
        tried = _facts([item.record for item in runs.selected if item.norm == norm], ("budgets",))
        listed = and_list(tried.get("budgets", "").split(","))
        budgets.append(f"budgets of {listed} {UNITS[norm]}" if listed else norm)
    first = runs.chosen[0].record.tags
    norm = next(iter(runs.groups))
    attack = " ".join(filter(None, [first.get(Tag.ATTACK, ""), first.get(Tag.TIER, "")]))
    asked = and_list(list(runs.by_predictions))
    return {
        "attack": f"{attack}; {asked} by Square, as no gradient passes" if asked else attack,
        "budgets": and_list(budgets),
        "reported": sound_budget_in_words(norm, runs.levels.get(norm)),
    }


def _runs_table(attacked: Sequence[RunRecord], trained: Sequence[RunRecord]) -> pd.DataFrame:
    code = {record.run_id: record.tags for record in trained}
    tags = {
        "system": Tag.SYSTEM, "seed": Tag.SEED, "norm": Tag.NORM, "attack": Tag.ATTACK, "tier": Tag.TIER,
        "origin": Tag.ORIGIN, "study": Tag.STUDY, "dataset": Tag.DATASET, "config": Tag.CONFIG,
        "train_run_id": Tag.TRAIN_RUN_ID, "dataset_run_id": Tag.DATASET_RUN_ID,
        "git_commit": Tag.GIT_COMMIT, "git_dirty": Tag.GIT_DIRTY,
    }  # fmt: skip
    rows = []
    for record in attacked:
        row = {"attack_run_id": record.run_id}
        row |= {name: record.tags.get(tag, "") for name, tag in tags.items()}
        row["train_git_commit"] = code.get(row["train_run_id"], {}).get(Tag.GIT_COMMIT, "")
        rows.append(row | ({"fold": record.tags[Tag.FOLD]} if Tag.FOLD in record.tags else {}))
    return pd.DataFrame(rows)


def _environment(records: Sequence[RunRecord]) -> Mapping[str, Any]:
    changed = {"true": " (changed)", "false": "", "": ""}
    tagged = [record.tags for record in records if Tag.GIT_COMMIT in record.tags]
    code = {tags[Tag.GIT_COMMIT] + changed[tags.get(Tag.GIT_DIRTY, "")] for tags in tagged}
    machine = {"platform": platform.platform(), "architecture": platform.machine(), "cores": os.cpu_count()}
    packages = {found.metadata["Name"]: found.version for found in metadata.distributions()}
    return {
        "rmer": rmer.__version__,
        "python": platform.python_version(),
        "machine": machine,
        "code_of_runs": sorted(code),
        "packages": dict(sorted(packages.items(), key=lambda item: item[0].lower())),
    }
