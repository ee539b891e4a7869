"""Fixtures that every test may use."""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

if TYPE_CHECKING:
    from rmer.tracking import Store

if "PYTEST_XDIST_WORKER" in os.environ:  # test processes side by side: a thread each, set before torch looks
    os.environ.setdefault("OMP_NUM_THREADS", "1")

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder of reference data (published logs, real ratings, golden arrays); skips where it is absent."""
    folder = Path(os.environ.get("RMER_SHARED", ROOT.parent / "shared"))
    if not (folder / "reference").is_dir():
        pytest.skip("reference data not found: set RMER_SHARED to the folder that holds reference/")
    return folder / "reference"


@pytest.fixture(autouse=True)
def isolated_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Give every test its own working folder for caches, spools and checkpoints, and no inherited store."""
    home = tmp_path / "rmer-home"
    monkeypatch.setenv("RMER_HOME", str(home))
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_ID", "MLFLOW_EXPERIMENT_NAME"):
        monkeypatch.delenv(name, raising=False)
    yield home
    if "mlflow" in sys.modules:  # a test may have pointed MLflow's global state to its own store
        sys.modules["mlflow"].set_tracking_uri(None)


@pytest.fixture(autouse=True)
def fixed_chance() -> None:
    """Let every test draw the same random numbers each time."""
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002 - libraries draw from it
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(0)


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """The default store of the folder that a test works in, which is empty."""
    from servers import new_store  # not before the threads are limited above

    monkeypatch.chdir(tmp_path)
    return new_store(tmp_path)


@pytest.fixture(scope="module")
def lasting_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """A store for all tests of a module; what is made for it at once works in a folder of its own."""
    from servers import new_store

    folder = tmp_path_factory.mktemp("store")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RMER_HOME", str(folder / "home"))
        yield new_store(folder)


@pytest.fixture
def study(request: pytest.FixtureRequest) -> str:
    """The name of a study that no other test has."""
    return str(request.node.name)


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Give torch one thread: some networks are so small that threads only wait for each other."""
    from rmer.threads import torch_threads

    with torch_threads(1):
        yield
