"""Preprocessing speed against the published way, in the same run on the same generated MP3 clips.

    python -m benchmarks.preprocess [--clips 60] [--music FOLDER]

The published way decodes with ffmpeg and computes clip by clip in one process, pickles every spectrogram,
and reads each back twice to normalise and cut it. Where no ffmpeg executable is installed its library (PyAV)
decodes, which is faster, so that the ratio is then too small rather than too large.
"""

from __future__ import annotations

import pickle
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import click
import numpy as np
import soundfile

from rmer.data.audio import decode
from rmer.data.frontend import FRAMES, FRONTENDS, File2Spect, MadmomAudio2Spect
from rmer.data.spectrograms import compute_spectrograms


@click.command()
@click.option("--clips", default=60, help="number of clips")
@click.option("--music", type=click.Path(path_type=Path), help="folder of recordings to use instead")
def main(clips: int, music: Path | None) -> None:
    """Print clips per second of each way and the ratio to the published one."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = sorted(music.glob("*.mp3"))[:clips] if music else write_clips(folder / "clips", clips)
        compute_spectrograms(files[:1], File2Spect(), folder / "warm-up")
        decoder = "madmom" if shutil.which("ffmpeg") else "pyav"
        published = timed(partial(the_published_way, files, folder / "published", decoder), len(files))
        print(f"published way ({decoder} decoder): {published:.1f} clips/s")
        for frontend in FRONTENDS:
            for workers in (1, 0):
                work = partial(compute_spectrograms, files, File2Spect(frontend=frontend))
                rate = timed(partial(work, folder / f"{frontend} {workers}", workers), len(files))
                kind = "one process" if workers == 1 else "all cores"
                print(f"front end {frontend}, {kind}: {rate:.1f} clips/s, ratio {rate / published:.2f}")


def timed(work: Callable[[], object], clips: int) -> float:
    """Return clips per second of ``work()``."""
    started = time.perf_counter()
    work()
    return clips / (time.perf_counter() - started)


def write_clips(folder: Path, count: int) -> list[Path]:
    """Write ``count`` stereo MP3 clips of 15 s at 44.1 kHz: chords under decaying noise."""
    folder.mkdir()
    rng, seconds = np.random.default_rng(0), np.arange(15 * 44100) / 44100
    files = []
    for number in range(1, count + 1):
        chord = sum(np.sin(2 * np.pi * f * seconds) for f in rng.uniform(100, 3000, 5))
        noise = rng.normal(size=(len(seconds), 2)) * np.exp(-(seconds % 0.5) * 8)[:, None]
        files.append(folder / f"{number:03d}.mp3")
        soundfile.write(files[-1], 0.1 * chord[:, None] + 0.1 * noise, 44100)
    return files


def the_published_way(files: Sequence[Path], folder: Path, decoder: str) -> None:
    """Three sequential passes over pickles, as the published script makes them."""
    folder.mkdir()
    audio2spect, mean, variance = MadmomAudio2Spect(), 0.0, 0.0
    for file in files:
        spectrogram = audio2spect(decode(file, decoder)).T
        (folder / file.name).write_bytes(pickle.dumps(spectrogram))
        mean += float(spectrogram.mean()) / len(files)
    for file in files:
        spectrogram = pickle.loads((folder / file.name).read_bytes())
        variance += float(np.square(spectrogram - mean).mean()) / len(files)
    for file in files:
        spectrogram = (pickle.loads((folder / file.name).read_bytes()) - mean) / np.sqrt(variance)
        (folder / file.name).write_bytes(pickle.dumps(spectrogram[:, :FRAMES].T))


if __name__ == "__main__":
    main()
