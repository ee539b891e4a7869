"""What happens in the run of one attack: the attack itself, and everything that is logged about it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from rmer.evaluation.budgets import Point, Progress, curve_clips, curve_table, predict, sweep
from rmer.evaluation.checks.controls import Subject, gather
from rmer.evaluation.checks.measurements import ERRORS, Searches
from rmer.evaluation.checks.sanity import failed, judge
from rmer.evaluation.checks.sanity import table as sanity_table
from rmer.evaluation.curves import area_over_log_epsilon, break_even_epsilon
from rmer.evaluation.gradient_precision import precision_table
from rmer.evaluation.metrics import constant_mae, under_attack
from rmer.evaluation.suite import TIERS
from rmer.report.damage_curve import damage_curve
from rmer.report.spectrogram_figure import spectrogram_comparison
from rmer.stages.attack.attack_setup import Assault, controls_of_run, threat_at
from rmer.stages.attack.attacked_clips import clip_metrics, clip_table
from rmer.stages.attack.explanation import log_explanation
from rmer.systems.frozen import FrozenNetwork
from rmer.tracking import Artifact, Run, Tag

FIGURE_CLIPS = 3


def attack_and_log(run: Run, assault: Assault) -> None:
    """Attack one model and log everything about it to its run; a resumed run goes on at the next batch."""
    victim, params, part = assault.victim, assault.params, assault.part
    run.dataset_input(
        "soundtracks", victim.dataset.digest, source={"run_id": victim.dataset_run_id}, context=params.split
    )
    run.params({"device": assault.device.type, "threads": torch.get_num_threads(), "clips": len(part)})
    run.params({"attack_batch_size": assault.batch_size, "compile": params.compile})
    network = assault.freeze(victim)
    gradients = sum(attack.passes(part.labels.shape[1]).gradients or 1 for attack in assault.attacks)
    total = gradients * len(params.budgets) * len(part) + controls_of_run(
        params,
        part.labels.shape[1],
        clips=len(part),
        precision=assault.precision,
        transfer=assault.surrogate is not None,
    )
    with tqdm(total=total, desc=params.attack, unit="gradient", leave=False) as bar:
        points = sweep(
            network,
            part.inputs,
            part.labels,
            assault.attacks,
            params.budgets,
            threat_at(params, victim.data),
            seed=params.settings.get("attack_seed", 0),
            batch_size=assault.batch_size,
            warm=params.settings.get("warm", False),
            progress=bar.update,
            resume=run.work_dir / "batches",
        )
        _report(run, assault, network, points, bar.update)


def _report(
    run: Run, assault: Assault, network: FrozenNetwork, points: Sequence[Point], progress: Progress
) -> None:
    """Log what the attacks found, and whether the evaluation can be believed."""
    victim, params, part = assault.victim, assault.params, assault.part
    reported = next(point for point in points if point.epsilon == params.epsilon_report)
    saved = _save(run, reported)
    attack = assault.attacks[0]
    table = clip_table(victim, part, attack, reported, saved, assault.device)
    run.table(table, Artifact.ADVERSARY_CLIPS)
    run.ui_table(table, "per_clip.json")
    run.tags({Tag.BUDGET_HELD: str(attack.enforced).lower()})
    metrics = clip_metrics(victim, table) | _cost(points)
    run.metrics(metrics)
    if len(points) > 1 or params.attack == "suite":
        _log_curve(run, assault, points, predict(network, part.inputs))
    if params.attack == "suite":
        logged = {metric: metrics[f"adv/{metric}"] for metric in saved}
        _log_sanity(run, assault, network, points, saved, logged, progress)
        log_explanation(run, victim, table)
    _log_spectrograms(run, assault, table["clip"].tolist(), next(iter(saved.values())))


def _save(run: Run, point: Point) -> dict[str, torch.Tensor]:
    """Save the adversaries of each metric and return them as read back: what is scored is what is stored."""
    saved: dict[str, torch.Tensor] = {}
    for metric, adversaries in point.adversaries.items():
        file = run.work_dir / (f"{metric}.npy" if saved else Path(Artifact.ADVERSARIES).name)
        np.save(file, adversaries[:, 0].numpy().astype(np.float32), allow_pickle=False)
        run.file(file, str(Path(Artifact.ADVERSARIES).parent))
        saved[metric] = torch.from_numpy(np.load(file, allow_pickle=False))[:, None]
    return saved


def _cost(points: Sequence[Point]) -> dict[str, float]:
    results = [result for point in points for result in point.results]
    return {
        "budget/violations": float(sum(int(result.violations.sum()) for result in results)),
        "cost/gradients": float(sum(result.gradients for result in results)),
        "cost/forwards": float(sum(result.forwards for result in results)),
        "cost/seconds": sum(result.seconds for result in results),
    }


def _log_curve(run: Run, assault: Assault, points: Sequence[Point], clean: np.ndarray) -> None:
    """Log the damage over the budgets; the step of ``curve/*`` is the budget in units of .0001."""
    victim, part = assault.victim, assault.part
    emotions, labels = victim.dataset.emotions, part.labels.numpy()
    curve = curve_table(labels, clean, points, emotions, victim.data.normalisation.std)
    clips = victim.dataset.clips["clip"].iloc[part.rows].tolist()
    run.table(curve, Artifact.CURVE)
    run.table(curve_clips(clips, clean, points, emotions), Artifact.CURVE_CLIPS)
    for row in curve.to_dict("records"):
        run.metrics({f"curve/{metric}": row[metric] for metric in under_attack()}, step=_step(row["epsilon"]))
    epsilons = curve["epsilon"].to_numpy()
    areas = {metric: area_over_log_epsilon(epsilons, curve[metric].to_numpy()) for metric in under_attack()}
    constant = constant_mae(victim.data.train.labels.numpy(), labels)
    summary = {f"auc/{metric}": area for metric, area in areas.items()}
    summary["breakeven/epsilon"] = break_even_epsilon(epsilons, curve["mae_clipped"].to_numpy(), constant)
    # One budget has no area, and a model that no budget breaks no break-even: these metrics are left out.
    run.metrics({name: value for name, value in summary.items() if math.isfinite(value)})
    run.figure(damage_curve(curve, constant), "figures/curve")


def _log_sanity(
    run: Run,
    assault: Assault,
    network: FrozenNetwork,
    points: Sequence[Point],
    saved: dict[str, torch.Tensor],
    logged: dict[str, float],
    progress: Progress,
) -> None:
    """Run the controls and log the checks, which judge the numbers of the run itself (``logged``)."""
    victim, params, part = assault.victim, assault.params, assault.part
    subject = Subject(
        network=network,
        inputs=part.inputs,
        labels=part.labels,
        targets=victim.dataset.emotions,
        threat_at=threat_at(params, victim.data),
        seed=params.settings["attack_seed"],
        batch_size=assault.batch_size,
        trained=victim.logged_scores(params.split),
        constant_mae=constant_mae(victim.data.train.labels.numpy(), part.labels.numpy()),
        twins=assault.twins,
    )
    evidence = gather(
        subject,
        TIERS[params.settings["tier"]],
        points,
        next(point for point in points if point.epsilon == params.epsilon_report),
        saved,
        surrogate=None if assault.surrogate is None else assault.freeze(assault.surrogate),
        other_norm=assault.other_norm,
        progress=progress,
        resume=run.work_dir / "controls",
    )
    checks = judge(replace(evidence, reported=logged))
    run.table(sanity_table(checks), Artifact.SANITY)
    not_judged = sum(check.passed is None for check in checks)
    run.metrics({"sanity/failed": float(failed(checks)), "sanity/not_judged": float(not_judged)})
    if evidence.searches:
        _log_searches(run, evidence.searches)


def _log_searches(run: Run, searches: Mapping[float, Searches]) -> None:
    """Log what gradients in bfloat16 cost the search; steps are as in ``curve/*``."""
    table = precision_table(searches)
    run.table(table, Artifact.PRECISION)
    for row in table.to_dict("records"):
        losses = {f"precision/{error}_loss": row[f"{error}_loss"] for error in ERRORS}
        run.metrics(losses, step=_step(row["epsilon"]))


def _step(epsilon: float) -> int:
    """Return the step of a budget, as MLflow's steps are whole numbers: in units of .0001."""
    return round(1e4 * epsilon)


def _log_spectrograms(run: Run, assault: Assault, clips: list[str], adversaries: torch.Tensor) -> None:
    shown = slice(0, FIGURE_CLIPS)
    figure = spectrogram_comparison(
        clips[shown],
        assault.part.inputs[shown, 0].numpy(),
        adversaries[shown, 0].numpy(),
        float(assault.victim.dataset.frontend.get("fps", 31.3)),
    )
    run.figure(figure, "figures/spectrograms")
