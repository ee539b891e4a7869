"""The write-ahead journal of one run: every value is on the local disk before it is sent.

A journal is a folder ``$RMER_HOME/spool/<store>/<run id>`` with ``operations.jsonl`` (one operation a line),
``files`` (artifacts that wait) and ``sent`` (the number of bytes of operations that the store has). It is
read back from the first operation that is not known to be sent, so operations must be harmless when repeated.
"""

from __future__ import annotations

import errno
import itertools
import json
import os
import shutil
import sys
import threading
from pathlib import Path

from filelock import FileLock, Timeout

from rmer.redaction import redacted
from rmer.tracking.delivery.operations import Operation, parse
from rmer.tracking.locations import home, store_key
from rmer.tracking.private import OWNER_ONLY, private_folder

SPOOL = "spool"
STORE = "store.txt"


class JournalBusyError(Exception):
    """Another live process (or another thread) owns the journal."""


class Journal:
    """An owned journal; raises :class:`JournalBusyError` when somebody else owns it after ``patience`` s."""

    def __init__(self, uri: str, run_id: str, *, patience: float = 0.0) -> None:
        self.run_id = run_id
        self.folder = private_folder(SPOOL, store_key(uri)) / run_id
        (self.folder.parent / STORE).write_text(redacted(uri))
        self._owner = FileLock(f"{self.folder}.lock", thread_local=False)
        try:
            self._owner.acquire(timeout=patience)
        except Timeout:
            raise JournalBusyError(run_id) from None
        self._files = private_folder(SPOOL, store_key(uri), run_id, "files")
        self._path = self.folder / "operations.jsonl"
        self._refused = self.folder / "refused.jsonl"
        refused = self._refused.read_text().splitlines() if self._refused.exists() else []
        self.refusals = [json.loads(line)["reason"] for line in refused]  # why they were refused for good
        self._lock = threading.Lock()
        # Folders whose operations were sent are gone, so their count says nothing about what is free.
        self._file_count = max((int(path.name) for path in self._files.iterdir()), default=0)
        self._files_sent: list[str] = []
        self._end = self._drop_torn_line()
        self._path.touch(OWNER_ONLY)
        self._writer = self._path.open("ab", buffering=0)
        sent = self.folder / "sent"
        self.sent = int(sent.read_text()) if sent.exists() else 0

    def append(self, operation: Operation) -> None:
        """Write one operation, or nothing; raises OSError where the disk is full or the journal closed."""
        line = json.dumps(operation.as_dict()).encode() + b"\n"
        with self._lock:
            self._require_open()
            try:
                left = line
                while left:  # a full disk takes a part of it, and raises at the next try only
                    left = left[self._writer.write(left) :]
            except OSError:
                os.ftruncate(self._writer.fileno(), self._end)
                raise
            self._end += len(line)

    def new_folder(self) -> Path:
        """Return a fresh empty folder inside the journal for the files of one operation."""
        with self._lock:
            self._file_count += 1
            folder = self._files / f"{self._file_count:06d}"
        folder.mkdir()
        return folder

    def relative(self, path: Path) -> str:
        """Return a file of the journal as it is named in an operation."""
        return path.relative_to(self.folder).as_posix()

    def flush(self) -> None:
        """Force the operations to the disk."""
        with self._lock:
            self._require_open()
            os.fsync(self._writer.fileno())

    def waiting(self) -> bool:
        """Tell whether there are operations that are not known to be sent."""
        return self.sent < self._end

    def count_waiting(self) -> int:
        """Return the number of operations that are not known to be sent."""
        return len(self.read(sys.maxsize)) if self.waiting() else 0

    def read(self, limit: int) -> list[tuple[Operation, int]]:
        """Return up to ``limit`` operations not yet sent, each with the offset where it ends."""
        operations: list[tuple[Operation, int]] = []
        offset, end = self.sent, self._end
        with self._path.open("rb") as file:
            file.seek(offset)
            while offset < end and len(operations) < limit:
                line = file.readline()
                offset += len(line)
                operations.append((parse(line), offset))
        return operations

    def acknowledge(self, offset: int, files: list[str]) -> None:
        """Record that everything before ``offset`` has been sent, and delete the files that went with it.

        Where the disk takes no more, only this process knows it: to be sent again does no harm.
        """
        self.sent = offset
        self._files_sent += files
        try:
            partial = self.folder / "sent.partial"
            partial.write_text(str(offset))
            partial.replace(self.folder / "sent")
        except OSError:
            return
        for name in self._files_sent:
            shutil.rmtree((self.folder / name).parent, ignore_errors=True)
        self._files_sent = []

    def refuse(self, operation: Operation, reason: str) -> None:
        """Keep aside an operation that the store will never take, with the reason."""
        self._refused.touch(OWNER_ONLY)
        with self._refused.open("a") as file:
            file.write(json.dumps({"reason": reason, "operation": operation.as_dict()}) + "\n")
        self.refusals.append(reason)

    def close(self) -> None:
        """Give the journal up; its folder goes when all has been sent (refused operations are kept aside)."""
        with self._lock:
            self._writer.close()
        if not self.waiting():
            if self._refused.exists():
                self._refused.replace(self._kept_aside())
            shutil.rmtree(self.folder, ignore_errors=True)  # what stays is sent again, or gone already
            Path(self._owner.lock_file).unlink(missing_ok=True)  # who waits notices that the file is another
        self._owner.release()

    def _require_open(self) -> None:
        if self._writer.closed:
            raise OSError(errno.EBADF, "The journal is closed", str(self.folder))

    def _kept_aside(self) -> Path:
        """Return a new name for refused operations: a run that went on may have had some before."""
        names = (f"{self.run_id}.refused{number or ''}.jsonl" for number in itertools.count())
        return next(path for name in names if not (path := self.folder.parent / name).exists())

    def _drop_torn_line(self) -> int:
        # A process killed while it wrote leaves half a line: that value was never handed over.
        if not self._path.exists():
            return 0
        content = self._path.read_bytes()
        end = content.rfind(b"\n") + 1
        if end < len(content):
            os.truncate(self._path, end)
        return end


def spool(uri: str) -> Path:
    """Return the folder of the journals of one tracking store."""
    return home() / SPOOL / store_key(uri)


def waiting_runs(uri: str) -> list[str]:
    """Return the ids of runs with a journal for this store, oldest first."""
    folder = spool(uri)
    if not folder.is_dir():
        return []
    folders = [path for path in folder.iterdir() if path.is_dir()]
    return [path.name for path in sorted(folders, key=lambda path: path.stat().st_mtime)]


def left_behind(uri: str) -> int:
    """Return how many runs have values waiting for this store that no process is sending now."""
    return sum(_is_left_behind(spool(uri) / run_id) for run_id in waiting_runs(uri))


def _is_left_behind(folder: Path) -> bool:
    owner = FileLock(f"{folder}.lock")
    try:
        owner.acquire(timeout=0)
    except Timeout:
        return False
    left = folder.exists()
    if not left:  # sent meanwhile, and the lock made anew by this look
        Path(owner.lock_file).unlink(missing_ok=True)
    owner.release()
    return left


def waiting_stores() -> dict[str, int]:
    """Return the stores for which journals wait (or are at work), and how many."""
    named = list((home() / SPOOL).glob(f"*/{STORE}"))
    counts = [sum(path.is_dir() for path in file.parent.iterdir()) for file in named]
    return {file.read_text(): count for file, count in zip(named, counts, strict=True) if count}
