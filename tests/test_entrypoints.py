"""Commands: one declaration of parameters for all, clear errors, light help."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner
from conftest import ROOT

from entrypoints.cli import COMMANDS, main
from rmer.parameters import Parameters
from rmer.stages.analysis.analyze_params import AnalyzeParams
from rmer.stages.attack.attack_params import AttackParams
from rmer.stages.data.demo_data import DemoParams
from rmer.stages.data.preprocess import PreprocessParams
from rmer.stages.import_published import ImportParams
from rmer.stages.predict.predict_params import PredictParams
from rmer.stages.study.plan import StudyParams, make_plan
from rmer.stages.study.sweep import SweepParams
from rmer.stages.train_params import TrainParams

ENTRY_POINTS: dict[str, type[Parameters]] = {
    "main": StudyParams,
    "preprocess": PreprocessParams,
    "train": TrainParams,
    "attack": AttackParams,
    "analyze": AnalyzeParams,
    "predict": PredictParams,
    "sweep": SweepParams,
    "import_published": ImportParams,
    "demo_data": DemoParams,
}


def mlproject() -> dict[str, Any]:
    return yaml.safe_load((ROOT / "MLproject").read_text())


def test_mlproject_has_these_entry_points() -> None:
    assert set(mlproject()["entry_points"]) == set(ENTRY_POINTS)


@pytest.mark.parametrize("name", ENTRY_POINTS)
def test_mlproject_hands_on_what_it_declares_under_its_own_name(name: str) -> None:
    entry = mlproject()["entry_points"][name]
    options = " ".join(f"--{parameter} {{{parameter}}}" for parameter in entry["parameters"])
    assert entry["command"].strip() == f"python -m entrypoints.cli {name} {options}"
    assert set(entry["parameters"]) <= set(ENTRY_POINTS[name].names())


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself(name: str) -> None:
    result = CliRunner().invoke(main, [name, "--help"])
    assert result.exit_code == 0
    assert COMMANDS[name] in " ".join(result.output.split()), "as in the list of commands"


def test_help_does_not_wait_for_torch_or_mlflow() -> None:
    code = (
        "import sys; from entrypoints.cli import main; main(['--help'], standalone_mode=False); "
        "sys.exit(bool({'torch', 'mlflow'} & set(sys.modules)))"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, check=True)


def test_text_becomes_values() -> None:
    texts = {"seed": "21", "lr": "5e-4", "adversarial": "True", "task_loss_weight": "", "study": ""}
    params = TrainParams.from_mapping(texts)
    assert (params.seed, params.lr, params.adversarial, params.task_loss_weight) == (21, 0.0005, True, None)


TOO_SHORT = (
    "rmer: parameter epochs: adversarial training acts first in epoch 5 of the published protocol, and 4 is "
    "the last. Give 5 or more, or leave out adversarially trained systems\n"
)


@pytest.mark.parametrize(
    "arguments",
    [
        ["train", "--system", "aA2B2E", "--epochs", "4"],
        ["main", "--epochs", "4", "--train_protocol", "published"],
        ["main", "--systems", "A2E,aA2E", "--epochs", "4", "--train_protocol", "published", "--dry_run"],
        ["sweep", "--train", "{system: [A2E, aA2E], epochs: 4}"],
    ],
)
def test_a_training_that_ends_before_it_is_adversarial_is_refused_before_anything_is_done(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(main, arguments)
    assert (result.exit_code, result.stderr) == (2, TOO_SHORT)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "range_"), [("adversarial_share", "[1e-06, 1.0]"), ("adversarial_epsilon", "[1e-06, 100.0]")]
)
def test_adversarial_training_that_attacks_nothing_is_refused(name: str, range_: str) -> None:
    result = CliRunner().invoke(
        main, ["train", "--system", "aA2E", "--train_protocol", "corrected", f"--{name}", "0"]
    )
    message = f"rmer: parameter {name}: 0.0 is out of range. Give a number in {range_}\n"
    assert (result.exit_code, result.stderr) == (2, message)


PUBLISHED_YAML = """
alpha: null
clip_eps: 0.001
conv_method: mse
lr: 0.01
max_iters: 12
mode: untargeted
optimiser: SGD
sign: false
target: random
"""


def test_the_published_configuration_file_is_understood(tmp_path: Path) -> None:
    path = tmp_path / "attack_config.yaml"
    path.write_text(PUBLISHED_YAML)
    params = AttackParams.from_mapping({"config": str(path), "max_iters": "1000", "attack": ""})
    assert (params.epsilon, params.conv_method, params.lr, params.optimiser) == (0.001, "mse", 0.01, "SGD")
    assert params.sign is False
    assert params.alpha is None
    assert params.max_iters == 1000, "a flag wins over the file, also where it gives the default"


def test_a_number_of_a_file_may_be_written_as_on_the_command_line(tmp_path: Path) -> None:
    path = tmp_path / "attack.yaml"
    path.write_text("lr: 5e-4")  # YAML reads this as text
    assert AttackParams.from_mapping({"config": str(path)}).lr == 5e-4


def test_sizes_fill_in_what_is_not_given() -> None:
    small = make_plan(StudyParams(frames=50))
    assert (small.params.frames, small.seeds, len(small.models)) == (50, [6, 21], 8)
    full = make_plan(StudyParams(size="full", systems="interpretable"))
    assert (full.params.frames, full.params.epochs, full.params.max_iters) == (313, 199, 1000)
    assert full.seeds == [6, 21, 42, 796, 950, 2025, 2324, 2451, 3100, 7192]


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ({"system": "aA2M2E", "arch": "plain"}, "aA2E"),
        ({"system": "aA2E", "arch": "bottleneck"}, "aA2M2E"),
        ({"system": "A2B2E", "arch": "bottleneck"}, "A2B2E"),
        ({"system": "aA2M2E", "adversarial": "false"}, "A2M2E"),
        ({"arch": "bottleneck", "task_loss_weight": "1.0", "adversarial": "true"}, "aA2B2E"),
        ({"task_loss_weight": "0.3"}, "A2M2E w.3"),
    ],
)
def test_free_parameters_change_what_they_name_and_nothing_else(given: dict[str, str], name: str) -> None:
    assert TrainParams.from_mapping(given).resolve_system().name == name


def test_parameters_go_to_stages_under_their_own_names() -> None:
    plan = make_plan(StudyParams(epsilon=0.03, study="x", attacks="published,suite"))
    assert plan.train_params(*plan.models[0], "run").epochs == plan.params.epochs
    assert plan.attack_params("suite", "run").epsilon == 0.03
    assert plan.attack_params("published", "run").epsilon is None, "the published epsilon is not the suite's"


def test_a_paper_suite_is_a_run_for_each_norm_with_a_source_that_is_no_control() -> None:
    plan = make_plan(StudyParams(systems="placebo,A2M2E,A2E", attacks="suite,pgd", tier="paper", steps=7))
    assert list(plan.attack_variants) == ["suite", "suite l2", "suite masking", "pgd"]
    suite, pgd = (plan.attack_params(name, "run") for name in ("suite l2", "pgd"))
    assert (suite.norm, suite.settings["tier"], suite.steps) == ("l2", "paper", None)
    assert (pgd.steps, pgd.tier) == (7, "")
    heard = plan.attack_params("suite masking", "run", "data")
    assert (heard.domain, heard.norm, heard.settings["tier"]) == ("waveform", "masking", "brief")
    assert (heard.soundtracks_dir, heard.epsilon) == ("data", None)
    sources = {system.name: plan.source_of(system) for system in plan.systems}
    found = {name: source.name for name, source in sources.items() if source}
    assert found == {"placebo": "A2M2E", "A2M2E": "A2E", "A2E": "A2M2E"}


def test_every_entry_point_module_runs_its_command() -> None:
    for name in ENTRY_POINTS:
        assert importlib.import_module(f"entrypoints.{name}").cli.name.replace("-", "_") == name


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("rmer tr", ["train"]),
        ("rmer train --sy", ["--system"]),
        ("rmer train --system aA2", ["aA2E", "aA2B2E", "aA2M2E"]),
        ("rmer attack --tier q", ["quick"]),
        ("rmer preprocess --data_dir /m", ["/m"]),  # a path: the shell itself completes it
    ],
)
def test_a_shell_completes_commands_options_and_values(
    typed: str, offered: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COMP_WORDS", typed)
    monkeypatch.setenv("COMP_CWORD", str(len(typed.split()) - 1))
    result = CliRunner().invoke(main, prog_name="rmer", env={"_RMER_COMPLETE": "bash_complete"})
    assert [line.split(",")[1] for line in result.output.splitlines()] == offered


def test_the_command_alone_shows_its_help() -> None:
    result = CliRunner().invoke(main, [], prog_name="rmer")
    assert result.output.splitlines()[0] == "Usage: rmer [OPTIONS] COMMAND [ARGS]..."
    assert "\n  train " in result.output
