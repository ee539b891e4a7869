"""The whole report of an analysis: its head, its sections in their order, and what limits it."""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd

from rmer.registry import Registry
from rmer.report.answers import (
    answers,
    comparison_caveats,
    is_conclusive,
    reservations,
    without_answer,
)
from rmer.report.class_tables import with_classification
from rmer.report.contents import Contents
from rmer.report.expectations import expectations
from rmer.report.findings import TESTS_CAVEAT, caveats, headline, lower_bounds
from rmer.report.html import Report, ReportFigure, Section, SoundScores
from rmer.report.legend import legend
from rmer.report.plain_answer import plain_answer
from rmer.report.readable import and_list, readable_table
from rmer.report.robustness import FIRST, ROBUSTNESS_CAPTION, readable_robustness
from rmer.report.sections.checks_section import checks_section, sanity_sentence, sanity_table
from rmer.report.sections.classes_section import classes_section
from rmer.report.sections.clips_section import clips_section
from rmer.report.sections.comparison_section import comparison_section
from rmer.report.sections.concepts_section import concepts_section
from rmer.report.sections.curves_section import curves_section
from rmer.report.sections.gradient_precision_section import gradient_precision_section
from rmer.report.sections.paper_section import paper_section
from rmer.report.sections.perturbations_section import perturbations_section
from rmer.report.sections.protocol_steps_section import protocol_steps_section
from rmer.report.sections.scores_section import scores_section
from rmer.report.sections.sound_section import sound_section
from rmer.report.sections.tests_section import tests_section
from rmer.report.summary_figure import summary_figure

OWN: dict[str, Callable[[Contents], Section | None]] = {
    "clips": clips_section,
    "sound": sound_section,
    "scores": scores_section,
    "comparison": comparison_section,
    "classes": classes_section,
    "curves": curves_section,
    "checks": checks_section,
    "gradient_precision": gradient_precision_section,
    "concepts": concepts_section,
    "protocol_steps": protocol_steps_section,
    "paper": paper_section,
    "perturbations": perturbations_section,
    "tests": tests_section,
}
# In the order of the report; those of other packages are the last.
SECTIONS = Registry("section of the report", "rmer.sections", OWN)

OTHER_DATA = (
    "what they lose there before any attack is the price of other music and other raters. The constant "
    "predictor is the mean of the ratings that they were trained on."
)
OWN_ADVERSARIES = " Each metric is attacked for itself."
OF_PREDICTIONS = (
    " Raw and clipped MAE are attacked each for itself; where predictions alone were asked for ({}), "
    "correlation is that of the adversaries for raw MAE."
)
SYSTEMS_CAPTION = (
    "Mean ± population standard deviation over seeds. Correlation: Pearson over clips, averaged over "
    "emotions. MAE: over clips and emotions; clipped: predictions limited to the rating scale, 0-1. ΔMAE: "
    "adversarial minus clean."
)
FOLDS_CAPTION = " Each seed's score is the mean over {} folds, each tested by models trained without it."
REPORTED_CAPTION = " Values of 2019 are those that Chowdhury et al. report for Soundtracks."
ONE_ADVERSARY = (
    "One adversary a clip, chosen by raw MAE, is scored by every metric: clipped MAE and correlation were "
    "not attacked for themselves, so that both endpoints may look better than they are. The suite of "
    "attacks (attack=suite) attacks each."
)


def report_of(contents: Contents) -> Report:
    """Return the report with all sections that have something to say, and the tables behind it."""
    sections = [section for make in SECTIONS.values() if (section := make(contents)) is not None]
    robustness = [table.assign(norm=norm) for norm, table in contents.robustness.items()]
    runs = pd.DataFrame(
        [(used.system, used.seed, used.run_id, used.train_run_id) for used in contents.runs],
        columns=["system", "seed", "run_id", "train_run_id"],
    )
    if contents.folds:
        runs.insert(2, "fold", [used.fold for used in contents.runs])
    tables = {
        "systems": contents.systems,
        "robustness": pd.concat(robustness, ignore_index=True),
        "runs": runs,
    }
    systems, caption = _systems(contents)
    return Report(
        title=_title(contents),
        headline=_headline(contents),
        selection=contents.selection,
        systems=systems,
        systems_caption=caption,
        sections=[part for part in sections if part.paragraphs or part.tables or part.figures],
        caveats=_caveats(contents),
        runs=[*contents.runs, *(contents.sound.runs if contents.sound else ())],
        sound=_sound_scores(contents.sound) if contents.sound else None,
        tables=tables | {name: table for section in sections for name, table in section.data.items()},
        answer=plain_answer(contents),
        summary=_summary(contents),
        legend=legend(contents.systems["system"].tolist()),
        expectations=expectations(contents.sound or contents),
        about=contents.about,
    )


def _summary(contents: Contents) -> ReportFigure:
    parts = [part for part in (contents.sound, contents) if part is not None]
    panels = {_panel(part): part.models for part in parts}
    constant = float(contents.robustness[contents.norm]["constant"].mean())
    return ReportFigure(
        "Error of every system, clean and attacked",
        "Mean absolute error over clips and emotions, predictions limited to the rating scale (0-1), mean "
        "over training seeds.",
        summary_figure(panels, FIRST, constant),
    )


def _panel(contents: Contents) -> str:
    what = "sound" if contents.on_sound else "spectrogram"
    return f"{what}: {contents.budget_of(contents.norm)}"


def _sound_scores(sound: Contents) -> SoundScores:
    return SoundScores(sound.budget_of(sound.norm), readable_robustness(sound.robustness[sound.norm]))


def _title(contents: Contents) -> str:
    count, attack = len(contents.systems), contents.selection.get("attack", "unnamed")
    attack = "suite of attacks" if contents.is_suite else f"{attack} attack"
    where = " on sound" if contents.on_sound else " on sound and spectrograms" if contents.sound else ""
    where += f", {contents.across}" if contents.across else ""
    where += f", {contents.folds}-fold cross-validation" if contents.folds else ""
    return f"{count} system{'s' if count > 1 else ''} under the {attack}{where}"


def _systems(contents: Contents) -> tuple[pd.DataFrame, str]:
    more = FOLDS_CAPTION.format(contents.folds) if contents.folds else ""
    more += REPORTED_CAPTION if contents.reported else ""
    if not contents.corrected:
        table = readable_table(contents.systems, contents.reported)
        return with_classification(table, contents.classification), SYSTEMS_CAPTION + more
    table = readable_robustness(contents.robustness[contents.norm], contents.reported)
    table = with_classification(table, contents.classification)
    if contents.is_suite:
        names = and_list(list(contents.by_predictions))
        more = (OF_PREDICTIONS.format(names) if names else OWN_ADVERSARIES) + more
    return table, ROBUSTNESS_CAPTION + more


def _headline(contents: Contents) -> list[str]:
    """Return the answer: that of attacks on the sound, where there are any, before that of spectrograms."""
    if contents.sound is None:
        return _answer(contents)
    first, *heard = _answer(contents.sound)
    second, *seen = _answer(contents)
    return [f"On the sound, the primary evaluation: {first}", *heard, f"On spectrograms: {second}", *seen]


def _answer(contents: Contents) -> list[str]:
    systems, rows, reference = contents.systems, contents.comparisons, contents.reference
    if not contents.corrected:
        return headline(systems, contents.tests)
    robustness = contents.robustness[contents.norm]
    budget = contents.budget_of(contents.norm)
    seeds, conclusive = int(systems["seeds"].min()), is_conclusive(robustness, rows)
    sentences = answers(rows, reference, budget, seeds, conclusive=conclusive)
    if sentences:
        sentences[1:1] = reservations(robustness, rows, reference)
    else:
        sentences = without_answer(rows, systems["system"].tolist(), reference)
        sentences += headline(systems, contents.tests)
    sentences[1:1] = filter(None, [lower_bounds(contents.by_predictions, contents.through_gradients)])
    failed = sanity_sentence(sanity_table(contents.checks))
    return [*sentences, failed] if failed else sentences


def _caveats(contents: Contents) -> list[str]:
    other = f"All models were {contents.across}, standardised as their own data: {OTHER_DATA}"
    notes = [other] if contents.across else []
    notes += caveats(contents.systems, contents.attacks, contents.selection, contents.folds)
    if not contents.corrected:
        return [*notes, TESTS_CAVEAT] if len(contents.tests) else notes
    robustness, systems = contents.robustness[contents.norm], contents.systems["system"].tolist()
    notes = comparison_caveats(robustness, contents.comparisons, contents.reference, systems) + notes
    notes = notes if contents.is_suite else [*notes, ONE_ADVERSARY]
    return [*notes, contents.note] if contents.note else notes
