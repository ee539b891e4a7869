"""Which code ran: the commit of the project's own repository and whether it was changed since."""

from __future__ import annotations

import functools
import subprocess
from pathlib import Path

from rmer.tracking.schema import Tag

_ROOT = Path(__file__).resolve().parents[2]


@functools.cache
def git_tags() -> dict[str, str]:
    """Return the tags ``rmer.git.commit`` and ``rmer.git.dirty``; none for a package without git."""
    ours = _git("ls-files", "--error-unmatch", "rmer/__init__.py")
    commit, changes = _git("rev-parse", "HEAD"), _git("status", "--porcelain", "--untracked-files=no")
    if ours is None or commit is None or changes is None:
        return {}
    return {Tag.GIT_COMMIT: commit, Tag.GIT_DIRTY: "true" if changes else "false"}


def _git(*arguments: str) -> str | None:
    # safe.directory: a clone that another account owns is read, not run.
    command = ["git", "-c", f"safe.directory={_ROOT}", "-C", str(_ROOT), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
