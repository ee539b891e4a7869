"""Real servers for tests: MLflow's, stopped and started again at will, and a fresh PostgreSQL."""

from __future__ import annotations

import atexit
import functools
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import psycopg
import pytest

from rmer.errors import UserError
from rmer.tracking import Run, RunSpec, Store, Tag, connect
from rmer.tracking.server.serving import server_command
from rmer.tracking.setup import initialise, tame_mlflow

ROOT = Path(__file__).resolve().parent.parent
START_SECONDS = 60.0


class MlflowServer:
    """An `mlflow server` as `rmer server` starts it, on a free port; runs and artifacts in ``folder``."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, free_port()
        self.uri = f"http://127.0.0.1:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it answers."""
        backend = f"sqlite:///{self.folder / 'mlflow.db'}"
        command, environment = server_command("127.0.0.1", self.port, self.folder, backend)
        with (self.folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                command, env={**os.environ, **environment}, stdout=log, stderr=log, start_new_session=True
            )
        wait_for(self.answers, f"the server did not start: see {self.folder / 'server.log'}")

    def answers(self) -> bool:
        """Tell whether it answers."""
        return answers(self.uri)

    def stop(self) -> None:
        """Stop it and its workers at once."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None


def answers(uri: str) -> bool:
    """Tell whether an MLflow server answers at an address."""
    try:
        with urlopen(f"{uri}/health", timeout=2) as answer:
            return bool(answer.status == 200)
    except (URLError, OSError):
        return False


def copy_fresh_sqlite(file: Path) -> None:
    """Put a new, empty sqlite store there; MLflow takes seconds to make one: made once, copied."""
    shutil.copyfile(_sqlite_template(), file)


def new_store(folder: Path) -> Store:
    """Return a new, empty store, with its artifacts beside it."""
    copy_fresh_sqlite(folder / "mlflow.db")
    return connect(f"sqlite:///{folder}/mlflow.db")


def interrupt(store: Store, spec: RunSpec, first: Callable[[Run], object] = lambda run: None) -> str:
    """Perform a run that stops after ``first``; return its id."""

    def stopped(run: Run) -> None:
        first(run)
        raise UserError("stopped")

    with pytest.raises(UserError, match="stopped"):
        store.perform(spec, stopped)
    return store.search({Tag.CONFIG: spec.digest})[0].run_id


@functools.cache
def _sqlite_template() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="rmer-test-"))
    atexit.register(shutil.rmtree, folder)
    tame_mlflow()
    initialise(f"sqlite:///{folder / 'mlflow.db'}")
    return folder / "mlflow.db"


@contextmanager
def mlflow_server(folder: Path) -> Iterator[MlflowServer]:
    """Run an MLflow server for the length of a block."""
    folder.mkdir(parents=True, exist_ok=True)
    copy_fresh_sqlite(folder / "mlflow.db")
    server = MlflowServer(folder)
    server.start()
    try:
        yield server
    finally:
        server.stop()


class Database:
    """A PostgreSQL server with an empty database; raises pytest's skip where it is not installed."""

    def __init__(self, folder: Path) -> None:
        initdb, postgres = _postgresql_program("initdb"), _postgresql_program("postgres")
        if initdb is None or postgres is None:
            pytest.skip("PostgreSQL is not installed (apt-get install postgresql)")
        self._folder, self._port, become = folder, free_port(), _unprivileged(folder)
        self.uri = f"postgresql://rmer@127.0.0.1:{self._port}/postgres"
        data = str(folder / "data")
        subprocess.run(
            [*become, initdb, "-D", data, "-U", "rmer", "-A", "trust", "--no-sync"],
            check=True,
            cwd=folder,
            stdout=subprocess.DEVNULL,
        )
        options = ["-k", str(folder), "-c", "listen_addresses=127.0.0.1", "-c", "fsync=off"]
        self._command = [*become, postgres, "-D", data, "-p", str(self._port), *options]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it takes connections: it listens some time before."""
        log_file = self._folder / "postgresql.log"
        with log_file.open("ab") as log:
            self._process = subprocess.Popen(self._command, stderr=log, cwd=self._folder)
        wait_for(lambda: _takes_connections(self.uri), f"PostgreSQL did not start: see {log_file}")

    def stop(self) -> None:
        """Stop it, cutting its connections."""
        if self._process is not None:
            self._process.send_signal(signal.SIGINT)
            self._process.wait(START_SECONDS)
            self._process = None


class Proxy:
    """An nginx that adds TLS, configured by a ``server`` block; raises pytest's skip where it is missing."""

    def __init__(self, folder: Path, block: str) -> None:
        program = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
        if program is None:
            pytest.skip("nginx is not installed (apt-get install nginx-light)")
        kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        places = [f"{kind}_temp_path {folder / kind};" for kind in kinds]
        text = "\n".join(["daemon off; events {} http {", "access_log off;", *places, block, "}"])
        (folder / "nginx.conf").write_text(text)
        pid, log = folder / "nginx.pid", folder / "nginx.log"
        options = ["-p", str(folder), "-e", str(log), "-c", str(folder / "nginx.conf"), "-g", f"pid {pid};"]
        self._command = [program, *options]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it."""
        self._process = subprocess.Popen(self._command, start_new_session=True)

    def stop(self) -> None:
        """Stop it, cutting its connections."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGTERM)
            self._process.wait(START_SECONDS)
            self._process = None


@contextmanager
def postgresql(folder: Path) -> Iterator[Database]:
    """Run a fresh PostgreSQL for the length of a block."""
    database = Database(folder)
    database.start()
    try:
        yield database
    finally:
        database.stop()


def start_python(code: str, **environment: str) -> subprocess.Popen[str]:
    """Start a Python process that runs ``code`` with this repository's packages."""
    return subprocess.Popen(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for(condition, problem: str, limit: float = START_SECONDS) -> None:  # type: ignore[no-untyped-def]
    """Wait until a condition holds; fail the test with ``problem`` after ``limit`` seconds."""
    end = time.monotonic() + limit
    while not condition():
        if time.monotonic() > end:
            pytest.fail(problem)
        time.sleep(0.05)


def free_port() -> int:
    """Return a port of the loopback interface that nobody uses."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _postgresql_program(name: str) -> str | None:
    debian = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    return str(debian[-1]) if debian else shutil.which(name)


def _unprivileged(folder: Path) -> list[str]:
    """Return the prefix of commands that must not run as root, and give their account the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    if os.geteuid() != 0:
        return []
    user = "postgres"
    shutil.chown(folder, user)
    for parent in folder.parents:  # pytest's folders are closed to other accounts
        if parent.stat().st_uid == 0 and not parent.stat().st_mode & 0o001:
            parent.chmod(parent.stat().st_mode | 0o011)
    return ["setpriv", "--reuid", user, "--regid", user, "--clear-groups"]


def _takes_connections(uri: str) -> bool:
    try:
        psycopg.connect(uri, connect_timeout=4).close()
    except psycopg.OperationalError:
        return False
    return True
