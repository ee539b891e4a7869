"""Makes the tables and the report of an analysis out of what was read from the store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from rmer.data.published_logs import are_published_labels
from rmer.evaluation.attacked import AttackedModel
from rmer.evaluation.comparison import Comparison
from rmer.report.answers import (
    answers,
    budget_in_words,
    comparison_caveats,
    is_conclusive,
    reservations,
    without_answer,
)
from rmer.report.findings import TESTS_CAVEAT, caveats, headline
from rmer.report.html import Report, ReportTable, Section
from rmer.report.readable import REPORTED_2019, readable_table
from rmer.report.robustness import readable_robustness, robustness_table
from rmer.report.sections.checks_section import sanity_section, sanity_sentence, sanity_table
from rmer.report.sections.comparison_section import compare_models, comparisons_table
from rmer.report.sections.concepts_section import concept_section, concept_tables
from rmer.report.sections.curves_section import curves_table
from rmer.report.sections.gradient_precision_section import precision_section, precision_table
from rmer.report.sections.paper_section import (
    OWN_ADVERSARIES,
    REPORTED_CAPTION,
    ROBUSTNESS_CAPTION,
    SYSTEMS_CAPTION,
    attacks_section,
    comparison_section,
    curves_section,
    paper_section,
    tests_section,
)
from rmer.report.sections.protocol_steps_section import Step, ladder_section, ladder_table
from rmer.report.system_tables import attacks_table, in_order, systems_table, tests_table
from rmer.stages.analysis.alike import SUITE
from rmer.stages.analysis.reading import Evidence, used_runs
from rmer.stages.attack.explanation import read_explanations
from rmer.tracking import Store

ONE_ADVERSARY = (
    "One adversary a clip, chosen by raw MAE, is scored by every metric: clipped MAE and correlation were "
    "not attacked for themselves, so that both endpoints may look better than they are. The suite of "
    "attacks (attack=suite) attacks each."
)


@dataclass(frozen=True, eq=False)
class Findings:
    """The report, what it shows in full precision (name -> table), and the corrected comparison."""

    report: Report
    tables: Mapping[str, pd.DataFrame]
    comparisons: Sequence[Comparison]


def assemble(
    store: Store,
    evidence: Evidence,
    *,
    reference: str,
    margins: Mapping[str, float],
    seed: int,
    selection: Mapping[str, str],
    steps: Sequence[Step],
    shown: Mapping[str, AttackedModel],
    emotions: Sequence[str],
) -> Findings:
    """Return tables and report; ``shown`` and ``emotions`` are those of the scatter plot."""
    models, metrics = evidence.models, evidence.metrics
    tables = {
        "systems": systems_table(models),
        "tests": tests_table(models, reference),
        "attacks": attacks_table(models, metrics),
        "sanity": sanity_table(evidence.sanity),
        "precision": precision_table(evidence.searched_twice),
        "ladder": ladder_table(steps),
    }
    robustness = {norm: robustness_table(group, metrics) for norm, group in evidence.groups.items()}
    tables["robustness"] = pd.concat(
        [table.assign(norm=norm) for norm, table in robustness.items()], ignore_index=True
    )
    rows = compare_models(models, reference, margins=margins, seed=seed)
    tables["comparisons"] = comparisons_table(rows)
    reported = REPORTED_2019 if are_published_labels(evidence.first_clips) else {}
    sections = _sections(evidence, tables, robustness, rows, steps, seed)
    explained, without = read_explanations(store, evidence.chosen, list(in_order(models)))
    tables |= concept_tables(explained) if explained else {}
    sections += [
        concept_section(explained, without, emotions),
        ladder_section(steps),
        paper_section(models, tables["systems"], reported, shown, emotions),
        attacks_section(tables["attacks"]),
        *([tests_section(tables["tests"])] if len(tables["tests"]) else []),
    ]
    runs = used_runs(store, evidence)
    tables["runs"] = pd.DataFrame(
        [(used.system, used.seed, used.run_id, used.train_run_id) for used in runs],
        columns=["system", "seed", "run_id", "train_run_id"],
    )
    main = robustness[evidence.norm]
    report = Report(
        title=_title(len(in_order(models)), selection.get("attack", "unnamed")),
        headline=_headline(evidence, tables, main, rows, reference, selection),
        selection=selection,
        systems=readable_robustness(main, reported)
        if evidence.corrected
        else readable_table(tables["systems"], reported),
        systems_caption=(
            ROBUSTNESS_CAPTION + (OWN_ADVERSARIES if evidence.is_suite else "")
            if evidence.corrected
            else SYSTEMS_CAPTION
        )
        + (REPORTED_CAPTION if reported else ""),
        sections=sections,
        caveats=_caveats(evidence, tables, main, rows, reference, selection),
        runs=runs,
    )
    return Findings(report, tables, rows)


def _sections(
    evidence: Evidence,
    tables: dict[str, pd.DataFrame],
    robustness: Mapping[str, pd.DataFrame],
    rows: Sequence[Comparison],
    steps: Sequence[Step],
    seed: int,
) -> list[Section]:
    """Return what comes before the concepts: comparison, curves, checks; enter the curves into the tables."""
    sections = [comparison_section(rows)] if rows else []
    if not evidence.corrected:
        main = readable_robustness(robustness[evidence.norm])
        sections.insert(
            0, Section("Clean, attacked, difference", tables=[ReportTable(ROBUSTNESS_CAPTION, main)])
        )
    if all(model.curve for model in evidence.models):
        tables["curves"] = curves_table(evidence.groups, seed=seed)
        epsilon = {item.record.params.get("cfg.epsilon", "") for item in evidence.selected}
        reported = float(epsilon.pop()) if len(epsilon) == 1 and "" not in epsilon else None
        sections.append(curves_section(tables["curves"], robustness, reported))
    if evidence.sanity:
        sections.append(sanity_section(tables["sanity"]))
        reduced = sum(item.reduced for item in evidence.selected)
        sections.append(precision_section(evidence.searched_twice, tables["precision"], reduced=reduced))
    return sections


def _headline(
    evidence: Evidence,
    tables: Mapping[str, pd.DataFrame],
    robustness: pd.DataFrame,
    rows: Sequence[Comparison],
    reference: str,
    selection: Mapping[str, str],
) -> list[str]:
    systems = tables["systems"]
    if not evidence.corrected:
        return headline(systems, tables["tests"])
    budget = budget_in_words(evidence.norm, selection.get("epsilon", ""))
    seeds, conclusive = int(systems["seeds"].min()), is_conclusive(robustness, rows)
    sentences = answers(rows, reference, budget, seeds, conclusive=conclusive)
    if sentences:
        sentences[1:1] = reservations(robustness, rows, reference)
    if not sentences:
        sentences = headline(systems, tables["tests"])
        sentences[:0] = without_answer(rows, systems["system"].tolist(), reference)
    failed = sanity_sentence(tables["sanity"])
    return [*sentences, failed] if failed else sentences


def _caveats(
    evidence: Evidence,
    tables: Mapping[str, pd.DataFrame],
    robustness: pd.DataFrame,
    rows: Sequence[Comparison],
    reference: str,
    selection: Mapping[str, str],
) -> list[str]:
    systems = tables["systems"]["system"].tolist()
    notes = caveats(tables["systems"], tables["attacks"], selection)
    if evidence.corrected:
        notes = comparison_caveats(robustness, rows, reference, systems) + notes
        if not evidence.is_suite:
            notes.append(ONE_ADVERSARY)
    return [*notes, TESTS_CAVEAT] if len(tables["tests"]) and not evidence.corrected else notes


def _title(systems: int, attack: str) -> str:
    attack = "suite of attacks" if attack == SUITE else f"{attack} attack"
    return f"{systems} system{'s' if systems > 1 else ''} under the {attack}"
