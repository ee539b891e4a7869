"""Networks in the store: logged with a signature, found again by any URI, loaded without pickles."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Iterator
from pathlib import Path

import mlflow
import numpy as np
import pytest
import torch
from servers import interrupt, mlflow_server
from torch import nn

from rmer.errors import UserError
from rmer.systems.network import build_network
from rmer.tracking import Run, RunSpec, Store, connect

SHAPE = (2, 1, 40, 149)


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    monkeypatch.chdir(tmp_path)
    with mlflow_server(tmp_path / "server") as server:
        yield connect(server.uri)


def example(network: nn.Module) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Return an input and what the network gives for it, without what is None."""
    inputs = np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)
    with torch.no_grad():
        outputs = copy.deepcopy(network).eval()(torch.from_numpy(inputs))
    return inputs, {name: value.numpy() for name, value in outputs.items() if value is not None}


@pytest.mark.parametrize("arch", ["plain", "bottleneck"])
def test_a_logged_network_computes_the_same_for_any_batch(store: Store, arch: str, tmp_path: Path) -> None:
    network = build_network(arch, targets=3, concepts=2)  # type: ignore[arg-type]
    network.train()
    inputs, outputs = example(network)
    (tmp_path / "best.safetensors").write_bytes(b"weights")
    uris = []

    def body(run: Run) -> None:
        extra = {"best.safetensors": tmp_path / "best.safetensors"}
        uris.append(run.model(network, inputs, outputs, extra_files=extra, metadata={"frames": 40}))
        run.metrics({"test/emotion/mae": 0.25}, model="model")

    run_id = store.perform(RunSpec("train", "n", {}), body).run_id
    assert network.training  # a copy was exported
    assert uris == [f"runs:/{run_id}/model"]
    loaded = store.load_model(uris[0])
    with torch.no_grad():
        for batch in (1, 2, 5):
            many = torch.from_numpy(np.concatenate([inputs] * 3)[:batch])
            expected, got = network.eval()(many), copy.deepcopy(loaded).eval()(many)
            torch.testing.assert_close(got, expected, rtol=0, atol=1e-5)
    assert (store.model_folder(uris[0]) / "best.safetensors").read_bytes() == b"weights"

    (output,) = store.client.get_run(run_id).outputs.model_outputs
    model = store.client.get_logged_model(output.model_id)
    assert (model.name, model.status, model.source_run_id) == ("model", "READY", run_id)
    assert [(metric.key, metric.value) for metric in model.metrics] == [("test/emotion/mae", 0.25)]
    signature = mlflow.models.Model.load(str(store.model_folder(uris[0]))).signature
    assert signature.inputs.inputs[0].shape == (-1, *SHAPE[1:])
    assert {spec.name: spec.shape for spec in signature.outputs.inputs} == {
        "output": (-1, 3),
        **({"c_prob": (-1, 2)} if arch == "bottleneck" else {}),
    }


def test_input_gradients_of_a_loaded_network(store: Store) -> None:
    network = build_network("plain", targets=3).eval()
    inputs, outputs = example(network)
    run_id = store.perform(RunSpec("train", "n", {}), lambda run: run.model(network, inputs, outputs)).run_id
    gradients = []
    for model in (network, store.load_model(f"runs:/{run_id}/model")):
        leaf = torch.from_numpy(inputs).requires_grad_()
        gradients.append(torch.autograd.grad(model(leaf)["output"].sum(), leaf)[0])
    torch.testing.assert_close(gradients[1], gradients[0], rtol=1e-4, atol=1e-7)
    with pytest.raises(UserError, match="cannot be trained"):
        store.load_model(f"runs:/{run_id}/model").train()


def test_a_model_logged_again_by_a_resumed_run_is_one_model(store: Store) -> None:
    network = build_network("plain", targets=3).eval()
    inputs, outputs = example(network)

    def body(run: Run) -> None:
        run.model(network, inputs, outputs)

    run_id = interrupt(store, RunSpec("train", "n", {}), body)
    assert store.perform(RunSpec("train", "n", {}), body).run_id == run_id
    assert len(store.client.get_run(run_id).outputs.model_outputs) == 1


class Exploit(nn.Module):
    """A network whose pickle would write a file."""

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return Path.touch, (Path("exploited"),)


def test_a_pickled_model_is_refused(store: Store, tmp_path: Path) -> None:
    mlflow.pytorch.save_model(
        nn.Linear(2, 2), str(tmp_path / "model"), serialization_format="pickle", pip_requirements=[]
    )
    (tmp_path / "model" / "data" / "model.pth").write_bytes(pickle.dumps(Exploit()))
    with pytest.raises(UserError, match=r"stored as a pickle.*serialization_format='pt2'"):
        store.load_model(str(tmp_path / "model"))
    assert not (tmp_path / "exploited").exists()


@pytest.mark.slow
def test_every_kind_of_uri_through_a_server_without_shared_disk(served: Store) -> None:
    network = build_network("plain", targets=3).eval()
    inputs, outputs = example(network)
    run_id = served.perform(RunSpec("train", "n", {}), lambda run: run.model(network, inputs, outputs)).run_id
    (output,) = served.client.get_run(run_id).outputs.model_outputs
    served.client.create_registered_model("emotions")
    model_uri = f"models:/{output.model_id}"
    served.client.create_model_version("emotions", model_uri, run_id, model_id=output.model_id)
    served.client.set_registered_model_alias("emotions", "best", "1")
    folder = str(served.model_folder(model_uri))
    for uri in (f"runs:/{run_id}/model", model_uri, "models:/emotions/1", "models:/emotions@best", folder):
        with torch.no_grad():
            got = served.load_model(uri)(torch.from_numpy(inputs))["output"]
        torch.testing.assert_close(got, torch.from_numpy(outputs["output"]), rtol=0, atol=1e-6)
