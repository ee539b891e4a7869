"""Everything that is to be said of a data set before it is used: labels, recordings, duplicates, splits."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from rmer.data.audio.filterbank import FPS
from rmer.data.audio.frontend import FRAMES, File2Spect
from rmer.data.audio.soundness import MIN_SECONDS, problems_of, warnings_of
from rmer.data.audio.spectrograms import CachedSpectrogram, compute_spectrograms
from rmer.data.preparation.adequacy import constant_labels, late_starts, too_few_groups, weak_parts
from rmer.data.preparation.duplicates import Match, find_duplicates
from rmer.data.readers.collection import MEND, Collected
from rmer.data.splits import SPLIT_SEED, album_split, grouped, part_column, published_split
from rmer.data.tables.text_tables import counted, some
from rmer.errors import DataErrors, UserError


@dataclass(frozen=True)
class Survey:
    """A data set with all that is wrong (``problems``) or odd (``warnings``) about it, one line each.

    ``spectrograms`` maps the clips that can be used to theirs, which took ``seconds``. ``duplicates`` has a
    row for each pair of clips of the same recording: ``first``, ``second``, ``similarity`` (at most 1),
    ``seconds_later`` (into the first, where the second starts), a column ``split_<name>`` for each split and
    one for each emotion with its labels; where the two differ, both ("train/test"). ``splits`` maps names of
    splits to the part of each clip, and is empty where there are problems.
    """

    collected: Collected
    file2spect: File2Spect
    frames: int
    split_seed: int
    seconds: float
    spectrograms: dict[str, CachedSpectrogram]
    duplicates: pd.DataFrame
    splits: dict[str, list[str]]
    problems: tuple[str, ...]
    warnings: tuple[str, ...]

    def checked(self) -> Survey:
        """Return itself; raises DataErrors with all problems where there are any."""
        if self.problems:
            raise DataErrors(self.problems, where="data set", mend=MEND)
        return self


def survey(
    collected: Collected,
    file2spect: File2Spect,
    cache_dir: Path,
    *,
    frames: int = FRAMES,
    min_seconds: float = MIN_SECONDS,
    split_seed: int = SPLIT_SEED,
    workers: int = 0,
) -> Survey:
    """Decode all recordings, compare them, split the clips and say everything that is wrong or odd.

    Clips that sound for less than ``min_seconds`` are a problem; excerpts have ``frames`` frames. Raises what
    :func:`rmer.data.audio.spectrograms.compute_spectrograms` does.
    """
    started = time.perf_counter()
    firsts = _first_clips(collected)
    first = set(firsts.values())
    results = compute_spectrograms(list(firsts), file2spect, cache_dir, workers)
    seconds = time.perf_counter() - started
    heard = dict(zip(firsts, results, strict=True))
    wrong = {
        firsts[path]: [item.what] if isinstance(item, UserError) else problems_of(item.sound, min_seconds)
        for path, item in heard.items()
    }
    spectrograms = {
        clip: item
        for clip, path in collected.audio.items()
        if isinstance(item := heard[path], CachedSpectrogram) and not wrong[firsts[path]]
    }
    wrong |= late_starts(collected.starts, {clip: item.frames / FPS for clip, item in spectrograms.items()})
    odd = {
        clip: warnings_of(item.sound, frames / FPS) for clip, item in spectrograms.items() if clip in first
    }
    matches = _matches(collected, spectrograms)
    constant, unlearnable = constant_labels(collected.clips, collected.emotions, collected.concepts)
    problems = [*collected.problems, *_named(collected, wrong), *constant]
    groups: list[str] = []
    if collected.has_albums and not problems:
        albums = collected.clips["album"].tolist()
        groups = grouped(albums, [match.rows for match in matches])
        problems += too_few_groups(albums, groups)
    splits = {} if problems else _splits(collected, groups, split_seed)
    duplicates = _table(collected, matches, splits)
    warnings = [
        *collected.warnings,
        *_named(collected, odd),
        *unlearnable,
        *_told(duplicates, collected.emotions),
        *_straddling(duplicates, splits),
        *weak_parts(collected.clips, collected.emotions, splits),
    ]
    more = (duplicates, splits, tuple(problems), tuple(warnings))
    return Survey(collected, file2spect, frames, split_seed, seconds, spectrograms, *more)


def _named(collected: Collected, found: Mapping[str, Sequence[str]]) -> list[str]:
    """Return what was found on each clip with the name of its file before it."""
    return [f"{collected.audio[clip].name} {what}" for clip, texts in found.items() for what in texts]


def _matches(collected: Collected, spectrograms: Mapping[str, CachedSpectrogram]) -> list[Match]:
    # Windows of one file are no duplicates of each other.
    usable = set(_first_clips(collected).values()) & set(spectrograms)
    rows = [row for row, clip in enumerate(collected.clips["clip"]) if clip in usable]
    found = find_duplicates([spectrograms[clip].load() for clip in collected.clips["clip"].iloc[rows]])
    return [dataclasses.replace(match, rows=(rows[match.rows[0]], rows[match.rows[1]])) for match in found]


def _first_clips(collected: Collected) -> dict[Path, str]:
    """Return file -> the first of its clips, of which there are several where these are windows of it."""
    firsts: dict[Path, str] = {}
    for clip, path in collected.audio.items():
        firsts.setdefault(path, clip)
    return firsts


def _splits(collected: Collected, groups: Sequence[str], seed: int) -> dict[str, list[str]]:
    """Return the part of each clip in every split of the data set.

    These are the published one and, where there are any, that by album and the official one.
    """
    clips = collected.clips
    splits = {"published": part_column(published_split(len(clips)), len(clips))}
    if collected.has_albums:
        targets = clips[list(collected.emotions)].to_numpy(np.float64)
        splits["album"] = part_column(album_split(groups, targets, seed), len(clips))
    if collected.official:
        splits["official"] = [collected.official.get(clip, "") for clip in clips["clip"]]
    return splits


def _table(
    collected: Collected, matches: Sequence[Match], splits: Mapping[str, Sequence[str]]
) -> pd.DataFrame:
    clips = collected.clips
    firsts, seconds = ([match.rows[side] for match in matches] for side in (0, 1))
    columns: dict[str, Sequence[object]] = {
        "first": clips["clip"].iloc[firsts].tolist(),
        "second": clips["clip"].iloc[seconds].tolist(),
        "similarity": [round(match.similarity, 3) for match in matches],
        "seconds_later": [round(match.lag / FPS, 3) for match in matches],
    }
    for name, parts in splits.items():
        columns[f"split_{name}"] = [_both(parts[a], parts[b]) for a, b in zip(firsts, seconds, strict=True)]
    for emotion in collected.emotions:
        texts = [f"{value:.3g}" for value in clips[emotion]]
        columns[emotion] = [_both(texts[a], texts[b]) for a, b in zip(firsts, seconds, strict=True)]
    return pd.DataFrame(columns)


def _told(duplicates: pd.DataFrame, emotions: Sequence[str]) -> list[str]:
    """Return one line a pair, with the labels (0-1) in which the two differ."""
    lines = []
    for row in duplicates.to_dict("records"):
        differing = [f"{name} {row[name]}" for name in emotions if "/" in row[name]]
        labels = f"rated differently: {', '.join(differing)}" if differing else "rated alike"
        lines.append(f"clips {row['first']} and {row['second']} are the same recording, {labels}")
    return lines


def _straddling(duplicates: pd.DataFrame, splits: Mapping[str, Sequence[str]]) -> list[str]:
    """Return what the published split does with duplicates, of which no other split tears a pair apart."""
    if duplicates.empty or "published" not in splits:
        return []
    torn = duplicates[duplicates["split_published"].str.contains("/")]
    pairs = [f"{row['first']}, {row['second']} ({row['split_published']})" for row in torn.to_dict("records")]
    total = counted(len(duplicates), "pair of duplicates")
    line = f"split published: {len(torn)} of {total} {'lies' if len(torn) == 1 else 'lie'} in two parts"
    return [line + (f": {some(pairs, 20)}" if pairs else "")]


def _both(first: str, second: str) -> str:
    return first if first == second else f"{first}/{second}"
