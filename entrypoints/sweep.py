"""``mlflow run . -e sweep``: a grid of training and attack jobs."""

from __future__ import annotations

import click

from entrypoints.options import command, exit_code
from rmer.execution.scheduler import check_engine
from rmer.stages.study.grid import read_grid
from rmer.stages.study.sweep import SweepParams, run_sweep
from rmer.tracking import connect


@command("sweep", SweepParams, help="Run a grid of training and attack jobs, several at once.")
def cli(params: SweepParams) -> int:
    grid = read_grid(params)
    check_engine(params, grid.devices)
    if params.dry_run:
        click.echo(f"{grid}\nNothing was run. Leave out dry_run to do it.")
        return 0
    store = connect()
    outcome = run_sweep(store, grid, params)
    done = "was done before" if outcome.skipped else "done"
    click.echo(f"{done}: run {outcome.run_id}; its tables/runs.csv lists every run")
    return exit_code(store)
