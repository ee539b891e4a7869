"""Credentials are in nothing that is shown, logged or written."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
import requests

from entrypoints.options import run
from rmer.errors import DataErrors, UserError
from rmer.redaction import public_address, redacted
from rmer.tracking import Run, RunSpec, Store, Tag, connect
from rmer.tracking.delivery.journal import Journal
from rmer.tracking.delivery.operations import Beat, SetTags
from rmer.tracking.delivery.outages import one_line, say
from rmer.tracking.locations import store_key

SECRET = "s3cret"
LOGIN = f"https://me:{SECRET}@lab.example:5000"
SHOWN = "https://***@lab.example:5000"

ADDRESSES = [
    ("http://host:5000", "http://host:5000"),
    ("http://me:s3cret@host:5000", "http://***@host:5000"),
    ("http://s3cret@host:5000/path", "http://***@host:5000/path"),
    ("https://s3cret:x-oauth-basic@host", "https://***@host"),
    ("HTTPS://ME:s3cret@HOST", "HTTPS://***@HOST"),
    ("git+https://s3cret@github.com/a/b.git", "git+https://***@github.com/a/b.git"),
    ("http://me:s3cret@[::1]:5000/", "http://***@[::1]:5000/"),
    ("http://me:s3@cret@host:5000/", "http://***@host:5000/"),
    ("http://me:s3/cret@host", "http://***@host"),
    ("http://me:s3%40cret@host/a@b", "http://***@host/a@b"),
    ("http://host/a@b", "http://host/a@b"),
    ("http://host:5000/a@b?c=d@e", "http://host:5000/a@b?c=d@e"),
    ("http://host/?user=me&password=s3cret", "http://host/?user=me&password=***"),
    ("http://host/?access_token=s3cret#part", "http://host/?access_token=***#part"),
    ("https://host/a?sv=1&sig=s3cret%3D&x=1", "https://host/a?sv=1&sig=***&x=1"),
    ("https://h/a?X-Amz-Signature=s3cret&X-Amz-Date=1", "https://h/a?X-Amz-Signature=***&X-Amz-Date=1"),
    ("s3://AKIA:s3cret@bucket/a@b", "s3://AKIA:***@bucket/a@b"),
    ("ssh://git@github.com/a", "ssh://git@github.com/a"),
    ("postgresql://me@host/db", "postgresql://me@host/db"),
    ("postgresql://me:s3cret@host:5432/db", "postgresql://me:***@host:5432/db"),
    ("postgresql://:s3cret@host/db", "postgresql://:***@host/db"),
    ("postgresql://me:s3cret/@host:5432/db", "postgresql://me:***@host:5432/db"),
    ("postgresql+psycopg2://me:s3?c#ret@host/db?a=1", "postgresql+psycopg2://me:***@host/db?a=1"),
    ("mysql+pymysql://me:1234/s3cret@host/db", "mysql+pymysql://me:***@host/db"),
    ("postgresql://h:5432/db?user=me&password=s3cret", "postgresql://h:5432/db?user=me&password=***"),
    ("postgresql:///db?host=/run&sslpassword=s3cret", "postgresql:///db?host=/run&sslpassword=***"),
    ("host=h user=me password='s3 cret' dbname=d", "host=h user=me password=*** dbname=d"),
    ("sqlite:////home/a@b/mlflow.db", "sqlite:////home/a@b/mlflow.db"),
    ("sqlite:////home/a:b/c@d/mlflow.db", "sqlite:////home/a:b/c@d/mlflow.db"),
    ("models:/name@champion", "models:/name@champion"),
    ("500 Server Error for url: http://me:s3cret@h/health", "500 Server Error for url: http://***@h/health"),
    ("http://a:1,http://me:s3cret@h", "http://a:1,http://***@h"),
    ('{"a":"http://h:1","b":"me@x"}', '{"a":"http://h:1","b":"me@x"}'),
    ("password authentication failed for me@host", "password authentication failed for me@host"),
]


@pytest.mark.parametrize(("text", "shown"), ADDRESSES)
def test_of_addresses_everything_but_credentials_is_shown(text: str, shown: str) -> None:
    assert redacted(text) == shown
    assert redacted(f'<{text}> and "{text}"') == f'<{shown}> and "{shown}"'
    assert redacted(shown) == shown


@pytest.mark.parametrize(
    ("uri", "web"),
    [
        ("http://me:s3cret@host:5000/mlflow/", "http://host:5000/mlflow"),
        ("https://s3cret@host", "https://host"),
        ("http://me:s3/cret@host", "http://host"),
        ("https://host/a@b?token=s3cret#x", "https://host/a@b"),
        ("postgresql://me:s3cret@host/db", ""),
        ("sqlite:////home/me/mlflow.db", ""),
    ],
)
def test_addresses_to_click_on_have_no_login(uri: str, web: str) -> None:
    assert public_address(uri) == web


def test_a_new_password_leaves_the_store_what_it_was() -> None:
    for old, new in [
        ("http://me:old@host", "http://me:new@host"),
        ("http://token@host", "http://host"),
        ("postgresql://me:old@host/db", "postgresql://me:new@host/db"),
    ]:
        assert store_key(old) == store_key(new)
    assert store_key("postgresql://me:old@host/db") != store_key("postgresql://you:old@host/db")


def test_messages(capsys: pytest.CaptureFixture[str]) -> None:
    error = UserError(f"{LOGIN} is away", where=LOGIN, mend=f"Start {LOGIN}")
    assert str(error) == f"{SHOWN}: {SHOWN} is away. Start {SHOWN}"
    assert SECRET not in "".join([error.what, error.where, error.mend])
    assert str(DataErrors([LOGIN])) == f"1 problem found\n  - {SHOWN}"
    assert (
        one_line(requests.ConnectionError(f"no route to {LOGIN}")) == f"ConnectionError: no route to {SHOWN}"
    )
    say(f"waiting for {LOGIN}")
    assert capsys.readouterr().err == f"waiting for {SHOWN}\n"


@pytest.fixture
def failing_server() -> Iterator[str]:
    class Fails(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_error(500, "Broken")

        def log_message(self, format: str, *args: object) -> None:
            logging.getLogger("failing_server").debug(format, *args)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Fails)
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_the_traceback_of_a_bug(failing_server: str, capsys: pytest.CaptureFixture[str]) -> None:
    def bug() -> int:
        try:
            requests.get(f"http://me:{SECRET}@{failing_server}/a", timeout=9).raise_for_status()
        except requests.RequestException as error:
            raise RuntimeError("cannot go on") from error
        return 0

    assert run(bug) == 1
    shown = capsys.readouterr().err
    assert f"500 Server Error: Broken for url: http://***@{failing_server}/a\n" in shown
    assert shown.endswith("RuntimeError: cannot go on\n")
    assert SECRET not in shown


@pytest.mark.parametrize("login", [f"me:{SECRET}", SECRET])
def test_a_server_that_fails(failing_server: str, login: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RMER_WAIT_SECONDS", "0.5")
    with pytest.raises(UserError, match=r"^http://\*\*\*@127.0.0.1:\d+: .*500 Server Error") as caught:
        connect(f"http://{login}@{failing_server}")
    assert SECRET not in str(caught.value)


def test_what_a_run_logs(store: Store, tmp_path: Path) -> None:
    spec = RunSpec(
        "attack", "a", {"model_uri": LOGIN, "several": [LOGIN]}, {Tag.MODEL_URI: LOGIN}, study=LOGIN
    )

    def body(run: Run) -> None:
        run.tags({"tag": LOGIN})
        run.params({"later": LOGIN})
        run.note(f"[model]({LOGIN})")
        run.text(f"model: {LOGIN}\n", "jobs.yaml")
        run.json({"models": [LOGIN]}, "jobs.json")
        run.dataset_input("data", "d1", source={"folder": LOGIN})
        raise UserError(f"cannot fetch {LOGIN}/model")

    with pytest.raises(UserError):
        store.perform(spec, body)
    (record,) = store.search({Tag.STUDY: LOGIN})
    assert record.params["cfg.model_uri"] == SHOWN
    assert record.tags[Tag.MODEL_URI] == record.tags["tag"] == SHOWN
    assert record.tags[Tag.ERROR] == f"cannot fetch {SHOWN}/model"
    (given,) = store.client.get_run(record.run_id).inputs.dataset_inputs
    assert json.loads(given.dataset.source) == {"folder": SHOWN}
    assert_nowhere(tmp_path)


def test_the_spool_of_a_store_with_a_password() -> None:
    uri = f"postgresql://me:{SECRET}@127.0.0.1:1/db"
    journal = Journal(uri, "run")
    journal.append(SetTags({"a": "1"}))
    journal.refuse(Beat(), one_line(RuntimeError(f"refused by {uri}")))
    assert (journal.folder.parent / "store.txt").read_text() == "postgresql://me:***@127.0.0.1:1/db"
    assert_nowhere(journal.folder.parent.parent.parent)


def assert_nowhere(folder: Path) -> None:
    """Assert that no file below holds the secret, nor its name."""
    for path in folder.rglob("*"):
        assert SECRET not in path.name
        assert path.is_dir() or SECRET.encode() not in path.read_bytes(), path


@pytest.mark.timeout(20)  # some 4 million characters, which quadratic time would need hours for
@pytest.mark.parametrize("unit", ["a", "a:", "?a=", "a@", "://", "://a:b", "://@", ";", "ssl", " password"])
def test_long_texts_take_no_longer_than_they_are_long(unit: str) -> None:
    text = unit * (400_000 // len(unit))
    assert len(redacted(text)) >= len(text) - 1
