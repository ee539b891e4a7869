"""Training: protocols, stopping, resuming bit for bit, adversarial steps."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from networks import synthetic_data

from rmer.errors import UserError
from rmer.systems.catalogue import CATALOGUE
from rmer.training.checkpoint import TrainingState
from rmer.training.fit import EpochMetrics, Fitted, fit
from rmer.training.protocol import AdversarialTraining, resolve_fit
from rmer.training.stopping import EarlyStopping

DATA = synthetic_data()


def config(system: str = "A2M2E", protocol: str = "published", **changes: object) -> object:
    settings = {"seed": 6, "epochs": 3, "adversarial_iterations": 2, **changes}
    return resolve_fit(CATALOGUE[system], protocol, **settings)


def same_weights(a: Fitted, b: Fitted) -> bool:
    pairs = zip(a.state.network.values(), b.state.network.values(), strict=True)
    return all(torch.equal(x, y) for x, y in pairs)


class Killed(BaseException):
    """Stands for the end of the process in mid-training."""


def fit_until_killed(settings: object, checkpoint: Path, last: int) -> None:
    def kill(epoch: int, metrics: EpochMetrics) -> None:
        if epoch == last:
            raise Killed

    with pytest.raises(Killed):
        fit(DATA, settings, checkpoint=checkpoint, on_epoch=kill)


@pytest.mark.parametrize(
    ("system", "protocol", "schedule"),
    [
        ("A2M2E", "published", "constant"),
        ("aA2E", "published", "constant"),
        ("A2B2E", "corrected", "cosine"),
        ("aA2M2E", "corrected", "constant"),
    ],
)
def test_an_interrupted_fit_ends_in_the_same_weights(
    system: str, protocol: str, schedule: str, tmp_path: Path
) -> None:
    settings = config(system, protocol, epochs=6, lr_schedule=schedule)
    whole = fit(DATA, settings)
    fit_until_killed(settings, tmp_path / "state.pt", 3)
    torch.rand(17)  # whatever the new process did with the global generator
    seen: list[int] = []
    resumed = fit(
        DATA, settings, checkpoint=tmp_path / "state.pt", on_epoch=lambda epoch, metrics: seen.append(epoch)
    )
    assert same_weights(whole, resumed)
    assert seen == [1, 2, 3, 4, 5, 6]
    drop = {"cost/epoch_seconds"}
    for mine, other in zip(whole.history, resumed.history, strict=True):
        assert {k: v for k, v in mine.items() if k not in drop} == {
            k: v for k, v in other.items() if k not in drop
        }


def test_training_leaves_the_callers_random_stream_alone() -> None:
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    fit(DATA, config(epochs=1))
    assert torch.equal(torch.rand(3), expected)


def test_the_learning_rate_follows_its_schedule() -> None:
    cosine = config("A2E", "corrected", epochs=4, lr=1e-2, lr_schedule="cosine")
    expected = [1e-2, 1e-2 * (2 + 2**0.5) / 4, 5e-3, 1e-2 * (2 - 2**0.5) / 4]
    assert [cosine.lr_of(epoch) for epoch in (1, 2, 3, 4)] == pytest.approx(expected)
    fitted = fit(DATA, cosine)
    assert fitted.state.optimiser["param_groups"][0]["lr"] == pytest.approx(expected[-1])
    constant = config("A2E", "corrected", epochs=4, lr=1e-2)
    assert [constant.lr_of(epoch) for epoch in (1, 2, 3, 4)] == [1e-2] * 4
    assert "lr_schedule" not in constant.values()  # what goes without saying
    assert cosine.values()["lr_schedule"] == "cosine"


def test_seeds_make_the_difference() -> None:
    assert same_weights(fit(DATA, config(epochs=1)), fit(DATA, config(epochs=1)))
    assert not same_weights(fit(DATA, config(epochs=1)), fit(DATA, config(epochs=1, seed=7)))


@pytest.mark.rounding
def test_a_system_learns() -> None:
    fitted = fit(DATA, config("A2E", "corrected", epochs=12, lr=2e-3))
    assert fitted.history[-1]["train/loss"] < fitted.history[0]["train/loss"] / 2
    assert fitted.history[fitted.best_epoch - 1]["val/emotion/corr"] > 0.5


def test_the_best_epoch_is_returned_not_the_last() -> None:
    fitted = fit(DATA, config("A2E", "corrected", epochs=8))
    values = [metrics["val/stopping"] for metrics in fitted.history]
    assert values[fitted.best_epoch - 1] == max(values)
    again = fit(DATA, config("A2E", "corrected", epochs=fitted.best_epoch))
    expected = again.state.network
    assert all(torch.equal(expected[key], value) for key, value in fitted.network.state_dict().items())


def test_published_adversarial_epochs_are_every_fifth() -> None:
    fitted = fit(DATA, config("aA2E", epochs=10))
    attacked = [n for n, m in enumerate(fitted.history, start=1) if "train/adversarial_loss" in m]
    assert attacked == [5, 10]
    clean = fit(DATA, config("A2E", epochs=5)).history
    losses = [[metrics["train/loss"] for metrics in history[:5]] for history in (clean, fitted.history)]
    assert losses[0][:4] == losses[1][:4], "before the fifth epoch nothing differs"
    assert losses[0][4] != losses[1][4]


def test_what_is_kept_of_an_adversarial_training_is_not_the_network_without_it() -> None:
    # The patience alone would end it before the fifth epoch, and of five epochs only the fifth may be kept.
    clean = fit(DATA, config("A2B2E", epochs=5, patience=1))
    adversarial = fit(DATA, config("aA2B2E", epochs=5, patience=1))
    assert (adversarial.best_epoch, len(adversarial.history)) == (5, 5)
    pairs = zip(clean.network.state_dict().values(), adversarial.network.state_dict().values(), strict=True)
    assert not all(torch.equal(a, b) for a, b in pairs)


def test_an_interrupted_adversarial_training_keeps_no_epoch_from_before_it_acted(tmp_path: Path) -> None:
    settings = config("aA2B2E", epochs=5)
    fit_until_killed(settings, tmp_path / "state.pt", 2)
    assert fit(DATA, settings, checkpoint=tmp_path / "state.pt").best_epoch == 5


def test_epochs_that_do_not_count_change_nothing_where_the_best_one_does() -> None:
    early = 0
    for seed in range(20):
        values = np.random.default_rng(seed).normal(size=40).round(1)  # with ties
        every, some = EarlyStopping(8), EarlyStopping(8, first=5)
        for stopping in (every, some):
            for epoch, value in enumerate(values, start=1):
                stopping.improved(value, epoch)
                if stopping.exhausted:
                    break
        assert some.best_epoch >= 5
        early += every.best_epoch < 5
        assert every.best_epoch < 5 or every == replace(some, first=1)
    assert 0 < early < 20


def test_corrected_adversarial_training_attacks_from_the_first_epoch_and_stops_on_attacked_clips() -> None:
    fitted = fit(DATA, config("aA2M2E", "corrected", epochs=1))
    metrics = fitted.history[0]
    mean = (metrics["val/emotion/corr"] + metrics["val/adversarial/corr"]) / 2
    assert metrics["val/stopping"] == pytest.approx(mean)
    assert not same_weights(fitted, fit(DATA, config("A2M2E", "corrected", epochs=1)))


@pytest.mark.parametrize("clips", [1, 9])
def test_odd_batches_train_under_the_corrected_protocol(clips: int) -> None:
    fitted = fit(synthetic_data(train=clips, validation=3), config("aA2E", "corrected", epochs=1))
    assert math.isfinite(fitted.history[0]["train/loss"])


def test_published_stopping_adds_the_units_of_every_bottleneck() -> None:
    metrics = fit(DATA, config("A2B2E", epochs=1)).history[0]
    assert metrics["val/stopping"] == metrics["val/emotion/corr"] + metrics["val/concept/corr"]
    metrics = fit(DATA, config("A2B2E", "corrected", epochs=1)).history[0]
    assert metrics["val/stopping"] == metrics["val/emotion/corr"]


def test_published_validation_drops_the_incomplete_batch() -> None:
    more = synthetic_data(validation=11)
    published = fit(more, config("A2E", epochs=1)).history[0]
    corrected = fit(more, config("A2E", "corrected", epochs=1)).history[0]
    assert published["val/emotion/corr"] != corrected["val/emotion/corr"]
    assert published["train/loss"] == corrected["train/loss"]


def test_a_system_without_concepts_trains_on_data_without_concepts() -> None:
    bare = synthetic_data(concepts=0)
    bare = replace(
        bare, train=replace(bare.train, concepts=None), validation=replace(bare.validation, concepts=None)
    )
    assert fit(bare, config("A2B2E", epochs=1, has_concepts=False)).history
    with pytest.raises(UserError, match="learns concepts"):
        fit(bare, config("A2M2E", epochs=1))


def test_any_weight_and_number_of_targets() -> None:
    data = synthetic_data(targets=1, concepts=2)
    fitted = fit(
        data, resolve_fit(CATALOGUE["A2M2E"].varied(task_loss_weight=0.3), "published", seed=1, epochs=1)
    )
    assert fitted.network.fc_ml2emo.weight.shape == (1, 2)


@pytest.mark.rounding
def test_bf16_steps_stay_close_to_fp32_and_validate_in_fp32() -> None:
    exact = fit(DATA, config(epochs=1)).history[0]["train/loss"]
    reduced = fit(DATA, config(epochs=1, precision="bf16")).history[0]["train/loss"]
    assert reduced == pytest.approx(exact, rel=0.05)
    assert reduced != exact


def test_nan_never_improves_and_a_tie_does() -> None:
    stopping = EarlyStopping(patience=2)
    assert not stopping.improved(math.nan, 1)
    assert stopping.improved(0.5, 2)
    assert stopping.improved(0.5, 3)
    assert not stopping.improved(math.nan, 4)
    assert not stopping.exhausted
    assert not stopping.improved(0.4, 5)
    assert stopping.exhausted
    assert stopping.best_epoch == 3


def test_diverged_training_is_a_clear_error() -> None:
    message = (
        r"^training, epoch 1: weights are NaN or infinite \(preconcept_model.* and \d+ more\)\. Lower lr$"
    )
    loud = replace(DATA.train, inputs=DATA.train.inputs * 1e38)
    with pytest.raises(UserError, match=message):
        fit(replace(DATA, train=loud), config("A2E", epochs=2))


def test_validation_without_a_score_is_a_clear_error() -> None:
    constant = replace(DATA.validation, labels=torch.full_like(DATA.validation.labels, 0.5))
    message = (
        r"^training: validation correlation was never a number: predictions or labels are constant\. "
        r"Lower lr, or give more validation clips$"
    )
    with pytest.raises(UserError, match=message):
        fit(replace(DATA, validation=constant), config("A2E", epochs=1))


def test_protocols_resolve_to_what_the_study_says() -> None:
    published = resolve_fit(CATALOGUE["aA2B2E"], "published", seed=6)
    assert (published.lr, published.batch_size, published.epochs, published.patience) == (5e-4, 8, 199, 50)
    assert published.adversarial == AdversarialTraining(iterations=50, every=5)
    assert published.stop_on_concepts
    assert published.drop_last
    corrected = resolve_fit(CATALOGUE["aA2M2E"], "corrected", seed=6)
    assert corrected.adversarial == AdversarialTraining(
        iterations=10, every=1, epsilon=0.02, norm="linf", share=0.5
    )
    assert (corrected.emotion_weight, corrected.concept_weight) == (0.5, 0.5)
    assert not corrected.stop_on_concepts
    assert not corrected.drop_last


@pytest.mark.parametrize("content", [b"", b"garbage", None])
def test_damaged_checkpoints_are_user_errors(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "state.pt"
    if content is None:
        torch.save({"epoch": 1}, path)
    else:
        path.write_bytes(content)
    with pytest.raises(UserError, match="not a training checkpoint"):
        TrainingState.load(path)
