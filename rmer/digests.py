"""Digests of files: what tells whether a file is still the one that was written."""

from __future__ import annotations

import hashlib
from pathlib import Path

from rmer.errors import UserError

_BLOCK = 1 << 20


def file_digest(path: Path) -> str:
    """Return the sha256 of a file's bytes, 64 hex digits. Raises UserError when it cannot be read."""
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise UserError(f"cannot be read ({error.strerror})", where=str(path)) from error


def text_digest(*texts: str) -> str:
    """Return 16 hex digits over some texts, in their order."""
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()[:16]


def copy_with_digest(source: Path, target: Path) -> str:
    """Copy a file, reading it once, and return what :func:`file_digest` says of it."""
    content = hashlib.sha256()
    with source.open("rb") as reader, target.open("wb") as writer:
        while block := reader.read(_BLOCK):
            content.update(block)
            writer.write(block)
    return content.hexdigest()
