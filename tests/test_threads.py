"""Threads of torch are limited where they are in each other's way, and nowhere else."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from light_jobs import LightParams
from servers import copy_fresh_sqlite, start_python

from rmer.data.audio.torch_frontend import TorchAudio2Spect
from rmer.execution.jobs import Job, Site, do
from rmer.threads import torch_threads
from rmer.tracking import Store


@pytest.fixture(autouse=True)
def three_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


def threads(store: Store, params: LightParams) -> str:
    return str(torch.get_num_threads())


@pytest.mark.parametrize(("number", "inside"), [(1, 1), (2, 2), (0, 3)])
def test_threads_are_limited_inside_the_block_alone(number: int, inside: int) -> None:
    with torch_threads(number):
        assert torch.get_num_threads() == inside
    assert torch.get_num_threads() == 3


def test_threads_come_back_after_an_error() -> None:
    with pytest.raises(ZeroDivisionError), torch_threads(1):
        _ = 1 / 0
    assert torch.get_num_threads() == 3


@pytest.mark.parametrize(("given", "used"), [(1, "1"), (2, "2"), (0, "3")])
def test_a_job_computes_on_the_threads_that_it_is_given(given: int, used: str, tmp_path: Path) -> None:
    copy_fresh_sqlite(tmp_path / "mlflow.db")
    site = Site(f"sqlite:///{tmp_path / 'mlflow.db'}", "rmer", "owner", threads=given)
    assert do(Job("threads", threads, LightParams()), site) == used
    assert torch.get_num_threads() == 3


def test_the_torch_front_end_takes_one_thread_and_gives_the_others_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    used = []
    transform = torch.fft.rfft

    def noting(*args: object, **kwargs: object) -> torch.Tensor:
        used.append(torch.get_num_threads())
        return transform(*args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(torch.fft, "rfft", noting)
    TorchAudio2Spect()(np.random.default_rng(0).uniform(-1, 1, 22050))
    assert used == [1]
    assert torch.get_num_threads() == 3


@pytest.mark.parametrize("kernels", ["Haswell", ""])  # the former round otherwise on more threads
def test_the_front_end_of_madmom_gives_the_same_on_any_number_of_threads(kernels: str) -> None:
    code = """if True:
        import numpy as np
        from threadpoolctl import threadpool_limits
        from rmer.data.audio.frontend import MadmomAudio2Spect

        audio = np.random.default_rng(0).uniform(-0.5, 0.5, 40_000)
        found = []
        for threads in (1, 2, 4, 8):
            with threadpool_limits(threads, user_api="blas"):
                found.append(MadmomAudio2Spect()(audio))
        print([int((array != found[0]).sum()) for array in found])"""
    many = {"OPENBLAS_NUM_THREADS": "8", "OMP_NUM_THREADS": "8"}
    output, errors = start_python(code, OPENBLAS_CORETYPE=kernels, **many).communicate()
    assert output == "[0, 0, 0, 0]\n", errors
