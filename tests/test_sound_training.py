"""Adversarial training on the sound of clips: what is attacked, its budget, resuming, the stage."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from sounds import FRAMES, clips
from torch import Tensor

from rmer.attacks.sound_budgets import SOUND_NORMS, epsilon_of
from rmer.attacks.sound_threat import SoundThreat
from rmer.data.audio.recordings import HEADER
from rmer.data.audio.row_frontend import Rows2Spect
from rmer.data.dataset import Normalisation
from rmer.data.demo.demo_files import write_demo_data
from rmer.data.standardised import Part, Standardised
from rmer.errors import UserError
from rmer.stages.attack.attack import attack
from rmer.stages.attack.attack_params import AttackParams
from rmer.stages.data.found_recordings import _decoded
from rmer.stages.data.preprocess import PreprocessParams, preprocess
from rmer.stages.train import train
from rmer.stages.train_params import TrainParams
from rmer.systems.catalogue import CATALOGUE
from rmer.systems.network import build_network
from rmer.tracking import Store, Tag
from rmer.training.adversarial import Crafting, Sounds, crafting
from rmer.training.fit import EpochMetrics, fit
from rmer.training.protocol import AdversarialTraining, FitConfig, resolve_fit

NORMALISATION = Normalisation(1.2, 0.7)
TRAINED = ("ordinary", "from its start", "to its end", "silence around")
VALIDATED = ("repeated", "faint", "wraps at full scale")


def rows_of(names: tuple[str, ...]) -> Tensor:
    return torch.from_numpy(np.stack([clips()[name].row(FRAMES) for name in names]))[:, None]


def part_of(rows: Tensor, seed: int) -> Part:
    inputs = (Rows2Spect(FRAMES)(rows[:, 0]) - NORMALISATION.mean) / NORMALISATION.std
    labels = torch.rand(len(rows), 2, generator=torch.Generator().manual_seed(seed))
    return Part(np.arange(len(rows)), inputs[:, None], labels, None)


SOUNDS: Sounds = {"train": rows_of(TRAINED), "validation": rows_of(VALIDATED)}
PARTS = {name: part_of(rows, seed) for seed, (name, rows) in enumerate(SOUNDS.items())}
DATA = Standardised(
    PARTS["train"],
    PARTS["validation"],
    PARTS["validation"],
    NORMALISATION,
    torch.full((149,), NORMALISATION.silence),
    PARTS["train"].inputs.amax((0, 1, 2)),
)


def config(**changes: object) -> FitConfig:
    given = {"epochs": 2, "batch_size": 4, "adversarial_iterations": 1, "adversarial_domain": "waveform"}
    return resolve_fit(CATALOGUE["aA2E"], "corrected", seed=6, has_concepts=False, **{**given, **changes})


def crafted_by(settings: FitConfig) -> Crafting:
    torch.manual_seed(0)
    found = crafting(build_network("plain", 2), DATA, settings, torch.device("cpu"), SOUNDS)
    assert found is not None
    return found


@pytest.mark.parametrize("norm", SOUND_NORMS)
def test_what_is_trained_on_is_the_spectrogram_of_a_sound_within_the_budget(norm: str) -> None:
    """The adversaries themselves, by the threat model of attacks; and that the network hears just them."""
    one = crafted_by(config(adversarial_norm=norm))
    clips = torch.tensor([2, 0])
    heard, violations = one.attacked("train", clips, DATA.train.labels[clips], seed=1)
    assert not violations.any()
    assert heard.shape == (2, 1, FRAMES, 149)
    clean = DATA.train.inputs[clips]
    assert ((heard - clean).abs().amax((1, 2, 3)) > 1e-3).all()
    budget = {"masking": -6.0, "snr": 40.0, "linf": -60.0}[norm]
    expected = SoundThreat.around(norm, epsilon_of(norm, budget), SOUNDS["train"])
    threat = one.threats["train"]
    assert threat.epsilon == expected.epsilon
    # The steps go the way that raises the error: further than the random start alone does.
    with torch.no_grad():
        network = one.model.model.eval()
        started, _ = crafted_by(config(adversarial_norm=norm, adversarial_iterations=1)).attacked(
            "train", clips, network(clean)["output"], seed=1
        )
        further, _ = crafted_by(config(adversarial_norm=norm, adversarial_iterations=8)).attacked(
            "train", clips, network(clean)["output"], seed=1
        )
        moved = [
            (network(each)["output"] - network(clean)["output"]).square().mean()
            for each in (started, further)
        ]
    assert moved[1] > moved[0]


def test_adversaries_that_no_file_holds_are_found_out() -> None:
    one = crafted_by(config(adversarial_norm="linf"))
    halves = SOUNDS["train"].clone()
    halves[..., HEADER:] += 0.5
    violations = replace(one, inputs={"train": halves}).attacked(
        "train", torch.tensor([0, 1]), DATA.train.labels[:2], seed=1
    )[1]
    assert violations.all()


def test_an_interrupted_fit_ends_in_the_same_weights(tmp_path: Path) -> None:
    class Killed(BaseException):
        pass

    def kill(epoch: int, metrics: EpochMetrics) -> None:
        if epoch == 1:
            raise Killed

    settings = config(adversarial_norm="linf")
    whole = fit(DATA, settings, sounds=SOUNDS)
    with pytest.raises(Killed):
        fit(DATA, settings, sounds=SOUNDS, checkpoint=tmp_path / "state.pt", on_epoch=kill)
    resumed = fit(DATA, settings, sounds=SOUNDS, checkpoint=tmp_path / "state.pt")
    pairs = zip(whole.state.network.values(), resumed.state.network.values(), strict=True)
    assert all(torch.equal(x, y) for x, y in pairs)
    assert "val/adversarial/corr" in whole.history[0]


def test_recordings_have_to_be_given() -> None:
    with pytest.raises(UserError, match="no recordings are given"):
        fit(DATA, config())


def test_what_a_configuration_says() -> None:
    settings = config(adversarial_budget=-10.0)
    assert settings.adversarial == AdversarialTraining(
        iterations=1, norm="masking", share=0.5, domain="waveform", budget=-10.0
    )
    said = {key: value for key, value in settings.values().items() if key.startswith("adversarial_")}
    assert said == {
        "adversarial_iterations": 1,
        "adversarial_every": 1,
        "adversarial_norm": "masking",
        "adversarial_share": 0.5,
        "adversarial_domain": "waveform",
        "adversarial_budget": -10.0,
    }


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"adversarial_norm": "l2"}, "no norm of domain waveform"),
        ({"adversarial_epsilon": 0.1}, "does not use it"),
        ({"adversarial_norm": "linf", "adversarial_budget": -91.0}, "less than a step"),
        ({"adversarial_domain": "spectrogram", "adversarial_budget": -6.0}, "adversarial_domain waveform"),
        ({"adversarial_domain": "spectrogram", "adversarial_norm": "snr"}, "no norm of domain spectrogram"),
        ({"system": "A2E"}, "is not trained adversarially"),
        ({"train_protocol": "published"}, "has no such setting"),
    ],
)
def test_parameters_that_do_not_go_together(given: dict[str, object], told: str) -> None:
    base = {"system": "aA2E", "train_protocol": "corrected", "adversarial_domain": "waveform"}
    with pytest.raises(UserError, match=told):
        TrainParams(**{**base, **given})  # type: ignore[arg-type]


def test_a_run_says_its_domain_and_its_model_is_attacked(store: Store, tmp_path: Path) -> None:
    folder = write_demo_data(tmp_path / "music", clips=11, seconds=1.2, seed=1, noise=0.1)
    preprocess(store, PreprocessParams(soundtracks_dir=str(folder), frames=FRAMES, workers=1))
    given = {"system": "aA2E", "epochs": 1, "train_protocol": "corrected", "adversarial_iterations": 1}
    given |= {"adversarial_domain": "waveform", "adversarial_norm": "linf"}
    trained = store.get(train(store, TrainParams(**given)).run_id)
    assert (trained.name, trained.tags[Tag.DOMAIN]) == ("aA2E s6 waveform", "waveform")
    assert trained.params["cfg.adversarial_norm"] == "linf"
    assert float(trained.params["cfg.adversarial_budget"]) == -60
    assert "cfg.adversarial_epsilon" not in trained.params
    params = AttackParams(attack="fgsm", domain="waveform", train_run_id=trained.run_id, listen=0)
    (attacked,) = attack(store, params)
    assert "domain waveform" in store.get(attacked.run_id).params["cfg.adversarial_training"]
    folder.rename(tmp_path / "elsewhere")
    _decoded.cache_clear()  # another process has heard nothing yet
    assert train(store, TrainParams(**given)).skipped, "what is finished needs no recordings"
    with pytest.raises(UserError, match="soundtracks_dir"):
        train(store, TrainParams(**given, adversarial_budget=-50.0))
