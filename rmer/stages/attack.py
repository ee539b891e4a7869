"""Stage ``attack``: attack trained systems on one part of their data, one run a model."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from tqdm import tqdm

from rmer.attacks.base import Attack, AttackResult
from rmer.attacks.threat import Threat
from rmer.data.standardised import Part
from rmer.evaluation.attacked import attack_metrics
from rmer.evaluation.clip_table import named_columns
from rmer.evaluation.metrics import constant_mae, regression_scores
from rmer.report.spectrograms import spectrogram_comparison
from rmer.stages.attack_params import PROTOCOLS, AttackParams
from rmer.stages.models import Victim, select_runs, victim_of_run, victim_of_uri
from rmer.systems.devices import resolve_device
from rmer.systems.frozen import FrozenNetwork
from rmer.systems.precision import Precision, resolve_precision
from rmer.systems.prediction import predict
from rmer.tracking import Artifact, Origin, Outcome, Run, RunSpec, Stage, Store, Tag

FIGURE_CLIPS = 3


def attack(store: Store, params: AttackParams) -> list[Outcome]:
    """Attack every model that the parameters name; finished attacks are skipped."""
    device = resolve_device(params.device)
    if params.model_uri:
        victim = victim_of_uri(
            store,
            params.model_uri,
            system=params.system,
            seed=params.seed,
            train_protocol=params.train_protocol,
            split_scheme=params.split_scheme,
            dataset_run_id=params.dataset_run_id,
            study=params.study,
        )
        return [attack_victim(store, victim, params, device)]
    runs = select_runs(
        store,
        train_run_id=params.train_run_id,
        system=params.system,
        seed=params.seed,
        study=params.study,
        train_protocol=params.train_protocol,
    )
    outcomes = []
    for run in tqdm(runs, desc="attack", unit="model", disable=len(runs) == 1, leave=False):
        victim = victim_of_run(store, run, params.dataset_run_id)
        outcomes.append(attack_victim(store, victim, params, device))
    return outcomes


def attack_victim(store: Store, victim: Victim, params: AttackParams, device: torch.device) -> Outcome:
    """Attack one model, or skip it where a finished run has the same configuration."""
    method, threat = params.build(), params.threat(victim.data)
    spec = _spec(victim, params, method, threat, resolve_precision(params.precision, device))

    def body(run: Run) -> None:
        if victim.run is not None:
            run.tag_other(
                victim.run.run_id, {f"{Tag.ATTACK_RUN_ID}.{run.run_id}": spec.name.split(" | ")[-1]}
            )
        _body(run, victim, params, method, threat, device)

    return store.perform(spec, body)


def _spec(
    victim: Victim, params: AttackParams, method: Attack, threat: Threat, precision: Precision
) -> RunSpec:
    protocol = PROTOCOLS[params.attack]
    settings = dataclasses.asdict(method)  # type: ignore[call-overload]
    seeded = {"attack_seed": params.attack_seed} if method.random else {}
    size = f"{threat.epsilon:g}".removeprefix("0")
    budget = f"{'Linf' if threat.norm == 'linf' else 'L2'} {size}"
    system = f"{victim.system} s{victim.seed}" if victim.seed else victim.system
    return RunSpec(
        stage=Stage.ATTACK,
        name=f"{system} | {params.attack} {budget}",
        config={
            "attack": params.attack,
            "attack_protocol": protocol,
            "epsilon": threat.epsilon,
            "norm": threat.norm,
            "split": params.split,
            **settings,
            **seeded,
            "precision": precision,
            **victim.training,
            "model": victim.digest,
            "system": victim.system,
            "seed": victim.seed,
            "train_protocol": victim.train_protocol,
            "dataset": victim.dataset.digest,
            "split_scheme": victim.scheme,
            "normalised_on": victim.fit_on,
        },
        tags={
            Tag.ATTACK: params.attack,
            Tag.ATTACK_PROTOCOL: protocol,
            Tag.NORM: threat.norm,
            Tag.EPSILON: f"{threat.epsilon:g}",
            Tag.SPLIT: params.split,
            **({Tag.ATTACK_SEED: str(params.attack_seed)} if method.random else {}),
            Tag.SYSTEM: victim.system,
            Tag.SEED: victim.seed,
            Tag.TRAIN_PROTOCOL: victim.train_protocol,
            Tag.SPLIT_SCHEME: victim.scheme,
            Tag.DATASET: victim.dataset.digest,
            Tag.DATASET_RUN_ID: victim.dataset_run_id,
            **({Tag.TRAIN_RUN_ID: victim.run.run_id} if victim.run else {Tag.MODEL_URI: params.model_uri}),
            Tag.ORIGIN: Origin.EXTERNAL if _is_foreign(victim) else Origin.COMPUTED,
        },
        study=params.study or (victim.run.tags.get(Tag.STUDY) if victim.run else None),
    )


def _is_foreign(victim: Victim) -> bool:
    return victim.run is None or victim.run.tags.get(Tag.ORIGIN) != Origin.COMPUTED


def _body(
    run: Run, victim: Victim, params: AttackParams, method: Attack, threat: Threat, device: torch.device
) -> None:
    part = victim.data.part(params.split)
    run.dataset_input(
        "soundtracks", victim.dataset.digest, source={"run_id": victim.dataset_run_id}, context=params.split
    )
    run.params({"device": device.type, "threads": torch.get_num_threads(), "clips": len(part)})
    with tqdm(total=len(part), desc=_title(method, threat), unit="clip", leave=False) as bar:
        result = method(
            FrozenNetwork(victim.model.to(device), precision=resolve_precision(params.precision, device)),
            part.inputs,
            part.labels,
            threat,
            seed=params.attack_seed,
            batch_size=params.attack_batch_size,
            progress=bar.update,
            resume=run.work_dir / "batches",
        )
    saved = run.work_dir / Path(Artifact.ADVERSARIES).name
    np.save(saved, result.adversaries[:, 0].numpy().astype(np.float32), allow_pickle=False)
    run.file(saved, str(Path(Artifact.ADVERSARIES).parent))
    # What is scored is what is stored: the array is read back from the file.
    adversaries = torch.from_numpy(np.load(saved, allow_pickle=False))[:, None]
    table = _clip_table(victim, part, method, result, adversaries, device)
    run.table(table, Artifact.ADVERSARY_CLIPS)
    run.ui_table(table, "per_clip.json")
    run.tags({Tag.BUDGET_HELD: str(method.enforced).lower()})
    run.metrics({**_metrics(victim, part, table, result), "cost/seconds": result.seconds})
    shown = slice(0, FIGURE_CLIPS)
    run.figure(
        spectrogram_comparison(
            table["clip"].tolist()[shown],
            part.inputs[shown, 0].numpy(),
            adversaries[shown, 0].numpy(),
            float(victim.dataset.frontend.get("fps", 31.3)),
        ),
        "figures/spectrograms",
    )


def _title(method: Attack, threat: Threat) -> str:
    """Return what the progress bar says."""
    return f"{method.name} {threat.norm} {threat.epsilon:g}"


def _clip_table(
    victim: Victim,
    part: Part,
    method: Attack,
    result: AttackResult,
    adversaries: torch.Tensor,
    device: torch.device,
) -> pd.DataFrame:
    clean, clean_units = predict(victim.model, part.inputs.to(device))
    rescored, units = predict(victim.model, adversaries.to(device))
    clips = victim.dataset.clips.iloc[part.rows]
    columns: dict[str, Any] = {
        "clip": clips["clip"].to_numpy(),
        "album": clips["album"].to_numpy(),
        "iterations": result.columns["iterations"].numpy(),
        "linf": result.linf.numpy(),
        "l2": result.l2.numpy(),
        "snr_db": _signal_to_perturbation(victim, part.inputs, adversaries),
    }
    columns |= {
        name: result.columns[name].numpy() for name in ("converged", "threshold") if name in result.columns
    }
    last = result.columns.get("last_prediction")
    # The published protocol reports the last iterate; every other one what the saved adversary does.
    as_published = last is not None and not method.enforced
    reported = last.numpy() if last is not None and as_published else rescored
    columns |= named_columns("label_", victim.dataset.emotions, part.labels.numpy())
    columns |= named_columns("clean_", victim.dataset.emotions, clean)
    columns |= named_columns("adv_", victim.dataset.emotions, reported)
    if as_published:
        columns |= named_columns("rescored_", victim.dataset.emotions, rescored)
    if victim.concepts and part.concepts is not None and clean_units is not None and units is not None:
        columns |= named_columns("label_concept_", victim.concepts, part.concepts.numpy())
        columns |= named_columns("clean_concept_", victim.concepts, clean_units)
        columns |= named_columns("adv_concept_", victim.concepts, units)
    return pd.DataFrame(columns)


def _metrics(victim: Victim, part: Part, table: pd.DataFrame, result: AttackResult) -> dict[str, float]:
    emotions = victim.dataset.emotions
    labels, clean, adversarial = (
        table[[f"{kind}_{emotion}" for emotion in emotions]].to_numpy() for kind in ("label", "clean", "adv")
    )
    metrics = attack_metrics(labels, clean, adversarial, emotions)
    if f"rescored_{emotions[0]}" in table:
        rescored = table[[f"rescored_{emotion}" for emotion in emotions]].to_numpy()
        metrics |= regression_scores(labels, rescored, emotions).named("rescored")
    std = victim.data.normalisation.std
    return {
        **metrics,
        "constant/mae": constant_mae(victim.data.train.labels.numpy(), labels),
        "perturbation/linf": float(table["linf"].mean()),
        "perturbation/linf_max": float(table["linf"].max()),
        "perturbation/linf_log10": float(table["linf"].mean() * std),
        "perturbation/l2": float(table["l2"].mean()),
        "perturbation/l2_max": float(table["l2"].max()),
        "perturbation/snr_db": float(table["snr_db"].mean()),
        "budget/violations": float(result.violations.sum()),
        "cost/gradients": float(result.gradients),
        "cost/forwards": float(result.forwards),
    }


def _signal_to_perturbation(victim: Victim, inputs: torch.Tensor, adversaries: torch.Tensor) -> np.ndarray:
    """Power of the raw log spectrogram over the perturbation's, dB [clips]; NaN where the latter is zero."""
    normalisation = victim.data.normalisation
    signal = inputs.double() * normalisation.std + normalisation.mean
    perturbation = (adversaries.double() - inputs.double()) * normalisation.std
    ratio = signal.square().sum((1, 2, 3)) / perturbation.square().sum((1, 2, 3))
    return torch.where(ratio.isfinite(), 10 * ratio.log10(), torch.nan).numpy()
