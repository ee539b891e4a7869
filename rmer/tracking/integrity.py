"""Whether an artifact is still what its run logged: digests that a run keeps as tags.

A finished run has the digest of every file that it logged in tags ``rmer.digests.<number>``. They are set by
the call that ends the run, so that what a resumed run wrote twice counts once, and come with the run, at no
cost, when it is looked up.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

from rmer.digests import copy_with_digest, file_digest
from rmer.errors import UserError
from rmer.tracking.schema import Tag

Digests = dict[str, str]  # path below the artifacts of a run -> first digits of the file's sha256

_DIGITS = 16
# A tag holds 8000 characters; an entry of 160 is longer than any path that is logged.
_FILES_PER_TAG = 50


def copy(local: Path, place: Path) -> Digests:
    """Copy a file or a folder to ``place``; return the digest of each file, by its path beside ``place``."""
    found: Digests = {}

    def copy_one(source: str, target: str) -> None:
        name = Path(target).relative_to(place.parent).as_posix()
        found[name] = copy_with_digest(Path(source), Path(target))[:_DIGITS]

    if local.is_dir():
        shutil.copytree(local, place, copy_function=copy_one)
    else:
        copy_one(str(local), str(place))
    return found


def of_files(root: Path) -> Digests:
    """Return the digest of a file (under the empty name), or of each file below a folder."""
    if not root.is_dir():
        return {"": file_digest(root)[:_DIGITS]}
    files = filter(Path.is_file, sorted(root.rglob("*")))
    return {path.relative_to(root).as_posix(): file_digest(path)[:_DIGITS] for path in files}


def as_tags(digests: Mapping[str, str]) -> dict[str, str]:
    """Return digests as tags of a run."""
    items = sorted(digests.items())
    parts = [dict(items[first : first + _FILES_PER_TAG]) for first in range(0, len(items), _FILES_PER_TAG)]
    return {f"{Tag.DIGESTS}.{number}": json.dumps(part) for number, part in enumerate(parts)}


def logged(tags: Mapping[str, str], path: str) -> Digests:
    """Return the logged digests of a file (under the empty name), or of a folder by the names below it.

    Empty where the run logged none: it is not rmer's, or of an older version.
    """
    found: Digests = {}
    for tag, text in tags.items():
        if tag.startswith(f"{Tag.DIGESTS}."):
            found |= _parsed(tag, text)
    below = f"{path}/"
    names = [name for name in found if name == path or name.startswith(below)]
    return {name[len(below) :]: found[name] for name in names}


def changed(root: Path, expected: Mapping[str, str]) -> list[str]:
    """Return the names of the files that are absent or not as expected, in order."""
    return [
        name
        for name, digest in sorted(expected.items())
        if not (root / name).is_file() or file_digest(root / name)[:_DIGITS] != digest
    ]


def altered(run_id: str, run_name: str, what: str) -> UserError:
    """Return the error for a run one of whose files says something else than the run."""
    mend = f"Restore the file, or delete the run (`mlflow runs delete --run-id {run_id}`) and repeat it"
    return UserError(what, where=f"run {run_id} ({run_name})", mend=mend)


def _parsed(tag: str, text: str) -> Digests:
    try:
        return {str(name): str(digest) for name, digest in json.loads(text).items()}
    except (ValueError, AttributeError):
        mend = "Delete the run and repeat it"
        raise UserError("does not hold digests", where=f"tag {tag}", mend=mend) from None
