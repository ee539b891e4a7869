"""Stage ``validate``: say everything that is wrong with a data set, without logging anything."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rmer.data.collection import labels_digest
from rmer.data.survey import Survey
from rmer.data.text_tables import counted
from rmer.stages.data.data_params import DataParams


@dataclass(frozen=True)
class ValidateParams(DataParams):
    """Parameters of ``validate``."""


def validate(params: ValidateParams) -> list[str]:
    """Survey a data set, print a report and return every problem found (none: it can be preprocessed).

    Spectrograms are kept, so that ``preprocess`` need not compute them again.
    """
    surveyed = params.survey(params.collect())
    print(_report(params.soundtracks_dir, surveyed))
    return list(surveyed.problems)


def _report(folder: str, surveyed: Survey) -> str:
    collected = surveyed.collected
    clips = collected.clips
    labels = [*collected.emotions, *collected.concepts]
    albums = f"{clips['album'].nunique()} albums" if collected.has_albums else "none (no album split)"
    lines = [
        f"Data set in {folder}",
        f"  clips     {len(clips)} rated, {len(collected.audio)} with audio",
        f"  targets   {', '.join(collected.emotions)}",
        f"  concepts  {', '.join(collected.concepts) or 'none: only systems without concept loss train'}",
        f"  albums    {albums}",
        f"  labels    {labels_digest(clips, labels)}",
    ]
    return "\n".join([*lines, *_listed("warning", surveyed.warnings), *_listed("problem", surveyed.problems)])


def _listed(name: str, found: Sequence[str]) -> list[str]:
    head = counted(len(found), name) if found else f"No {name}s"
    return [head, *(f"  - {text}" for text in found)]
