"""Credentials taken out of whatever is shown, logged or written."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

HIDDEN = "***"
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*$", re.IGNORECASE)
_DATABASE = re.compile(r"(postgres|mysql|mariadb|mssql|oracle)\w*(\+\w+)?", re.IGNORECASE)
# What stands before the host. A host ends at a slash, so that a password with a slash in it is known by what
# cannot be a port; SQLAlchemy lets a database's password hold any sign but "@".
_LOGIN = re.compile(r'[^\s/?#"<>]*@|[^\s/:@"<>]*:(?!\d*(?:[/?#\s"\',)]|$))[^\s@"<>]*@')
_DATABASE_LOGIN = re.compile(r'[^\s/?#"<>]*@|[^\s/:@"<>]*:[^\s@"<>]*@')
_SETTING = re.compile(r"(?P<before>[?&;](?P<name>[\w.-]{1,60})=)[^&;\s\"'<>#]+")
_SECRET_NAME = re.compile(
    r".*(passw|pwd|secret|token|api_?key|access_?key|signature|credential).*|sig|key|auth", re.IGNORECASE
)
_CONNECTION = re.compile(
    r"(?P<before>\b(?:ssl)?(?:password|passwd|pwd)=)('[^']*'|[^&;\s\"'<>#]+)", re.IGNORECASE
)


def redacted(text: str) -> str:
    """Return a text, an address say, in which ``***`` stands for the credentials of every address.

    Of a web address that is the whole login, as a token may stand where a user does (``http://***@host``); of
    others the password (``postgresql://user:***@host``). So are secrets in queries (``?password=***``) and in
    connection strings (``password=***``). What is no credential stays, also an ``@`` in a path.
    """
    text = _SETTING.sub(_without_value, _with_logins(text, _without_password))
    return _CONNECTION.sub(rf"\g<before>{HIDDEN}", text)


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
    return re.split(r"[?#]", _with_logins(uri, lambda scheme, login: ""))[0].rstrip("/")


def _with_logins(text: str, shown: Callable[[str, str], str]) -> str:
    """Return a text with each login in it as ``shown(scheme, login)``, in time linear in its length."""
    before, *pieces = text.split("://")
    parts = [before]
    for piece in pieces:
        scheme = found[0] if (found := _SCHEME.search(before[-40:])) else ""
        login = (_DATABASE_LOGIN if _DATABASE.fullmatch(scheme) else _LOGIN).match(piece)
        parts.append(shown(scheme, login[0]) + piece[login.end() :] if login else piece)
        before = piece
    return "://".join(parts)


def _without_password(scheme: str, login: str) -> str:
    if scheme.lower().endswith(("http", "https")):
        return f"{HIDDEN}@"
    user, colon, _ = login.partition(":")
    return f"{user}:{HIDDEN}@" if colon else login


def _without_value(match: re.Match[str]) -> str:
    return f"{match['before']}{HIDDEN}" if _SECRET_NAME.fullmatch(match["name"]) else match[0]
