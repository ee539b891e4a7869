"""``mlflow run . -e import_published``: the logs of the published study as runs."""

from __future__ import annotations

import click

from entrypoints.options import command, exit_code, logged
from rmer.stages.import_published import ImportParams, import_published
from rmer.tracking import connect


@command("import-published", ImportParams, help="Import the logs of the published study as runs.")
def cli(params: ImportParams) -> int:
    store = connect()
    outcome = import_published(store, params)
    runs = logged(outcome, "import/runs")
    done = "were imported before" if outcome.skipped else "imported"
    click.echo(f"{runs:.0f} runs {done} (study {params.study}): run {outcome.run_id}")
    return exit_code(store)
