"""The parts of a report, each a function of what it shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from rmer.evaluation.attacked import AttackedModel
from rmer.evaluation.comparison import Comparison
from rmer.report.html import ReportFigure, ReportTable, Section
from rmer.report.paper_figures import label_versus_prediction, performance_difference, performance_table
from rmer.report.readable import readable_attacks, readable_tests
from rmer.report.robustness import readable_areas, readable_robustness
from rmer.report.sections.comparison_section import differences_figure, readable_comparisons
from rmer.report.sections.curves_section import DRAWS, NORM_NAMES, curves_figure

ROBUSTNESS_CAPTION = (
    "Mean ± population standard deviation over seeds. MAE: over clips and emotions; clipped: predictions "
    "limited to the rating scale, 0-1. Correlation: Pearson over clips, averaged over emotions. Δ: attacked "
    "minus clean."
)
OWN_ADVERSARIES = " Each metric is attacked for itself."
SYSTEMS_CAPTION = (
    "Mean ± population standard deviation over seeds. Correlation: Pearson over clips, averaged over "
    "emotions. MAE: over clips and emotions; clipped: predictions limited to the rating scale, 0-1. ΔMAE: "
    "adversarial minus clean."
)
REPORTED_CAPTION = " Values of 2019 are those that Chowdhury et al. report for Soundtracks."
COMPARISON_PAGE = "docs/statistics.md"


def comparison_section(rows: Sequence[Comparison]) -> Section:
    """Return the corrected comparison: what is tested, the table, and the intervals as a figure."""
    caption = (
        "Difference, a less b, of what the attack adds to clipped MAE, or takes from correlation (attacked "
        "minus clean; where positive for MAE, or negative for correlation, b is the more robust). Interval "
        "and p: t test over seeds and albums; bootstrap: percentile interval, too narrow with few seeds or "
        f"albums. Holm: corrected for the {len(rows)} rows. TOST: test for equivalence within the margin."
    )
    albums = f"{rows[0].albums} albums with {rows[0].clips} clips"
    if rows[0].albums == rows[0].clips:
        albums = f"{rows[0].clips} clips, each an album of its own, or of one that is not known"
    paragraphs = [
        "A claim about systems is about training them again and about other music of the kind: seeds and "
        f"albums are the units ({albums}). All rows are one family. A large p does not show that systems are "
        f"alike; equivalence is tested for itself. See {COMPARISON_PAGE}."
    ]
    figure = ReportFigure(
        "Differences between systems",
        "Difference with 95 % interval over seeds and albums. Shaded: margin of equivalence. Blue: clear "
        "after correction for the number of tests.",
        differences_figure(rows),
    )
    return Section(
        "Corrected comparison",
        paragraphs,
        [ReportTable(caption, readable_comparisons(rows))],
        {"differences": figure},
    )


def curves_section(
    table: pd.DataFrame, robustness: Mapping[str, pd.DataFrame], reported: float | None
) -> Section:
    """Return curves over epsilon, area and break-even of each norm; ``robustness`` holds norm -> table."""
    constant = next(iter(robustness.values()))["constant"].mean()
    largest = float(table["epsilon"].max())
    tables = [
        ReportTable(
            f"{NORM_NAMES.get(norm, norm)}: mean of the curve over log ε (0 left out), mean ± population "
            "standard deviation over seeds; break-even: the ε at which attacked clipped MAE passes the "
            "constant predictor's, median over seeds (smallest to largest).",
            readable_areas(of_norm, largest),
        )
        for norm, of_norm in robustness.items()
    ]
    others = list(robustness)[1:]
    tables += [
        ReportTable(
            f"Scores under {NORM_NAMES.get(norm, norm)} at the reported ε a cell. " + ROBUSTNESS_CAPTION,
            readable_robustness(robustness[norm]),
        )
        for norm in others
    ]
    radius = "The L2 ball of a budget has radius ε x root of the number of cells and contains the L∞ ball."
    figure = ReportFigure(
        "Scores over the budget",
        "Mean over seeds and clips, each metric attacked for itself; 0: clean. Bars: 95 % percentile "
        f"interval of the bootstrap over seeds and albums ({DRAWS} draws), too narrow with few seeds. "
        "Dotted: the constant predictor. Grey: the budget of the endpoints.",
        curves_figure(table, constant, reported),
    )
    return Section("Over the budget", [radius] if others else [], tables, {"curves": figure})


def paper_section(
    models: Sequence[AttackedModel],
    systems: pd.DataFrame,
    reported: Mapping[str, float],
    shown: Mapping[str, AttackedModel],
    emotions: Sequence[str],
) -> Section:
    """Return the displays of the published paper, made of these runs."""
    seeds = ", ".join(dict.fromkeys(model.seed for model in shown.values()))
    figures = {
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
    return Section("Figures of the paper", figures=figures)


def attacks_section(attacks: pd.DataFrame) -> Section:
    """Return what the perturbations were."""
    caption = (
        "Norms of the perturbations in standardised-spectrogram units. Off scale: outside 0-1. A dash: not "
        "known, or, for the saved adversaries, the same as adversarial MAE."
    )
    return Section("Perturbations", tables=[ReportTable(caption, readable_attacks(attacks))])


def tests_section(tests: pd.DataFrame) -> Section:
    """Return the published test and its variants over seeds."""
    caption = (
        "Two-sided, not corrected for their number; a positive statistic says that a has the larger mean. n: "
        "pairs, or values of both systems together (welch_seeds)."
    )
    paragraphs = [
        "paired_t_pooled is the published test, shown to reproduce it and for nothing else: it takes the "
        "same clips under several seeds for independent."
    ]
    return Section(
        "Published test, and tests over seeds", paragraphs, [ReportTable(caption, readable_tests(tests))]
    )
