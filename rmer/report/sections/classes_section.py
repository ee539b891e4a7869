"""Scores of classes and tags, and systems compared by accuracy."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from rmer.evaluation.bootstrap import estimate
from rmer.evaluation.classification import accuracy_metric
from rmer.evaluation.statistics import comparisons, holm
from rmer.report.class_tables import readable_classification
from rmer.report.comparing import system_samples
from rmer.report.contents import Contents
from rmer.report.html import ReportTable, Section
from rmer.report.readable import interval, number, p_value

TITLE = "Classes and tags"
CAPTION = (
    "Mean ± population standard deviation over seeds. Under attack: of the adversaries that are worst by raw "
    "MAE; accuracy was not attacked for itself, so that more may be lost. See docs/datasets.md."
)
COMPARED = (
    "Difference of Δ accuracy (attacked minus clean), a less b; where negative, b is the more robust. "
    "Interval and p as in the corrected comparison, Holm's correction over the {} rows of this table. It is "
    "beside the endpoints, which are attacked for themselves."
)
COLUMNS = ("a", "b", "difference", "low", "high", "p", "p_holm")


def classes_section(contents: Contents) -> Section | None:
    """Return the section, with ``tables/classification.csv``; None where targets are ratings."""
    table = contents.classification
    if table.empty:
        return None
    compared = compared_by_accuracy(contents)
    tables = [ReportTable(CAPTION, readable_classification(table))]
    if len(compared):
        tables.append(ReportTable(COMPARED.format(len(compared)), _readable(compared)))
    return Section(TITLE, tables=tables, data={"classification": table, "accuracy_comparisons": compared})


def compared_by_accuracy(contents: Contents) -> pd.DataFrame:
    """Return every other system compared with the reference by what the attack takes from accuracy.

    Empty where there is one system, or runs do not say whether targets are classes or tags.
    """
    samples = system_samples(contents.models)
    if contents.labels == "ratings" or len(samples) < 2:
        return pd.DataFrame(columns=list(COLUMNS))
    metric, rows = accuracy_metric(contents.labels), []
    scores = {}
    for sample in samples:
        units = sample.albums, sample.folds
        attacked = metric.endpoint(sample.labels, sample.adversarial["mae"], *units)
        scores[sample.name] = attacked - metric.endpoint(sample.labels, sample.clean, *units)
    for a, b in comparisons(list(scores), contents.reference):
        found = estimate(scores[a], scores[b], draws=0)
        rows.append((a, b, found.value, *found.interval(), found.p))
    adjusted: Sequence[float] = holm([row[-1] for row in rows]).tolist()
    return pd.DataFrame([(*row, p) for row, p in zip(rows, adjusted, strict=True)], columns=list(COLUMNS))


def _readable(table: pd.DataFrame) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "a - b": [f"{row['a']} - {row['b']}" for row in table.to_dict("records")],
            "Difference": [number(value, 3) for value in table["difference"]],
            "95 % interval": [interval(*ends) for ends in zip(table["low"], table["high"], strict=True)],
            "p": [p_value(value) for value in table["p"]],
            "Holm p": [p_value(value) for value in table["p_holm"]],
        }
    )
