"""A tracking server: started by `rmer server`, artifacts through HTTP only."""

from __future__ import annotations

import re
import socket
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from servers import free_port, mlflow_server, start_python, wait_for

from rmer.errors import UserError
from rmer.tracking import Run, RunSpec, connect, serve


def test_artifacts_go_through_a_server_and_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    work = tmp_path / "client"
    work.mkdir()
    monkeypatch.chdir(work)
    adversaries = np.random.default_rng(0).normal(size=(5, 40, 149)).astype(np.float32)
    np.save(tmp_path / "adversaries.npy", adversaries)
    (tmp_path / "dataset" / "inner").mkdir(parents=True)
    (tmp_path / "dataset" / "inner" / "clips.csv").write_text("clip\n001\n")

    def body(run: Run) -> None:
        run.file(tmp_path / "adversaries.npy", "adversaries")
        run.file(tmp_path / "dataset")
        run.table(pd.DataFrame({"clip": ["001"], "x": [1 / 3]}), "tables/predictions.csv")

    with mlflow_server(tmp_path / "server") as server:
        store = connect(server.uri)
        run_id = store.perform(RunSpec("attack", "a", {}), body).run_id
        assert store.client.get_run(run_id).info.artifact_uri.startswith("mlflow-artifacts:")
        path = store.download(run_id, "adversaries/adversaries.npy")
        np.testing.assert_array_equal(np.load(path, allow_pickle=False), adversaries)
        folder = store.download(run_id, "dataset")
        assert (folder / "inner" / "clips.csv").read_text() == "clip\n001\n"
        assert store.read_table(run_id, "tables/predictions.csv").to_dict("list") == {
            "clip": ["001"],
            "x": [1 / 3],
        }
        stored = path.stat().st_mtime_ns
        assert store.download(run_id, "adversaries/adversaries.npy").stat().st_mtime_ns == stored
        for damage in (lambda file: file.write_bytes(file.read_bytes()[:-9]), Path.unlink):
            damage(folder / "inner" / "clips.csv")  # the copy, which is fetched again
            assert (store.download(run_id, "dataset") / "inner" / "clips.csv").read_text() == "clip\n001\n"
        (served,) = (tmp_path / "server").rglob("clips.csv")
        (folder / "inner" / "clips.csv").unlink()
        served.write_text("clip\n002\n")
        message = (
            f"run {run_id} (a): dataset/inner/clips.csv is not the file that the run logged. Restore the "
            f"file, or delete the run (`mlflow runs delete --run-id {run_id}`) and repeat it"
        )
        with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
            store.download(run_id, "dataset")
        for absent in ("tables/absent.csv", "absent"):
            with pytest.raises(UserError, match="no artifact"):
                store.download(run_id, absent)
        with pytest.raises(UserError, match="0000"):
            store.get("0" * 32)
    assert list(work.iterdir()) == []  # nothing was written past the server


@pytest.mark.slow
def test_serve_starts_a_server_on_the_loopback_interface(tmp_path: Path) -> None:
    port = free_port()
    uri = f"http://127.0.0.1:{port}"
    process = start_python(f"from rmer.tracking import serve; serve(port={port}, folder={str(tmp_path)!r})")
    try:
        assert process.stdout is not None
        assert uri in process.stdout.readline()
        assert process.stdout.readline() == f"  export MLFLOW_TRACKING_URI={uri}\n"
        wait_for(lambda: socket.socket().connect_ex(("127.0.0.1", port)) == 0, "the server did not start")
        outcome = connect(uri).perform(RunSpec("train", "a", {}), lambda run: run.text("x", "a.txt"))
        assert (tmp_path / "mlflow.db").exists()
        assert list(tmp_path.glob(f"mlartifacts/**/{outcome.run_id}/artifacts/a.txt"))
    finally:
        process.terminate()
        process.communicate(timeout=30)


def test_a_port_that_is_taken_is_said_so(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=rf"127.0.0.1:{port}.*Choose another port"):
            serve(port=port, folder=tmp_path)


@pytest.mark.parametrize(("host", "port"), [("127.0.0.1", 0), ("127.0.0.1", 70000), ("192.0.2.1", 5000)])
def test_impossible_addresses(tmp_path: Path, host: str, port: int) -> None:
    with pytest.raises(UserError, match=f"{host}:{port}"):
        serve(host, port, tmp_path)
