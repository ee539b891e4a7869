"""What counts as "the tracking store is away", and how long to wait for it."""

from __future__ import annotations

import os
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

T = TypeVar("T")
_RETRY_STATUS = frozenset({401, 403, 408, 429, 499})
_SERVER_ERROR = 500
_NOT_IMPLEMENTED = 501


def is_outage(error: BaseException) -> bool:
    """Tell whether the same call may succeed later: no connection, timeout, overload, server error, login."""
    if isinstance(error, requests.HTTPError) and error.response is not None:
        return _may_pass(error.response.status_code)
    if isinstance(error, (requests.RequestException, urllib3.exceptions.HTTPError)):
        return True
    if isinstance(error, sqlalchemy.exc.DBAPIError):
        return error.connection_invalidated or isinstance(error, sqlalchemy.exc.OperationalError)
    if isinstance(error, MlflowException):
        cause = error.__cause__
        status = ERROR_CODE_TO_HTTP_STATUS.get(error.error_code, _SERVER_ERROR)
        return _may_pass(status) or (cause is not None and is_outage(cause))
    return isinstance(error, OSError) and not isinstance(error, FileNotFoundError)


def patiently(call: Callable[[], T], *, store: str) -> T:
    """Make a call that the work cannot go on without; wait up to ``RMER_WAIT_SECONDS`` (60) for the store."""
    limit = seconds("RMER_WAIT_SECONDS", 60.0)
    start, pause, told = time.monotonic(), 0.5, False
    while True:
        try:
            return call()
        except Exception as error:  # anything that is not an outage is raised again at once
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


def seconds(variable: str, default: float) -> float:
    """Return a duration from an environment variable."""
    text = os.environ.get(variable)
    try:
        return float(text) if text else default
    except ValueError:
        raise UserError(f"{text!r} is not a number of seconds", where=variable) from None


def one_line(error: BaseException, limit: int = 1000) -> str:
    """Return an error's message on one line without credentials, with its type unless it is a UserError."""
    text = redacted(" ".join(str(error).split()))
    if not isinstance(error, UserError):
        text = f"{type(error).__name__}: {text}" if text else type(error).__name__
    return text if len(text) <= limit else f"{text[: limit - 3]}..."


def say(message: str) -> None:
    """Tell the user one line without breaking a progress bar."""
    tqdm.write(redacted(message), file=sys.stderr)


def _may_pass(status: int) -> bool:
    return status in _RETRY_STATUS or (status >= _SERVER_ERROR and status != _NOT_IMPLEMENTED)
