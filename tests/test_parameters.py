"""A parameter is declared once: where it then appears, and that digests stay what they were."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT
from plugins import run_beside

from rmer.stages.study.plan import SIZES, StudyParams, make_plan
from rmer.stages.study.study import config_of, settings_of
from rmer.stages.train import kept_from
from rmer.stages.train_params import TrainParams
from rmer.systems.network import build_network
from rmer.tracking import Stage, config_digest, connect

# One parameter of training more: file -> what stands there -> what stands there then.
DECLARED = '    decay: float = param(0.0, "weight decay of Adam", low=0.0, high=1.0)\n'
ADDED = {
    "rmer/training/protocol.py": ("    precision: str = param(", f"{DECLARED}    precision: str = param("),
    "rmer/training/fit.py": (", lr=config.lr,", ", lr=config.lr, weight_decay=config.decay,"),
}


@pytest.mark.parametrize(
    ("given", "digest"),
    [
        ({}, "532cddfb02c2b584"),
        ({"system": "aA2E"}, "3d733dc6b8479c72"),
        ({"system": "aA2M2E", "train_protocol": "corrected", "adversarial_norm": "l2"}, "5bb0c0407b743bf2"),
        ({"system": "A2B2E", "lr": 1e-3, "epochs": 10, "seed": 21, "patience": 3}, "d1977dd83df35d7f"),
    ],
)
def test_trainings_have_the_digests_that_stores_know(given: dict[str, Any], digest: str) -> None:
    fit = TrainParams(**given).resolve_fit()
    assert config_digest(Stage.TRAIN, {**fit.values(), **kept_from(fit)}) == digest


# What a small study was before it was to show something.
SMALL_ONCE: dict[str, Any] = {
    **{"systems": "published", "attacks": "published,bridge,suite", "train_protocol": "published"},
    **{"epochs": 8, "width": 1.0, "lr": 5e-4, "batch_size": 8, "adversarial_iterations": 5},
    **{"tier": "quick", "precision": "auto", "lr_schedule": "constant", "dropout": 0.3},
}


@pytest.mark.parametrize(
    ("given", "digest"),
    [
        ({}, "e28e27e44a031c19"),
        ({"size": "full", "tier": "paper_fixed"}, "c05fc8d4bd65d243"),
        ({"frames": 50, "train_protocol": "corrected", "epsilon": 0.02}, "7315d376e5089ddd"),
        (
            {"targets": "valence", "tier": "paper_fixed", "soundtracks_dir": "x", "workers": 3},
            "9e63f241b529ebae",
        ),
    ],
)
def test_studies_have_the_digests_that_stores_know(given: dict[str, Any], digest: str) -> None:
    once = {} if "size" in given else SMALL_ONCE
    plan = make_plan(StudyParams(domains="spectrogram", **{**once, **given}))
    assert config_digest(Stage.STUDY, config_of(plan, settings_of(plan, "d"))) == digest


def test_attacks_on_the_sound_make_another_study_that_says_each_of_them() -> None:
    silent, heard = (make_plan(StudyParams(domains=domains)) for domains in ("spectrogram", ""))
    more = settings_of(heard, "d").items() - settings_of(silent, "d").items()
    assert dict(more) == {"sound_suite_masking": "brief -6 dB over masked, reported -6 dB"}


def test_a_study_takes_what_its_stages_take_and_is_another_one_with_it() -> None:
    plan = make_plan(StudyParams(lr=1e-3, restarts=3, split_seed=7, systems="A2E", attacks="pgd,published"))
    assert plan.train_params(*plan.models[0], "").lr == 1e-3
    assert plan.attack_params("pgd", "").settings["restarts"] == 3
    assert plan.attack_params("published", "").settings["lr"] != 1e-3, "lr is that of the training"
    assert plan.preprocess_params("").split_seed == 7
    settings = settings_of(plan, "d")
    assert settings.items() >= {"lr": 1e-3, "restarts": 3}.items()
    assert set(settings) - {"restarts"} == set(
        settings_of(make_plan(StudyParams(domains="spectrogram")), "d")
    )


def test_a_small_study_trains_systems_that_are_no_networks_too() -> None:
    plan = make_plan(StudyParams(systems="A2E,ridge"))
    found = {model[0].name: plan.train_params(*model, "").resolve_fit() for model in plan.models}
    assert (found["A2E"].width, found["A2E"].dropout) == (0.125, 0.0)
    for config in found.values():
        build_network(config.arch, width=config.width, dropout=config.dropout)


def test_sizes_are_of_parameters_that_say_so() -> None:
    helps = {name: field.metadata["help"] for name, field in StudyParams.__dataclass_fields__.items()}
    assert helps["frames"].endswith("(small 56, full 313)")
    assert {name for name, text in helps.items() if "(small " in text} == set(SIZES["small"])


@pytest.mark.slow
def test_a_parameter_of_training_is_one_line_and_its_use(tmp_path: Path) -> None:
    """In a copy: it is an option, MLproject hands it on, and it is digested, logged and compared."""
    copy, uri = tmp_path / "copy", f"sqlite:///{tmp_path / 'mlflow.db'}"
    for name in ("rmer", "entrypoints"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("MLproject", "conda.yaml"):
        shutil.copy(ROOT / name, copy)
    for name, (before, after) in ADDED.items():
        text = (copy / name).read_text()
        assert text.count(before) == 1
        (copy / name).write_text(text.replace(before, after))
    done = run_beside(
        tmp_path,
        "demo-data --out_dir music --clips 20 --seconds 2",
        "preprocess --soundtracks_dir music --frames 24",
        "train --system A2E --epochs 1 --width .125 --device cpu",
        "main --dry_run --clips 20 --frames 24 --systems A2E --attacks pgd --decay .1",
        root=copy,
    )
    assert done.returncode == 0, done.stderr
    command = [sys.executable, "-m", "mlflow", "run", str(copy), "--env-manager", "local", "-e", "train"]
    given = ("system=A2E", "seed=21", "epochs=1", "width=.125", "device=cpu", "decay=.1")
    command += [part for value in given for part in ("-P", value)]
    subprocess.run(command, env={**os.environ, "MLFLOW_TRACKING_URI": uri}, cwd=tmp_path, check=True)
    store = connect(uri)
    trained = store.find(Stage.TRAIN)
    assert sorted(run.params["cfg.decay"] for run in trained) == ["0", "0.1"]
    done = run_beside(tmp_path, "attack --attack pgd --steps 1 --device cpu", "analyze", root=copy)
    assert done.returncode == 2
    assert "the attack runs found are not alike: training.decay: 0 (1 runs), 0.1 (1 runs)" in done.stderr
