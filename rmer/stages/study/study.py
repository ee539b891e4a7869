"""Stage ``study``: the whole study as flat runs tied by ``rmer.study``, and one run that sums them up."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from rmer.errors import UserError
from rmer.execution.engine_params import EngineParams
from rmer.execution.jobs import Job
from rmer.execution.scheduler import raise_failures, run_jobs
from rmer.report.readable import markdown
from rmer.stages.analysis.analyze import Analysis, analyze
from rmer.stages.analysis.analyze_params import AnalyzeParams
from rmer.stages.attack.attack_params import SETTINGS
from rmer.stages.data.demo_data import make_demo_data
from rmer.stages.data.preprocess import log_data_set, preprocess_spec, survey_of
from rmer.stages.study.plan import Plan, check_concepts
from rmer.stages.study.stage_jobs import attack_job, train_job
from rmer.stages.train import KEPT_FROM, kept_from
from rmer.systems.catalogue import System
from rmer.tracking import Outcome, Run, RunSpec, Stage, Store, Tag, config_digest
from rmer.tracking.locations import home
from rmer.tracking.values import as_params

SUMMARY = "study.md"
# Parameters that change nothing of what a study finds: names, machines, and the data (their digest counts).
NOT_SETTINGS = frozenset(
    ("size", "study", "soundtracks_dir", "ratings", "midlevel_dir", "tracklist", "targets", "scale_max",
     "min_seconds", "clips", "frames", "compile", "workers", "device", "engine", "jobs_at_once", "job_cpus",
     "job_gpus", "ray_address", "retries", "dry_run")
)  # fmt: skip
# Settings that may change under one name, as more systems, seeds and attacks join a study.
GROWING = ("systems", "seeds", "attacks", KEPT_FROM)


@dataclass(frozen=True)
class StudyResult:
    """The run of stage ``study``, the name that ties all runs, and the summary as Markdown."""

    outcome: Outcome
    study: str
    summary: str


def data_folder(plan: Plan) -> Path:
    """Return the folder of the data: the one given, else that of the demo data, which is made if needed."""
    if plan.params.soundtracks_dir:
        return Path(plan.params.soundtracks_dir)
    return make_demo_data(plan.demo_params(str(home() / "demo" / str(plan.params.clips))))


def run_study(store: Store, plan: Plan, folder: Path) -> StudyResult:
    """Run the plan on the data in ``folder``; whatever is finished already is taken as it is.

    Raises JobsFailed naming every job that failed, after all others are done; the same call then goes on.
    """
    params, engine = plan.params, EngineParams.of(plan.params)
    data = plan.preprocess_params(str(folder))
    collected = data.collect()
    check_concepts(plan, collected)
    surveyed = survey_of(data, collected)
    config = _config(plan, preprocess_spec(data, surveyed).digest)
    # Without a name of its own, a study with other parameters is another study: nothing gets mixed.
    study = params.study or f"{params.size}-{config_digest(Stage.STUDY, config)[:6]}"
    _check_name(store, study, config)
    spec = RunSpec(
        stage=Stage.STUDY,
        name=f"study {study}",
        config=config,
        tags={Tag.TRAIN_PROTOCOL: params.train_protocol},
        study=study,
    )
    named, summaries = plan.named(study), list[str]()
    log_data = partial(log_data_set, store, named.preprocess_params(str(folder)), surveyed)
    outcome = store.perform(spec, lambda run: summaries.append(_body(run, store, named, engine, log_data)))
    if outcome.skipped:
        summaries.append(store.download(outcome.run_id, SUMMARY).read_text(encoding="utf-8"))
    return StudyResult(outcome, study, summaries[0])


def _check_name(store: Store, study: str, config: dict[str, Any]) -> None:
    """Raise UserError where the name is taken by runs with other settings: analysis could not compare them.

    More systems, seeds or attacks may join a study.
    """
    fixed = as_params({name: value for name, value in config.items() if name not in GROWING})
    for record in store.search({Tag.STAGE: Stage.STUDY, Tag.STUDY: study}):
        other = [f"{key} {record.params[key]}" for key in fixed if record.params.get(key, "") != fixed[key]]
        if other:
            raise UserError(
                f"study {study!r} holds runs of other settings ({', '.join(other).replace('cfg.', '')})",
                where=store.name,
                mend="Give another study name, or none",
            )


def _config(plan: Plan, data: str) -> dict[str, Any]:
    """Return all that determines what a study finds; ``data`` is the digest of its data."""
    settings = {name: value for name, value in plan.params.as_dict().items() if name not in NOT_SETTINGS}
    for system, seed in plan.models:
        settings |= kept_from(plan.train_params(system, seed, "").resolve_fit())
    systems = [system.name for system in plan.systems]
    return {**settings, "data": data, "systems": systems, "seeds": plan.seeds, "attacks": plan.attacks}


def _body(run: Run, store: Store, plan: Plan, engine: EngineParams, log_data: Callable[[], Outcome]) -> str:
    """Do the study's runs; log and return the summary."""
    dataset_run_id = log_data().run_id
    jobs = study_jobs(plan, dataset_run_id)
    done, failures = run_jobs(store, jobs, engine, owner=run.run_id, title="study")
    attacks = [name for name in plan.attacks if any(job.endswith(f" | {name}") for job in done)]
    try:
        analyses = {name: _analyze(store, plan, name) for name in attacks}
    finally:  # what failed is told, too, where the rest cannot be analysed
        raise_failures(run, jobs, done, failures)
    lineage = {"preprocess": dataset_run_id, **done}
    lineage |= {f"analysis | {name}": analysis.outcome.run_id for name, analysis in analyses.items()}
    run.table(pd.DataFrame(lineage.items(), columns=["run", "run_id"]), "tables/runs.csv")
    for name, analysis in analyses.items():
        run.metrics(_summary_metrics(name, analysis))
    summary = "\n\n".join(_section(name, analysis) for name, analysis in analyses.items())
    run.text(summary, SUMMARY)
    run.note(summary)
    return summary


def study_jobs(plan: Plan, dataset_run_id: str) -> list[Job]:
    """Return the jobs of a plan on a data set: all trainings, then all attacks."""
    models = {f"{system.name} s{seed}": (system, seed) for system, seed in plan.models}
    training = [
        train_job(name, plan.train_params(system, seed, dataset_run_id))
        for name, (system, seed) in models.items()
    ]
    attacks = [
        attack_job(f"{model} | {name}", plan.attack_params(name, ""), model, _source(plan, name, *of))
        for model, of in models.items()
        for name in plan.assaults
    ]
    return training + attacks


def _source(plan: Plan, attack: str, system: System, seed: int) -> str:
    """Return the job whose model adversaries are transferred from, for attacks that do that."""
    source = plan.source_of(system)
    transfers = "source_run_id" in SETTINGS[plan.assaults[attack]["attack"]]
    return f"{source.name} s{seed}" if source and transfers else ""


def _analyze(store: Store, plan: Plan, attack_name: str) -> Analysis:
    systems = ",".join(system.name for system in plan.systems)
    params = AnalyzeParams(
        study=plan.params.study,
        attack=attack_name,
        train_protocol=plan.params.train_protocol,
        systems=systems,
    )
    return analyze(store, params)


def _summary_metrics(attack_name: str, analysis: Analysis) -> dict[str, float]:
    metrics = {}
    for row in analysis.systems.to_dict("records"):
        system = str(row["system"]).replace(" ", "_")
        for column in ("clean_corr", "clean_mae", "adv_corr", "adv_mae", "adv_mae_clipped"):
            metrics[f"{system}/{attack_name}_{column}"] = float(row[column])
    return metrics


def _section(attack_name: str, analysis: Analysis) -> str:
    return f"### Attack: {attack_name}\n\n{markdown(analysis.report.systems)}"
