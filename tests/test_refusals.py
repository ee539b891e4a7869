"""What a run would refuse by its parameters alone: refused in the dry run, and before anything is written."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from entrypoints.cli import main
from rmer.execution.engine_params import EngineParams
from rmer.execution.scheduler import check_engine
from rmer.stages.study.plan import StudyParams, make_plan

ENGINE = "parameter {}: engine serial does not use it. Leave it out, or choose engine {}"
NO_GPU = "a job sees 0 GPUs. Give job_gpus, cuda without a number, or another device"
NO_RAY = "Start it (ray start --head) and give auto or host:port, or leave ray_address out"

STUDIES = {
    "address without ray": (["--engine", "serial", "--ray_address", "x"],
                            ENGINE.format("ray_address", "ray")),
    "address for workers here": (["--engine", "local", "--ray_address", "x"],
                                 ENGINE.format("ray_address", "ray").replace("serial", "local")),
    "jobs at once in one process": (["--engine", "serial", "--jobs_at_once", "2"],
                                    ENGINE.format("jobs_at_once", "local or ray")),
    "two and a half GPUs": (
        ["--engine", "local", "--job_gpus", "2.5"],
        "parameter job_gpus: 2.5 cannot be had. Give a part of one, or a whole number",
    ),
    "no port": (
        ["--engine", "ray", "--ray_address", "x"],
        "ray x: no Ray cluster answers (invalid literal for int() with base 10: 'x'). " + NO_RAY,
    ),
    "nobody there": (
        ["--engine", "ray", "--ray_address", "127.0.0.1:1"],
        "ray 127.0.0.1:1: no Ray cluster answers ([Errno 111] Connection refused). " + NO_RAY,
    ),
    "GPU of a worker": (["--engine", "local", "--device", "cuda:63"], f"device cuda:63: {NO_GPU}"),
    "more demo clips than there are": (
        ["--clips", "1000"],
        "parameter clips: 1000 is out of range. Give a number in [6, 999]",
    ),
    "targets that demo data lacks": (
        ["--targets", "tension,joy"],
        "parameter targets: demo data has no joy. Give some of valence, energy, tension, anger, fear, happy, "
        "sad, tender, or soundtracks_dir",
    ),
    "nothing to transfer from": (
        ["--systems", "A2E", "--attacks", "transfer"],
        "parameter attacks: there is no other system to transfer to A2E from. Add a system, or leave "
        "transfer out",
    ),
    "no other seeds": (["--seeds", "6,x"], "parameter seeds: '6,x' is no list of seeds. Give whole numbers "
                       "from 0, separated by commas"),
}  # fmt: skip
SWEEPS = {
    "address without ray": (
        ["--train", "{system: A2E}", "--ray_address", "x"],
        ENGINE.format("ray_address", "ray"),
    ),
    "GPU of a worker": (
        ["--engine", "local", "--train", "{system: [A2E, A2M2E], device: 'cuda:63'}"],
        f"device cuda:63: {NO_GPU}",
    ),
    "number of adversarial training": (
        ["--train", "{system: [aA2E, A2E], adversarial_iterations: 5}"],
        "parameter adversarial_iterations: A2E under the published protocol is not trained adversarially. "
        "Leave it out",
    ),
    "weight of a plain system": (
        ["--train", "{system: A2E, task_loss_weight: .5}"],
        "task_loss_weight: the plain architecture has no concepts to weigh the emotions against. Leave it at "
        "1, or use arch=bottleneck",
    ),
    "losses that do not mix": (
        ["--attack", "{attack: pgd, loss: 'l1,corr'}"],
        "parameter loss: l1, corr cannot be restarts of one attack: each keeps another iterate. Give one of "
        "them, or several of l1, mse, outputs, signs",
    ),
    "budgets": (
        ["--attack", "{attack: pgd, epsilons: '.02'}"],
        "parameter epsilons: .02 does not hold the reported budget 0.01. Add it, or name the one to be "
        "reported with epsilon",
    ),
    "a dry run in a job": (
        ["--attack", "{attack: pgd, dry_run: true}"],
        "grid: attack: dry_run: jobs of a grid are run. Give it to sweep itself",
    ),
}


@pytest.mark.parametrize("dry_run", ["true", "false"])
@pytest.mark.parametrize("case", [("main", name) for name in STUDIES] + [("sweep", name) for name in SWEEPS])
def test_refused_at_once(
    case: tuple[str, str], dry_run: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, isolated_home: Path
) -> None:
    command, name = case
    arguments, message = (STUDIES if command == "main" else SWEEPS)[name]
    if "ray" in arguments:
        pytest.importorskip("ray")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    result = CliRunner().invoke(main, [command, *arguments, "--dry_run", dry_run])
    assert (result.exit_code, result.stderr) == (2, f"rmer: {message}\n")
    assert not list(tmp_path.rglob("*")), "nothing is written: no data, no store"


def test_a_study_of_its_own_name_may_hold_the_models_to_transfer_from() -> None:
    assert make_plan(StudyParams(systems="A2E", attacks="transfer", study="mine")).attack_variants == {
        "transfer": {"attack": "transfer", "norm": ""}
    }


def test_a_seed_is_trained_once() -> None:
    assert make_plan(StudyParams(seeds="6,06,21")).seeds == [6, 21]


def test_nodes_of_a_cluster_may_have_other_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ray")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    check_engine(EngineParams(engine="ray"), {"cuda:7"})
