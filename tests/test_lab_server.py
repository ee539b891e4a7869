"""A lab's shared server as docs/server.md says: PostgreSQL, logins, TLS by nginx; several kinds of users."""

from __future__ import annotations

import os
import re
import signal
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
import requests
from mlflow.server.auth.client import AuthServiceClient
from servers import ROOT, Database, Proxy, free_port, postgresql, start_python, wait_for

from rmer.errors import UserError
from rmer.stages.analysis.analyze import analyze
from rmer.stages.analysis.analyze_params import AnalyzeParams
from rmer.stages.attack.attack import attack
from rmer.stages.attack.attack_params import AttackParams
from rmer.stages.data.demo_data import DemoParams, make_demo_data
from rmer.stages.data.preprocess import PreprocessParams, preprocess
from rmer.stages.prepared_views import models_view
from rmer.stages.train import train
from rmer.stages.train_params import TrainParams
from rmer.tracking import Artifact, Run, RunSpec, Stage, Store, Tag, connect

pytestmark = pytest.mark.slow
pytest.importorskip("flask_wtf", reason="logins need pip install '.[auth]'")

PAGE = (ROOT / "docs" / "server.md").read_text()
DATABASE_PASSWORD = "database-s3cret"
PASSWORDS = {"alice": "alice-s3cret-1", "bob": "bob-s3cret-123"}
START_SECONDS = 180.0


def block(language: str, start: str) -> str:
    """Return the block of the page that has a line beginning with ``start``, without what comes before it."""
    blocks = re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    (found,) = [text[text.index(start) :] for text in blocks if start in text]
    return found


def run_block(start: str, **changes: str) -> None:
    """Run one line of the page in a shell, with other names in the place of the page's."""
    line = block("bash", start).splitlines()[0]
    for old, new in changes.items():
        assert old in line
        line = line.replace(old, new)
    programs = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    subprocess.run(
        ["bash", "-euc", line], check=True, capture_output=True, env={**os.environ, "PATH": programs}
    )


@dataclass
class Lab:
    """The running server; ``uri`` is the proxy's address."""

    folder: Path
    database: Database
    backend: str
    proxy: Proxy
    uri: str
    process: psutil.Process

    def login(self, user: str) -> str:
        """Return the address with the login of a user."""
        return self.uri.replace("://", f"://{user}:{PASSWORDS[user]}@")

    def answers(self) -> bool:
        """Tell whether the server answers through the proxy."""
        try:
            return requests.get(f"{self.uri}/health", timeout=5, verify=self.certificate).ok
        except requests.RequestException:
            return False

    @property
    def certificate(self) -> str:
        """Return the file of the proxy's certificate."""
        return str(self.folder / "lab.example.pem")


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    folder = tmp_path_factory.mktemp("lab")
    with postgresql(folder / "postgresql") as database, pytest.MonkeyPatch.context() as patch:
        patch.setenv("RMER_HOME", str(folder / "home"))
        patch.setenv("RMER_WAIT_SECONDS", "5")
        backend = database.uri.replace("rmer@", f"rmer:{DATABASE_PASSWORD}@")
        with lab_server(folder, database, backend) as lab:
            patch.setenv("MLFLOW_TRACKING_SERVER_CERT_PATH", lab.certificate)
            make_users(lab, patch)
            yield lab


@pytest.fixture
def lab(running: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lab:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_SERVER_CERT_PATH", running.certificate)
    monkeypatch.setenv("RMER_WAIT_SECONDS", "5")
    return running


@contextmanager
def lab_server(folder: Path, database: Database, backend: str) -> Iterator[Lab]:
    """Run the server by the page's command, and the page's nginx before it."""
    inner, outer = free_port(), free_port()
    certificates = block("bash", "openssl").strip().replace("DNS:lab.example", "IP:127.0.0.1")
    subprocess.run(["bash", "-euc", certificates], cwd=folder, check=True, capture_output=True)
    server = block("nginx", "server {").replace("listen 443", f"listen 127.0.0.1:{outer}")
    server = server.replace("127.0.0.1:5000", f"127.0.0.1:{inner}").replace("/etc/ssl", str(folder))
    command = block("bash", "rmer server").replace("/srv/rmer", str(folder)).split()
    program = [sys.executable, "-m", "entrypoints.cli", *command[1:], "--port", str(inner)]
    environment = {**os.environ, "MLFLOW_BACKEND_STORE_URI": backend, "PYTHONPATH": str(ROOT)}
    proxy = Proxy(folder, server)
    with (folder / "server.log").open("ab") as log:
        process = subprocess.Popen(
            program, env=environment, cwd=folder, stdout=log, stderr=log, start_new_session=True
        )
    lab = Lab(folder, database, backend, proxy, f"https://127.0.0.1:{outer}", psutil.Process(process.pid))
    try:
        proxy.start()
        wait_for(lab.answers, f"the server did not start: see {folder / 'server.log'}", START_SECONDS)
        yield lab
    finally:
        proxy.stop()
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def make_users(lab: Lab, patch: pytest.MonkeyPatch) -> None:
    """Make the users as ``admin``, whose password the server has made."""
    patch.setenv("MLFLOW_TRACKING_USERNAME", "admin")
    patch.setenv("MLFLOW_TRACKING_PASSWORD", (lab.folder / "auth" / "admin_password").read_text().strip())
    client = AuthServiceClient(lab.uri)
    for user, password in PASSWORDS.items():
        client.create_user(user, password)
    patch.delenv("MLFLOW_TRACKING_USERNAME")
    patch.delenv("MLFLOW_TRACKING_PASSWORD")


@pytest.fixture(scope="module")
def study(running: Lab) -> Store:
    """A tiny study of alice's, through the proxy, in an experiment of her own; as she sees the store."""
    store = connect(running.login("alice"), "alice")
    data = make_demo_data(DemoParams(out_dir=str(running.folder / "data"), clips=16, seconds=3.0))
    data_run = preprocess(store, PreprocessParams(soundtracks_dir=str(data), frames=40, workers=1)).run_id
    params = TrainParams(system="A2E", epochs=1, device="cpu", dataset_run_id=data_run, study="tiny")
    train(store, params)
    attack_all(store, AttackParams(attack="pgd", steps=1, device="cpu", study="tiny"))
    analyze(store, AnalyzeParams(study="tiny"))
    return store


def attack_all(store: Store, params: AttackParams) -> list[str]:
    return [outcome.run_id for outcome in attack(store, params)]


def test_an_ordinary_user_does_a_whole_study(lab: Lab, study: Store) -> None:
    stages = {stage: study.find(stage) for stage in ("preprocess", "train", "attack", "analyze")}
    assert {stage: len(found) for stage, found in stages.items()} == dict.fromkeys(stages, 1)
    (analysis,), (attacked,) = stages["analyze"], stages["attack"]
    location = study.client.get_run(analysis.run_id).info.artifact_uri
    assert location.startswith("mlflow-artifacts:/")
    report = study.download(analysis.run_id, Artifact.REPORT).read_text()
    assert (
        f'href="{lab.uri}/#/experiments/{attacked.experiment_id}/runs/{attacked.run_id}?workflowType=machine_learning"'
        in report
    )
    assert study.link(attacked) in report
    assert len(study.read_table(attacked.run_id, Artifact.ADVERSARY_CLIPS)) == 2


def test_no_password_is_written_anywhere_or_listed(lab: Lab, study: Store) -> None:
    secrets = [*PASSWORDS.values(), DATABASE_PASSWORD]
    secrets += [(lab.folder / "auth" / name).read_text().strip() for name in ("admin_password", "secret_key")]
    dump = subprocess.run(["pg_dump", lab.database.uri], check=True, capture_output=True).stdout
    allowed = {lab.folder / "auth" / name for name in ("admin_password", "secret_key")}
    for path in lab.folder.rglob("*"):
        assert not any(secret in path.name for secret in secrets)
        if path.is_file() and path not in allowed and "postgresql" not in path.parts:
            dump += path.read_bytes()
    assert [secret for secret in secrets if secret.encode() in dump] == []
    processes = [lab.process, *lab.process.children(recursive=True)]
    listed = " ".join(part for process in processes for part in process.cmdline())
    assert "--app-name basic-auth" in listed
    assert [secret for secret in secrets if secret in listed] == []


def test_secrets_of_the_server_are_for_its_account_alone(lab: Lab) -> None:
    paths = [lab.folder / "auth", *(lab.folder / "auth").iterdir()]
    secret = dict.fromkeys(("admin_password", "basic_auth.ini", "secret_key", "users.db"), 0o600)
    assert {path.name: stat.S_IMODE(path.stat().st_mode) for path in paths} == {"auth": 0o700, **secret}


def test_without_a_login_nothing_is_told(lab: Lab) -> None:
    with pytest.raises(UserError, match=r"401|not authenticated"):
        connect(lab.uri)


def test_who_may_only_read_reads_and_is_told_so(
    lab: Lab, study: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    (trained,) = study.find(Stage.TRAIN)
    store = connect(lab.login("bob"), "alice")
    assert len(store.read_table(trained.run_id, Artifact.PREDICTIONS)) == 16
    with pytest.raises(UserError, match=r"403|ermission"):
        store.perform(RunSpec("train", "intruder", {"lr": 1}), lambda run: run.metrics({"a": 1.0}))
    with pytest.raises(UserError, match=r"403|ermission"):
        store.set_tags(trained.run_id, {Tag.STUDY: "stolen"})
    assert study.get(trained.run_id).tags[Tag.STUDY] == "tiny"
    models = models_view("tiny")  # her lists of runs, without the columns that her experiment would keep
    assert (
        store.prepare(models, trained.experiment_id)
        == f"{lab.uri}/{models.plain_page(trained.experiment_id)}"
    )
    # In an experiment of his own he attacks her model; her run, which he may not write to, gets no link.
    own = connect(lab.login("bob"), "bob")
    capsys.readouterr()
    params = AttackParams(attack="noise", train_run_id=trained.run_id, device="cpu", study="of bob")
    (run_id,) = attack_all(own, params)
    assert own.get(run_id).status == "FINISHED"
    assert own.get(run_id).tags[Tag.TRAIN_RUN_ID] == trained.run_id
    assert f"{Tag.ATTACK_RUN_ID}.{run_id}" not in own.get(trained.run_id).tags
    note = f"Run {trained.run_id} may only be read: it gets no link to run {run_id}.\n"
    assert note in capsys.readouterr().err


def test_the_administrator_may_do_everything(lab: Lab, study: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "admin")
    monkeypatch.setenv(
        "MLFLOW_TRACKING_PASSWORD", (lab.folder / "auth" / "admin_password").read_text().strip()
    )
    store = connect(lab.uri, "alice")
    (trained,) = store.find(Stage.TRAIN)
    store.set_tags(trained.run_id, {"checked": "yes"})
    assert study.get(trained.run_id).tags["checked"] == "yes"
    outcome = store.perform(RunSpec("check", "of admin", {}), lambda run: run.text("x", "a.txt"))
    assert store.download(outcome.run_id, "a.txt").read_text() == "x"


KILLED = """
import os, signal, sys
from rmer.tracking import RunSpec, connect

def body(run):
    for step in range(run.logged_step("train/loss") + 1 if run.resumed else 0, 10):
        run.metrics({"train/loss": step / 3}, step=step)
        if step == 4 and not run.resumed:
            while run._journal.waiting():
                pass
            os.kill(os.getpid(), signal.SIGKILL)
    run.text("done", "a.txt")

connect(experiment="alice").perform(RunSpec("train", "killed", {"lr": 3}), body)
"""


def test_a_killed_run_goes_on(lab: Lab, study: Store) -> None:
    assert start_python(KILLED, MLFLOW_TRACKING_URI=lab.login("alice")).wait() == -signal.SIGKILL
    (killed,) = [record for record in study.search({Tag.STAGE: "train"}) if record.name == "killed"]
    assert killed.status == "RUNNING"
    assert start_python(KILLED, MLFLOW_TRACKING_URI=lab.login("alice")).wait() == 0
    resumed = study.get(killed.run_id)
    assert resumed.status == "FINISHED"
    assert study.metric_history(killed.run_id, "train/loss") == [(step, step / 3) for step in range(10)]
    assert study.download(killed.run_id, "a.txt").read_text() == "done"


def test_what_waits_while_the_proxy_is_away_is_sent_later(
    lab: Lab, study: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RMER_DRAIN_SECONDS", "1")

    def body(run: Run) -> None:
        run.metrics({"a": 1.0}, step=0)
        lab.proxy.stop()
        run.metrics({"a": 2.0}, step=1)
        run.text("later", "a.txt")

    outcome = study.perform(RunSpec("train", "away", {"lr": 4}), body)
    assert outcome.waiting >= 2
    lab.proxy.start()
    wait_for(lab.answers, "the proxy did not come back")
    result = connect(lab.login("alice"), "alice", send_waiting=False).sync()
    assert (result.left, result.problem) == (0, "")
    assert study.metric_history(outcome.run_id, "a") == [(0, 1.0), (1, 2.0)]
    assert study.download(outcome.run_id, "a.txt").read_text() == "later"
    assert study.get(outcome.run_id).status == "FINISHED"


WRITERS = """
import multiprocessing
from rmer.tracking import RunSpec, connect

def body(run):
    for step in range(20):
        run.metrics({"val/a": step / 7, "val/b": step}, step=step)
    run.text("x", "a.txt")

def write(number):
    connect(experiment="alice").perform(RunSpec("write", f"{number}", {"number": number}), body)

context = multiprocessing.get_context("fork")
processes = [context.Process(target=write, args=(number,)) for number in range(8)]
for process in processes:
    process.start()
for process in processes:
    process.join()
raise SystemExit(sum(process.exitcode != 0 for process in processes))
"""


def test_eight_writers_lose_nothing(lab: Lab, study: Store) -> None:
    writers = start_python(WRITERS, MLFLOW_TRACKING_URI=lab.login("alice"))
    _, problems = writers.communicate(timeout=300)
    assert writers.returncode == 0, problems
    records = study.find("write")
    assert sorted(record.name for record in records) == [str(number) for number in range(8)]
    for record in records:
        assert study.metric_history(record.run_id, "val/a") == [(step, step / 7) for step in range(20)]
        assert study.metric_history(record.run_id, "val/b") == [(step, step) for step in range(20)]


def test_a_backup_of_the_database_comes_back_and_is_upgraded(lab: Lab, study: Store, tmp_path: Path) -> None:
    before = everything(study)
    address, restored = lab.database.uri, lab.database.uri.replace("/postgres", "/restored")
    subprocess.run(["createdb", f"--maintenance-db={address}", "restored"], check=True)
    dump = str(tmp_path / "rmer.dump")
    run_block("pg_dump", **{"rmer.dump": dump, "postgresql://rmer@127.0.0.1/rmer": address})
    run_block("pg_restore", **{"postgresql://rmer@127.0.0.1/restored": restored, "rmer.dump": dump})
    run_block("mlflow db upgrade", **{"$MLFLOW_BACKEND_STORE_URI": restored})
    again = connect(restored)
    assert everything(again) == before


def everything(store: Store) -> dict[str, str]:
    """Return what every run holds, as text (a NaN is no NaN's equal)."""
    return {
        record.run_id: str([sorted(record.params.items()), sorted(record.metrics.items())])
        for record in store.search({})
    }


def test_a_backup_of_a_sqlite_file_while_it_is_written_to(lab: Lab, tmp_path: Path) -> None:
    users, copy = lab.folder / "auth" / "users.db", tmp_path / "backup.db"
    run_block("python -c 'import sqlite3", **{"mlflow.db": str(users), "backup.db": str(copy)})
    run_block("python -m mlflow.server.auth db", **{"/srv/rmer/auth/users.db": str(copy)})
    with closing(sqlite3.connect(copy)) as database:
        names = database.execute("SELECT username FROM users ORDER BY username").fetchall()
    assert names == [("admin",), ("alice",), ("bob",)]
