"""The published attack against arrays made by running the published code in float64."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rmer.attacks.published import PublishedAttack
from rmer.attacks.result import AttackResult
from rmer.attacks.threat import Threat
from rmer.systems.frozen import FrozenNetwork
from rmer.systems.network import build_network

ARCHITECTURES = {"a2e": "plain", "a2m2e": "bottleneck"}
DECLARED = Threat("linf", 0.001)


@pytest.fixture(scope="module")
def golden(shared: Path) -> Any:
    return np.load(shared / "golden" / "attack.npz", allow_pickle=False)


@pytest.fixture(scope="module")
def networks(shared: Path) -> dict[str, FrozenNetwork]:
    spec = importlib.util.spec_from_file_location("fill", shared / "golden" / "fill.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    networks = {}
    for name, arch in ARCHITECTURES.items():
        network = build_network(arch)
        # The weights were rounded to float32 by loading them, before the network was made float64.
        network.load_state_dict(module.fill(network.state_dict(), 7))
        networks[name] = FrozenNetwork(network.double())
    return networks


def inputs() -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(8).normal(0, 1, (3, 1, 80, 149)))


def check(result: AttackResult, golden: Any, prefix: str) -> None:
    for clip in range(3):
        expected = {key: golden[f"{prefix}.{clip}.{key}"] for key in EXPECTED}
        delta = (result.adversaries - inputs())[clip, 0].numpy()
        columns = {name: values[clip].numpy() for name, values in result.columns.items()}
        assert result.l2[clip].item() == pytest.approx(float(expected["best_norm"]), rel=1e-9)
        np.testing.assert_allclose(columns["last_prediction"], expected["last_prediction"], atol=1e-7, rtol=0)
        np.testing.assert_allclose(delta[:5, :8], expected["best_delta_head"], atol=1e-9, rtol=0)
        assert columns["iterations"] == expected["iterations"]
        assert columns["converged"] == expected["converged"]
        assert columns["threshold"] == expected["threshold"], "exact: moved by the same float steps"


EXPECTED = ("best_norm", "last_prediction", "best_delta_head", "iterations", "converged", "threshold")


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_clean_outputs(name: str, golden: Any, networks: dict[str, FrozenNetwork]) -> None:
    prediction = networks[name].predict(inputs())
    np.testing.assert_allclose(prediction["output"], golden[f"{name}.output"], atol=1e-12)
    if name == "a2m2e":
        np.testing.assert_allclose(prediction["c_prob"], golden["a2m2e.concepts"], atol=1e-12)


@pytest.mark.parametrize("criterion", ["corr", "mse"])
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_forty_iterations(name: str, criterion: str, golden: Any, networks: dict[str, FrozenNetwork]) -> None:
    labels = torch.from_numpy(golden[f"{name}.labels"])
    attack = PublishedAttack(max_iters=40, conv_method=criterion)
    check(attack(networks[name], inputs(), labels, DECLARED), golden, f"{name}.{criterion}")


def test_one_golden_run_meets_a_threshold_of_zero(golden: Any) -> None:
    # Otherwise the re-initialisation of such a threshold (a published flaw) would go untested above.
    assert golden["a2m2e.corr.2.threshold"] == 0.0


def test_runs_that_converge(golden: Any, networks: dict[str, FrozenNetwork]) -> None:
    labels = torch.from_numpy(golden["a2e.far_labels"])
    result = PublishedAttack(max_iters=60, conv_method="mse")(networks["a2e"], inputs(), labels, DECLARED)
    check(result, golden, "a2e.mse_far")
    assert result.columns["iterations"].tolist() == [54, 17, 1]


@pytest.mark.parametrize(("name", "prefix"), [("a2m2e", "a2m2e.corr"), ("a2e", "a2e.mse_far")])
def test_norm_after_every_update(
    name: str, prefix: str, golden: Any, networks: dict[str, FrozenNetwork], monkeypatch: pytest.MonkeyPatch
) -> None:
    from rmer.attacks import published

    norms: list[torch.Tensor] = []
    step = published._State.step

    def recording(state: Any, gradient: torch.Tensor) -> None:
        step(state, gradient)
        norms.append(state.delta.detach().flatten(1).norm(dim=1))

    monkeypatch.setattr(published._State, "step", recording)
    far = prefix.endswith("far")
    labels = torch.from_numpy(golden[f"{name}.far_labels" if far else f"{name}.labels"])
    attack = PublishedAttack(max_iters=60 if far else 40, conv_method="mse" if far else "corr")
    attack(networks[name], inputs(), labels, DECLARED)
    for clip in range(3):
        expected = golden[f"{prefix}.{clip}.delta_norm_per_iteration"]
        mine = torch.stack(norms)[: len(expected), clip].numpy()
        np.testing.assert_allclose(mine, expected, rtol=1e-9)
