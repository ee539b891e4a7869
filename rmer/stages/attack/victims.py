"""Models to attack: found by tags, run id or URI, loaded, and checked against the model contract."""

from __future__ import annotations

import sys
from dataclasses import dataclass, fields, replace

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from rmer.data.dataset import Dataset
from rmer.data.other_data import UnlikeDataError, as_targets_of, learnt_clips, on_other_data
from rmer.data.standardised import Standardised, members_digest, normalised_on, standardise
from rmer.data.tables.text_tables import counted
from rmer.errors import UserError
from rmer.stages.attack.attack_params import AttackParams
from rmer.stages.attack.given_models import (
    digest_of,
    digest_with_predictions,
    example_of,
    given_model,
)
from rmer.stages.data.dataset_runs import find_dataset, name_of
from rmer.systems.black_box import adapted, is_black_box
from rmer.systems.catalogue import known_system
from rmer.systems.code_model import is_code
from rmer.systems.network import load_checkpoint
from rmer.systems.weights import require_finite, same_weights
from rmer.tracking import Artifact, Origin, RunRecord, Stage, Store, Tag
from rmer.training.protocol import AdversarialTraining, FitParams

TRAINING = {
    "training": FitParams.names(),
    "adversarial_training": tuple(f"adversarial_{field.name}" for field in fields(AdversarialTraining)),
}


@dataclass(frozen=True)
class Victim:
    """A model to attack, with the data as that model sees it.

    ``run`` is the train run it comes from, None for a model that is given by URI alone; ``digest`` stands
    for the weights; ``concepts`` names its supervised concepts, () where its units have no names. ``own`` is
    the data set that it was trained on, where ``dataset`` is another one.
    """

    model: nn.Module
    digest: str
    run: RunRecord | None
    dataset_run_id: str
    dataset: Dataset
    data: Standardised
    scheme: str
    fit_on: str
    system: str
    seed: str
    train_protocol: str
    concepts: tuple[str, ...]
    fold: int = 0
    own: Dataset | None = None

    @property
    def name_parts(self) -> tuple[str, ...]:
        """What a run's name calls it: ``A2M2E``, ``s6``, of folds ``f3``, on other data ``on deam``."""
        parts = model_parts(self.system, self.seed, self.fold)
        return parts if self.own is None else (*parts, f"on {name_of(self.dataset)}")

    @property
    def trained_on(self) -> str:
        """Digest of the data set that it was trained on."""
        return (self.own or self.dataset).digest

    @property
    def features(self) -> tuple[str, ...]:
        """The names of its units where these are features that it computes, else ()."""
        found: tuple[str, ...] = getattr(self.model, "unit_names", ())
        return found

    @property
    def training(self) -> dict[str, str]:
        """How the model was trained, apart from system and seed, where rmer trained it.

        Models that differ here are not repetitions of each other, so analysis keeps them apart.
        """
        params = {} if self.run is None else self.run.params
        described = {
            name: ", ".join(f"{key} {params[f'cfg.{key}']}" for key in keys if f"cfg.{key}" in params)
            for name, keys in TRAINING.items()
        }
        return {name: text for name, text in described.items() if text}

    def logged_scores(self, split: str) -> dict[str, float]:
        """Return the clean scores of one part that the training logged, metric -> value."""
        metrics = {} if self.run is None else self.run.metrics
        names = {metric: f"{split}/emotion/{metric}" for metric in ("mae", "corr")}
        return {metric: metrics[name] for metric, name in names.items() if name in metrics}


def model_parts(system: str, seed: object, fold: int = 0) -> tuple[str, ...]:
    """Return the parts of what a model is called: system, seed and, of a cross-validation, fold."""
    return (system, *([f"s{seed}"] if seed != "" else []), *([f"f{fold}"] if fold else []))


def model_in_words(system: str, seed: object, fold: int = 0) -> str:
    """Return what a model is called: ``A2M2E s6``, of a cross-validation ``A2M2E s6 f3``."""
    return " ".join(model_parts(system, seed, fold))


def victim_of_run(store: Store, run: RunRecord, dataset_run_id: str) -> Victim:
    """Load the model of a train run (its checkpoint; for a user's own run the model logged as ``model``).

    On another data set than its own it sees all clips, with its own targets and standardised as its own.
    """
    if run.tags.get(Tag.STAGE) != Stage.TRAIN:
        mend = "Give a train run's id"
        raise UserError(f"run {run.run_id} is not a train run", where=store.name, mend=mend)
    if run.tags.get(Tag.ORIGIN) == Origin.IMPORTED:
        what = f"run {run.run_id} was imported from published logs and holds no model"
        raise UserError(what, where=store.name, mend="Train the system, or give model_uri")
    if run.tags.get(Tag.ORIGIN, Origin.EXTERNAL) == Origin.COMPUTED:
        path = store.download(run.run_id, f"{Artifact.CHECKPOINTS}/best.safetensors")
        model: nn.Module = load_checkpoint(path)
    else:
        path = store.model_folder(f"runs:/{run.run_id}/model")
        model = store.load_model(f"runs:/{run.run_id}/model")
    return _victim(
        store,
        model,
        digest_of(path),
        run=run,
        dataset_run_id=dataset_run_id or run.tags.get(Tag.DATASET_RUN_ID, ""),
        study="",
        system=run.tags.get(Tag.SYSTEM, run.name),
        seed=run.tags.get(Tag.SEED, ""),
        train_protocol=run.tags.get(Tag.TRAIN_PROTOCOL, "published"),
        scheme=run.tags.get(Tag.SPLIT_SCHEME, "published"),
        fold=int(run.tags.get(Tag.FOLD, 0)),
        named_units=float(run.params.get("cfg.concept_weight", "1")) > 0
        and run.params.get("cfg.permuted_concepts", "false") != "true",
    )


def victim_of_uri(store: Store, params: AttackParams) -> Victim:
    """Load ``model_uri`` (:func:`rmer.stages.attack.given_models.given_model`).

    A model that names the train run which logged it is attacked as that run's, whatever the URI, provided
    that it is that run's model still. Of any other model only its user knows how the data were split and
    standardised for it.
    """
    given = given_model(store, params.model_uri)
    own = None if given.run is None else _as_of_run(store, given.run, given.model, params)
    if own is not None:
        return own
    system = params.system or given.name
    known = known_system(system)
    victim = _victim(
        store,
        given.model,
        given.digest,
        run=None,
        dataset_run_id=params.dataset_run_id,
        study=params.study,
        system=system,
        seed=params.seed,
        train_protocol=params.train_protocol or "published",
        scheme=params.split_scheme or "published",
        named_units=known is None or (known.supervises_concepts and not known.permuted_concepts),
    )
    # A module's weights are in its digest; what a function computes with is seen in its predictions alone.
    if not (is_code(params.model_uri) and is_black_box(victim.model)):
        return victim
    return replace(victim, digest=digest_with_predictions(victim.digest, victim.model, victim.data))


def _as_of_run(store: Store, run: RunRecord, model: nn.Module, params: AttackParams) -> Victim | None:
    """Return the model of the train run that ``model`` names, None where it is another one, which is said."""
    if run.tags.get(Tag.STAGE) != Stage.TRAIN:
        return None
    try:
        victim = victim_of_run(store, run, params.dataset_run_id)
    except UnlikeDataError:
        raise
    except UserError as error:
        reason = f"that run's cannot be read ({error})"
    else:
        if _is_same(model, victim):
            return victim
        reason = "its weights are others than that run's"
    named = f"{params.model_uri} names run {run.run_id} ({run.name})"
    tqdm.write(f"Note: {named}, but {reason}: attacked as a model of other origin", file=sys.stderr)
    return None


def _is_same(model: nn.Module, victim: Victim) -> bool:
    """Tell whether a model has the victim's weights and, up to rounding, its predictions of two clips."""
    weights, known = (_named_weights(network) for network in (model, victim.model))
    if not same_weights(weights, known):
        return False
    inputs = example_of(model, victim.data)
    with torch.no_grad():
        found, expected = (network(inputs)["output"] for network in (model, victim.model))
    return found.shape == expected.shape and torch.allclose(found, expected, rtol=1e-4, atol=1e-5)


def _named_weights(network: nn.Module) -> dict[str, torch.Tensor]:
    # An exported program stands one level below what it was loaded into.
    return {name.removeprefix("program."): values for name, values in network.state_dict().items()}


def _victim(
    store: Store,
    model: nn.Module,
    digest: str,
    *,
    run: RunRecord | None,
    dataset_run_id: str,
    study: str,
    system: str,
    seed: str,
    train_protocol: str,
    scheme: str,
    named_units: bool,
    fold: int = 0,
) -> Victim:
    dataset_run, dataset = find_dataset(store, dataset_run_id, study)
    fit_on = normalised_on(train_protocol)
    own = None if run is None else _own_dataset(store, run, dataset_run, dataset)
    data = standardise(own or dataset, scheme, fit_on, fold)
    if run is not None:
        _require_own_folds(run, own or dataset, data)
    if own is not None:
        where = f"data set of run {dataset_run.run_id} ({dataset_run.name})"
        dataset = as_targets_of(dataset, own, where=where)
        _require_unlearnt(own, data, dataset, where=where)
        data = on_other_data(data, dataset)
    model, units = _meeting_contract(model, data, dataset, where=system)
    return Victim(
        model=model,
        digest=digest,
        run=run,
        dataset_run_id=dataset_run.run_id,
        dataset=dataset,
        data=data,
        scheme=scheme,
        fit_on=fit_on,
        system=system,
        seed=seed,
        train_protocol=train_protocol,
        concepts=dataset.concepts if named_units and units == len(dataset.concepts) else (),
        fold=fold,
        own=own,
    )


def _require_own_folds(run: RunRecord, dataset: Dataset, data: Standardised) -> None:
    """Raise UserError where the parts of a fold are others than those that a model was trained on.

    Two preprocess runs of the same data may know other duplicates, or other names of files.
    """
    if run.params.get("cfg.fold_clips") in (None, members_digest(dataset, data)):
        return
    what = f"these data have other folds than {run.name} was trained in: it may have learnt what is tested"
    own = run.tags.get(Tag.DATASET_RUN_ID, "")
    mend = f"Give dataset_run_id {own}, the data that it was trained on" if own else "Train it on these data"
    raise UserError(what, where=f"run {run.run_id}", mend=mend)


def _require_unlearnt(own: Dataset, data: Standardised, dataset: Dataset, *, where: str) -> None:
    """Raise UnlikeDataError where clips of another data set are some that the model was trained on."""
    learnt = learnt_clips(own, np.concatenate([data.train.rows, data.validation.rows]), dataset)
    if learnt:
        named = ", ".join(learnt[:3]) + (", ..." if learnt[3:] else "")
        what = f"{counted(len(learnt), 'clip')} of it ({named}) the model was trained on or stopped by"
        raise UnlikeDataError(what, where=where, mend="Preprocess the data without them")


def _own_dataset(store: Store, run: RunRecord, dataset_run: RunRecord, dataset: Dataset) -> Dataset | None:
    """Return the data set that a model was trained on; None where that is ``dataset``, or it does not say."""
    run_id = run.tags.get(Tag.DATASET_RUN_ID, "")
    if run_id in ("", dataset_run.run_id) or run.tags.get(Tag.DATASET) == dataset.digest:
        return None
    _, own = find_dataset(store, run_id, "")
    return None if own.digest == dataset.digest else own


def _meeting_contract(
    model: nn.Module, data: Standardised, dataset: Dataset, *, where: str
) -> tuple[nn.Module, int]:
    """Return the model as the contract has it, and the number of its concept units.

    Raises UserError where it does not meet the contract.
    """
    require_finite(model.state_dict(), where=where, mend="Give a model whose training did not diverge")
    mend = "See the model contract in docs/own-model.md"
    inputs, targets = example_of(model, data), len(dataset.emotions)
    try:
        model = adapted(model, inputs)
        with torch.no_grad():
            prediction = model(inputs)
        output, units = prediction["output"], prediction["c_prob"]
        shape = tuple(output.shape)
    except (RuntimeError, TypeError, KeyError, IndexError, AttributeError, AssertionError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        what = f"the model does not map {list(inputs.shape)} to output and c_prob ({reason})"
        raise UserError(what, where=where, mend=mend) from error
    if shape != (len(inputs), targets):
        what = f"the model returns output {list(output.shape)}, the data set has {targets} targets"
        raise UserError(what, where=where, mend=mend)
    if not output.isfinite().all():
        raise UserError("the model predicts NaN or infinity for clean clips", where=where, mend=mend)
    return model, 0 if units is None else int(units.shape[1])
