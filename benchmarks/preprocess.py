"""Preprocessing: from MP3 files to spectrograms, against the published script on the same generated clips."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Sequence
from functools import partial
from itertools import count
from pathlib import Path

import numpy as np
import soundfile

from benchmarks.measuring import Result, Settings, Target, Way, compare, interleave
from benchmarks.reference import Published
from rmer.data.audio.frontend import FRONTENDS, File2Spect
from rmer.data.audio.spectrograms import compute_spectrograms

CLIPS = 24
PUBLISHED, ALL_CORES = "published", "all cores"


def preprocessing(settings: Settings) -> Result:
    """Time every front end in one process and on all cores; no spectrogram is found in a cache."""
    clips = CLIPS // 2 if settings.quick else CLIPS
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = write_clips(folder / "Set1", clips)
        ways: dict[str, Way] = {}
        if settings.reference is not None and shutil.which("ffmpeg"):
            ways[PUBLISHED] = partial(Published(settings.reference).preprocess, folder)
        for frontend in FRONTENDS:
            ways[f"{frontend}, one process"] = _way(files, folder / f"{frontend}-1", frontend, 1)
            ways[f"{frontend}, {ALL_CORES}"] = _way(files, folder / f"{frontend}-all", frontend, 0)
        times = interleave(ways, repeats=max(1, settings.repeats // 2), seconds=settings.seconds)
    targets = {f"madmom, {ALL_CORES}": [Target("published", 1.8)]}
    rows = compare("preprocess", times, amounts=float(clips), unit="clips/s", targets=targets)
    cores = len(os.sched_getaffinity(0))
    notes = []
    for frontend in FRONTENDS:
        one, every = (times[f"{frontend}, {how}"] for how in ("one process", ALL_CORES))
        gain = np.median(np.divide(one, every))
        notes.append(
            f"Front end {frontend}: all cores ({cores}) are {gain:.2f} times as fast as one process."
        )
    if settings.reference is not None and PUBLISHED not in times:
        notes.append("No ffmpeg executable: the published script cannot decode, and was not timed.")
    return Result(rows, notes=notes)


def _way(files: Sequence[Path], folder: Path, frontend: str, workers: int) -> Way:
    numbers = count()  # a new cache each time

    def call() -> None:
        cache = folder.with_name(f"{folder.name}-{next(numbers)}")
        compute_spectrograms(files, File2Spect(frontend=frontend), cache, workers)

    return call


def write_clips(folder: Path, clips: int) -> list[Path]:
    """Write stereo MP3 clips of 15 s at 44.1 kHz: chords under decaying noise."""
    folder.mkdir()
    rng, seconds = np.random.default_rng(0), np.arange(15 * 44100) / 44100
    files = []
    for number in range(1, clips + 1):
        chord = sum(np.sin(2 * np.pi * f * seconds) for f in rng.uniform(100, 3000, 5))
        noise = rng.normal(size=(len(seconds), 2)) * np.exp(-(seconds % 0.5) * 8)[:, None]
        files.append(folder / f"{number:03d}.mp3")
        soundfile.write(files[-1], 0.1 * chord[:, None] + 0.1 * noise, 44100)
    return files
