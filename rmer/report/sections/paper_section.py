"""The displays of the published paper, made of these runs."""

from __future__ import annotations

from rmer.report.contents import Contents
from rmer.report.html import ReportFigure, Section
from rmer.report.paper_figures import label_versus_prediction, performance_difference, performance_table


def paper_section(contents: Contents) -> Section:
    """Return the section of the report."""
    seeds = ", ".join(dict.fromkeys(model.seed for model in contents.scatter.values()))
    figures = {
        "diff_performance": ReportFigure(
            "Loss of performance",
            "Adversarial minus clean MAE. Boxes: quartiles over seeds; dots: seeds.",
            performance_difference(contents.models),
        ),
        "true_vs_pred": ReportFigure(
            "Label versus prediction",
            f"Ratings against predictions for clean and attacked clips of one model each (seed {seeds}). "
            "Insets: clean predictions alone.",
            label_versus_prediction(contents.scatter, contents.emotions),
        ),
        "performance_table": ReportFigure(
            "Performance without attack",
            "Table 1 of the paper: correlation averaged over emotions, and MAE; mean ± standard deviation "
            "over seeds." + (" *: reported in 2019." if contents.reported else ""),
            performance_table(contents.systems, contents.reported),
        ),
    }
    return Section("Figures of the paper", figures=figures)
