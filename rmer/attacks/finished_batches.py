"""Batches that an attack has finished, on disk, so that an interrupted one goes on where it was."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from pickle import UnpicklingError
from zipfile import BadZipFile, ZipFile

import torch

from rmer.attacks.result import Crafted
from rmer.files import whole


def remembered(folder: Path, name: str, compute: Callable[[], Crafted]) -> Crafted:
    """Return the part of a batch that is in the folder under this name, else compute it and put it there."""
    file = folder / f"{name}.pt"
    part = _finished(file)
    if part is None:
        part = compute()
        _save(part, file)
    return part


def _finished(file: Path) -> Crafted | None:
    """Return a finished batch; None where there is none, or its file is damaged, so that it is done again."""
    try:
        with ZipFile(file) as archive:
            undamaged = archive.testzip() is None  # checksums, which torch does not look at
        return Crafted(**torch.load(file, weights_only=True)) if undamaged else None
    except (OSError, BadZipFile, RuntimeError, TypeError, ValueError, KeyError, EOFError, UnpicklingError):
        return None


def _save(part: Crafted, file: Path) -> None:
    with whole(file) as unfinished:
        torch.save(vars(part), unfinished)
