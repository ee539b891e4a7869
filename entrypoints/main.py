"""``mlflow run .``: the whole study."""

from __future__ import annotations

import click

from entrypoints.options import command, exit_code
from rmer.execution.scheduler import check_engine
from rmer.stages.study.cost import describe
from rmer.stages.study.plan import StudyParams, make_plan
from rmer.stages.study.study import data_folder, run_study
from rmer.tracking import Store, connect


@command("main", StudyParams, help="Run the whole study: data, training, attacks, analysis.")
def cli(params: StudyParams) -> int:
    plan = make_plan(params)
    check_engine(plan.params, {plan.params.device})
    if plan.params.dry_run:
        click.echo(describe(plan))
        return 0
    store = connect()
    folder = data_folder(plan)
    result = run_study(store, plan, folder)
    click.echo(f"\n{result.summary}\n")
    if plan.params.size == "small":
        click.echo("A small study shows how everything works; its numbers say little about the systems.")
    click.echo(f"Runs, figures and reports (rmer.study = {result.study!r}): {how_to_look(store)}")
    return exit_code(store)


def how_to_look(store: Store) -> str:
    """Return what opens the UI of a store."""
    if store.web:
        return f"open {store.web}"
    return f"mlflow ui --backend-store-uri {store.name}"


if __name__ == "__main__":
    cli()
