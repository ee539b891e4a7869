"""What counts as "the tracking store is away", or as its refusal, and how long to wait for it."""

from __future__ import annotations

import math
import os
import re
import sys
import time
from collections.abc import Callable
from typing import TypeVar

import requests
import sqlalchemy.exc
import urllib3.exceptions
from mlflow.exceptions import ERROR_CODE_TO_HTTP_STATUS, MlflowException
from tqdm import tqdm

from rmer.errors import UserError
from rmer.redaction import redacted
from rmer.tracking.machine import lack

T = TypeVar("T")
NO_LOGIN, NO_RIGHT = 401, 403
_RETRY_STATUS = frozenset({408, 429, 499})
SERVER_ERROR = 500
_NOT_IMPLEMENTED = 501
_ENDPOINT = re.compile(r"endpoint \S*?/mlflow/(\S+) failed|for url: \S*?(/mlflow-artifacts/)\S+")
_READING = re.compile(r"/(get|search|list|download)")


def is_outage(error: BaseException) -> bool:
    """Tell whether the same call may succeed later: no connection, timeout, overload, server error, refusal.

    A refusal counts, because a login or a right may come back while a computation goes on: nothing of it
    must be lost until then.
    """
    if _status(error) in (NO_LOGIN, NO_RIGHT):
        return True
    if isinstance(error, requests.HTTPError) and error.response is not None:
        return _may_pass(error.response.status_code)
    if isinstance(error, (requests.RequestException, urllib3.exceptions.HTTPError)):
        return True
    if isinstance(error, sqlalchemy.exc.DBAPIError):
        return error.connection_invalidated or isinstance(error, sqlalchemy.exc.OperationalError)
    if isinstance(error, MlflowException):
        cause = error.__cause__
        return _may_pass(_status(error) or 0) or (cause is not None and is_outage(cause))
    return isinstance(error, OSError) and not isinstance(error, FileNotFoundError)


def patiently(call: Callable[[], T], *, store: str) -> T:
    """Make a call that the work cannot go on without; wait up to ``RMER_WAIT_SECONDS`` (60) for the store.

    Every call to a store goes through here, or through a run's sender, which waits as long as the run lasts.
    Raises :class:`UserError` when the store stays away, and at once where waiting does not help: the store
    refuses this user, or space or rights are missing. Other errors are raised as they are.
    """
    limit = seconds("RMER_WAIT_SECONDS", 60.0)
    start, pause, told = time.monotonic(), 0.5, False
    while True:
        try:
            return call()
        except Exception as error:  # anything that is not an outage is raised again at once
            if hopeless := refusal(error, store) or lack(error, store):
                raise hopeless from error
            if not is_outage(error):
                raise
            waited = time.monotonic() - start
            if waited + pause > limit:
                raise gone(store, error) from error
            if not told:
                told = True
                say(f"The tracking store {store} does not answer; waiting up to {limit:g} s for it.")
            time.sleep(pause)
            pause = min(2 * pause, 5.0)


def gone(store: str, error: BaseException) -> UserError:
    """Return the error that tells a user that a store does not answer."""
    mend = "Start it (`rmer server`), or set MLFLOW_TRACKING_URI to another store, or unset it"
    return UserError(f"the tracking store does not answer ({one_line(error, 200)})", where=store, mend=mend)


def refusal(error: BaseException, store: str) -> UserError | None:
    """Return the error that tells a user which login or right is missing; None for other errors."""
    status, user = _status(error), os.environ.get("MLFLOW_TRACKING_USERNAME")
    who = f"user {user}" if user else "a user without login"
    if status == NO_LOGIN:
        mend = "Set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
        return UserError(f"the tracking store does not know {who} ({status})", where=store, mend=mend)
    if status != NO_RIGHT:
        return None
    called, text = _ENDPOINT.search(str(error)), " ".join(str(error).split())
    endpoint = (called[1] or "the artifacts") if called else ""
    answer = (text.partition("Response body: ")[2].strip("'") or text)[:120]
    right = "READ" if _READING.search(f"/{endpoint}") else "EDIT"
    what = f"the tracking store refuses {who} {endpoint or 'a call'} ({status} {answer})"
    mend = f"Ask its administrator for the right {right}, or log to an experiment of your own"
    return UserError(what, where=store, mend=f"{mend} (MLFLOW_EXPERIMENT_NAME)")


def seconds(variable: str, default: float) -> float:
    """Return a duration from an environment variable."""
    text = os.environ.get(variable)
    try:
        found = float(text) if text else default
    except ValueError:
        found = math.nan
    if not 0 <= found < math.inf:
        what = f"{text!r} is not a number of seconds"
        raise UserError(what, where=variable, mend="Give a number from 0 on, or leave it out")
    return found


def one_line(error: BaseException, limit: int = 1000) -> str:
    """Return an error's message on one line without credentials, with its type unless it is a UserError."""
    text = redacted(" ".join(str(error).split()))
    if not isinstance(error, UserError):
        text = f"{type(error).__name__}: {text}" if text else type(error).__name__
    return text if len(text) <= limit else f"{text[: limit - 3]}..."


def say(message: str) -> None:
    """Tell the user one line without breaking a progress bar."""
    tqdm.write(redacted(message), file=sys.stderr)


def _status(error: BaseException) -> int | None:
    if isinstance(error, requests.HTTPError) and error.response is not None:
        return error.response.status_code
    if isinstance(error, MlflowException):
        return ERROR_CODE_TO_HTTP_STATUS.get(error.error_code, SERVER_ERROR)
    return None


def _may_pass(status: int) -> bool:
    return status in _RETRY_STATUS or (status >= SERVER_ERROR and status != _NOT_IMPLEMENTED)
