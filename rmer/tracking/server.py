"""A tracking server for one lab machine."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

from rmer.errors import UserError
from rmer.tracking.locations import SQLITE
from rmer.tracking.setup import initialise

HIGHEST_PORT = 65535


def serve(host: str = "127.0.0.1", port: int = 5000, folder: Path | str = ".") -> None:
    """Become an MLflow server whose runs (``mlflow.db``) and artifacts (``mlartifacts``) lie in ``folder``.

    Replaces this process, so that Ctrl-C and signals reach the server. Artifacts go through it: clients need
    no access to the folder. Raises :class:`UserError` for a port that is taken or an address that is not
    this machine's.
    """
    _check_free(host, port)
    folder = Path(folder).expanduser().absolute()
    command, environment = server_command(host, port, folder)
    initialise(f"{SQLITE}{folder / 'mlflow.db'}")
    url = f"http://{host}:{port}"
    print(f"MLflow serves {folder} at {url} (stop it with Ctrl-C). In other terminals:", flush=True)
    print(f"  export MLFLOW_TRACKING_URI={url}", flush=True)
    os.execve(command[0], command, {**os.environ, **environment})


def server_command(host: str, port: int, folder: Path) -> tuple[list[str], dict[str, str]]:
    """Return the command line of the server and the environment variables that it needs.

    One worker without MLflow's job runner: 2 processes and .4 GB instead of 15 and 2.2, and a third of the
    time a call.
    """
    command = [sys.executable, "-m", "mlflow", "server", "--host", host, "--port", str(port)]
    command += ["--workers", "1", "--uvicorn-opts", "--log-level warning"]
    command += ["--backend-store-uri", f"{SQLITE}{folder / 'mlflow.db'}"]
    command += ["--artifacts-destination", str(folder / "mlartifacts")]
    return command, {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}


def _check_free(host: str, port: int) -> None:
    where = f"{host}:{port}"
    if not 0 < port <= HIGHEST_PORT:
        raise UserError("there is no such port", where=where, mend=f"Choose one in 1 .. {HIGHEST_PORT}")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except (OSError, TypeError) as error:  # TypeError: no name of a host
            mend = f"Choose another port (--port {port + 1}), or use the server that runs there"
            raise UserError(
                f"cannot listen there ({getattr(error, 'strerror', None) or error})", where=where, mend=mend
            ) from error
