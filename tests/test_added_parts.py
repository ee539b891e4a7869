"""What a package beside rmer adds to an analysis by one entry each: a metric, a section of the report."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from attack_runs import suite_run
from plugins import install

from rmer.evaluation.metrics import METRICS
from rmer.report.html import render
from rmer.report.whole_report import SECTIONS
from rmer.stages.analysis.analyze import Analysis, analyze
from rmer.stages.analysis.analyze_params import AnalyzeParams
from rmer.tracking import Store

CODE = """
import numpy as np
import pandas as pd

from rmer.evaluation.metrics import error_metric
from rmer.report.html import ReportTable, Section

ROOT = error_metric(
    "root_error", "Root error", "root error", np.square, np.sqrt, clipped=True,
    adversaries="mae_clipped", margin=0.02,
)


def seeds(contents):
    if not contents.models:
        return None
    table = pd.DataFrame({"seed": sorted({model.seed for model in contents.models})})
    return Section("Seeds", ["Trained anew."], [ReportTable("Every seed.", table)], data={"seeds": table})
"""
POINTS = {"rmer.metrics": {"root_error": "ROOT"}, "rmer.sections": {"seeds": "seeds"}}


@pytest.fixture(scope="module")
def analysis(tmp_path_factory: pytest.TempPathFactory, lasting_store: Store) -> Iterator[Analysis]:
    """An analysis of attacks that were logged before the package came."""
    folder = tmp_path_factory.mktemp("added")
    install(folder, CODE, POINTS)
    for system, damage in {"A2E": 0.2, "A2M2E": 0.05}.items():
        for seed in (1, 2):
            suite_run(lasting_store, "main", system, seed, damage=damage)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        for registry in (METRICS, SECTIONS):
            patch.setattr(registry, "_loaded", dict(registry._loaded))
            vars(registry).pop("_others", None)
        yield analyze(lasting_store, AnalyzeParams(study="main"))
    for registry in (METRICS, SECTIONS):
        vars(registry).pop("_others", None)


def test_a_metric_is_in_tables_curves_comparison_and_figures(analysis: Analysis) -> None:
    tables, report = analysis.tables, analysis.report
    for name in ("robustness", "curves", "protocol_steps"):
        assert "root_error" in set(tables[name]["metric"]), name
    scores = tables["robustness"].set_index(["system", "metric"])["adv"]
    assert scores["A2E", "root_error"] >= scores["A2E", "mae_clipped"] > 0.1
    curve = tables["curves"].set_index(["system", "metric", "epsilon"])["mean"]
    assert curve["A2E", "root_error", 0.01] == pytest.approx(scores["A2E", "root_error"], abs=1e-9)
    rows = tables["comparisons"].set_index("endpoint")
    assert list(rows.index) == ["delta/mae_clipped", "delta/corr", "delta/root_error"]
    assert rows.loc["delta/root_error", "margin"] == 0.02
    assert rows.loc["delta/root_error", "difference"] > 0.1
    assert set(tables["tests"]["metric"]) >= {"adv/root_error", "delta/root_error"}
    assert "Root error: attacked" in report.systems.columns
    assert [axes.get_title() for axes in report.figures["curves"].figure.axes][-1] == "Root error"
    assert len(report.figures["differences"].figure.axes) == 3
    assert "by both endpoints, more robust than A2E" in report.headline[0]


def test_a_section_is_the_last_of_the_report_and_its_table_an_artifact(analysis: Analysis) -> None:
    assert analysis.report.sections[-1].title == "Seeds"
    assert analysis.tables["seeds"]["seed"].tolist() == ["1", "2"]
    assert "<p>Trained anew.</p>" in render(analysis.report)
