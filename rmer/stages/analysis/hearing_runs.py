"""Reads what attack runs on the sound say of their sounds."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
import soundfile

from rmer.errors import UserError
from rmer.evaluation.attacked import AttackedModel
from rmer.evaluation.metrics import clip_errors
from rmer.report.heard import CLIP_COLUMNS, CODEC_COLUMNS, Heard, HeardClip, ListeningPage
from rmer.report.listening.sound_files import audio_uri, changed_part
from rmer.report.sections.clips_section import suffering
from rmer.stages.analysis.parallel import in_parallel
from rmer.stages.analysis.reading import AnalysedRuns
from rmer.tracking import Artifact, RunRecord, Store

MEASURED = ("snr_db", "noise_to_mask_db", "audible_share")
METRIC = "mae_clipped"
# Clips whose sounds a report holds.
MOST_SOUNDS = 3


def read_heard(store: Store, runs: AnalysedRuns) -> Heard:
    """Read per-clip measures and codec tables, and say where to listen; empty of runs on spectrograms."""
    if not runs.on_sound:
        return Heard()
    records = {item.record.run_id: item.record for item in runs.selected}
    models = [(norm, run) for norm, members in runs.groups.items() for model in members for run in model.runs]
    clips = [_clips(norm, model, runs.clips[model.run_id]) for norm, model in models]
    with_codecs = [(norm, model) for norm, model in models if _has_codecs(records[model.run_id])]
    codecs = in_parallel(lambda pair: _codecs(store, *pair), with_codecs)
    return Heard(
        clips=pd.concat(clips, ignore_index=True),
        codecs=pd.concat(codecs, ignore_index=True) if codecs else Heard().codecs,
        pages=[
            _page(store, norm, model, records[model.run_id])
            for norm, model in models
            if records[model.run_id].params.get("cfg.listen") != "0"
        ],
        sounds=_sounds(store, runs, records),
    )


def _sounds(store: Store, runs: AnalysedRuns, records: Mapping[str, RunRecord]) -> list[HeardClip]:
    """Return the clips that suffered most, of those that a run keeps to be heard, under the first norm.

    Each is of the model whose raw MAE it raises most.
    """
    kept: dict[str, list[tuple[float, AttackedModel]]] = {}
    for model in (run for pooled in runs.models for run in pooled.runs):
        most = int(records[model.run_id].params.get("cfg.listen", "0"))
        errors = [clip_errors(model.labels, values) for values in (model.clean, model.adversarial)]
        growth = errors[1] - errors[0]
        for place in np.argsort(-growth, kind="stable")[:most]:
            kept.setdefault(model.clips[place], []).append((float(growth[place]), model))
    clips = [clip for clip in suffering(runs.models)["clip"] if clip in kept][:MOST_SOUNDS]
    worst = [(clip, max(kept[clip], key=lambda pair: pair[0])[1]) for clip in clips]
    found = in_parallel(lambda pair: _sound(store, runs.clips[pair[1].run_id], *pair), worst)
    return [sound for sound in found if sound is not None]


def _sound(store: Store, table: pd.DataFrame, clip: str, model: AttackedModel) -> HeardClip | None:
    try:
        files = [
            store.download(model.run_id, f"{Artifact.LISTENING}/{clip}/{kind}.wav")
            for kind in ("clean", "adversary")
        ]
    except UserError:  # of an older version, or deleted: the report has one sound less
        return None
    sounds = map(audio_uri, changed_part(*(soundfile.read(file, dtype="int16")[0] for file in files)))
    place = model.clips.index(clip)
    before, after = (
        float(clip_errors(model.labels, values, clipped=True)[place])
        for values in (model.clean, model.adversarial)
    )
    ratio = float(table["snr_db"][table["clip"] == clip].iloc[0]) if "snr_db" in table else np.nan
    return HeardClip(clip, model.name, model.seed, before, after, ratio, *sounds)


def _clips(norm: str, model: AttackedModel, table: pd.DataFrame) -> pd.DataFrame:
    table = table.sort_values("clip", kind="stable")  # as in the model
    clean, attacked = (
        clip_errors(model.labels, predictions, clipped=True)
        for predictions in (model.clean, model.worst(METRIC))
    )
    found = pd.DataFrame(
        {
            "norm": norm,
            "system": model.name,
            "seed": model.seed,
            "run_id": model.run_id,
            "clip": list(model.clips),
            f"clean_{METRIC}": clean,
            f"adv_{METRIC}": attacked,
            f"delta_{METRIC}": attacked - clean,
        }
    )
    for name in MEASURED:
        found[name] = table[name].to_numpy(float) if name in table else float("nan")
    return found[list(CLIP_COLUMNS)]


def _has_codecs(record: RunRecord) -> bool:
    return record.params.get("cfg.codecs") == "true"


def _codecs(store: Store, norm: str, model: AttackedModel) -> pd.DataFrame:
    table = store.read_table(model.run_id, Artifact.CODECS)
    kinds = {f"{kind}/{METRIC}": kind for kind in ("clean", "adv", "delta")}
    table = table.rename(columns=kinds).assign(norm=norm, system=model.name, seed=model.seed)
    return table[list(CODEC_COLUMNS)]


def _page(store: Store, norm: str, model: AttackedModel, record: RunRecord) -> ListeningPage:
    url = store.page_of(record, Artifact.LISTEN) if store.web else ""
    return ListeningPage(model.name, model.seed, norm, model.run_id, url)
