"""The clips that suffered most, one row a clip, with what there is to listen to of the worst."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from rmer.evaluation.attacked import AttackedModel
from rmer.evaluation.metrics import clip_errors
from rmer.report.contents import Contents
from rmer.report.heard import HeardClip
from rmer.report.html import ReportSound, ReportTable, Section
from rmer.report.readable import number
from rmer.report.robustness import FIRST

TITLE = "Clips that suffered most"
MOST_CLIPS = 8
COLUMNS = (
    "clip", "error_clean", "error_attacked", "difference", "models", "worst_system", "worst_seed",
    "worst_difference",
)  # fmt: skip


def clips_section(contents: Contents) -> Section:
    """Return the section, with ``tables/clips.csv``; of the sound, where that was attacked."""
    first = contents.sound or contents
    table = suffering(first.models)
    what = "sound" if first.on_sound else "spectrogram"
    models = sum(max(1, len(model.parts)) for model in first.models)
    caption = (
        f"Error of a clip: clipped MAE over emotions, mean over those of {models} models that were attacked "
        f"on it, before and after the {what} is changed {first.allowed}; worst: the model whose error "
        "grows most. All clips are in tables/clips.csv."
    )
    sounds = [_sound(heard) for heard in first.heard.sounds]
    paragraphs = ["Each clip as it is, and as the attack changed it: can you hear a difference?"]
    return Section(
        TITLE,
        paragraphs if sounds else [],
        [ReportTable(caption, readable_suffering(table.head(MOST_CLIPS)))],
        data={"clips": table},
        sounds=sounds,
        open=True,
    )


def suffering(models: Sequence[AttackedModel]) -> pd.DataFrame:
    """Return one row a clip (:data:`COLUMNS`), that whose error grows most on average over models first.

    Errors are clipped MAE, attacked by the adversary that is the worst by it.
    """
    rows = []
    for model in models:
        clean, attacked = (
            clip_errors(model.labels, predictions, clipped=True)
            for predictions in (model.clean, model.worst(FIRST))
        )
        own = {"error_clean": clean, "error_attacked": attacked, "difference": attacked - clean}
        rows.append(pd.DataFrame({"clip": model.clips, **own, "system": model.name, "seed": model.seed}))
    every = pd.concat(rows, ignore_index=True)
    worst = every.loc[every.groupby("clip")["difference"].idxmax()].set_index("clip")
    groups = every.groupby("clip")[["error_clean", "error_attacked", "difference"]]
    table = groups.mean().assign(
        models=groups.size(),
        worst_system=worst["system"],
        worst_seed=worst["seed"],
        worst_difference=worst["difference"],
    )
    table = table.sort_values("difference", ascending=False, kind="stable").reset_index()
    return table[list(COLUMNS)]


def readable_suffering(table: pd.DataFrame) -> pd.DataFrame:
    """Return the table as text."""
    return pd.DataFrame(
        {
            "Clip": table["clip"],
            "Error: clean": [number(value, 3) for value in table["error_clean"]],
            "Error: attacked": [number(value, 3) for value in table["error_attacked"]],
            "Error: difference": [number(value, 3) for value in table["difference"]],
            "Worst: model": [
                f"{system} s{seed}" if seed else str(system)
                for system, seed in zip(table["worst_system"], table["worst_seed"], strict=True)
            ],
            "Worst: difference": [number(value, 3) for value in table["worst_difference"]],
        }
    )


def _sound(heard: HeardClip) -> ReportSound:
    model = f"{heard.system} s{heard.seed}" if heard.seed else heard.system
    told = f"Clip {heard.clip}, {model}: error {number(heard.error_clean)} to {number(heard.error_attacked)}"
    measured = f", {heard.snr_db:.0f} dB signal to difference" if np.isfinite(heard.snr_db) else ""
    return ReportSound(f"{told}{measured}", heard.clean, heard.adversary)
