"""The installation: bounds, lock and the wrapped madmom."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from itertools import chain
from pathlib import Path
from types import ModuleType

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
DEPENDENCIES = chain(PROJECT["dependencies"], *EXTRAS.values())
REQUIREMENTS = [found for found in map(Requirement, DEPENDENCIES) if found.name != "rmer"]


def pins(file: str) -> dict[str, Version]:
    lines = [line for line in (ROOT / file).read_text().splitlines() if line and not line.startswith("#")]
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", line) for line in lines), "exact pins, no hashes, no +cpu"
    return {canonicalize_name(line.split("==")[0]): Version(line.split("==")[1]) for line in lines}


@pytest.mark.parametrize("requirement", REQUIREMENTS, ids=str)
def test_lock_lies_within_the_declared_bounds(requirement: Requirement) -> None:
    assert requirement.specifier.contains(pins("constraints.txt")[canonicalize_name(requirement.name)])


def test_lower_bounds_are_the_ones_listed_for_testing() -> None:
    lowest = pins("constraints-lowest.txt")
    for requirement in REQUIREMENTS:
        bounds = [s.version for s in requirement.specifier if s.operator in (">=", "==")]
        name = canonicalize_name(requirement.name)
        if name in lowest:
            assert lowest[name].release[: len(Version(bounds[0]).release)] == Version(bounds[0]).release, name


def test_installed_versions_are_those_of_a_constraints_file() -> None:
    """Tests prove something about the lock (or the lower bounds) only if they run on it."""
    installed = {
        canonicalize_name(found.metadata["Name"]): Version(found.version).public
        # Of this environment alone: setuptools adds copies of its own to the path of who imports it.
        for found in importlib.metadata.distributions(path=[sysconfig.get_path("purelib")])
    }
    differences = []
    for file in ("constraints.txt", "constraints-lowest.txt"):
        wanted = {name: str(version) for name, version in pins(file).items()}
        common = wanted.keys() & installed.keys()
        differences.append(sorted(f"{n} {installed[n]}" for n in common if installed[n] != wanted[n]))
    assert [] in differences, differences


def test_torch_is_pinned_exactly() -> None:
    assert "torch==2.13.0" in PROJECT["dependencies"]


def test_environment_that_mlflow_builds_is_the_same_one() -> None:
    *conda, pip = yaml.safe_load((ROOT / "conda.yaml").read_text())["dependencies"]
    assert pip == {"pip": ["-r requirements.txt"]}
    (python,) = [item for item in conda if item.startswith("python=")]
    assert re.fullmatch(r"python=3\.11\.\d+", python), "--env-manager virtualenv needs all three numbers"
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    assert lines[-3:] == ["-c constraints.txt", "./third_party/madmom", "-e ."]


def test_madmom_imports_without_a_warning_and_satisfies_the_published_pin() -> None:
    subprocess.run([sys.executable, "-W", "error", "-c", "import madmom"], check=True)
    assert Requirement("madmom==0.16.1").specifier.contains(importlib.metadata.version("madmom"))
    installed = {str(file) for file in importlib.metadata.files("madmom") or ()}
    assert "madmom/audio/spectrogram.py" in installed
    assert not [file for file in installed if file.startswith("madmom/models/") and "__init__" not in file]


@pytest.fixture
def backend() -> ModuleType:
    path = ROOT / "third_party" / "madmom" / "build_madmom.py"
    spec = importlib.util.spec_from_file_location("build_madmom", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_madmom_build_stops_where_the_source_is_not_the_one_expected(
    backend: ModuleType, tmp_path: Path
) -> None:
    installed = Path(importlib.util.find_spec("madmom").submodule_search_locations[0])  # type: ignore[union-attr,index]
    shutil.copytree(installed, tmp_path / "madmom")  # modernised already: nothing is left to substitute
    with pytest.raises(SystemExit, match="not the one expected"):
        backend.modernise(tmp_path / "madmom")


def test_madmom_build_without_a_compiler_says_what_to_install(
    backend: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CC", raising=False)
    with pytest.raises(SystemExit, match="gcc"):
        backend.build_wheel(str(tmp_path))


def test_every_module_imports_where_madmom_and_pyav_are_absent() -> None:
    code = (
        "import importlib, pkgutil, sys, rmer\n"
        "sys.modules['madmom'] = sys.modules['av'] = None\n"
        "found = [m.name for m in pkgutil.walk_packages(rmer.__path__, 'rmer.')]\n"
        "for name in found: importlib.import_module(name)\n"
        "print(len(found))"
    )
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert int(run.stdout) > 30


def test_preprocessing_workers_start_light() -> None:
    heavy = "{'torch', 'mlflow', 'pandas', 'madmom'}"
    code = f"import sys, rmer.data.audio.spectrograms; print({heavy} & set(sys.modules))"
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert run.stdout == "set()\n"


@pytest.mark.slow
def test_wheel_has_the_command_and_every_file_that_is_not_code(tmp_path: Path) -> None:
    for name in ("rmer", "entrypoints"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tmp_path)
    options = "-m pip wheel -q --no-deps --no-build-isolation -w out ."
    command = [sys.executable, *options.split()]
    subprocess.run(command, cwd=tmp_path, check=True, env=os.environ | {"PIP_NO_INDEX": "1"})
    (wheel,) = (tmp_path / "out").glob("rmer-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        (entry_points,) = [name for name in names if name.endswith("entry_points.txt")]
        assert "rmer = entrypoints.cli:main" in archive.read(entry_points).decode()
    for package in ("rmer", "entrypoints"):
        sources = (p for p in (ROOT / package).rglob("*") if p.is_file() and "__pycache__" not in p.parts)
        assert {p.relative_to(ROOT).as_posix() for p in sources} <= names


def test_continuous_integration_runs_the_readmes_command() -> None:
    (command,) = [
        line for line in (ROOT / "README.md").read_text().splitlines() if "requirements-test.txt" in line
    ]
    assert command.endswith("pip install -r requirements-test.txt && python -m pytest -n 2 --dist loadfile")
    assert os.access(ROOT / ".ci" / "run", os.X_OK)
