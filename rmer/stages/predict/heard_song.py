"""What was found out about songs, as tables and plain values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from rmer.evaluation.fragility import Fragility
from rmer.report.listening.songs_page import HeardSong


def songs_table(songs: Sequence[HeardSong]) -> pd.DataFrame:
    """Return one row a song: file, length, emotions and concepts in rating points, fragility."""
    rows = []
    for heard in songs:
        row = heard.found.table().assign(song=str(heard.path))
        row.insert(1, "seconds", round(heard.song.seconds, 2))
        if heard.fragility is not None:
            row = row.assign(**_fragility_columns(heard.fragility))
        rows.append(row)
    return pd.concat(rows, ignore_index=True)


def windows_table(songs: Sequence[HeardSong]) -> pd.DataFrame:
    """Return one row for each window of each song."""
    return pd.concat([heard.found.window_table().assign(song=str(heard.path)) for heard in songs])


def effects_table(songs: Sequence[HeardSong]) -> pd.DataFrame:
    """Return one row for each song, emotion and concept; empty where no concepts have names."""
    return pd.concat([heard.found.effect_table().assign(song=str(heard.path)) for heard in songs])


def as_json(songs: Sequence[HeardSong], problems: Sequence[str]) -> dict[str, Any]:
    """Return all results as plain values; what is not known is null."""
    return {
        "models": list(songs[0].found.models) if songs else [],
        "scale": list(songs[0].found.scale) if songs else None,
        "songs": [_plain_song(heard) for heard in songs],
        "problems": list(problems),
    }


def _plain_song(heard: HeardSong) -> dict[str, Any]:
    found = heard.found
    named = {
        emotion: {"mean": _number(mean), "spread": _number(spread), "curve": [_number(at) for at in curve]}
        for emotion, mean, spread, curve in zip(
            found.emotions, found.mean, found.spread, found.curve.T, strict=True
        )
    }
    concepts = {
        concept: {"mean": _number(curve.mean()), "curve": [_number(at) for at in curve]}
        for concept, curve in zip(found.concepts, found.concept_curve.T, strict=True)
    }
    effects = {
        emotion: {
            concept: _number(effect * found.scale.span)
            for concept, effect in zip(found.concepts, of_emotion, strict=True)
        }
        for emotion, of_emotion in zip(found.emotions, found.effects, strict=True)
    }
    plain: dict[str, Any] = {
        "file": str(heard.path),
        "seconds": round(heard.song.seconds, 2),
        "decoder": heard.song.decoder,
        "warnings": list(heard.song.warnings),
        "window_seconds": [round(float(second), 2) for second in found.seconds],
        "emotions": named,
        "concepts": concepts,
        "effects": effects if found.explained else {},
        "baseline": {
            emotion: _number(value)
            for emotion, value in zip(found.emotions, found.scale.ratings(found.baseline), strict=True)
        },
    }
    if heard.fragility is not None:
        plain["fragility"] = _fragility_columns(heard.fragility) | {
            "fragility_budget": _number(heard.fragility.budget)
        }
    return plain


def _fragility_columns(fragility: Fragility) -> dict[str, Any]:
    return {
        "fragility_domain": fragility.domain,
        "fragility_budget": fragility.budget,
        "fragility_most": fragility.most,
        "fragility_emotion": fragility.emotion,
        "fragility_moved": fragility.moved,
        "fragility_second": round(fragility.second, 2),
    }


def _number(value: float) -> float | None:
    return round(float(value), 6) if np.isfinite(value) else None
