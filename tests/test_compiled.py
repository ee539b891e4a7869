"""Compiled gradients against those of the model as it is, with torch's own compiler for CPUs."""

from __future__ import annotations

import shutil

import pytest
import torch
from regressors import SmallNetwork, spectrograms
from torch import Tensor

from rmer.errors import UserError
from rmer.systems.frozen import FrozenNetwork


def loss(prediction: object) -> Tensor:
    return prediction["output"].square().mean(1) + prediction["c_prob"].abs().sum(1)  # type: ignore[index]


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch compiles CPU code with g++")
def test_compiled_gradients_agree_whatever_the_size_of_the_batch() -> None:
    torch.manual_seed(0)
    model, inputs = SmallNetwork().eval(), spectrograms(5, torch.float32)
    plain, compiled = FrozenNetwork(model), FrozenNetwork(model, compile=True)
    kept = []
    for clips in (slice(0, 4), slice(4, 5), slice(1, 3)):
        ours, gradient = compiled.gradient(inputs[clips], loss)
        theirs, expected = plain.gradient(inputs[clips], loss)
        kept.append((gradient, expected))
        # A few roundings of float32 on values of about 1.
        for unit in ("output", "c_prob"):
            assert torch.allclose(ours[unit], theirs[unit], rtol=0, atol=1e-6)  # type: ignore[literal-required]
    assert all(torch.allclose(gradient, expected, rtol=0, atol=1e-6) for gradient, expected in kept)
    assert compiled._compiled is not None
    assert compiled._compiled.sizes == {4}, "smaller batches are filled up, not compiled for"
    assert compiled.gradients == plain.gradients == 7


def test_without_a_compiler_there_is_a_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(UserError, match=r"no compiler \(g\+\+\)"):
        FrozenNetwork(SmallNetwork(), compile=True)
