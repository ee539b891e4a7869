"""Addresses of stores, artifacts and models that cannot work are refused at once, with one line."""

from __future__ import annotations

import pytest

from rmer.errors import UserError
from rmer.tracking import Store, connect
from rmer.tracking.locations import check_usable

KINDS = "file, mlflow-artifacts, s3, gs, wasbs, abfss"
NO_STORE = (
    "are not supported as tracking store. Use sqlite:///mlflow.db, a server's http://host:port, or a "
    "database URI"
)
OTHERS = ("ftp://host/runs", "dbfs:/runs", "hdfs://host/a", "s3://bucket/a", "databricks://x", "http://")
STORES = [
    *((uri, f"addresses of kind {uri.partition(':')[0]} {NO_STORE}") for uri in OTHERS),
    *((uri, f"folders of files {NO_STORE}") for uri in ("file:///tmp/a", "mlruns")),
    ("sqlite://", "a sqlite store needs a file. Write sqlite:///folder/mlflow.db"),
]


@pytest.mark.parametrize(("uri", "message"), STORES)
def test_addresses_that_are_no_store(uri: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        connect(uri)
    assert str(caught.value) == f"{uri}: {message}"


MODELS = [
    *((kind, f"cannot be at addresses of kind {kind}. Use a path, or an address of kind {KINDS}")
      for kind in ("http", "https", "ftp", "sftp", "dbfs", "hdfs", "viewfs", "magnet")),
    ("s3", "need the library boto3. Install it (pip install boto3)"),
    ("gs", "need the library google.cloud.storage. Install it (pip install google-cloud-storage)"),
    ("wasbs", "need the library azure.storage.blob. Install it (pip install azure-storage-blob)"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "message"), MODELS)
def test_models_and_artifacts_that_cannot_be_reached(
    store: Store, monkeypatch: pytest.MonkeyPatch, kind: str, message: str
) -> None:
    monkeypatch.setattr("rmer.tracking.locations._is_installed", lambda module: False)  # whatever is here
    with pytest.raises(UserError) as caught:
        store.load_model(f"{kind}://host/model")
    assert str(caught.value) == f"{kind}://host/model: models {message}"
    store.client.create_experiment(kind, artifact_location=f"{kind}://host/artifacts")
    with pytest.raises(UserError) as caught:
        connect(experiment=kind)
    assert str(caught.value) == f"{kind}://host/artifacts: artifacts of experiment {kind} {message}"


@pytest.mark.parametrize(
    "uri",
    [
        "/a/b",
        "a/b",
        "file:///a/b",
        "mlflow-artifacts:/1/a",
        "http://lab:5000/api/2.0/mlflow-artifacts/artifacts/1",
    ],
)
def test_addresses_that_need_nothing(uri: str) -> None:
    check_usable(uri, "models")
