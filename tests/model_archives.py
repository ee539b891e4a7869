"""Rewriting the exported program of a model folder."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path

Records = dict[str, bytes]


def change(folder: Path, edit: Callable[[Records], None]) -> None:
    """Rewrite the archive of a model with other records."""
    path = folder / "data" / "model.pt2"
    with zipfile.ZipFile(path) as archive:
        records = {name.partition("/")[2]: archive.read(name) for name in archive.namelist()}
    edit(records)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, content in records.items():
            archive.writestr(f"model/{name}", content)
