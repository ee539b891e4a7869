"""What an analysis was of, in words: names, counts, code and date, before any digest."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from rmer.data.splits import ALL
from rmer.data.tables.text_tables import counted
from rmer.evaluation.attacked import AttackedModel
from rmer.report.readable import and_list
from rmer.report.system_tables import in_order
from rmer.stages.analysis.alike import on_sound
from rmer.stages.analysis.parallel import named_runs
from rmer.stages.analysis.reading import AnalysedRuns
from rmer.tracking import Origin, RunRecord, Store, Tag

COMMIT_LENGTH = 7


def about(store: Store, study: str, runs: AnalysedRuns, sound: AnalysedRuns | None) -> dict[str, str]:
    """Return title -> text, the most telling first; what the runs do not say is left out."""
    records = [item.record for read in (runs, sound) if read is not None for item in read.selected]
    models, first = in_order(runs.models), runs.models[0]
    seeds = list(dict.fromkeys(model.seed for members in models.values() for model in members if model.seed))
    trained = sum(len(model.runs) for model in runs.models)
    found = {
        "study": study or _tagged(records, Tag.STUDY),
        "data": _data(store, records),
        "models": f"{counted(trained, 'model')} of {counted(len(models), 'system')}",
        "clips": _clips(first, _tagged(records, Tag.SPLIT)),
        "runs": _runs(records),
        "systems": ", ".join(models),
        "training seeds": ", ".join(seeds),
        "emotions": ", ".join(first.targets),
        "code": _code(records),
    }
    return {title: text for title, text in found.items() if text}


def _clips(model: AttackedModel, split: str) -> str:
    albums = len(set(model.albums) - {""})
    clips = counted(len(model.clips), "clip" if split == ALL else f"{split} clip".strip())
    return f"{clips} of {counted(albums, 'album')}" if albums else clips


def _tagged(records: Sequence[RunRecord], tag: str) -> str:
    return ", ".join(sorted({record.tags[tag] for record in records if record.tags.get(tag)}))


def _data(store: Store, records: Sequence[RunRecord]) -> str:
    """Return the name of the data, with the number of clips and the length of excerpts."""
    prepared = named_runs(store, records, Tag.DATASET_RUN_ID)
    return "; ".join(dict.fromkeys(map(_prepared, prepared))) or _tagged(records, Tag.DATASET_NAME)


def _prepared(record: RunRecord) -> str:
    clips, frames = (record.params.get(f"cfg.{name}", "") for name in ("clips", "frames"))
    if not (Tag.DATASET_NAME in record.tags and clips and frames):
        return record.name
    return f"{record.tags[Tag.DATASET_NAME]}, {clips} clips, {frames} frames"


def _runs(records: Sequence[RunRecord]) -> str:
    """Return how many attack runs there are, what they changed, and when they were made."""
    days = sorted(_day(record.start_time) for record in records)
    span = days[0] if days[0] == days[-1] else f"{days[0]} to {days[-1]}"
    found = set(map(on_sound, records))
    what = [name for name, is_sound in (("sound", True), ("spectrograms", False)) if is_sound in found]
    imported = all(record.tags.get(Tag.ORIGIN) == Origin.IMPORTED for record in records)
    when = f"imported {span}" if imported else span
    return f"{counted(len(records), 'attack')} on {and_list(what)}, {when}"


def _day(milliseconds: int) -> str:
    return datetime.fromtimestamp(milliseconds / 1000, UTC).strftime("%Y-%m-%d")


def _code(records: Sequence[RunRecord]) -> str:
    commits = {
        record.tags[Tag.GIT_COMMIT][:COMMIT_LENGTH]
        + (" with changes" if record.tags.get(Tag.GIT_DIRTY) == "true" else "")
        for record in records
        if record.tags.get(Tag.GIT_COMMIT)
    }
    return f"git commit {', '.join(sorted(commits))}" if commits else ""
