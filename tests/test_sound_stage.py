"""Stage ``attack`` on the sound of a data set: its parameters, recordings, files, tables and metrics."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch

from rmer.data.audio.frontend import File2Spect
from rmer.data.demo.demo_files import write_demo_data
from rmer.data.preparation.excerpts import excerpt
from rmer.errors import DataErrors, UserError
from rmer.stages.attack.attack import attack
from rmer.stages.attack.attack_params import AttackParams
from rmer.stages.attack.victims import victim_of_run
from rmer.stages.data.preprocess import PreprocessParams, preprocess
from rmer.stages.study.cost import describe_attack
from rmer.stages.train import train
from rmer.stages.train_params import TrainParams
from rmer.systems.prediction import predict
from rmer.tracking import Artifact, RunRecord, Stage, Store, Tag

FRAMES = 24
RATIO = r"largest noise-to-mask ratio</dt><dd>([−0-9.]+) dB"  # noqa: RUF001


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Clips of 1.5 s, of which an excerpt is the half."""
    return write_demo_data(tmp_path_factory.mktemp("music") / "d", clips=24, seconds=1.5, seed=1, noise=0.1)


@pytest.fixture(scope="module")
def store(lasting_store: Store, folder: Path) -> Store:
    """A store with a data set and two models that were hardly trained."""
    preprocess(lasting_store, PreprocessParams(soundtracks_dir=str(folder), frames=FRAMES, workers=1))
    for system in ("A2E", "A2M2E"):
        train(lasting_store, TrainParams(system=system, seed=6, epochs=1, train_protocol="corrected"))
    return lasting_store


def attacked(store: Store, **given: object) -> RunRecord:
    """Attack A2E and return the run."""
    params = AttackParams(domain="waveform", system="A2E", **given)  # type: ignore[arg-type]
    (outcome,) = attack(store, params)
    return store.get(outcome.run_id)


def table(store: Store, record: RunRecord, path: str) -> pd.DataFrame:
    return store.read_table(record.run_id, path)


def test_what_is_logged_is_what_the_saved_files_do(store: Store, folder: Path) -> None:
    """Every number from the files alone, by way of the ordinary preprocessing."""
    record = attacked(store, attack="apgd", steps=3, restarts=1, budget=-10.0)
    assert record.name == "A2E s6 apgd -10dB"
    assert (record.tags[Tag.DOMAIN], record.tags[Tag.NORM], record.tags[Tag.BUDGET]) == (
        "waveform",
        "masking",
        "-10",
    )
    victim = victim_of_run(store, store.find(Stage.TRAIN, {Tag.SYSTEM: "A2E"})[0], "")
    part, clips = victim.data.test, table(store, record, Artifact.ADVERSARY_CLIPS)
    sounds = store.download(record.run_id, f"{Artifact.SOUNDS}/mae")
    read = File2Spect()
    spectrograms = []
    for row, clip in zip(part.rows, clips["clip"], strict=True):
        known = victim.dataset.clips.iloc[row]
        assert known["clip"] == clip
        spectrograms.append(excerpt(read(sounds / f"{clip}.wav"), int(known["excerpt_start"]), FRAMES))
        clean, adversary = (
            soundfile.read(at, dtype="int16")[0] for at in (folder / known["file"], sounds / f"{clip}.wav")
        )
        assert clean.shape == adversary.shape
        assert np.abs(clean).max() == np.abs(adversary).max()
    inputs = victim.data.normalisation.standardise(np.stack(spectrograms))[:, None]
    found, _ = predict(victim.model, torch.from_numpy(inputs))
    logged = clips[[f"adv_{name}" for name in victim.dataset.emotions]].to_numpy()
    assert np.abs(found - logged).max() < 1e-6
    assert record.metrics["adv/mae"] == pytest.approx(np.abs(found - part.labels.numpy()).mean(), abs=1e-6)
    assert record.metrics["adv/mae"] > record.metrics["clean/mae"] + 1e-3
    assert record.metrics["budget/violations"] == 0
    assert clips["noise_to_mask_db"].max() <= -10 + 1e-3
    assert (clips["audible_share"] == 0).all()


def test_the_worst_clips_can_be_listened_to(store: Store) -> None:
    record = attacked(store, attack="apgd", steps=3, restarts=1, budget=-10.0, listen=2)
    clips = table(store, record, Artifact.ADVERSARY_CLIPS)
    page = store.download(record.run_id, Artifact.LISTEN).read_text()
    folder = store.download(record.run_id, Artifact.LISTENING)
    assert sorted(file.name for file in (next(folder.iterdir())).iterdir()) == [
        "adversary.wav",
        "clean.wav",
        "difference.wav",
    ]
    kept = {path.name for path in folder.iterdir()}
    assert 2 <= len(kept) <= 5
    assert kept <= set(clips["clip"])
    assert all(f"{clip}" in page for clip in kept)
    assert "10 dB below what the music masks" in page
    ratios = [float(found.replace("−", "-")) for found in re.findall(RATIO, page)]  # noqa: RUF001
    known = clips.set_index("clip")["noise_to_mask_db"]
    assert sorted(ratios) == pytest.approx(sorted(known[clip] for clip in kept), abs=0.06)
    for clip in kept:
        sounds = store.download(record.run_id, f"{Artifact.SOUNDS}/mae/{clip}.wav")
        heard = (folder / clip / "adversary.wav").read_bytes()
        assert heard[-1000:] == sounds.read_bytes()[-1000:]


def test_a_curve_is_over_db(store: Store) -> None:
    """Steps are tenths of a dB over the signal, so that the last one is that of the largest budget."""
    record = attacked(store, attack="apgd", steps=2, restarts=1, norm="snr", budgets="30,40,50")
    curve = table(store, record, Artifact.CURVE)
    assert curve["db"].tolist()[1:] == [50.0, 40.0, 30.0]
    assert np.isnan(curve["db"][0])
    assert curve["epsilon"].tolist() == pytest.approx([0, 10**-2.5, 0.01, 10**-1.5])
    history = store.metric_history(record.run_id, "curve/mae")
    assert [step for step, _ in history] == [-500, -400, -300]
    assert [value for _, value in history] == pytest.approx(curve["mae"][1:].tolist())
    assert record.metrics["curve/mae"] == pytest.approx(curve["mae"].iloc[-1])
    assert record.metrics["adv/mae"] == pytest.approx(curve["mae"].iloc[2])
    assert curve["mae"].min() <= record.metrics["auc/mae"] <= curve["mae"].max()


def test_the_least_budget_and_the_joint_attack(store: Store) -> None:
    least = attacked(store, attack="minimum_norm", steps=3, bisections=4, growth=0.005, budget=6.0)
    clips = table(store, least, Artifact.ADVERSARY_CLIPS)
    found = clips["minimum_db"].dropna()
    assert len(found)
    assert (found <= 6).all()
    assert (clips["noise_to_mask_db"][found.index] <= found + 1e-3).all()
    joint = attacked(store, attack="apgd", steps=2, restarts=1, loss="corr", norm="linf")
    assert joint.metrics["adv/corr"] < joint.metrics["clean/corr"]
    moved = attacked(store, attack="transfer", steps=2)
    assert moved.params["cfg.source_system"] == "A2M2E"


def test_the_same_attack_is_skipped_and_another_budget_is_not(store: Store) -> None:
    given = {"attack": "noise", "draws": 1, "norm": "linf"}
    first, again = (attacked(store, **given) for _ in range(2))
    assert again.run_id == first.run_id
    assert attacked(store, **given, budget=-50.0).run_id != first.run_id


def test_recordings_that_are_missing_or_altered_are_all_named(
    store: Store, folder: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    victim = victim_of_run(store, store.find(Stage.TRAIN, {Tag.SYSTEM: "A2E"})[0], "")
    missing, altered, other = [victim.dataset.clips["file"].iloc[row] for row in victim.data.test.rows[:3]]
    (copy / missing).unlink()
    shutil.copy(copy / other, copy / altered)
    with pytest.raises(DataErrors, match="2 problems") as caught:
        attacked(store, attack="fgsm", soundtracks_dir=str(copy))
    assert "not found" in caught.value.problems[0]
    assert "another recording" in caught.value.problems[1]
    assert all(str(copy) in problem for problem in caught.value.problems)
    assert "soundtracks_dir" in str(caught.value)


def test_a_data_set_that_does_not_say_where_its_recordings_lie(store: Store, folder: Path) -> None:
    run_id = store.find(Stage.PREPROCESS)[0].run_id
    kept = store.get(run_id).tags[Tag.SOUNDTRACKS_DIR]
    assert kept == str(folder)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"attack": "bridge"}, "on spectrograms alone"),
        ({"attack": "published"}, "on spectrograms alone"),
        ({"norm": "l2"}, "no norm of domain waveform"),
        ({"epsilon": 0.1}, "does not use it"),
        ({"budgets": "-6,x"}, "no list of budgets"),
        ({"budgets": "-20,-10"}, "does not hold the reported budget -6 dB"),
        ({"budgets": "-6,-6.01"}, "share a step"),
        ({"norm": "linf", "budget": -91.0}, "less than a step"),
        ({"domain": "spectrogram", "budget": -6.0}, "Choose domain waveform"),
        ({"domain": "spectrogram", "norm": "masking"}, "no norm of domain spectrogram"),
        ({"domain": "sound"}, "not one of its values"),
    ],
)
def test_parameters_that_do_not_go_together(given: dict[str, object], told: str) -> None:
    with pytest.raises(UserError, match=told):
        AttackParams(**{"attack": "apgd", "domain": "waveform", **given})  # type: ignore[arg-type]


def test_a_dry_run_names_the_budgets_in_db(store: Store) -> None:
    told = describe_attack(store, AttackParams(attack="suite", domain="waveform", system="A2E", dry_run=True))
    assert "-20 dB over masked, -10 dB over masked, -6 dB over masked, 0 dB over masked" in told
