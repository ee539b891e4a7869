"""``mlflow run . -e analyze``: compare attacked systems."""

from __future__ import annotations

import click

from entrypoints.options import command, exit_code
from rmer.stages.analysis.analyze import analyze
from rmer.stages.analysis.analyze_params import AnalyzeParams
from rmer.tracking import connect


@command("analyze", AnalyzeParams, help="Compare attacked systems: tables, tests, figures, report.")
def cli(params: AnalyzeParams) -> int:
    store = connect()
    analysis = analyze(store, params)
    done = "was done before" if analysis.outcome.skipped else "done"
    click.echo(f"{analysis.text}\n\n{done}: run {analysis.outcome.run_id} (report.html, tables, figures)")
    return exit_code(store)


if __name__ == "__main__":
    cli()
