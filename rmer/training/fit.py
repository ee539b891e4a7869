"""Fit one system: the epoch loop with validation, early stopping and checkpoints."""

from __future__ import annotations

import itertools
import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from rmer.attacks.base import BudgetError, require_none
from rmer.data.standardised import Standardised
from rmer.errors import UserError
from rmer.evaluation.metrics import regression_scores
from rmer.systems.devices import prepare_device
from rmer.systems.feature_network import FeatureNetwork
from rmer.systems.network import Prediction, build_network, unit_names
from rmer.systems.prediction import Array, predict
from rmer.systems.weights import require_finite
from rmer.training.adversarial import Sounds, attack_unbounded, batch_seed, crafting
from rmer.training.checkpoint import TrainingState
from rmer.training.last_layer import refit_last_layer
from rmer.training.protocol import FitConfig
from rmer.training.randomness import seeded, shuffled_batches
from rmer.training.ridge import fit_ridge
from rmer.training.stopping import EarlyStopping

EpochMetrics = dict[str, float]
OnEpoch = Callable[[int, EpochMetrics], None]

# Saving costs about as much as a few small batches: at most this share of the time goes into it.
_CHECKPOINT_SHARE = 0.02
# Name under which an epoch collects whether an adversary of a step left its budget.
_VIOLATIONS = "violations"


@dataclass(frozen=True)
class Fitted:
    """The best network of a fit, in evaluation mode on the CPU, and how it came about."""

    network: nn.Module
    best_epoch: int
    history: list[EpochMetrics]
    state: TrainingState


def fit(
    data: Standardised,
    config: FitConfig,
    *,
    device: torch.device | str = "cpu",
    checkpoint: Path | None = None,
    on_epoch: OnEpoch | None = None,
    sounds: Sounds | None = None,
) -> Fitted:
    """Train a system and return the network of its best validation epoch.

    Of an adversarially trained system, epochs count from :attr:`FitConfig.first_kept` on: earlier ones are
    neither kept nor held against the patience. A network on features is fitted at once, in the one epoch that
    it has. Where the file ``checkpoint`` exists, training goes on from
    the state in it. ``on_epoch`` is called after each epoch (numbered from 1) with its metrics, also for
    epochs read from the checkpoint, so that a caller sees the whole history once. ``sounds`` are the
    recordings of training and validation clips as rows (:mod:`rmer.data.audio.recordings`), for adversarial
    training on the waveform.

    Raises UserError where the system learns concepts and the data set has none, there are too few epochs for
    adversarial training to act, weights are not numbers after an epoch, or validation never had a defined
    score.
    """
    device = torch.device(device)
    config.check_epochs()
    if config.concept_weight > 0 and data.train.concepts is None:
        mend = "Preprocess with midlevel_dir, or train A2E or A2B2E"
        raise UserError("this system learns concepts, and the data set has none", where="data set", mend=mend)
    prepare_device(device)
    with seeded(config.seed, device):
        training = _Training(data, config, device, checkpoint, sounds)
        before = enumerate(list(training.history), start=1)
        for epoch, metrics in itertools.chain(before, training.epochs()):
            if on_epoch is not None:
                on_epoch(epoch, metrics)
        return training.finish()


class _Training:
    """Everything that changes during a fit."""

    def __init__(
        self,
        data: Standardised,
        config: FitConfig,
        device: torch.device,
        checkpoint: Path | None,
        sounds: Sounds | None,
    ) -> None:
        self.data, self.config, self.device, self.path = data, config, device, checkpoint
        self.train, self.validation = data.train.to(device), data.validation.to(device)
        if config.permuted_concepts and self.train.concepts is not None:
            # Dealt out anew, in an order from a generator of its own.
            order = torch.randperm(len(self.train), generator=torch.Generator().manual_seed(config.seed))
            self.train = replace(self.train, concepts=self.train.concepts[order.to(device)])
        concepts = 7 if data.train.concepts is None else data.train.concepts.shape[1]
        sizes = data.train.labels.shape[1], concepts
        network = build_network(config.arch, *sizes, config.width, config.dropout)
        # Convolutions are faster when channels come last, and Adam when it is one pass over its state.
        self.network = network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        fused = device.type in ("cpu", "cuda")
        self.optimiser = torch.optim.Adam(self.network.parameters(), lr=config.lr, fused=fused)
        self.crafting = crafting(self.network, data, config, device, sounds)
        self.stopping = EarlyStopping(config.patience, first=config.first_kept)
        self.best: dict[str, Tensor] | None = None
        self.history: list[EpochMetrics] = []
        self.saving = _Share(_CHECKPOINT_SHARE)
        if checkpoint is not None and checkpoint.exists():
            self._restore(TrainingState.load(checkpoint))

    def epochs(self) -> Iterator[tuple[int, EpochMetrics]]:
        """Run the epochs that are left, one at a time."""
        at_once = isinstance(self.network, FeatureNetwork)
        for epoch in range(len(self.history) + 1, (1 if at_once else self.config.epochs) + 1):
            if self.stopping.exhausted:
                break
            started = time.perf_counter()
            if isinstance(self.network, FeatureNetwork):
                metrics = fit_ridge(self.network, self.train, self.validation, self.data.normalisation)
            else:
                metrics = self._train_epoch(epoch)
            if self.config.last_layer != "joint":
                refit_last_layer(self.network, self.train, self.config.last_layer)
            metrics |= self._validate(epoch)
            value = self._stopping_value(metrics)
            if self.stopping.improved(value, epoch):
                self.best = _copied(self.network.state_dict())
            metrics |= {"val/stopping": value, "cost/epoch_seconds": time.perf_counter() - started}
            self.history.append(metrics)
            if self.path is not None and self.saving.due():
                with self.saving.timed():
                    self._state().save(self.path)
            yield epoch, metrics

    def finish(self) -> Fitted:
        """Return the best network."""
        if self.best is None:
            what = "validation correlation was never a number: predictions or labels are constant"
            raise UserError(what, where="training", mend="Lower lr, or give more validation clips")
        require_finite(self.best, where="training", mend="Delete the run and train again")
        state = self._state()
        if self.path is not None:
            state.save(self.path)
        self.network.load_state_dict(self.best)
        return Fitted(self.network.cpu().eval(), self.stopping.best_epoch, self.history, state)

    def _train_epoch(self, epoch: int) -> EpochMetrics:
        values = {name: torch.stack(found) for name, found in self._steps(epoch).items()}
        require_finite(self.network.state_dict(), where=f"training, epoch {epoch}", mend="Lower lr")
        # Only here a GPU is waited for.
        if _VIOLATIONS in values and bool(values.pop(_VIOLATIONS).any()):
            raise BudgetError(f"adversarial training left its budget ({self.config.adversarial})")
        return {name: float(found.mean()) for name, found in values.items()}

    def _steps(self, epoch: int) -> dict[str, list[Tensor]]:
        """Do the steps of an epoch; return what each comes to, on the device."""
        config, adversarial = self.config, self.config.adversarial
        found: defaultdict[str, list[Tensor]] = defaultdict(list)
        attacked = adversarial is not None and epoch % adversarial.every == 0
        for group in self.optimiser.param_groups:
            group["lr"] = config.lr_of(epoch)
        for number, rows in enumerate(shuffled_batches(len(self.train), config, self.device)):
            inputs, labels = self.train.inputs[rows], self.train.labels[rows]
            concepts = None if self.train.concepts is None else self.train.concepts[rows]
            if attacked and adversarial is not None and self.crafting is not None:
                assert adversarial.share is not None
                share, seed = math.ceil(adversarial.share * len(rows)), batch_seed(config.seed, epoch, number)
                crafted, violations = self.crafting.attacked("train", rows[:share], labels[:share], seed)
                inputs = torch.cat([crafted, inputs[share:]])
                found[_VIOLATIONS].append(violations.any())
            loss = self._step(inputs, partial(self._loss, labels=labels, concepts=concepts))
            found["train/loss"].append(loss)
            if attacked and adversarial is not None and self.crafting is None:
                crafted = attack_unbounded(self.network, inputs, labels, adversarial, config.precision)
                loss = self._step(crafted, partial(_emotion_loss, labels=labels))
                found["train/adversarial_loss"].append(loss)
        return found

    def _step(self, inputs: Tensor, loss_of: Callable[[Prediction], Tensor]) -> Tensor:
        if not self.network.training:  # which takes as long to say as a small layer to compute
            self.network.train()
        self.optimiser.zero_grad()
        reduced = self.config.precision == "bf16"
        inputs = inputs.to(memory_format=torch.channels_last)
        with torch.autocast(self.device.type, torch.bfloat16) if reduced else nullcontext():
            predictions = self.network(inputs)
        loss = loss_of({name: None if v is None else v.float() for name, v in predictions.items()})  # type: ignore[arg-type]
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimiser.step()
        return loss.detach()

    def _loss(self, predictions: Prediction, labels: Tensor, concepts: Tensor | None) -> Tensor:
        loss = self.config.emotion_weight * _emotion_loss(predictions, labels)
        if self.config.concept_weight > 0 and concepts is not None and predictions["c_prob"] is not None:
            loss = loss + self.config.concept_weight * mse_loss(predictions["c_prob"], concepts)
        return loss

    def _validate(self, epoch: int) -> EpochMetrics:
        # The published loop made a data loader here, which draws one seed from the global generator.
        torch.empty((), dtype=torch.int64).random_()
        part, size, kept = self.validation, self.config.batch_size, len(self.validation)
        if self.config.drop_last and kept >= size:
            kept = kept // size * size
        inputs, labels = part.inputs[:kept], part.labels[:kept]
        self.network.eval()
        outputs, units = predict(self.network, inputs)
        metrics = {f"val/emotion/{name}": value for name, value in _scores(labels, outputs).items()}
        metrics["val/loss"] = float(np.square(outputs - labels.cpu().numpy()).mean())
        named = bool(unit_names(self.config.arch))  # features are no guesses of rated concepts
        if units is not None and part.concepts is not None and not named:
            scores = _scores(part.concepts[:kept], units)
            metrics |= {f"val/concept/{name}": value for name, value in scores.items()}
        if self.crafting is not None:
            every, seed = torch.arange(kept, device=self.device), batch_seed(self.config.seed, 0, 0)
            crafted, violations = self.crafting.attacked("validation", every, labels, seed)
            require_none(violations, self.crafting.threats["validation"], "validation")
            metrics["val/adversarial/corr"] = _scores(labels, predict(self.network, crafted)[0])["corr"]
        return metrics

    def _stopping_value(self, metrics: EpochMetrics) -> float:
        if self.config.last_layer != "joint":
            return metrics["val/concept/corr"]
        value = metrics["val/emotion/corr"]
        if self.config.stop_on_concepts:
            value += metrics["val/concept/corr"]
        if "val/adversarial/corr" in metrics:
            value = (value + metrics["val/adversarial/corr"]) / 2
        return value

    def _state(self) -> TrainingState:
        return TrainingState(
            epoch=len(self.history),
            network=_copied(self.network.state_dict()),
            optimiser=self.optimiser.state_dict(),
            stopping=self.stopping,
            best=self.best,
            rng=torch.get_rng_state(),
            cuda_rng=torch.cuda.get_rng_state(self.device) if self.device.type == "cuda" else None,
            history=self.history,
        )

    def _restore(self, state: TrainingState) -> None:
        self.network.load_state_dict(state.network)
        self.optimiser.load_state_dict(state.optimiser)
        self.stopping, self.best, self.history = state.stopping, state.best, state.history
        torch.set_rng_state(state.rng)
        if state.cuda_rng is not None and self.device.type == "cuda":
            torch.cuda.set_rng_state(state.cuda_rng, self.device)


def _emotion_loss(predictions: Prediction, labels: Tensor) -> Tensor:
    return mse_loss(predictions["output"], labels)


class _Share:
    """Says when a chore is due, so that it takes at most a given share of the time."""

    def __init__(self, share: float) -> None:
        self.share, self.cost, self.last = share, 0.0, time.perf_counter()

    def due(self) -> bool:
        return time.perf_counter() - self.last >= self.cost / self.share

    @contextmanager
    def timed(self) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self.last = time.perf_counter()
        self.cost = self.last - started


def _copied(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return a state that stays as it is, in the order in which files hold it."""
    return {name: value.detach().cpu().contiguous().clone() for name, value in state.items()}


def _scores(labels: Tensor, predictions: Array) -> Mapping[str, float]:
    names = [str(column) for column in range(labels.shape[1])]
    return regression_scores(labels.cpu(), predictions, names).mean
