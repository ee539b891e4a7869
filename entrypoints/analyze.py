"""``mlflow run . -e analyze``: compare attacked systems."""

from __future__ import annotations

import click

from entrypoints.options import command, end
from rmer.stages.analysis.analyze import analyze
from rmer.stages.analysis.analyze_params import AnalyzeParams
from rmer.stages.endings import analysis_ending
from rmer.tracking import connect


@command("analyze", AnalyzeParams, help="Compare attacked systems: tables, tests, figures, report.")
def cli(params: AnalyzeParams) -> int:
    store = connect()
    analysis = analyze(store, params)
    done = "was done before" if analysis.outcome.skipped else "done"
    click.echo(f"{done}: run {analysis.outcome.run_id} (report.html, tables, figures)")
    return end(store, lambda: analysis_ending(store, analysis.report, analysis.outcome))
