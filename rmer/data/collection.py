"""All files of a data set joined on clip names, with every problem they have, before audio is decoded."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from rmer.data.dataset import CONCEPTS, EMOTIONS
from rmer.data.midlevel import ANNOTATIONS_FOLDER, inspect_midlevel
from rmer.data.soundtracks import RATINGS_FILE, SCALE_MAX, find_audio, inspect_ratings
from rmer.data.text_tables import Reading, some
from rmer.data.tracklist import TRACKLIST_FILE, inspect_tracklist
from rmer.errors import DataErrors

FEWEST_CLIPS = 6
MEND = "Mend the files and run again; what is computed is kept"


@dataclass(frozen=True)
class Collected:
    """Clips of a data set in the order of the ratings, and every problem that its files have.

    ``clips`` has the columns ``clip``, ``file`` (relative to the audio folder), ``album``, ``track`` (""
    where unknown), the ``emotions`` and, where they are known, the ``concepts`` (0-1). ``audio`` maps clips
    to files.
    """

    clips: pd.DataFrame
    audio: dict[str, Path]
    emotions: tuple[str, ...]
    concepts: tuple[str, ...]
    has_albums: bool
    problems: tuple[str, ...]
    warnings: tuple[str, ...]

    def checked(self) -> Collected:
        """Return itself; raises DataErrors with all problems where there are any."""
        if self.problems:
            raise DataErrors(self.problems, where="data set", mend=MEND)
        return self


def collect(
    soundtracks_dir: Path,
    ratings: Path | None = None,
    midlevel_dir: Path | None = None,
    tracklist: Path | None = None,
    targets: Sequence[str] = EMOTIONS,
    *,
    scale_max: float = SCALE_MAX,
) -> Collected:
    """Read all files of a data set and join them on clip names; nothing but bad ``targets`` raises.

    ``ratings`` is looked for in ``soundtracks_dir`` where it is not given. So are the Mid-level annotations
    (``metadata_annotations/``) and the track list, which a data set may lack.
    """
    root = Path(soundtracks_dir)
    rated = inspect_ratings(ratings or root / RATINGS_FILE, targets, scale_max=scale_max)
    names = rated.table["clip"].tolist()
    audio, audio_problems = find_audio(root, names)
    problems, warnings = [*rated.problems, *audio_problems], list(rated.warnings)
    if 0 < len(names) < FEWEST_CLIPS:
        problems.append(f"{len(names)} clips are too few to divide: at least {FEWEST_CLIPS} are needed")
    clips = rated.table.assign(file=[_relative(audio.get(name), root) for name in names])
    concepts: tuple[str, ...] = ()

    midlevel_dir = midlevel_dir or _existing(root / ANNOTATIONS_FOLDER)
    if midlevel_dir is not None:
        concepts = CONCEPTS
        clips = _join(clips, inspect_midlevel(midlevel_dir), "concepts", problems, warnings)
    tracklist = tracklist or _existing(root / TRACKLIST_FILE)
    if tracklist is not None:
        clips = _join(clips, inspect_tracklist(tracklist), "album", problems, warnings)
    else:
        clips = clips.assign(album="", track="")
    columns = ["clip", "file", "album", "track", *targets, *concepts]
    return Collected(
        clips=clips[columns],
        audio=audio,
        emotions=tuple(targets),
        concepts=concepts,
        has_albums=tracklist is not None,
        problems=tuple(problems),
        warnings=tuple(warnings),
    )


def labels_digest(clips: pd.DataFrame, targets: Sequence[str]) -> str:
    """Return 16 hex digits over the clip names and parsed values of ``targets``, in the order of the rows.

    Copies of a file that differ in byte order mark, line ends or spelling of numbers have the same digest.
    """
    content = hashlib.sha256(json.dumps([list(targets), clips["clip"].tolist()]).encode())
    content.update(np.ascontiguousarray(clips[list(targets)].to_numpy(np.float64), "<f8").tobytes())
    return content.hexdigest()[:16]


def _join(
    clips: pd.DataFrame, reading: Reading, what: str, problems: list[str], warnings: list[str]
) -> pd.DataFrame:
    """Join the columns of ``reading`` to ``clips`` on the clip's name, and note clips that lack them."""
    problems += reading.problems
    warnings += reading.warnings
    known = set(reading.table["clip"])
    lacking = [name for name in clips["clip"] if name not in known]
    if lacking and (known or not reading.problems):
        problems.append(f"no {what} of clip{'s' if len(lacking) > 1 else ''} {some(lacking, 20)}")
    unrated = sorted(known - set(clips["clip"]))
    if unrated and len(clips):
        warnings.append(f"{what} but no ratings of clip{'s' if len(unrated) > 1 else ''} {some(unrated)}")
    return clips.merge(reading.table, on="clip", how="left", validate="one_to_one")


def _existing(path: Path) -> Path | None:
    return path if path.exists() else None


def _relative(path: Path | None, root: Path) -> str:
    return "" if path is None else path.relative_to(root).as_posix()
