"""Reading files that a user names."""

from __future__ import annotations

import errno
import stat
from pathlib import Path


def read_bytes(path: Path) -> bytes:
    """Return the bytes of a file; raises OSError for a pipe or device too, which would be waited for."""
    mode = path.stat().st_mode
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):  # a folder has an error of its own
        raise OSError(errno.EINVAL, "Not a regular file", str(path))
    return path.read_bytes()
