"""Folders and files that hold what people logged, closed to other accounts of the machine."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from rmer.tracking.locations import home

OWNER_ONLY = 0o600
_OTHERS = stat.S_IRWXG | stat.S_IRWXO


def private_folder(*names: str) -> Path:
    """Return a folder under ``RMER_HOME``, made if needed; it and those above are for their owner alone."""
    folder = home()
    for name in ("", *names):
        folder = folder / name
        folder.mkdir(parents=True, exist_ok=True)
        keep_private(folder)
    return folder


def keep_private(path: Path) -> None:
    """Take a file or folder from everybody but its owner.

    What belongs to another account is left as it is, and so is a folder that all accounts share (``/tmp``).
    """
    status = path.stat()
    mode = stat.S_IMODE(status.st_mode)
    if status.st_uid == os.geteuid() and mode & _OTHERS and not mode & stat.S_ISVTX:
        path.chmod(mode & ~_OTHERS)
