"""What happens in the run of one attack: the attack itself, and everything that is logged about it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
import torch

from rmer.attacks.sound_budgets import budget_of
from rmer.evaluation.budgets import Point, curve_clips, curve_in_db, curve_table, sweep
from rmer.evaluation.checks.controls import gather
from rmer.evaluation.checks.measurements import ERRORS, Measurements, noise_metrics
from rmer.evaluation.checks.sanity import failed, judge
from rmer.evaluation.checks.sanity import table as sanity_table
from rmer.evaluation.comparison import PRIMARY
from rmer.evaluation.curves import area_over_log_epsilon, break_even_epsilon
from rmer.evaluation.gradient_precision import precision_table
from rmer.evaluation.metrics import constant_mae, under_attack
from rmer.evaluation.sound_subject import SoundSubject
from rmer.evaluation.subject import Subject
from rmer.progress import progress
from rmer.report.damage_curve import damage_curve
from rmer.report.readable import sound_budget_in_words
from rmer.report.spectrogram_figure import spectrogram_comparison
from rmer.stages.attack.attack_setup import AttackSetup
from rmer.stages.attack.attacked_clips import clip_metrics, clip_table
from rmer.stages.attack.explanation import log_explanation
from rmer.stages.attack.saved_adversaries import save
from rmer.stages.attack.sound_logging import log_codecs, log_listening
from rmer.stages.data.dataset_runs import log_dataset_input, name_of
from rmer.stages.descriptions import attacked_result, description, worst_clip
from rmer.stages.score_logging import log_scores
from rmer.tracking import Artifact, Run, Tag


def attack_and_log(run: Run, setup: AttackSetup) -> None:
    """Attack one model and log everything about it to its run; a resumed run goes on at the next batch."""
    victim, params, part = setup.victim, setup.params, setup.part
    scheme = victim.scheme if victim.own is None else setup.split
    log_dataset_input(run, victim.dataset, victim.dataset_run_id, scheme, setup.split, victim.fold)
    run.params({"device": setup.device.type, "threads": torch.get_num_threads(), "clips": len(part)})
    if victim.dataset.labels != "ratings":
        run.params({"labels": victim.dataset.labels})
    run.params({"attack_batch_size": setup.batch_size, "compile": params.compile})
    with progress(params.attack, setup.gradients, "gradient") as bar:
        subject = setup.subject(run.work_dir, bar.update)
        warm_start = params.settings.get("warm_start", False)
        points = sweep(subject, setup.attacks, params.all_epsilons, warm_start=warm_start)
        _report(run, setup, subject, points)


def _report(run: Run, setup: AttackSetup, subject: Subject, points: Sequence[Point]) -> None:
    """Log what the attacks found, and whether the evaluation can be believed."""
    victim, params, part = setup.victim, setup.params, setup.part
    reported = next(point for point in points if point.epsilon == params.reported_epsilon)
    saved = save(run, subject, reported, victim.data.normalisation)
    attack = setup.attacks[0]
    table = clip_table(victim, part, attack, reported, saved, setup.device, setup.clean)
    run.table(table, Artifact.ADVERSARY_CLIPS)
    run.ui_table(table, "per_clip.json")
    run.tags({Tag.BUDGET_HELD: str(attack.enforced).lower()})
    metrics = clip_metrics(victim, table) | _cost(points)
    # The UI compares runs by the metric that was logged first: what the attack did, at the primary endpoint.
    log_scores(run, {PRIMARY: metrics[PRIMARY], **metrics}, victim.dataset.emotions)
    if len(points) > 1 or params.suite is not None:
        _log_curve(run, setup, points, subject.clean)
    concepts: list[str] = []
    if params.suite is not None:
        found = gather(subject, setup.background(), params.suite, points, reported, saved.inputs)
        # The checks judge the numbers of the run itself.
        _log_sanity(
            run, setup, replace(found, reported={metric: metrics[f"adv/{metric}"] for metric in saved.inputs})
        )
        concepts = log_explanation(run, victim, table, brief=params.suite.brief)
    if isinstance(subject, SoundSubject):
        _log_sounds(run, setup, subject, table, next(iter(saved.inputs.values())))
    _log_spectrograms(run, setup, table["clip"].tolist(), saved.spectrograms)
    result = f"{attacked_result(metrics)} {worst_clip(table, victim.dataset.emotions)}"
    if setup.black_box and params.suite is not None:
        result += (
            f" No gradient passes the model, so Square asked for {params.suite.queries} predictions a clip "
            "and budget: what it found is a lower bound. Correlation is that of the adversaries for raw MAE."
        )
    _describe(run, setup, result, concepts)


def _describe(run: Run, setup: AttackSetup, result: str, concepts: Sequence[str]) -> None:
    victim = setup.victim
    told = [f", seed {victim.seed}"] if victim.seed else []
    told += [f", fold {victim.fold}"] if victim.fold else []
    if victim.own is not None:
        told.append(f", trained on {name_of(victim.own)}, on all clips of {name_of(victim.dataset)}")
    model = f"{victim.system}{''.join(told)}{',' if told else ''}"
    links = {"model": run.page(of=victim.run.run_id)} if victim.run else {}
    links |= {"data": run.page(of=victim.dataset_run_id), "clips": run.page("per_clip.json")}
    if setup.params.on_sound and setup.params.listen:
        links["listen"] = run.page(Artifact.LISTEN)
    if concepts:
        links["concepts"] = run.page("figures/concept_shift.png")
    what = f"{model} under attack: {setup.in_words}"
    run.note(description(what, result, links, concepts))


def _log_sounds(
    run: Run, setup: AttackSetup, subject: SoundSubject, table: pd.DataFrame, adversaries: torch.Tensor
) -> None:
    """Log what there is to listen to, and what codecs leave of a suite, or of what is meant to survive."""
    params, settings = setup.params, setup.params.settings
    whole = params.suite is not None and not params.suite.brief
    codecs = whole or bool(params.transformation_names)
    run.params({"listen": params.listen, "codecs": codecs})
    if params.listen:
        title = f"{setup.victim.system} under {params.attack}"
        budget = sound_budget_in_words(settings["norm"], settings["budget"])
        log_listening(run, subject, table, adversaries, most=params.listen, title=title, budget=budget)
    if codecs:
        log_codecs(run, subject, adversaries, setup.victim.dataset.emotions)


def _cost(points: Sequence[Point]) -> dict[str, float]:
    results = [result for point in points for result in point.results]
    return {
        "budget/violations": float(sum(int(result.violations.sum()) for result in results)),
        "cost/gradients": float(sum(result.gradients for result in results)),
        "cost/forwards": float(sum(result.forwards for result in results)),
        "cost/seconds": sum(result.seconds for result in results),
    }


def _log_curve(run: Run, setup: AttackSetup, points: Sequence[Point], clean: np.ndarray) -> None:
    victim, part = setup.victim, setup.part
    emotions, labels = victim.dataset.emotions, part.labels.numpy()
    curve = curve_table(labels, clean, points, emotions, victim.data.normalisation.std)
    if setup.params.on_sound:
        curve = curve_in_db(curve, points[0].threat.norm)
    clips = victim.dataset.clips["clip"].iloc[part.rows].tolist()
    run.table(curve, Artifact.CURVE)
    run.table(curve_clips(clips, clean, points, emotions), Artifact.CURVE_CLIPS)
    for row in curve.to_dict("records"):
        values = {f"curve/{metric}": row[metric] for metric in under_attack()}
        if row["epsilon"] > 0 or not setup.params.on_sound:  # silence has no level in dB
            run.metrics(values, step=setup.params.step_of(row["epsilon"]))
    epsilons = curve["epsilon"].to_numpy()
    areas = {metric: area_over_log_epsilon(epsilons, curve[metric].to_numpy()) for metric in under_attack()}
    constant = constant_mae(victim.data.train.labels.numpy(), labels)
    summary = {f"auc/{metric}": area for metric, area in areas.items()}
    even = break_even_epsilon(epsilons, curve["mae_clipped"].to_numpy(), constant)
    summary["breakeven/epsilon"] = even
    if setup.params.on_sound and even > 0:
        summary["breakeven/db"] = budget_of(points[0].threat.norm, even)
    # One budget has no area, and a model that no budget breaks no break-even: these metrics are left out.
    run.metrics({name: value for name, value in summary.items() if math.isfinite(value)})
    run.figure(damage_curve(curve, constant), "figures/curve")


def _log_sanity(run: Run, setup: AttackSetup, measurements: Measurements) -> None:
    checks = judge(measurements)
    run.table(sanity_table(checks), Artifact.SANITY)
    not_judged = sum(check.passed is None for check in checks)
    run.metrics({"sanity/failed": float(failed(checks)), "sanity/not_judged": float(not_judged)})
    run.metrics(noise_metrics(measurements))
    if measurements.precisions:  # what gradients in bfloat16 cost the search; steps are as in ``curve/*``
        table = precision_table(measurements.precisions)
        run.table(table, Artifact.PRECISION)
        for row in table.to_dict("records"):
            losses = {f"precision/{error}_loss": row[f"{error}_loss"] for error in ERRORS}
            run.metrics(losses, step=setup.params.step_of(row["epsilon"]))


def _log_spectrograms(run: Run, setup: AttackSetup, clips: list[str], adversaries: torch.Tensor) -> None:
    shown = slice(0, 1 if setup.params.suite is not None and setup.params.suite.brief else 3)
    figure = spectrogram_comparison(
        clips[shown],
        setup.part.inputs[shown, 0].numpy(),
        adversaries[shown, 0].numpy(),
        setup.victim.data.normalisation,
        float(setup.victim.dataset.frontend.get("fps", 31.3)),
    )
    run.figure(figure, "figures/spectrograms")
