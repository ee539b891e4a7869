"""Soundtracks Set 1 with the Mid-level concepts, or one's own data in the same layout (docs/own-data.md)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from rmer.data.dataset import CONCEPTS, EMOTIONS
from rmer.data.readers.audio_files import find_audio
from rmer.data.readers.collection import Collected
from rmer.data.readers.reader import DatasetReader
from rmer.data.tables.midlevel import ANNOTATIONS_FOLDER, inspect_midlevel
from rmer.data.tables.ratings import RATINGS_FILE, SCALE_MAX, inspect_ratings
from rmer.data.tables.text_tables import Reading, some
from rmer.data.tables.tracklist import TRACKLIST_FILE, inspect_tracklist


@dataclass(frozen=True)
class Soundtracks(DatasetReader):
    """Ratings, clips and, where there are any, concepts and albums, joined on clip names.

    Files that are not named are looked for in the folder.
    """

    files = "Set1/ and mean_ratings_set1.csv"

    targets: str = ",".join(EMOTIONS)
    ratings: str = ""
    midlevel_dir: str = ""
    tracklist: str = ""
    scale_max: float = SCALE_MAX

    def read(self, folder: Path) -> Collected:
        """Read and join all files; raises UserError for ``targets`` that cannot be used."""
        targets = self.target_names()
        ratings = _named(self.ratings) or folder / RATINGS_FILE
        rated = inspect_ratings(ratings, targets, scale_max=self.scale_max)
        clips = rated.table
        audio, audio_problems = find_audio(folder, clips["clip"].tolist())
        problems, warnings = [*rated.problems, *audio_problems], list(rated.warnings)
        midlevel = _named(self.midlevel_dir) or _existing(folder / ANNOTATIONS_FOLDER)
        if midlevel is not None:
            clips = _join(clips, inspect_midlevel(midlevel), "concepts", problems, warnings)
        tracklist = _named(self.tracklist) or _existing(folder / TRACKLIST_FILE)
        if tracklist is not None:
            clips = _join(clips, inspect_tracklist(tracklist), "album", problems, warnings)
        return Collected(
            clips=clips,
            audio=audio,
            emotions=targets,
            concepts=CONCEPTS if midlevel is not None else (),
            has_albums=tracklist is not None,
            problems=tuple(problems),
            warnings=tuple(warnings),
        )


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


def _named(text: str) -> Path | None:
    return Path(text) if text else None


def _existing(path: Path) -> Path | None:
    return path if path.exists() else None
