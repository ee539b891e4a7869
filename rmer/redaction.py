"""Credentials taken out of whatever is shown, logged or written."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

HIDDEN = "***"
# SQLAlchemy lets a database's password hold any sign but "@"; the host of other addresses ends at a slash, so
# that a password with a slash in it is known by what cannot be a port.
_LOGIN = re.compile(
    r"""(?P<scheme>(?P<sql>(?:postgres|mysql|mariadb|mssql|oracle)\w*(?:\+\w+)?)|[a-z][a-z0-9+.-]*)://
    (?P<login>
        [^\s/?\#"<>]*@                                             # user@, user:password@
        | [^\s/:@"<>]*:(?(sql)|(?!\d*(?:[/?\#\s"',)]|$)))[^\s@"<>]*@  # passwords with / ? or #
    )""",
    re.IGNORECASE | re.VERBOSE,
)
_SECRET_NAME = (
    r"[\w.-]*(?:passw|pwd|secret|token|api_?key|access_?key|signature|credential)[\w.-]*|sig|key|auth"
)
_QUERY = re.compile(rf"(?P<before>[?&;](?:{_SECRET_NAME})=)[^&;\s\"'<>#]+", re.IGNORECASE)
_CONNECTION = re.compile(
    r"(?P<before>\b(?:ssl)?(?:password|passwd|pwd)=)('[^']*'|[^&;\s\"'<>#]+)", re.IGNORECASE
)


def redacted(text: str) -> str:
    """Return a text, an address say, in which ``***`` stands for the credentials of every address.

    Of a web address that is the whole login, as a token may stand where a user does (``http://***@host``); of
    others the password (``postgresql://user:***@host``). So are secrets in queries (``?password=***``) and in
    connection strings (``password=***``). What is no credential stays, also an ``@`` in a path.
    """
    text = _LOGIN.sub(_without_secret, text)
    return _CONNECTION.sub(rf"\g<before>{HIDDEN}", _QUERY.sub(rf"\g<before>{HIDDEN}", text))


def redacted_values(values: Any) -> Any:
    """Return plain values (mappings, lists, texts, numbers) with every text redacted."""
    if isinstance(values, str):
        return redacted(values)
    if isinstance(values, Mapping):
        return {key: redacted_values(value) for key, value in values.items()}
    if isinstance(values, (list, tuple)):
        return [redacted_values(value) for value in values]
    return values


def public_address(uri: str) -> str:
    """Return a web address that can be clicked on, without login, query and fragment; "" for others."""
    if not uri.lower().startswith(("http://", "https://")):
        return ""
    return re.split(r"[?#]", _LOGIN.sub(r"\g<scheme>://", uri))[0].rstrip("/")


def _without_secret(match: re.Match[str]) -> str:
    scheme, login = match["scheme"], match["login"]
    if scheme.lower().endswith(("http", "https")):
        return f"{scheme}://{HIDDEN}@"
    user, colon, _ = login.partition(":")
    return f"{scheme}://{user}:{HIDDEN}@" if colon else f"{scheme}://{login}"
