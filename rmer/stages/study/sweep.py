"""Stage ``sweep``: the training and attack jobs of a grid, on any engine, and one run that lists theirs."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass

import pandas as pd
import yaml

from rmer.errors import UserError
from rmer.execution.engine_params import EngineParams
from rmer.execution.jobs import Job
from rmer.execution.scheduler import raise_failures, run_jobs
from rmer.stages.attack.attack_params import AttackParams
from rmer.stages.attack.chosen_models import select_runs
from rmer.stages.decided_precision import with_decided_precision
from rmer.stages.descriptions import description
from rmer.stages.study.grid import MODEL, Grid, GridParams
from rmer.stages.study.stage_jobs import attack_job, train_work
from rmer.tracking import Outcome, Run, RunSpec, Stage, Store, config_digest


@dataclass(frozen=True)
class SweepParams(EngineParams, GridParams):
    """Parameters of ``sweep``: those of the grid, then those of the engine."""


def run_sweep(store: Store, grid: Grid, params: SweepParams) -> Outcome:
    """Run the jobs of a grid; what is finished already is not done again.

    Raises JobsFailed naming every job that failed, after all others are done; the same call then goes on.
    """
    jobs = [*_training(store, grid), *_attacks(store, grid)]
    listed = {job.name: {**job.params.as_dict(), "needs": dict(job.needs)} for job in jobs}
    config = {"jobs": config_digest(Stage.SWEEP, listed), "models": len(grid.models)}
    spec = RunSpec(Stage.SWEEP, f"sweep of {len(jobs)} jobs", config, study=params.study or None)

    def body(run: Run) -> None:
        run.text(yaml.safe_dump(listed, sort_keys=False), "jobs.yaml")
        decided = [dataclasses.replace(job, params=with_decided_precision(job.params)) for job in jobs]
        done, failures = run_jobs(store, decided, params, owner=run.run_id, title="sweep")
        run.table(pd.DataFrame(done.items(), columns=["run", "run_id"]), "tables/runs.csv")
        result = f"{len(done)} of {len(jobs)} jobs are done; the table lists their runs."
        run.note(description(spec.name, result, {"runs": run.page("tables/runs.csv")}))
        raise_failures(run, jobs, done, failures)

    return store.perform(spec, body)


def _training(store: Store, grid: Grid) -> Iterator[Job]:
    newest = ""
    for name, params in grid.models.items():
        if not params.dataset_run_id:
            newest = newest or _newest_dataset(store, params.study)
            params = dataclasses.replace(params, dataset_run_id=newest)
        yield Job(name, train_work, params)


def _newest_dataset(store: Store, study: str) -> str:
    """Return one data set for all jobs, even if another is preprocessed meanwhile."""
    found = store.find(Stage.PREPROCESS, study=study or None) or store.find(Stage.PREPROCESS)
    if not found:
        mend = "Run preprocess first, or give dataset_run_id"
        raise UserError("no finished preprocess run", where=store.name, mend=mend)
    return found[0].run_id


def _attacks(store: Store, grid: Grid) -> Iterator[Job]:
    for name, params in grid.attacks.items():
        if grid.models:
            yield from (attack_job(f"{model} | {name}", params, model) for model in grid.models)
        else:
            yield from _attacks_on_chosen(store, name, params)


def _attacks_on_chosen(store: Store, name: str, params: AttackParams) -> Iterator[Job]:
    """Yield one job for every existing model that the parameters of an attack choose."""
    if params.model_uri:
        yield attack_job(name, params)
        return
    for run in select_runs(store, params):
        chosen = {**params.as_dict(), **dict.fromkeys(MODEL, ""), "train_run_id": run.run_id}
        yield attack_job(f"{run.name} ({run.run_id[:8]}) | {name}", AttackParams(**chosen))
