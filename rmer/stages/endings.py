"""What a command says when it is done: the result in a few lines, and where to look next."""

from __future__ import annotations

import shlex
import textwrap
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pandas as pd

from rmer.report.html import Report
from rmer.report.readable import budget_in_words, number
from rmer.stages.descriptions import answer_of, attacked_result, beside_constant, trained_result
from rmer.stages.prepared_views import attacks_view, comparison, models_view
from rmer.tracking import Artifact, Outcome, RunRecord, Stage, Store, Tag

WIDTH = 100
MOST_TOLD, MOST_READ = 6, 60  # runs


def train_ending(store: Store, outcome: Outcome) -> str:
    """Return what stands below the line of a training."""
    record = store.get(outcome.run_id)
    lines = [
        f"{outcome.name}. {trained_result(outcome.metrics)}",
        f"Next: rmer attack --attack suite --tier quick --train_run_id {outcome.run_id}",
    ]
    return "\n".join(lines + _in_ui(store, _views(store, record, models=True) | _page(store, record)))


def attack_ending(store: Store, outcomes: Sequence[Outcome]) -> str:
    """Return what stands below the lines of attacks: what they did in words, and what there is to hear."""
    told = outcomes if len(outcomes) <= MOST_TOLD else ()
    lines = [f"{outcome.name}: {attacked_result(outcome.metrics)}" for outcome in told]
    records = [store.get(outcome.run_id) for outcome in outcomes]
    last = records[-1]
    if Tag.DOMAIN in last.tags and last.params.get("cfg.listen", "0") != "0":
        lines.append(f"Listen: {store.download(last.run_id, Artifact.LISTEN)}")
    lines.append("Next: rmer analyze" + _option("study", last) + _option("attack", last))
    return "\n".join(lines + _in_ui(store, _views(store, last, attacks=records) | _page(store, last)))


def analysis_ending(store: Store, report: Report, outcome: Outcome) -> str:
    """Return the answer of an analysis, and where its report is."""
    record = store.get(outcome.run_id)
    # Those of one system stand together, so that a few of each are enough to compare.
    attacks = [store.get(used.run_id) for used in report.runs[:MOST_READ]]
    places = _views(store, record, attacks=attacks) | _page(store, record, Artifact.REPORT, "report")
    file = f"Report: {_report_file(store, record)}"
    return "\n".join([*answer_lines(report), file, *_in_ui(store, places)])


def study_ending(store: Store, study: str, attack: str, answer: str) -> str:
    """Return the answer of a study, which its analysis of an attack gives, and where to look at it."""
    analyses = store.find(Stage.ANALYZE, {Tag.ATTACK: attack}, study)
    if not analyses:  # somebody deleted it
        return answer
    analysis = analyses[0]
    attacks = store.find(Stage.ATTACK, {Tag.ATTACK: attack}, study)
    on_spectrograms = [run for run in attacks if Tag.DOMAIN not in run.tags]
    views = _views(store, analysis, models=True, attacks=on_spectrograms or attacks)
    views |= _page(store, analysis, Artifact.REPORT, "report")
    file = f"Report: {_report_file(store, analysis)}"
    return "\n".join([*filter(None, [answer]), file, *_in_ui(store, views)])


def answer_lines(report: Report) -> list[str]:
    """Return the numbers that matter of every system, and the answer, in lines of at most 100 signs."""
    robustness = report.tables["robustness"]
    norm = robustness["norm"].iloc[0]
    seen = robustness[robustness["norm"] == norm]
    budget = budget_in_words(str(norm), report.selection.get("epsilon", "").partition(",")[0])
    under = {f"at {budget}": seen}
    if report.sound is not None:
        heard = report.tables["sound_robustness"]
        heard = heard[heard["norm"] == heard["norm"].iloc[0]]
        under = {f"on the sound, {report.sound.budget}": heard, **under}
    elif report.selection.get("domain") == "waveform":
        under = {"on the sound": seen}
    clean = _each(seen, "corr", lambda row: number(row["clean"]))
    paragraphs = [f"Correlation before the attack: {clean}."]
    paragraphs += [
        f"Clipped MAE before → after, {where}: "
        + _each(table, "mae_clipped", lambda row: f"{number(row['clean'], 3)} → {number(row['adv'], 3)}")
        + beside_constant(table["constant"].iloc[0])
        + "."
        for where, table in under.items()
    ]
    paragraphs.append(f"Answer: {answer_of(report)}")
    paragraphs += report.answer[2:]  # what it rests on, and what speaks against it
    return [line for text in paragraphs for line in textwrap.wrap(text, WIDTH, subsequent_indent="  ")]


def _each(robustness: pd.DataFrame, metric: str, told: Callable[[Mapping[Any, Any]], str]) -> str:
    rows = robustness[robustness["metric"] == metric].to_dict("records")
    return ", ".join(f"{row['system']} {told(row)}" for row in rows)


def _views(
    store: Store, record: RunRecord, *, models: bool = False, attacks: Sequence[RunRecord] = ()
) -> dict[str, str]:
    """Return the prepared lists, those of the study that a run belongs to: name -> address."""
    study = record.tags.get(Tag.STUDY, "")
    found = {"models": store.prepare(models_view(study), record.experiment_id)} if models else {}
    if attacks:
        found["attacks"] = store.prepare(attacks_view(study), attacks[0].experiment_id)
        found["compared"] = comparison(store, attacks)
    return {name: address for name, address in found.items() if address}


def _page(store: Store, record: RunRecord, artifact: str = "", name: str = "run") -> dict[str, str]:
    return {name: store.page_of(record, artifact)}


def _in_ui(store: Store, addresses: Mapping[str, str]) -> list[str]:
    start = "" if store.web else f" (start it with: mlflow ui --backend-store-uri {shlex.quote(store.name)})"
    width = max(map(len, addresses))
    return [f"In MLflow's UI{start}:", *(f"  {name:{width}}  {where}" for name, where in addresses.items())]


def _report_file(store: Store, record: RunRecord) -> str:
    return str(store.download(record.run_id, Artifact.REPORT))


def _option(name: str, record: RunRecord) -> str:
    value = record.tags.get(f"rmer.{name}", "")
    return f" --{name} {shlex.quote(value)}" if value else ""
