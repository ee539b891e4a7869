"""From rows of a table, each a clip with its labels, to what a reader hands back."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from rmer.data.readers.collection import Collected
from rmer.data.tables.class_labels import LabelKind
from rmer.data.tables.clip_names import clip_names
from rmer.data.tables.text_tables import counted, some

Find = Callable[[str], tuple[Path | None, str]]


@dataclass
class RatedClips:
    """Clips gathered row by row, with all that is wrong or odd about them.

    ``find`` returns the file of a cell and what is wrong. Where only a part of a data set's audio may be
    there (``partial``), clips without a file are left out with one warning; otherwise each is a problem.
    """

    find: Find
    partial: bool = False
    rows: list[dict[str, object]] = field(default_factory=list)
    audio: list[Path | None] = field(default_factory=list)
    starts: list[float | None] = field(default_factory=list)
    parts: list[str] = field(default_factory=list)
    lines: dict[str, str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)

    def add(
        self,
        identifier: str,
        labels: Mapping[str, float],
        *,
        line: str,
        cell: str = "",
        group: str = "",
        track: str = "",
        part: str = "",
        start: float | None = None,
    ) -> None:
        """Add a clip: what identifies it, labels (0-1), the ``line`` it is on, and the ``cell`` of its file.

        ``group`` is what may not lie in two parts of a split, ``part`` that of the official split,
        ``start`` the second at which its excerpt starts (None: it is drawn).
        """
        if identifier in self.lines:
            self.problems.append(f"{line}: clip {identifier} is already on {self.lines[identifier]}")
            return
        self.lines[identifier] = line
        path, problem = self.find(cell or identifier)
        if path is None and self.partial and problem.startswith("no audio file"):
            self.left_out.append(identifier)
            return
        if problem:
            self.problems.append(problem)
        self.rows.append({"clip": identifier, "album": group, "track": track, **labels})
        self.audio.append(path)
        self.starts.append(start)
        self.parts.append(part)

    def unrated(self, files: set[Path]) -> None:
        """Warn of sounds that no row names."""
        names = sorted(path.name for path in files - {path for path in self.audio if path})
        if names and self.rows:
            self.warnings.append(f"{counted(len(names), 'sound')} without labels, left out: {some(names)}")

    def collected(self, targets: Sequence[str], *, grouped: bool, labels: LabelKind = "ratings") -> Collected:
        """Return what was gathered; clips are called by the rule of :mod:`rmer.data.tables.clip_names`."""
        if self.left_out and not self.rows:
            self.problems.append(f"no audio of any clip, such as {some(self.left_out, 3)}")
        elif self.left_out:
            told = f"{counted(len(self.left_out), 'clip')} without audio, left out: {some(self.left_out)}"
            self.warnings.append(told)
        names = clip_names([str(row["clip"]) for row in self.rows])
        clips = pd.DataFrame(self.rows, columns=["clip", "album", "track", *targets]).assign(clip=names)
        return Collected(
            clips=clips.assign(album=clips["album"] if grouped else ""),
            audio={name: path for name, path in zip(names, self.audio, strict=True) if path is not None},
            emotions=tuple(targets),
            has_albums=grouped,
            problems=tuple(self.problems),
            warnings=tuple(self.warnings),
            labels=labels,
            official={name: part for name, part in zip(names, self.parts, strict=True) if part},
            starts={name: at for name, at in zip(names, self.starts, strict=True) if at is not None},
        )
