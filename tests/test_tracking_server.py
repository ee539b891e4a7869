"""A tracking server: started by `rmer server`, artifacts through HTTP only."""

from __future__ import annotations

import ipaddress
import re
import socket
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from mlflow.server.security_utils import is_allowed_host_header, should_block_cors_request
from servers import copy_fresh_sqlite, free_port, mlflow_server, start_python, wait_for

from entrypoints.server import cli
from rmer.errors import UserError
from rmer.tracking import Run, RunSpec, connect, serve
from rmer.tracking.server.listening import is_local, names_of
from rmer.tracking.server.logins import SECRET_KEY, prepare_logins


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
        table = store.read_table(run_id, "tables/predictions.csv")
        assert table.to_dict("list") == {"clip": ["001"], "x": [1 / 3]}
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
        assert process.stdout.readline() == "In other terminals:\n"
        assert process.stdout.readline() == f"  export MLFLOW_TRACKING_URI={uri}\n"
        wait_for(lambda: socket.socket().connect_ex(("127.0.0.1", port)) == 0, "the server did not start")
        outcome = connect(uri).perform(RunSpec("train", "a", {}), lambda run: run.text("x", "a.txt"))
        assert (tmp_path / "mlflow.db").stat().st_mode & 0o777 == 0o600
        default = connect(uri).client.get_experiment("0")  # where `mlflow run` logs to
        assert default.artifact_location.startswith("mlflow-artifacts:")
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


OPEN = (
    "whoever reaches this machine could read, change and delete all runs. Add --auth (people log in), "
    "or --insecure where you trust everybody in the network"
)


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_listening_for_others_wants_logins_or_a_word(
    tmp_path: Path, host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = free_port()
    monkeypatch.setattr("os.execve", pytest.fail)  # or a fault would turn the tests into an open server
    done = CliRunner().invoke(cli, ["--host", host, "--port", str(port), "--folder", str(tmp_path)])
    assert (done.exit_code, done.stderr) == (2, f"rmer: {host}:{port}: {OPEN}\n")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"host": "127.0.0.1"}, []),
        ({"host": "127.0.0.2", "allowed_hosts": "lab.example,10.1.*"}, []),
        ({"host": "0.0.0.0", "insecure": True}, [f"Insecure: {OPEN.partition('.')[0]}."]),
        (
            {"host": "0.0.0.0", "auth": True},
            [
                "Insecure: passwords travel unencrypted unless a proxy adds TLS (docs/server.md).",
                "Log in as admin; the first password is in {folder}/auth/admin_password. "
                "How others log in: docs/server.md.",
            ],
        ),
    ],
)
def test_what_is_told_is_what_clients_can_use(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: dict[str, Any], told: list[str]
) -> None:
    copy_fresh_sqlite(tmp_path / "mlflow.db")
    command: list[str] = []
    with pytest.MonkeyPatch.context() as patch:  # instead of becoming the server
        patch.setattr("os.execve", lambda program, arguments, environment: command.extend(arguments))
        serve(port=(port := free_port()), folder=tmp_path, **options)
    best = names_of(options["host"])[0]
    url = f"http://{best}:{port}"
    assert capsys.readouterr().out.splitlines() == [
        f"MLflow serves sqlite:///{tmp_path}/mlflow.db, artifacts in {tmp_path}, at {url} "
        "(stop it with Ctrl-C).",
        *(line.format(folder=tmp_path) for line in told),
        "In other terminals:",
        f"  export MLFLOW_TRACKING_URI={url}",
    ]
    if "--allowed-hosts" in command:
        allowed = command[command.index("--allowed-hosts") + 1].split(",")
        origins = command[command.index("--cors-allowed-origins") + 1].split(",")
        for name in (best, *filter(None, [options.get("allowed_hosts", "").partition(",")[0]])):
            assert is_allowed_host_header(allowed, f"{name}:{port}")
            assert is_allowed_host_header(allowed, name)
            assert not should_block_cors_request(f"https://{name}", "POST", origins)
            assert not should_block_cors_request(f"http://{name}:{port}", "POST", origins)
        assert not is_allowed_host_header(allowed, f"evil.example:{port}")
        for evil in ("evil.example", f"{best}.evil.example", f"{best}:{port}.evil.example"):
            assert should_block_cors_request(f"http://{evil}", "POST", origins)
        assert not set("*[]()?^$\\") & set("".join(origins))  # else they are patterns of their beginnings


def test_a_given_password_is_not_looked_for_in_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    copy_fresh_sqlite(tmp_path / "mlflow.db")
    prepare_logins(tmp_path / "auth")
    monkeypatch.setenv("MLFLOW_AUTH_ADMIN_PASSWORD", "given-password")
    monkeypatch.setattr("os.execve", lambda *_: None)
    serve(port=free_port(), folder=tmp_path, auth=True)
    assert capsys.readouterr().out.splitlines()[1] == (
        "Log in as admin; the first password is in MLFLOW_AUTH_ADMIN_PASSWORD. "
        "How others log in: docs/server.md."
    )


def test_names_of_a_server_that_listens_everywhere_are_those_that_others_reach() -> None:
    names = names_of("0.0.0.0")
    assert socket.gethostname() in names
    if len(names) > 2:  # the machine has a network
        found = {str(entry[4][0]) for entry in socket.getaddrinfo(names[0].strip("[]"), None)}
        assert not any(ipaddress.ip_address(address.split("%")[0]).is_loopback for address in found)


def test_addresses_that_only_this_machine_reaches() -> None:
    assert [
        host
        for host in ("127.0.0.1", "127.9.9.9", "::1", "localhost", "0.0.0.0", "::", "192.0.2.1", "")
        if is_local(host)
    ] == ["127.0.0.1", "127.9.9.9", "::1", "localhost"]


def test_a_database_that_does_not_answer_is_said_without_its_password(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"^postgresql://me:\*\*\*@127.0.0.1:1/db: .*does not answer"
    ) as caught:
        serve(port=free_port(), folder=tmp_path, backend="postgresql://me:s3cret@127.0.0.1:1/db")
    assert "s3cret" not in str(caught.value)


def test_given_secrets_of_logins_are_taken_and_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_AUTH_ADMIN_PASSWORD", "given-password")
    monkeypatch.setenv("MLFLOW_FLASK_SERVER_SECRET_KEY", "given-key")
    assert prepare_logins(tmp_path / "auth") == {
        "MLFLOW_AUTH_CONFIG_PATH": str(tmp_path / "auth" / "basic_auth.ini"),
        "MLFLOW_AUTH_ADMIN_PASSWORD": "given-password",
        "MLFLOW_FLASK_SERVER_SECRET_KEY": "given-key",
    }
    assert sorted(path.name for path in (tmp_path / "auth").iterdir()) == ["basic_auth.ini", "users.db"]


def test_made_secrets_of_logins_stay(tmp_path: Path) -> None:
    first = prepare_logins(tmp_path / "auth")
    assert prepare_logins(tmp_path / "auth") == first
    assert prepare_logins(tmp_path / "other") != first
    assert min(len(first[name]) for name in ("MLFLOW_AUTH_ADMIN_PASSWORD", SECRET_KEY)) >= 32


@pytest.mark.parametrize(("host", "port"), [("127.0.0.1", 0), ("127.0.0.1", 70000), ("192.0.2.1", 5000)])
def test_impossible_addresses(tmp_path: Path, host: str, port: int) -> None:
    with pytest.raises(UserError, match=f"{host}:{port}"):
        serve(host, port, tmp_path)
