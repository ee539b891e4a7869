"""From a survey to a data set: spectrograms cut to excerpts, put together with labels and splits."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rmer.data.audio.decoders import SAMPLE_RATE, decoder_version
from rmer.data.audio.filterbank import BANDS, FPS
from rmer.data.audio.frontend import FRONTEND_VERSION
from rmer.data.dataset import Dataset
from rmer.data.preparation.excerpts import EXCERPT_SEED, excerpt, excerpt_starts
from rmer.data.preparation.survey import Survey


def prepare(surveyed: Survey, name: str = "") -> Dataset:
    """Cut all clips and label them with all splits; raises DataErrors where the survey found problems.

    ``name`` is what the data set is called.
    """
    clips, frames = surveyed.checked().collected.clips, surveyed.frames
    spectrograms = [surveyed.spectrograms[clip] for clip in clips["clip"]]
    starts = _starts(clips["clip"].tolist(), [item.frames for item in spectrograms], frames)
    given = surveyed.collected.starts
    starts = [
        int(given[clip] * FPS) if clip in given else start
        for clip, start in zip(clips["clip"], starts, strict=True)
    ]
    excerpts = [excerpt(item.load(), start, frames) for item, start in zip(spectrograms, starts, strict=True)]
    return Dataset(
        spectrograms=np.stack(excerpts).astype(np.float32),
        clips=clips.assign(
            spec_mean=[item.mean for item in spectrograms],
            spec_mean_square=[item.mean_square for item in spectrograms],
            spec_frames=[item.frames for item in spectrograms],
            excerpt_start=starts,
            **{f"split_{name}": parts for name, parts in surveyed.splits.items()},
        ),
        emotions=surveyed.collected.emotions,
        concepts=surveyed.collected.concepts,
        frontend={
            "decoder": surveyed.file2spect.decoder,
            "decoder_version": decoder_version(surveyed.file2spect.decoder),
            "frontend": surveyed.file2spect.frontend,
            "frontend_version": FRONTEND_VERSION,
            "sample_rate": SAMPLE_RATE,
            "fps": FPS,
            "bands": BANDS,
            "frames": frames,
            "excerpt_seed": EXCERPT_SEED,
            "split_seed": surveyed.split_seed,
        },
        name=name,
        labels=surveyed.collected.labels,
    )


def _starts(clips: Sequence[str], lengths: Sequence[int], frames: int) -> list[int]:
    """Draw excerpts in the order of clip names, and return their first frames in the order of ``clips``.

    The published code draws in the order of file names, which is the same for 001.mp3 to 360.mp3; what a file
    is called otherwise (1.mp3, 001.wav) must not change the data set.
    """
    order = sorted(range(len(clips)), key=lambda row: clips[row])
    starts = excerpt_starts([lengths[row] for row in order], frames)
    return [start for _, start in sorted(zip(order, starts, strict=True))]
