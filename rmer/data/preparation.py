"""From the files of a data set to a data set: spectrograms, excerpts and splits put together."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rmer.data.audio import SAMPLE_RATE, decoder_version
from rmer.data.collection import Collected
from rmer.data.dataset import Dataset
from rmer.data.excerpts import EXCERPT_SEED, excerpt, excerpt_starts
from rmer.data.frontend import BANDS, FPS, FRAMES, FRONTEND_VERSION, File2Spect
from rmer.data.spectrograms import compute_spectrograms
from rmer.data.splits import SPLIT_SEED, album_split, part_column, published_split


@dataclass(frozen=True)
class Prepared:
    """A data set, with the seconds that its spectrograms took and how many were not in the cache already."""

    dataset: Dataset
    seconds: float
    computed: int


def prepare(
    collected: Collected,
    file2spect: File2Spect,
    cache_dir: Path,
    *,
    frames: int = FRAMES,
    split_seed: int = SPLIT_SEED,
    workers: int = 0,
) -> Prepared:
    """Decode, transform and cut all clips; label them with both splits (album: where albums are known).

    Raises what :func:`rmer.data.spectrograms.compute_spectrograms` and the splits raise.
    """
    clips = collected.checked().clips
    splits = _splits(collected, split_seed)
    paths = [collected.audio[clip] for clip in clips["clip"]]
    started = time.perf_counter()
    spectrograms = compute_spectrograms(paths, file2spect, cache_dir, workers)
    seconds = time.perf_counter() - started
    starts = _starts(clips["clip"].tolist(), [item.frames for item in spectrograms], frames)
    excerpts = [excerpt(item.load(), start, frames) for item, start in zip(spectrograms, starts, strict=True)]
    dataset = Dataset(
        spectrograms=np.stack(excerpts).astype(np.float32),
        clips=clips.assign(
            spec_mean=[item.mean for item in spectrograms],
            spec_mean_square=[item.mean_square for item in spectrograms],
            spec_frames=[item.frames for item in spectrograms],
            excerpt_start=starts,
            **splits,
        ),
        emotions=collected.emotions,
        concepts=collected.concepts,
        frontend={
            "decoder": file2spect.decoder,
            "decoder_version": decoder_version(file2spect.decoder),
            "frontend": file2spect.frontend,
            "frontend_version": FRONTEND_VERSION,
            "sample_rate": SAMPLE_RATE,
            "fps": FPS,
            "bands": BANDS,
            "frames": frames,
            "excerpt_seed": EXCERPT_SEED,
            "split_seed": split_seed,
        },
    )
    return Prepared(dataset, seconds, computed=sum(item.computed for item in spectrograms))


def _splits(collected: Collected, seed: int) -> dict[str, list[str]]:
    """Return the columns ``split_published`` and, where albums are known, ``split_album``."""
    clips = collected.clips
    columns = {"split_published": part_column(published_split(len(clips)), len(clips))}
    if collected.has_albums:
        targets = clips[list(collected.emotions)].to_numpy(np.float64)
        columns["split_album"] = part_column(album_split(clips["album"].tolist(), targets, seed), len(clips))
    return columns


def _starts(clips: Sequence[str], lengths: Sequence[int], frames: int) -> list[int]:
    """Draw excerpts in the order of clip names, and return their first frames in the order of ``clips``.

    The published code draws in the order of file names, which is the same for 001.mp3 to 360.mp3; what a file
    is called otherwise (1.mp3, 001.wav) must not change the data set.
    """
    order = sorted(range(len(clips)), key=lambda row: clips[row])
    starts = [0] * len(clips)
    for row, start in zip(order, excerpt_starts([lengths[row] for row in order], frames), strict=True):
        starts[row] = start
    return starts
