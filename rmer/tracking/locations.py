"""Where things are: the tracking store's URI made absolute, and the user's working folder (``RMER_HOME``)."""

from __future__ import annotations

import hashlib
import os
import re
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import unquote, urlsplit

from rmer.errors import UserError
from rmer.redaction import public_address, redacted

SQLITE = "sqlite:///"
STORES = ("sqlite", "http", "https", "postgresql", "mysql", "mssql")
# Kinds of addresses of artifacts and models -> the module that MLflow needs for them.
FILES = {
    "": "",
    "file": "",
    "mlflow-artifacts": "",
    "s3": "boto3",
    "gs": "google.cloud.storage",
    "wasbs": "azure.storage.blob",
    "abfss": "azure.storage.filedatalake",
}


def home() -> Path:
    """Return the folder of spools, caches, locks and checkpoints: ``$RMER_HOME``, or ``~/.rmer``."""
    return Path(os.environ.get("RMER_HOME") or "~/.rmer").expanduser().absolute()


def resolve_uri(tracking_uri: str | None = None) -> str:
    """Return the store's URI: the one given, ``MLFLOW_TRACKING_URI``, or ``mlflow.db`` in this folder.

    Relative sqlite files are made absolute, so that a parent and a child process in different folders open
    the same file. ``file:`` stores raise :class:`UserError` (MLflow no longer supports them).
    """
    uri = tracking_uri or os.environ.get("MLFLOW_TRACKING_URI") or f"{SQLITE}mlflow.db"
    if uri.startswith("sqlite:"):
        if not uri.startswith(SQLITE) or len(uri) == len(SQLITE):
            raise UserError("a sqlite store needs a file", where=uri, mend="Write sqlite:///folder/mlflow.db")
        return sqlite_uri(sqlite_file(uri))
    scheme, _, rest = uri.partition("://")
    if not rest or scheme.partition("+")[0] not in STORES:
        folder = scheme == "file" or ":" not in uri
        what = "folders of files are" if folder else f"addresses of kind {uri.partition(':')[0]} are"
        mend = "Use sqlite:///mlflow.db, a server's http://host:port, or a database URI"
        raise UserError(f"{what} not supported as tracking store", where=redacted(uri), mend=mend)
    _check_address(uri)
    return uri.rstrip("/")


def check_usable(uri: str, what: str) -> None:
    """Raise :class:`UserError` for an address of files that MLflow cannot reach from here.

    MLflow itself tries for minutes, or tells only when the first file is written.
    """
    scheme = urlsplit(uri).scheme
    if scheme.startswith("http") and "/mlflow-artifacts/" in uri:  # an MLflow server's own
        return
    module = FILES.get(scheme)
    if module is None:
        mend = f"Use a path, or an address of kind {', '.join(name for name in FILES if name)}"
        raise UserError(f"{what} cannot be at addresses of kind {scheme}", where=redacted(uri), mend=mend)
    if module and not _is_installed(module):
        mend = f"Install it (pip install {module.replace('.', '-')})"
        raise UserError(f"{what} need the library {module}", where=redacted(uri), mend=mend)


def _is_installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # a package that it is a part of
        return False


def sqlite_file(uri: str) -> Path:
    """Return the absolute path of a sqlite store's file."""
    return Path(unquote(uri[len(SQLITE) :].split("?")[0])).absolute()


def sqlite_uri(file: Path) -> str:
    """Return the URI of a sqlite store's file.

    No more is quoted than must be: MLflow makes the folder that a quoted address seems to name, as well.
    """
    return SQLITE + str(file).replace("%", "%25").replace("?", "%3F")


def store_key(uri: str) -> str:
    """Return a short name for a store, usable as a file name; a new password leaves it as it is."""
    return digest(public_address(uri) or redacted(uri))


def digest(text: str) -> str:
    """Return a short digest, usable as a file name."""
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _check_address(uri: str) -> None:
    """Raise :class:`UserError` for an address whose password might be taken for a part of the host."""
    where = "the tracking store's address"  # which cannot be shown, since it is unclear what of it is secret
    mend = "Write such signs of a password as %40 (@), %20 (blank), %22 (double quote), %3C (<), %3E (>)"
    if re.search(r"[\s\"<>]", uri):
        raise UserError("holds a blank, a quote or an angle bracket", where=where, mend=mend)
    if public_address(uri) and re.search(r"[?#]", uri):
        mend = "Give http://host:port, the login in MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
        raise UserError("a server's address has neither ? nor #", where=where, mend=mend)
    if not public_address(uri) and "@" in uri.partition("@")[2].partition("/")[0].partition("?")[0]:
        raise UserError("holds @ twice before the database's name", where=where, mend=mend)
