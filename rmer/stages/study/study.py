"""Stage ``study``: the whole study as flat runs tied by ``rmer.study``, and one run that sums them up."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from rmer.errors import UserError
from rmer.evaluation.comparison import PRIMARY
from rmer.execution.engine_params import EngineParams
from rmer.execution.jobs import Job
from rmer.execution.scheduler import raise_failures, run_jobs
from rmer.parameters import Parameters
from rmer.report.readable import markdown
from rmer.stages.analysis.analyze import Analysis, analyze, versus
from rmer.stages.analysis.analyze_params import AnalyzeParams
from rmer.stages.attack.attack_defaults import defaults_of
from rmer.stages.data.data_params import DataParams
from rmer.stages.data.demo_data import make_demo_data
from rmer.stages.data.preprocess import log_data_set, preprocess_spec, survey_of
from rmer.stages.decided_precision import with_decided_precision
from rmer.stages.descriptions import MAIN_SCORE, answer_of, description
from rmer.stages.endings import answer_lines
from rmer.stages.run_names import run_name
from rmer.stages.study.cost import planned_seconds
from rmer.stages.study.plan import (
    Plan,
    StudyParams,
    attack_job_name,
    check_concepts,
    check_folds,
    model_job,
)
from rmer.stages.study.stage_jobs import attack_job, train_work
from rmer.stages.study.variants import SoundParams
from rmer.stages.train import kept_from
from rmer.systems.catalogue import System
from rmer.tracking import Artifact, Outcome, Run, RunSpec, Stage, Store, Tag, config_digest
from rmer.tracking.locations import home
from rmer.tracking.values import PREFIX, as_params

SUMMARY = "study.md"
HEADING = "### Attack: "  # of the tables of an attack
DEFAULT = "(default)"
# Settings that every study says, at their default, too: the first that there were.
SAID = (
    "frames",
    "epochs",
    "adversarial_iterations",
    "max_iters",
    "steps",
    "tier",
    "precision",
    "train_protocol",
    "epsilon",
)
SOUND = f"{PREFIX}sound_"  # settings of attacks on the sound, each under its name


@dataclass(frozen=True)
class StudyResult:
    """The run of stage ``study``, the name that ties all runs, and the summary as Markdown."""

    outcome: Outcome
    study: str
    summary: str

    @property
    def answer(self) -> str:
        """What stands in the summary before its tables; summaries of before have only these."""
        return self.summary.partition(HEADING)[0].strip()


def data_folder(plan: Plan) -> Path:
    """Return the folder of the data: the one given, else that of the demo data, which is made if needed."""
    if plan.params.soundtracks_dir:
        return Path(plan.params.soundtracks_dir)
    name = f"{plan.params.clips} clips of {plan.demo_params('').seconds:g} s"
    return make_demo_data(plan.demo_params(str(home() / "demo" / name)))


def run_study(store: Store, plan: Plan, folder: Path) -> StudyResult:
    """Run the plan on the data in ``folder``; whatever is finished already is taken as it is.

    Raises JobsFailed naming every job that failed, after all others are done; the same call then goes on.
    """
    params, engine = plan.params, EngineParams.of(plan.params)
    data = plan.preprocess_params(str(folder))
    collected = data.collect()
    check_concepts(plan, collected)
    check_folds(plan, collected)
    surveyed = survey_of(data, collected)
    settings = settings_of(plan, preprocess_spec(data, surveyed).digest)
    config = config_of(plan, settings)
    # Without a name of its own, a study with other parameters is another study: nothing gets mixed.
    study = params.study or f"{params.size}-{config_digest(Stage.STUDY, config)[:6]}"
    _check_name(store, study, settings)
    tags = {Tag.TRAIN_PROTOCOL: params.train_protocol}
    spec = RunSpec(Stage.STUDY, run_name("study", study), config, tags, study)
    summaries: list[str] = []
    # The study is named by what was asked for, its jobs are handed what that comes to here.
    named = replace(plan, params=with_decided_precision(replace(params, study=study)))
    log_data = partial(log_data_set, store, named.preprocess_params(str(folder)), surveyed)
    planned = partial(planned_seconds, named, len(collected.clips), collected.emotions)
    outcome = store.perform(
        spec, lambda run: summaries.append(_body(run, store, named, engine, log_data, planned, str(folder)))
    )
    if outcome.skipped:
        summaries.append(store.download(outcome.run_id, SUMMARY).read_text(encoding="utf-8"))
    return StudyResult(outcome, study, summaries[0])


def _check_name(store: Store, study: str, settings: dict[str, Any]) -> None:
    """Raise UserError where the name is taken by runs with other settings: analysis could not compare them.

    More systems, seeds or attacks may join a study.
    """
    fixed = as_params(settings)
    known = [*fixed, *(f"{PREFIX}{name}" for name in StudyParams.names("result"))]
    for record in store.search({Tag.STAGE: Stage.STUDY, Tag.STUDY: study}):
        joining = {key for key in fixed if key.startswith(SOUND) and key not in record.params}
        found = {key: record.params.get(key, DEFAULT) for key in dict.fromkeys(known) if key not in joining}
        other = [f"{key} {text}" for key, text in found.items() if text != fixed.get(key, DEFAULT)]
        if other:
            what = f"study {study!r} holds runs of other settings ({', '.join(other).replace(PREFIX, '')})"
            raise UserError(what, where=store.name, mend="Give another study name, or none")


def settings_of(plan: Plan, data: str) -> dict[str, Any]:
    """Return what determines the results of a study, but its systems, seeds and attacks.

    ``data`` is the digest of its data, which stands for their parameters. Of the others, those at their
    default go without saying, apart from the first that studies had.
    """
    params = plan.params
    # Attacks on the sound may join a study that has none; what each of them does is said for itself.
    heard = {f"sound_{name.replace(' ', '_')}": text for name, text in plan.sound.items()}
    return {"data": data, **heard} | {
        field.name: getattr(params, field.name)
        for field in fields(params)
        if field.name in params.names("result")
        and field.name not in DataParams.names()
        and field.name not in SoundParams.names()
        and (field.name in SAID or getattr(params, field.name) != _usual(field.name))
    }


def _usual(name: str) -> Any:
    """Return what a parameter is where no size of study says otherwise: its default in the stage."""
    bases = [base for base in StudyParams.__bases__ if issubclass(base, Parameters)]
    return next(base.__dataclass_fields__[name].default for base in bases if name in base.names())


def config_of(plan: Plan, settings: dict[str, Any]) -> dict[str, Any]:
    """Return all that determines what a study finds."""
    kept: dict[str, Any] = {}
    for model in plan.models:
        kept |= kept_from(plan.train_params(*model, "").resolve_fit())
    systems = [system.name for system in plan.systems]
    return {**settings, **kept, "systems": systems, "seeds": plan.seeds, "attacks": plan.attacks}


def _body(
    run: Run,
    store: Store,
    plan: Plan,
    engine: EngineParams,
    log_data: Callable[[], Outcome],
    planned: Callable[[], Mapping[str, float]],
    folder: str,
) -> str:
    dataset_run_id = log_data().run_id
    jobs = study_jobs(plan, dataset_run_id, folder)
    # What the nodes of a Ray cluster compute in a second, nobody here knows.
    seconds = None if engine.engine == "ray" else planned()
    done, failures = run_jobs(store, jobs, engine, owner=run.run_id, title="study", planned=seconds)
    made = {plan.attack_variants[job.split(" | ")[-1]]["attack"] for job in done if " | " in job}
    attacks = [name for name in plan.attacks if name in made]
    try:
        store.deliver(done.values())
        data = store.get(dataset_run_id).tags.get(Tag.DATASET, "")
        analyses = {name: _analyze(store, plan, name, data) for name in attacks}
    finally:  # what failed is told, too, where the rest cannot be analysed
        raise_failures(run, jobs, done, failures)
    lineage = {"preprocess": dataset_run_id, **done}
    lineage |= {f"analysis | {name}": analysis.outcome.run_id for name, analysis in analyses.items()}
    run.table(pd.DataFrame(lineage.items(), columns=["run", "run_id"]), "tables/runs.csv")
    for name, analysis in analyses.items():
        run.metrics(_summary_metrics(name, analysis))
    last = list(analyses.values())[-1]
    tables = [f"{HEADING}{name}\n\n{_summary(analysis)}" for name, analysis in analyses.items()]
    summary = "\n\n".join(["\n".join(answer_lines(last.report)), *tables])
    run.text(summary, SUMMARY)
    _describe(run, plan, dataset_run_id, analyses)
    return summary


def _describe(run: Run, plan: Plan, dataset_run_id: str, analyses: Mapping[str, Analysis]) -> None:
    links = {"summary": run.page(SUMMARY), "data": run.page(of=dataset_run_id)}
    of_study = {Tag.STUDY: plan.params.study}
    links["models"] = run.list_page({Tag.STAGE: Stage.TRAIN, **of_study}, MAIN_SCORE)
    links["attacks"] = run.list_page({Tag.STAGE: Stage.ATTACK, **of_study}, PRIMARY)
    links |= {
        f"report of {name}": run.page(Artifact.REPORT, of=analysis.outcome.run_id)
        for name, analysis in analyses.items()
    }
    systems = ", ".join(system.name for system in plan.systems)
    what = f"Study {plan.params.study}: {systems}, {len(plan.seeds)} seeds each"
    run.note(description(what, answer_of(list(analyses.values())[-1].report), links))


def _summary(analysis: Analysis) -> str:
    """Return the table of the analysis, after that of attacks on the sound where it has both."""
    sound, systems = analysis.report.sound, markdown(analysis.report.systems)
    if sound is None:
        return systems
    return f"On the sound, {sound.budget}:\n\n{markdown(sound.systems)}\nOn spectrograms:\n\n{systems}"


def study_jobs(plan: Plan, dataset_run_id: str, folder: str = "") -> list[Job]:
    """Return the jobs of a plan on a data set made of ``folder``: all trainings, then all attacks."""
    models = {model_job(*of): of for of in plan.models}
    training = [
        Job(name, train_work, plan.train_params(*model, dataset_run_id)) for name, model in models.items()
    ]
    attacks = [
        attack_job(
            attack_job_name(*of, name), plan.attack_params(name, "", folder), model, _source(plan, name, *of)
        )
        for model, of in models.items()
        for name in plan.attack_variants
    ]
    return training + attacks


def _source(plan: Plan, attack: str, system: System, seed: int, fold: int) -> str:
    """Return the job whose model adversaries are transferred from, for attacks that do that."""
    source = plan.source_of(system)
    transfers = "source_run_id" in defaults_of(plan.attack_variants[attack]["attack"])
    return model_job(source, seed, fold) if source and transfers else ""


def _analyze(store: Store, plan: Plan, attack: str, dataset: str) -> Analysis:
    # Of the data set alone: models of the study may have been attacked on other data since.
    systems, protocol = ",".join(system.name for system in plan.systems), plan.params.train_protocol
    chosen = AnalyzeParams(
        study=plan.params.study, attack=attack, train_protocol=protocol, systems=systems,
        dataset=dataset, trained_on=dataset,
    )  # fmt: skip
    return analyze(store, chosen)


def _summary_metrics(attack_name: str, analysis: Analysis) -> dict[str, float]:
    columns = ("clean_corr", "clean_mae", "adv_corr", "adv_mae", "adv_mae_clipped")
    return _sound_metrics(attack_name, analysis) | {
        versus(row["system"], f"{attack_name}_{column}"): float(row[column])
        for row in analysis.systems.to_dict("records")
        for column in columns
    }


def _sound_metrics(attack_name: str, analysis: Analysis) -> dict[str, float]:
    """Return what attacks on the sound did within the budget of the endpoints."""
    table = analysis.tables.get("sound_robustness")
    if table is None:
        return {}
    return {
        versus(row["system"], f"{attack_name}_sound_{kind}_{row['metric']}"): float(row[kind])
        for row in table[table["norm"] == table["norm"].iloc[0]].to_dict("records")
        for kind in ("adv", "delta")
    }
