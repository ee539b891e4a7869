"""``predictions.html``: songs to be listened to, with what models predict for them, in one file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rmer.attacks.attack_domains import WAVEFORM
from rmer.data.preparation.songs import Song
from rmer.errors import UserError
from rmer.evaluation.endpoints import Floats
from rmer.evaluation.fragility import Fragility
from rmer.evaluation.song_emotions import FEATURE_UNITS, SongEmotions
from rmer.report.listening.sound_files import audio_uri, mp3_uri
from rmer.report.templates import template

MOST_MINUTES = 90.0  # of songs that can be played: about 27 MB
WIDTH, HEIGHT = 600.0, 44.0  # of a curve, in its own units
LEAST_RANGE = 2.0  # rating points that a curve's height stands for, so that noise does not look like drama
STRONGEST = 1.0  # rating points of an effect in full colour, where none is stronger


@dataclass(frozen=True, eq=False)
class HeardSong:
    """A song, where its file is, what models say about it, and how fragile that is, where it was asked."""

    path: Path
    song: Song
    found: SongEmotions
    fragility: Fragility | None = None


def songs_page(songs: Sequence[HeardSong], system: str, problems: Sequence[str] = ()) -> str:
    """Return the page as an HTML document that needs nothing beside it.

    ``problems`` are messages about files that are not among the songs. Raises UserError where there is none.
    """
    if not songs:
        raise UserError("there is no song to show", where="page of songs", mend="Give one at least")
    found = songs[0].found
    overall = _heights([song.found.mean for song in songs])
    left = MOST_MINUTES * 60
    shown = []
    for place, song in enumerate(songs):
        left -= song.song.seconds
        shown.append(_shown(place, song, overall, playable=left >= 0 or place == 0))
    return template("songs.html.j2").render(
        system=system,
        models=found.models,
        emotions=found.emotions,
        concepts=found.concepts,
        usual=found.usual,
        unit="feature" if found.units == FEATURE_UNITS else "concept",
        songs=shown,
        problems=problems,
        outside=any(_is_outside(song.found) for song in songs),
        low=f"{found.scale.low:g}",
        top=f"{found.scale.high:g}",
        width=WIDTH,
        height=HEIGHT,
        spread=len(found.models) > 1,
        fragile=any(song.fragility for song in songs),
    )


def _shown(place: int, shown: HeardSong, overall: tuple[float, float], *, playable: bool) -> dict[str, Any]:
    """Return what the template shows of a song."""
    song, found = shown.song, shown.found
    spread = found.curve_spread
    concepts, features = found.concept_curve, found.units == FEATURE_UNITS
    # What is rated alike is drawn alike.
    heights = _heights([found.curve] if features else [found.curve, concepts])
    of_units = _heights([concepts]) if features else heights
    x = found.seconds / max(song.seconds, 1e-9) * WIDTH
    emotions = [
        _row(name, found.mean[at], found.spread[at], x, found.curve[:, at], spread[:, at], heights)
        for at, name in enumerate(found.emotions)
    ]
    units = found.unit_scale.ratings(found.conceived.mean(axis=1))
    of_concepts = [
        _row(name, units[:, at].mean(), _deviation(units[:, at]), x, concepts[:, at], None, of_units)
        for at, name in enumerate(found.concepts)
    ]
    return {
        "id": f"song-{place + 1}",
        "name": song.name,
        "path": str(shown.path),
        "length": _clock(song.seconds),
        "seconds": f"{song.seconds:.3f}",
        "windows": len(found.seconds),
        "warnings": song.warnings,
        "audio": mp3_uri(song.samples) if playable else "",
        "low": _points(heights[0]),
        "high": _points(heights[1]),
        "emotions": emotions,
        "concepts": of_concepts,
        "of_concepts": _units_in_words(of_units) if features else "Musical concepts over time",
        "cells": [(_points(value), _share(value, *overall)) for value in found.mean],
        "effects": _effects(found) if found.explained else None,
        "reading": _reading(found) if found.explained else "",
        "fragility": _fragility(shown.fragility, found) if shown.fragility else None,
        "fragile": shown.fragility.in_words if shown.fragility else "",
    }


def _units_in_words(heights: tuple[float, float]) -> str:
    """Return the title of the curves of features."""
    low, high = (f"{height:g}" for height in heights)
    return f"Features over time, in standard deviations from the mean training clip (from {low} to {high})"


def _is_outside(found: SongEmotions) -> bool:
    """Tell whether a prediction leaves the scale of the ratings."""
    return bool(((found.mean < found.scale.low) | (found.mean > found.scale.high)).any())


def _row(
    name: str,
    mean: float,
    spread: float,
    x: Floats,
    curve: Floats,
    width: Floats | None,
    heights: tuple[float, float],
) -> dict[str, Any]:
    """Return one curve over time with its name and mean."""
    return {
        "name": _words(name),
        "mean": _points(mean),
        "spread": _points(spread) if np.isfinite(spread) else "",
        "share": f"{100 * _share(mean, *heights):.1f}",
        "line": _path(x, curve, heights),
        "band": "" if width is None or not np.isfinite(width).all() else _band(x, curve, width, heights),
        "points": ";".join(f"{at / WIDTH:.4f},{value:.2f}" for at, value in zip(x, curve, strict=True)),
    }


def _effects(found: SongEmotions) -> dict[str, Any]:
    """Return the table of effects, in rating points, coloured by sign and size."""
    effects = found.effects * found.scale.span
    baseline = found.scale.ratings(found.baseline)
    strongest = max(float(np.abs(effects).max()), STRONGEST)
    rows = []
    for at, emotion in enumerate(found.emotions):
        cells = [
            {
                "text": _signed(value),
                "way": "up" if value > 0 else "down",
                "share": f"{abs(value) / strongest:.2f}",
            }
            for value in effects[at]
        ]
        rows.append(
            {
                "name": _words(emotion),
                "baseline": _points(baseline[at]),
                "cells": cells,
                "mean": _points(found.mean[at]),
            }
        )
    return {"concepts": [_words(name) for name in found.concepts], "rows": rows}


def _reading(found: SongEmotions) -> str:
    """Return the most telling row of the effects as a sentence."""
    effects = found.effects * found.scale.span
    at = int(np.abs(effects.sum(axis=1)).argmax())
    strongest = np.argsort(-np.abs(effects[at]))[:2]
    parts = [f"{_words(found.concepts[place])} ({_signed(effects[at, place])})" for place in strongest]
    start = float(found.scale.ratings(found.baseline[at]))
    way = "up" if found.mean[at] >= start else "down"
    named = "features" if found.units == FEATURE_UNITS else "concepts"
    than = f"where {named} are as in the average training clip" if found.usual else f"where all {named} are 0"
    return (
        f"{_words(found.emotions[at])} moves most: from {_points(start)}, {than}, {way} to "
        f"{_points(found.mean[at])}, above all by {' and '.join(parts)}."
    )


def _fragility(fragility: Fragility, found: SongEmotions) -> dict[str, Any]:
    at = found.emotions.index(fragility.emotion)
    before, after = (float(found.scale.ratings(values[at])) for values in (fragility.before, fragility.after))
    move = _points(fragility.move * found.scale.span)
    where = f"around {_clock(fragility.second)}"
    if fragility.domain == WAVEFORM:
        way = "below" if fragility.budget <= 0 else "over"
        size = f"a change {abs(fragility.budget):.1f} dB {way} what the music masks"
        most = f"no change up to {fragility.most:g} dB over what the music masks"
    else:
        size = f"a change of {fragility.budget:.4f} standardised units a cell of the spectrogram"
        most = f"no change of up to {fragility.most:g} standardised units a cell"
    told = (
        f"{size[0].upper()}{size[1:]} is enough to move {_words(fragility.emotion)} {where} by {move}: "
        f"from {_points(before)} to {_points(after)}."
        if fragility.found
        else f"Of what was tried, {most} moves an emotion {where} by {move}; "
        f"{_words(fragility.emotion)} moves most, from {_points(before)} to {_points(after)}."
    )
    sounds = []
    if fragility.clean is not None and fragility.adversary is not None:
        sounds = [("as it is", audio_uri(fragility.clean)), ("changed", audio_uri(fragility.adversary))]
    return {"told": told, "sounds": sounds}


def _heights(parts: Sequence[Floats]) -> tuple[float, float]:
    """Return the rating points at the bottom and the top of what is shown together."""
    values = np.concatenate([part.ravel() for part in parts])
    low, high = float(values.min()), float(values.max())
    missing = max(LEAST_RANGE - (high - low), 0.0) / 2
    return float(np.floor(2 * (low - missing)) / 2), float(np.ceil(2 * (high + missing)) / 2)


def _share(value: float, low: float, high: float) -> float:
    return float(np.clip((value - low) / (high - low), 0, 1))


def _y(values: Floats, heights: tuple[float, float]) -> Floats:
    low, high = heights
    y: Floats = HEIGHT * (1 - np.clip((values - low) / (high - low), 0, 1))
    return y


def _path(x: Floats, values: Floats, heights: tuple[float, float]) -> str:
    """Return a curve as the path of an SVG, drawn on to both ends of the song."""
    y = _y(values, heights)
    x, y = np.r_[0, x, WIDTH], np.r_[y[0], y, y[-1]]
    return "M" + "L".join(f"{a:.1f} {b:.1f}" for a, b in zip(x, y, strict=True))


def _band(x: Floats, values: Floats, width: Floats, heights: tuple[float, float]) -> str:
    """Return the area within one standard deviation as the path of an SVG."""
    above, below = _y(values + width, heights), _y(values - width, heights)
    x = np.r_[0, x, WIDTH]
    there = zip(x, np.r_[above[0], above, above[-1]], strict=True)
    back = zip(x[::-1], np.r_[below[0], below, below[-1]][::-1], strict=True)
    return "M" + "L".join(f"{a:.1f} {b:.1f}" for a, b in [*there, *back]) + "Z"


def _deviation(values: Floats) -> float:
    return float(values.std(ddof=1)) if len(values) > 1 else float("nan")


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


def _points(value: float) -> str:
    return f"{value:.1f}".replace("-", "−")  # noqa: RUF001


def _signed(value: float) -> str:
    text = f"{value:+.1f}"
    return ("0.0" if float(text) == 0 else text).replace("-", "−")  # noqa: RUF001


def _words(name: str) -> str:
    return name.replace("_", " ")
