"""What a machine may lack: space, rights, memory. Such an error is the user's to mend, not a bug."""

from __future__ import annotations

import errno
import os
import re
import shutil
from pathlib import Path

from rmer.errors import UserError
from rmer.tracking.locations import home

NEARLY_FULL = 1 << 20  # bytes

# Some libraries give the number of the error, others its text alone.
_SPACE = re.compile(
    r"No space left on device|Disk quota exceeded|database or disk is full|\d+ requested and \d+ written"
    r"|PytorchStreamWriter failed writing file|unexpected pos \d+ vs \d+|iostream error"
)
_RIGHTS = re.compile(
    r"Read-only file system|attempt to write a readonly database|unable to open database file"
    r"|No usable temporary directory"
)
_MEMORY = re.compile(r"can't allocate memory|out of memory|Cannot allocate memory")
_BROKEN = re.compile(
    r"disk I/O error|Input/output error|database disk image is malformed|file is not a database"
)
_NUMBERS = {
    _SPACE: (errno.ENOSPC, errno.EDQUOT, errno.EFBIG),
    _RIGHTS: (errno.EROFS, errno.EACCES, errno.EPERM),
    _MEMORY: (errno.ENOMEM,),
    _BROKEN: (errno.EIO,),
}


def lack(error: BaseException, where: str = "") -> UserError | None:
    """Return the one line for an error that comes from what the machine lacks; None for any other error.

    ``where`` names the place for errors that name no file.
    """
    if isinstance(error, UserError):
        return None
    place = str(getattr(error, "filename", None) or "") or where
    if isinstance(error, MemoryError) or _is(error, _MEMORY):
        mend = "Use smaller batches (batch_size, attack_batch_size), fewer jobs at once, or a larger machine"
        return UserError(f"there is not enough memory ({_reason(error, _MEMORY)})", where=place, mend=mend)
    if _is(error, _SPACE):
        mend = f"Free some (RMER_HOME is {home()}, TMPDIR {_temporary()}); the same command then goes on"
        return UserError("no space is left", where=place or _full_places(), mend=mend)
    if _is(error, _RIGHTS):
        mend = f"Get the right to write there, or choose another place (RMER_HOME is {home()})"
        return UserError(f"cannot be written ({_reason(error, _RIGHTS)})", where=place, mend=mend)
    if _is(error, _BROKEN):
        mend = "Bring it back from a backup, or name another place"
        return UserError(f"cannot be read ({_reason(error, _BROKEN)})", where=place, mend=mend)
    return None


def _is(error: BaseException, kind: re.Pattern[str]) -> bool:
    number = error.errno if isinstance(error, OSError) else None
    return number in _NUMBERS[kind] or bool(kind.search(str(error)))


def _reason(error: BaseException, kind: re.Pattern[str]) -> str:
    """Return the words that matter: what libraries say around them is long and of no use."""
    if found := kind.search(str(error)):
        return found[0]
    return " ".join(str(error).split())[:120] or type(error).__name__


def _full_places() -> str:
    """Return which of the folders that are written to are (nearly) full; "" where a quota is used up."""
    places = {"RMER_HOME": home(), "TMPDIR": Path(_temporary()), "this folder": Path.cwd()}
    return ", ".join(name for name, path in places.items() if _free(path) < NEARLY_FULL)


def _free(path: Path) -> int:
    """Return the bytes that are free where a folder is, or would be."""
    return shutil.disk_usage(next(place for place in (path, *path.parents) if place.exists())).free


def _temporary() -> str:
    return os.environ.get("TMPDIR") or "/tmp"
