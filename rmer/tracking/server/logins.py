"""What a server with logins needs (MLflow's basic auth): settings, a key, the administrator's password."""

from __future__ import annotations

import importlib.util
import os
import secrets
from pathlib import Path

from rmer.errors import UserError
from rmer.tracking.private import OWNER_ONLY, keep_private

ADMIN_PASSWORD, SECRET_KEY = "MLFLOW_AUTH_ADMIN_PASSWORD", "MLFLOW_FLASK_SERVER_SECRET_KEY"
PASSWORD_FILE = "admin_password"
# Others' runs can be read, not changed. Checking a password is slow on purpose: MLflow does it at every call
# unless it may remember for some seconds who came.
SETTINGS = """\
[mlflow]
default_permission = READ
database_uri = sqlite:///{users}
admin_username = admin
authorization_function = mlflow.server.auth:authenticate_request_basic_auth
auth_cache_ttl_seconds = 60
"""


def prepare_logins(folder: Path) -> dict[str, str]:
    """Make the folder ``auth`` of a server if it is new; return the environment variables that are needed.

    All in it is for its owner alone: users with hashes of their passwords (``users.db``), settings, and,
    unless the environment gives them, the key of the sessions and the first password of ``admin``. Raises
    :class:`UserError` where the part of MLflow that checks logins is not installed.
    """
    if importlib.util.find_spec("flask_wtf") is None:
        raise UserError("logins need Flask-WTF", where="--auth", mend="Install it: pip install 'rmer[auth]'")
    folder.mkdir(parents=True, exist_ok=True)
    for path in (folder, *folder.iterdir()):
        keep_private(path)
    users, settings = folder / "users.db", folder / "basic_auth.ini"
    users.touch(OWNER_ONLY)
    if not settings.exists():
        _write_private(settings, SETTINGS.format(users=str(users).replace("%", "%25")))
    return {
        "MLFLOW_AUTH_CONFIG_PATH": str(settings),
        SECRET_KEY: _secret(SECRET_KEY, folder / "secret_key"),
        ADMIN_PASSWORD: _secret(ADMIN_PASSWORD, folder / PASSWORD_FILE),
    }


def first_password(folder: Path) -> str:
    """Return where the first password of ``admin`` stands: the file, or the environment that gives it."""
    return ADMIN_PASSWORD if os.environ.get(ADMIN_PASSWORD) else str(folder / PASSWORD_FILE)


def _secret(variable: str, file: Path) -> str:
    """Return a secret: the environment's, else that of the file, which is made if needed."""
    if given := os.environ.get(variable):
        return given
    if not file.exists():
        _write_private(file, f"{secrets.token_urlsafe(24)}\n")
    return file.read_text().strip()


def _write_private(file: Path, text: str) -> None:
    """Write a file that nobody else may read; two servers that start at once agree on the first one's."""
    part = file.with_name(f"{file.name}.{secrets.token_hex(4)}")
    part.touch(OWNER_ONLY)
    part.write_text(text)
    try:
        os.link(part, file)
    except FileExistsError:
        pass
    finally:
        part.unlink()
