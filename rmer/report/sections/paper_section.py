"""The displays of the published paper, made of these runs."""

from __future__ import annotations

from rmer.report.contents import Contents
from rmer.report.html import ReportFigure, Section
from rmer.report.paper_figures import label_versus_prediction, performance_difference


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
            "The axis of predictions is logarithmic beyond -1 and 1 where some lie far off the scale.",
            label_versus_prediction(contents.scatter, contents.emotions),
        ),
    }
    return Section("Figures of the paper", figures=figures)
