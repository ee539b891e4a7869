"""Stage ``validate``: say everything that is wrong with a data set, without logging anything."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rmer.data.preparation.survey import Survey
from rmer.data.readers.collection import labels_digest
from rmer.data.splits import PARTS
from rmer.data.tables.text_tables import counted
from rmer.stages.data.data_params import DataParams


@dataclass(frozen=True)
class ValidateParams(DataParams):
    """Parameters of ``validate``."""


def validate(params: ValidateParams) -> list[str]:
    """Survey a data set, print a report and return every problem found (none: it can be preprocessed).

    Spectrograms are kept, so that ``preprocess`` need not compute them again.
    """
    surveyed = params.survey(params.collect())
    print(_report(params, surveyed))
    return list(surveyed.problems)


def _report(params: ValidateParams, surveyed: Survey) -> str:
    reader = params.reader()
    collected = surveyed.collected
    clips = collected.clips
    labels = [*collected.emotions, *collected.concepts]
    albums = f"{clips['album'].nunique()} albums" if collected.has_albums else "none (no album split)"
    lines = [
        f"Data set {reader.title} in {params.soundtracks_dir}".replace("  ", " "),
        f"  clips     {len(clips)} rated, {len(collected.audio)} with audio",
        f"  targets   {', '.join(collected.emotions)}",
        f"  concepts  {', '.join(collected.concepts) or 'none: only systems without concept loss train'}",
        f"  albums    {albums}",
        f"  labels    {labels_digest(clips, labels)}",
    ]
    if collected.labels != "ratings":
        lines.insert(3, f"  kind      {collected.labels}: regression on 0 and 1")
    if collected.official:
        sizes = ", ".join(f"{list(collected.official.values()).count(part)} {part}" for part in PARTS)
        lines.append(f"  split     official: {sizes}")
    lines += [f"  known     {fault}" for fault in reader.faults]
    lines += [f"  cite      {reader.citation}"] if reader.citation else []
    lines += [f"  licence   {reader.licence}"] if reader.licence else []
    return "\n".join([*lines, *_listed("warning", surveyed.warnings), *_listed("problem", surveyed.problems)])


def _listed(name: str, found: Sequence[str]) -> list[str]:
    head = counted(len(found), name) if found else f"No {name}s"
    return [head, *(f"  - {text}" for text in found)]
