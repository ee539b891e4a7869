"""A tracking server for one lab machine."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from itertools import product
from pathlib import Path

from rmer.errors import UserError
from rmer.redaction import redacted
from rmer.tracking.locations import SQLITE, resolve_uri
from rmer.tracking.private import keep_private
from rmer.tracking.server.listening import LOCAL, check_free, is_local, names_of
from rmer.tracking.server.logins import first_password, prepare_logins
from rmer.tracking.setup import check_health, initialise, tame_mlflow

UNENCRYPTED = "passwords travel unencrypted unless a proxy adds TLS (docs/server.md)"
OPEN_TO_ALL = "whoever reaches this machine could read, change and delete all runs"


def serve(
    host: str = "127.0.0.1",
    port: int = 5000,
    folder: Path | str = ".",
    *,
    backend: str = "",
    auth: bool = False,
    insecure: bool = False,
    allowed_hosts: str = "",
) -> None:
    """Become an MLflow server whose runs (``mlflow.db``) and artifacts (``mlartifacts``) lie in ``folder``.

    Replaces this process, so that Ctrl-C and signals reach the server. Artifacts go through it: clients need
    no access to the folder. ``backend`` is the URI of a database for the runs; with ``auth`` everybody has to
    log in (users and secrets lie in ``auth`` of the folder). ``allowed_hosts`` are names, separated by
    commas, under which clients reach the server, where they are not this machine's (behind a proxy, say).
    Raises :class:`UserError` for a port that is taken, an address that is not this machine's, a database that
    does not answer, and an address that others reach unless ``auth`` or ``insecure`` is set.
    """
    check_free(host, port)
    if not (is_local(host) or auth or insecure):
        mend = "Add --auth (people log in), or --insecure where you trust everybody in the network"
        raise UserError(OPEN_TO_ALL, where=f"{host}:{port}", mend=mend)
    folder = Path(folder).expanduser().absolute()
    backend = resolve_uri(backend or f"{SQLITE}{folder / 'mlflow.db'}")
    names = [name.strip() for name in allowed_hosts.split(",") if name.strip()]
    logins = prepare_logins(folder / "auth") if auth else {}
    command, environment = server_command(host, port, folder, backend, auth=auth, names=names)
    _prepare_store(backend, folder)
    _tell(host, port, folder, backend, auth=auth)
    os.execve(command[0], command, {**os.environ, **environment, **logins})


def server_command(
    host: str, port: int, folder: Path, backend: str, *, auth: bool = False, names: Sequence[str] = ()
) -> tuple[list[str], dict[str, str]]:
    """Return the command line of the server and the environment variables that it needs.

    One worker without MLflow's job runner: 2 processes and .4 GB instead of 15 and 2.2, and a third of the
    time a call. The backend's address is no argument, since everybody may list the arguments of processes.
    """
    command = [sys.executable, "-m", "mlflow", "server", "--host", host, "--port", str(port)]
    command += ["--workers", "1", "--uvicorn-opts", "--log-level warning"]
    command += ["--artifacts-destination", str(folder / "mlartifacts")]
    if auth:
        command += ["--app-name", "basic-auth"]
    if names or not is_local(host):
        called = [*LOCAL, *names_of(host), *names]
        # Of the names at any port; where a pattern has a star, "[" has to be escaped.
        patterns = [pattern for name in called for pattern in (name, f"{name}:*".replace("[", "[[]"))]
        command += ["--allowed-hosts", ",".join(patterns)]
        command += ["--cors-allowed-origins", ",".join(_origins(called, port))]
    return command, {
        "MLFLOW_BACKEND_STORE_URI": backend,
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }


def _origins(names: Sequence[str], port: int) -> list[str]:
    """Return the origins of the UI's own requests: no patterns, of which MLflow matches beginnings."""
    plain = [name for name in names if re.fullmatch(r"[\w.-]+(:\d+)?", name)]
    return ["".join(parts) for parts in product(("http://", "https://"), plain, ("", f":{port}"))]


def _prepare_store(backend: str, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    tame_mlflow()
    check_health(backend)
    initialise(backend, artifacts="mlflow-artifacts:/")
    if backend == f"{SQLITE}{folder / 'mlflow.db'}":
        keep_private(folder / "mlflow.db")


def _tell(host: str, port: int, folder: Path, backend: str, *, auth: bool) -> None:
    """Say where clients find the server and who may use it."""
    url = f"http://{names_of(host)[0]}:{port}"
    print(f"MLflow serves {redacted(backend)}, artifacts in {folder}, at {url} (stop it with Ctrl-C).")
    if not is_local(host):
        print(f"Insecure: {UNENCRYPTED if auth else OPEN_TO_ALL}.")
    if auth:
        where = first_password(folder / "auth")
        print(f"Log in as admin; the first password is in {where}. How others log in: docs/server.md.")
    print("In other terminals:")
    print(f"  export MLFLOW_TRACKING_URI={url}", flush=True)
