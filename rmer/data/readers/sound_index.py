"""All sounds below a folder, found by what tables call them: a path, a file name, or one without ending."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from rmer.data.readers.audio_files import AUDIO_EXTENSIONS
from rmer.data.tables.text_tables import some, whole_number
from rmer.nearest import SURE, nearest

# A table's cell may stand for one of these files; a nearer path is more certain.
Places = dict[str, list[Path]]


@dataclass
class SoundIndex:
    """Files by the keys under which cells of tables may name them, each in composed Unicode (NFC)."""

    folder: Path
    paths: Places = field(default_factory=dict)
    stems: Places = field(default_factory=dict)
    numbers: Places = field(default_factory=dict)

    def find(self, cell: str) -> tuple[Path | None, str]:
        """Return the file that a cell names, and what is wrong ("" if nothing).

        A cell may be a path relative to the folder or to one below it, with or without ending, a file's name,
        or its number (``7`` for ``007.mp3``). Several files that it could be are named in the problem.
        """
        key = _key(cell)
        found = (
            self.paths.get(key)
            or self._ending_with(key)
            or self.stems.get(_without_ending(key.rpartition("/")[2]))
        )
        number = whole_number(cell)
        if not found and number is not None:
            found = self.numbers.get(str(number))
        if not found:
            return None, f"no audio file of clip {cell}{self._near(key)}"
        if len(found) > 1:
            names = some([str(path.relative_to(self.folder)) for path in found])
            return None, f"clip {cell} could be any of {names}: name the file with its folder and ending"
        if found[0].stat().st_size == 0:
            return None, f"{found[0].name} is empty"
        return found[0], ""

    def files(self) -> set[Path]:
        """Return all sounds."""
        return {path for paths in self.stems.values() for path in paths}

    def _ending_with(self, key: str) -> list[Path]:
        """Return the files whose path ends with a path of several parts, or with a name and its ending."""
        if "/" not in key and not key.endswith(AUDIO_EXTENSIONS):
            return []
        stem = _without_ending(key.rpartition("/")[2])
        ended = [path for path in self.stems.get(stem, []) if f"/{self._relative(path)}".endswith(f"/{key}")]
        bare = [
            path
            for path in self.stems.get(stem, [])
            if "/" in key and f"/{_without_ending(self._relative(path))}".endswith(f"/{_without_ending(key)}")
        ]
        return ended or bare

    def _relative(self, path: Path) -> str:
        return _key(path.relative_to(self.folder).as_posix())

    def _near(self, key: str) -> str:
        near = nearest(_without_ending(key.rpartition("/")[2]), self.stems, cutoff=SURE)
        return f" (is it {self.stems[near[0]][0].name}?)" if near else ""


def index_sounds(folder: Path, below: Iterable[str] = ("",)) -> SoundIndex:
    """Index the sounds in some folders of ``folder`` (those that there are, else all), and all below them.

    Hidden files and folders, such as ``._001.mp3`` and ``__MACOSX``, are left out; links to folders are not
    followed. Of the same file name with several endings, all count.
    """
    index = SoundIndex(Path(folder))
    roots = [place for name in below if (place := index.folder / name).is_dir()] or [index.folder]
    for root in roots:
        for walked, folders, names in os.walk(root):
            folders[:] = sorted(name for name in folders if not name.startswith((".", "__MACOSX")))
            for name in sorted(names):
                if name.lower().endswith(AUDIO_EXTENSIONS) and not name.startswith("."):
                    _enter(index, Path(walked) / name)
    return index


def _enter(index: SoundIndex, path: Path) -> None:
    relative = _key(path.relative_to(index.folder).as_posix())
    stem = _without_ending(relative.rpartition("/")[2])
    for places, name in ((index.paths, relative), (index.stems, stem)):
        entered = places.setdefault(name, [])
        if path not in entered:
            entered.append(path)
    number = whole_number(stem)
    if number is not None and path not in index.numbers.setdefault(str(number), []):
        index.numbers[str(number)].append(path)


def _key(text: str) -> str:
    normal = unicodedata.normalize("NFC", text).replace("\\", "/")
    return normal.removeprefix("./").lstrip("/")


def _without_ending(key: str) -> str:
    ending = PurePosixPath(key).suffix
    return key[: -len(ending)] if ending.lower() in AUDIO_EXTENSIONS else key
