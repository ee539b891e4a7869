"""Packages beside rmer that add to it by entry points, as pip would have installed them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def install(folder: Path, code: str, points: Mapping[str, Mapping[str, str]], name: str = "theirs") -> None:
    """Write module ``name`` and its entry points (group -> name -> object) into a folder of packages."""
    (folder / f"{name}.py").write_text(code, encoding="utf-8")
    info = folder / f"{name}-0.1.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 0.1\n", encoding="utf-8")
    lines = [
        line
        for group, entries in points.items()
        for line in (f"[{group}]", *(f"{point} = {name}:{thing}" for point, thing in entries.items()))
    ]
    (info / "entry_points.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")


def run_beside(folder: Path, *commands: str, root: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """Run ``rmer <command>``, one after the other, in an interpreter that finds the packages of a folder.

    They run in that folder, with a store of its own; the first one that fails ends it.
    """
    program = (
        f"import sys; sys.path[:0] = [{str(root)!r}, {str(folder)!r}]\n"
        "from entrypoints.cli import main\n"
        f"for command in {[command.split() for command in commands]!r}:\n"
        "    try: main(command)\n"
        "    except SystemExit as end:\n"
        "        if end.code: raise"
    )
    return subprocess.run(
        [sys.executable, "-c", program], cwd=folder, capture_output=True, text=True, check=False
    )
