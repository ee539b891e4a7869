"""Stage ``train``: fit one system on a preprocessed data set and log it."""

from __future__ import annotations

import re
from dataclasses import dataclass

import pandas as pd
import torch
from safetensors.torch import save_file
from tqdm import tqdm

from rmer.attacks.attack_domains import WAVEFORM
from rmer.data.dataset import Dataset
from rmer.data.folds import scheme_of
from rmer.data.splits import PARTS
from rmer.data.standardised import Standardised, members_digest, normalised_on, standardise
from rmer.errors import UserError
from rmer.evaluation.attacked import named_columns
from rmer.evaluation.classification import classification_scores
from rmer.evaluation.comparison import PRIMARY
from rmer.evaluation.metrics import constant_mae, regression_scores
from rmer.evaluation.song_emotions import FEATURE_UNITS
from rmer.progress import progress
from rmer.report.learning_curve import learning_curve
from rmer.stages.attack.given_models import digest_of
from rmer.stages.attack.victims import model_parts
from rmer.stages.data.dataset_runs import find_dataset, log_dataset_input, name_of, name_tag, scale_of
from rmer.stages.data.found_recordings import found_recordings, sound_folder
from rmer.stages.decided_precision import decided_precision
from rmer.stages.descriptions import description, trained_result
from rmer.stages.run_names import run_name
from rmer.stages.score_logging import log_scores
from rmer.stages.train_params import TrainParams
from rmer.systems.devices import resolve_device
from rmer.systems.network import unit_names
from rmer.systems.prediction import predict
from rmer.tracking import Artifact, Outcome, Run, RunRecord, RunSpec, Stage, Store, Tag
from rmer.training.adversarial import PARTS as ATTACKED
from rmer.training.adversarial import PartName, Sounds
from rmer.training.fit import EpochMetrics, Fitted, fit
from rmer.training.protocol import FitConfig


def train(store: Store, params: TrainParams) -> Outcome:
    """Train one system, or skip it where a finished run has the same configuration."""
    system = params.resolve_system()
    device = resolve_device(params.device)
    dataset_run, dataset = find_dataset(store, params.dataset_run_id, params.study)
    if system.supervises_concepts and not dataset.concepts:
        what = f"{system.name} learns concepts, and the data set has none"
        mend = "Preprocess with midlevel_dir, or train A2E or A2B2E"
        raise UserError(what, where=f"data set of run {dataset_run.run_id}", mend=mend)
    fold, scheme = params.fold, split_scheme(params.split_scheme, params.train_protocol, dataset)
    scheme = scheme_of(params.folds) if fold else scheme
    precision = decided_precision(params.precision, device)
    config = params.resolve_fit(has_concepts=bool(dataset.concepts), precision=precision)
    if system.name == "aA2M2E" and params.train_protocol == "published":
        tqdm.write("Note: published adversarial steps leave the concept loss out; see docs/protocols.md")
    fit_on = normalised_on(params.train_protocol)
    data = standardise(dataset, scheme, fit_on, fold)
    on_sound = config.on_sound
    spec = RunSpec(
        stage=Stage.TRAIN,
        name=run_name(*model_parts(system.name, params.seed, fold), WAVEFORM if on_sound else ""),
        config={
            "system": system.name,
            "dataset": dataset.digest,
            "split_scheme": scheme,
            **(
                {"folds": params.folds, "fold": fold, "fold_clips": members_digest(dataset, data)}
                if fold
                else {}
            ),
            "normalised_on": fit_on,
            "task_loss_weight": system.task_loss_weight,
            **config.values(),
            **kept_from(config),
        },
        tags={
            Tag.SYSTEM: system.name,
            Tag.SEED: str(params.seed),
            Tag.TRAIN_PROTOCOL: params.train_protocol,
            Tag.SPLIT_SCHEME: scheme,
            **({Tag.FOLD: str(fold)} if fold else {}),
            Tag.DATASET: dataset.digest,
            **name_tag(dataset),
            Tag.DATASET_RUN_ID: dataset_run.run_id,
            **({Tag.DOMAIN: WAVEFORM} if on_sound else {}),
        },
        study=params.study or None,
    )
    folder = sound_folder(store, dataset_run.run_id, params.soundtracks_dir) if on_sound else ""
    job = _Job(params, spec, dataset_run, dataset, data, scheme, fold, config, device, folder)
    return store.perform(spec, lambda run: _body(run, job))


@dataclass(frozen=True)
class _Job:
    """What one training is made of; ``folder`` holds the recordings, if their sound is attacked."""

    params: TrainParams
    spec: RunSpec
    dataset_run: RunRecord
    dataset: Dataset
    data: Standardised
    scheme: str
    fold: int
    config: FitConfig
    device: torch.device
    folder: str

    @property
    def in_words(self) -> str:
        """What is trained on what: the head of the run's description."""
        fold = f", fold {self.fold}" if self.fold else ""
        rules = f"{self.params.train_protocol} protocol, split {self.scheme}{fold}"
        system = self.params.resolve_system().name
        return f"{system}, seed {self.params.seed}, trained on {name_of(self.dataset)} ({rules})"

    def sounds(self) -> Sounds | None:
        """Return recordings of training and validation clips, if attacked; raises what finding them does."""
        if not self.config.on_sound:
            return None
        parts: dict[PartName, tuple[int, ...]] = {
            name: tuple(self.data.part(name).rows.tolist()) for name in ATTACKED
        }
        rows = found_recordings(
            self.dataset, sum(parts.values(), ()), self.folder, self.dataset_run.run_id
        ).rows()
        return dict(zip(parts, torch.split(rows, [len(part) for part in parts.values()]), strict=True))


def split_scheme(wanted: str, protocol: str, dataset: Dataset) -> str:
    """Resolve ``auto``: under the corrected protocol the official split, where known, else that by album."""
    if wanted != "auto":
        return wanted
    known = [name for name in ("official", "album") if f"split_{name}" in dataset.clips]
    return known[0] if protocol == "corrected" and known else "published"


def kept_from(config: FitConfig) -> dict[str, int]:
    """Return the first epoch that is kept where it is not the first, as a parameter of that name.

    It is part of a configuration because runs of the published code, and of rmer before it had this rule, may
    have kept an earlier one.
    """
    return {"adversarial_kept_from": config.first_kept} if config.first_kept > 1 else {}


def normalisation_values(data: Standardised) -> dict[str, float]:
    """Return what an attack or a user needs to standardise other spectrograms the same way."""
    return {"mean": data.normalisation.mean, "std": data.normalisation.std}


def _body(run: Run, job: _Job) -> None:
    dataset, data, config, device = job.dataset, job.data, job.config, job.device
    log_dataset_input(run, dataset, job.dataset_run.run_id, job.scheme, fold=job.fold)
    run.params({"device": device.type, "threads": torch.get_num_threads(), **normalisation_values(data)})
    epochs = 1 if job.params.resolve_system().fitted_at_once else config.epochs
    with progress("training", epochs, "epoch") as bar:

        def on_epoch(epoch: int, metrics: EpochMetrics) -> None:
            bar.update(note=f"val corr {metrics['val/emotion/corr']:.3f}")
            run.metrics(metrics, step=epoch)

        checkpoint = run.work_dir / "training.pt"
        fitted = fit(
            data, config, device=device, checkpoint=checkpoint, on_epoch=on_epoch, sounds=job.sounds()
        )
    described: dict[str, object] = {
        "config": config.values(),
        "targets": list(dataset.emotions),
        "concepts": list(dataset.concepts) if config.names_concepts else list(unit_names(config.arch)),
        **({"units": FEATURE_UNITS} if unit_names(config.arch) else {}),
        "normalisation": normalisation_values(data),
        "frontend": dataset.frontend,
        "rating_scale": list(scale_of(job.dataset_run)),
    }
    _log_model(run, job.spec, fitted, data, described)
    if job.params.keep_state:  # twice the size of all else that the run keeps
        fitted.state.save(run.work_dir / "last.pt")
        run.file(run.work_dir / "last.pt", Artifact.CHECKPOINTS)
    names = dataset.concepts if config.names_concepts else ()  # other units mean nothing
    scores = _log_predictions(run, fitted, dataset, data, names)
    # As attack runs have it: the error of the model that knows nothing.
    scores["constant/mae"] = constant_mae(data.train.labels.numpy(), data.test.labels.numpy())
    measured_on = (name_of(dataset), dataset.digest)
    model = model_name(job.spec.name)
    log_scores(run, scores, dataset.emotions, names, model=model, dataset=measured_on)
    epoch, history = fitted.best_epoch, fitted.history
    cost = sum(metrics["cost/epoch_seconds"] for metrics in history)
    run.metrics({"train/best_epoch": epoch, "train/epochs": len(history), "cost/seconds": cost})
    run.figure(learning_curve(history, epoch), "figures/learning_curve")
    links = {
        "data": run.page(of=job.dataset_run.run_id),
        "attacks": run.list_page({Tag.TRAIN_RUN_ID: run.run_id}, PRIMARY),
        "predictions": run.page(Artifact.PREDICTIONS),
        "learning curve": run.page("figures/learning_curve.png"),
    }
    run.note(description(job.in_words, trained_result(scores), links))


def _log_predictions(
    run: Run, fitted: Fitted, dataset: Dataset, data: Standardised, names: tuple[str, ...]
) -> dict[str, float]:
    metrics: dict[str, float] = {}
    tables = []
    # "val/*" is the history of validation, epoch by epoch; "validation/*" what the returned network scores.
    for part_name in PARTS:
        part = data.part(part_name)
        emotions, units = predict(fitted.network, part.inputs)
        labels = part.labels.numpy()
        metrics |= regression_scores(labels, emotions, dataset.emotions).named(part_name, "emotion")
        if dataset.labels != "ratings":
            scores = classification_scores(labels, emotions, dataset.emotions, dataset.labels)
            metrics |= scores.named(part_name, "emotion")
        columns = named_columns("label_", dataset.emotions, labels)
        columns |= named_columns("pred_", dataset.emotions, emotions)
        if names and units is not None and part.concepts is not None:
            concepts = part.concepts.numpy()
            metrics |= regression_scores(concepts, units, names).named(part_name, "concept")
            columns |= named_columns("label_concept_", names, concepts)
            columns |= named_columns("pred_concept_", names, units)
        clips = dataset.clips["clip"].to_numpy()[part.rows]
        tables.append(pd.DataFrame({"clip": clips, "split": part_name, **columns}))
    run.table(pd.concat(tables, ignore_index=True), Artifact.PREDICTIONS)
    return metrics


def model_name(of_run: str) -> str:
    """Return the name of a run's model: the run's, without signs that MLflow refuses (``A2M2E w_3 s6``)."""
    return re.sub(r"[/:.%\"'…]", "_", of_run)


def _log_model(
    run: Run, spec: RunSpec, fitted: Fitted, data: Standardised, described: dict[str, object]
) -> None:
    folder = run.work_dir / "final"
    folder.mkdir(exist_ok=True)
    best = {name: value.contiguous() for name, value in fitted.network.state_dict().items()}
    save_file(best, folder / "best.safetensors", metadata={"format": "pt"})
    run.file(folder / "best.safetensors", Artifact.CHECKPOINTS)
    run.tags({Tag.WEIGHTS: digest_of(folder / "best.safetensors")})
    run.json(described, f"{Artifact.CHECKPOINTS}/config.json")
    example = data.validation.inputs[:2].numpy()
    outputs, units = predict(fitted.network, torch.from_numpy(example))
    named = {"output": outputs} if units is None else {"output": outputs, "c_prob": units}
    run.model(
        fitted.network,
        example,
        named,
        name=model_name(spec.name),
        step=fitted.best_epoch,
        params=spec.config,
        metadata=described,
    )
