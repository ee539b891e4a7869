"""Songs that a user names: files of any ending, and folders with all that is below them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from rmer.data.readers.audio_files import AUDIO_EXTENSIONS
from rmer.errors import UserError

MORE_EXTENSIONS = (".m4b", ".mka", ".webm", ".aac", ".ape", ".wv", ".mpc", ".mp2")
EXTENSIONS = frozenset((*AUDIO_EXTENSIONS, *MORE_EXTENSIONS))


def find_songs(places: Iterable[Path]) -> tuple[list[Path], list[UserError]]:
    """Return the audio files among files and below folders, each once, and what is wrong with the others.

    A file that is named counts whatever its ending; of a folder, files with an ending of audio that are not
    hidden, in the order of their paths. Links to folders are not followed.
    """
    songs: dict[Path, Path] = {}
    problems = []
    for place in places:
        path = place.expanduser()
        if path.is_dir():
            found = sorted(_below(path))
            if not found:
                problems.append(UserError("holds no audio file", where=str(place)))
        elif path.is_file():
            found = [path]
        else:
            problems.append(UserError("there is no such file or folder", where=str(place)))
            continue
        for song in found:
            songs.setdefault(song.resolve(), song)
    return list(songs.values()), problems


def _below(folder: Path) -> Iterator[Path]:
    for root, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            path = Path(root) / name
            if not name.startswith(".") and path.suffix.lower() in EXTENSIONS and path.is_file():
                yield path
