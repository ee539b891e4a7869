"""``precision=auto``: decided by what a machine measures, kept, and measured anew where that is lost."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from rmer.stages.attack.attack_params import AttackParams
from rmer.stages.decided_precision import decided_precision, with_decided_precision
from rmer.stages.study.plan import StudyParams, make_plan
from rmer.stages.train_params import TrainParams
from rmer.systems.arithmetic import has_native_bf16
from rmer.systems.fastest_precision import CLEARLY, machine_facts, measured_gain, resolve_precision

CPU = torch.device("cpu")
native = pytest.mark.skipif(not has_native_bf16(CPU), reason="this CPU has no instructions for bfloat16")


def kept_in(folder: Path) -> Path:
    (file,) = folder.glob("*.json")
    return file


def claim(folder: Path, gain: object) -> None:
    """Make a file of an earlier measurement say what nobody measured."""
    file = kept_in(folder)
    file.write_text(json.dumps(json.loads(file.read_text()) | {"gain": gain}))


def test_a_precision_that_is_named_is_not_measured(tmp_path: Path) -> None:
    assert [resolve_precision(name, CPU, tmp_path / "x") for name in ("fp32", "bf16")] == ["fp32", "bf16"]
    assert not (tmp_path / "x").exists()


@native
def test_a_decision_is_kept_whatever_a_new_measurement_would_say(tmp_path: Path) -> None:
    first = resolve_precision("auto", CPU, tmp_path)
    written = json.loads(kept_in(tmp_path).read_text())
    assert written["machine"] == machine_facts(CPU)
    assert first == ("bf16" if written["gain"] >= CLEARLY else "fp32")
    for gain, decided in ((CLEARLY - 0.01, "fp32"), (CLEARLY, "bf16"), (0.1, "fp32"), (40.0, "bf16")):
        claim(tmp_path, gain)
        assert [resolve_precision("auto", CPU, tmp_path) for _ in range(2)] == [decided] * 2


def cut_off(file: Path) -> None:
    file.write_text(file.read_text()[:-20])


def of_another_machine(file: Path) -> None:
    content = json.loads(file.read_text())
    content["machine"]["device"] = "another"
    file.write_text(json.dumps(content))


def no_number(file: Path) -> None:
    claim(file.parent, "much")


def not_finite(file: Path) -> None:
    claim(file.parent, float("nan"))


def binary(file: Path) -> None:
    file.write_bytes(b"\xff\x00\xfe")


def a_list(file: Path) -> None:
    file.write_text("[1]")


@native
@pytest.mark.parametrize("harm", [cut_off, of_another_machine, no_number, not_finite, binary, a_list])
def test_a_damaged_file_is_measured_anew(tmp_path: Path, harm: Callable[[Path], None]) -> None:
    resolve_precision("auto", CPU, tmp_path)
    harm(kept_in(tmp_path))
    decided = resolve_precision("auto", CPU, tmp_path)
    written = json.loads(kept_in(tmp_path).read_text())
    assert written["machine"] == machine_facts(CPU)
    assert decided == ("bf16" if written["gain"] >= CLEARLY else "fp32")


@native
def test_many_at_once_measure_once(tmp_path: Path) -> None:
    code = (
        "import sys, torch, pathlib; from rmer.systems import fastest_precision as it\n"
        "own = it.measured_gain\n"
        "def noted(device):\n"
        "    with open(sys.argv[2], 'a') as file: file.write('measured\\n')\n"
        "    return own(device)\n"
        "it.measured_gain = noted\n"
        "print(it.resolve_precision('auto', torch.device('cpu'), pathlib.Path(sys.argv[1])))"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "kept"), str(tmp_path / "notes")]
    with ThreadPoolExecutor(2) as pool:
        said = list(pool.map(lambda _: subprocess.check_output(command, text=True), range(2)))
    assert said[0] == said[1]
    assert (tmp_path / "notes").read_text() == "measured\n"


@native
def test_measuring_leaves_random_numbers_and_threads_as_they_are() -> None:
    threads, state = torch.get_num_threads(), torch.get_rng_state()
    assert 0.01 < measured_gain(CPU) < 1000
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.get_rng_state(), state)


def test_older_instructions_mean_fp32_and_measure_nothing(tmp_path: Path) -> None:
    """The list of the processor's instructions does not show this limit."""
    code = (
        "import torch; from rmer.stages.decided_precision import decided_precision\n"
        "print(decided_precision('auto', torch.device('cpu')))"
    )
    environment = os.environ | {"ONEDNN_MAX_CPU_ISA": "AVX2", "RMER_HOME": str(tmp_path)}
    said = subprocess.check_output([sys.executable, "-c", code], env=environment, text=True)
    assert said.strip() == "fp32"
    assert not list(tmp_path.rglob("*.json"))


def test_a_limit_of_instructions_is_another_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    facts = machine_facts(CPU)
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX512_CORE")
    assert machine_facts(CPU) == facts | {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE"}


def test_a_study_hands_its_decision_on(isolated_home: Path) -> None:
    params = StudyParams(systems="A2E", attacks="pgd", precision="auto").sized()
    assert params.precision == "auto"
    plan = make_plan(with_decided_precision(params))
    decided = decided_precision("auto", CPU)
    handed_on = [plan.train_params(*plan.models[0], "d"), plan.attack_params("pgd", "t")]
    assert [one.precision for one in handed_on] == [decided, decided]  # type: ignore[attr-defined]
    assert decided in ("fp32", "bf16")


@pytest.mark.parametrize("params", [TrainParams(precision="fp32"), AttackParams(precision="bf16")])
def test_a_choice_of_the_user_stays(params: TrainParams | AttackParams) -> None:
    assert with_decided_precision(params) is params
