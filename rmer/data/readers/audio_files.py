"""The audio files of clips, found by the clips' names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from rmer.data.tables.text_tables import clip_from_cell, some
from rmer.nearest import SURE, nearest

AUDIO_FOLDERS = ("Set1", "Set1/Set1", "")
AUDIO_EXTENSIONS = (
    ".mp3", ".wav", ".flac", ".ogg", ".oga", ".opus", ".aiff", ".aif", ".aifc", ".au", ".caf", ".w64",
    ".rf64", ".m4a", ".mp4", ".aac", ".wma",
)  # fmt: skip


def find_audio(folder: Path, clips: Iterable[str]) -> tuple[dict[str, Path], list[str]]:
    """Return the audio file of each clip and what is wrong (missing or empty files).

    Files are found by number (``001.mp3``; else another audio format, in the order of AUDIO_EXTENSIONS) in
    ``Set1/``, ``Set1/Set1/`` or ``folder`` itself; hidden ones such as ``._001.mp3`` are not audio.
    """
    folder = Path(folder)
    if not folder.is_dir():
        return {}, [f"{folder} is not a folder"]
    files = _audio_files(folder)
    found: dict[str, Path] = {}
    missing, problems = [], []
    for clip in clips:
        if clip not in files:
            missing.append(clip)
        elif files[clip].stat().st_size == 0:
            problems.append(f"{files[clip].name} is empty")
        else:
            found[clip] = files[clip]
    if missing and not found and not problems:
        there = some(sorted(path.name for path in files.values()), 3)
        meant = f"; it has {there}, and the table names {some(missing, 3)}{_meant(missing[0], files)}"
        where = f"{folder}, {folder / 'Set1'} or {folder / 'Set1/Set1'}"
        problems.append(f"no audio of any clip in {where}{meant if files else ''}")
    else:
        problems += [
            f"no audio file of clip {clip}{_meant(clip, files) or f' (looked for {clip}.mp3 and others)'}"
            for clip in missing
        ]
    return found, problems


def _meant(clip: str, files: Mapping[str, Path]) -> str:
    """Return what file was probably meant, and how its clip is to be called; "" where there is none."""
    stem, dot, ending = clip.rpartition(".")
    if f"{dot}{ending}".lower() in AUDIO_EXTENSIONS and clip_from_cell(stem) in files:
        return f" (write it without the ending: {stem})"
    near = nearest(clip, files, cutoff=SURE) if not clip.isdecimal() else []
    return f" (is it {files[near[0]].name}?)" if near else ""


def _audio_files(folder: Path) -> dict[str, Path]:
    """Index audio by clip name; the likelier format, then the likelier folder, wins."""
    candidates = []
    for place, name in enumerate(AUDIO_FOLDERS):
        if not (folder / name).is_dir():
            continue
        for path in sorted((folder / name).iterdir()):
            extension = path.suffix.lower()
            if extension in AUDIO_EXTENSIONS and not path.name.startswith(".") and path.is_file():
                candidates.append((AUDIO_EXTENSIONS.index(extension), place, path))
    files: dict[str, Path] = {}
    for *_, path in sorted(candidates):
        files.setdefault(clip_from_cell(path.stem), path)
    return files
