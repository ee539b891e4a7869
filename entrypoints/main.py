"""``mlflow run .``: the whole study."""

from __future__ import annotations

import click

from entrypoints.options import command, end
from rmer.execution.local import prepare_workers
from rmer.execution.scheduler import check_engine
from rmer.stages.endings import study_ending
from rmer.stages.study.best_model import register_best
from rmer.stages.study.cost import describe
from rmer.stages.study.plan import StudyParams, make_plan
from rmer.stages.study.study import data_folder, run_study
from rmer.tracking import connect


@command("main", StudyParams, help="Run the whole study: data, training, attacks, analysis.")
def cli(params: StudyParams) -> int:
    plan = make_plan(params)
    check_engine(plan.params, {plan.params.device})
    if plan.params.dry_run:
        click.echo(describe(plan))
        return 0
    if plan.params.engine == "local":
        prepare_workers()
    store = connect()
    folder = data_folder(plan)
    result = run_study(store, plan, folder)
    click.echo(f"\nStudy {result.study} is done.")
    if plan.params.size == "small":
        subject = "the systems" if plan.params.soundtracks_dir else "real music"
        click.echo(f"A small study shows how everything works; its numbers say little about {subject}.")
    if plan.params.register:
        click.echo(register_best(store, result.study, plan.params.register, plan.params.register_fold))
    return end(store, lambda: study_ending(store, result.study, plan.attacks[-1], result.answer))
