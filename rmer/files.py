"""Files: read where a user names them, written whole or not at all."""

from __future__ import annotations

import errno
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def read_bytes(path: Path) -> bytes:
    """Return the bytes of a file; raises OSError for a pipe or device too, which would be waited for."""
    mode = path.stat().st_mode
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):  # a folder has an error of its own
        raise OSError(errno.EINVAL, "Not a regular file", str(path))
    return path.read_bytes()


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Give a place to write to, which becomes ``path`` at the end of the block.

    A failure leaves what was there. For files of one writer at a time: the place has one name, so that what
    a killed process left in it is overwritten rather than kept for ever.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.part")
    try:
        yield part
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
