"""A store with a system trained on demo data by two seeds, and songs in several formats."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import soundfile

from rmer.data.audio.decoders import SAMPLE_RATE
from rmer.stages.data.demo_data import DemoParams, make_demo_data
from rmer.stages.data.preprocess import PreprocessParams, preprocess
from rmer.stages.train import train
from rmer.stages.train_params import TrainParams
from rmer.tracking import Store

FRAMES = 40
SEEDS = (1, 2)
FFMPEG = shutil.which("ffmpeg")


def train_two_seeds(store: Store, folder: Path) -> list[str]:
    """Train A2M2E, briefly, by two seeds; return its runs."""
    demo = make_demo_data(DemoParams(out_dir=str(folder / "demo"), clips=12, seconds=2.0))
    preprocess(store, PreprocessParams(soundtracks_dir=str(demo), frames=FRAMES, workers=1))
    trained = [train(store, TrainParams(system="A2M2E", seed=seed, epochs=1)) for seed in SEEDS]
    return [outcome.run_id for outcome in trained]


def song(seconds: float = 4.0, seed: int = 0) -> np.ndarray:
    """Return chords that change every second, float [samples]."""
    rng = np.random.default_rng(seed)
    time = np.arange(int(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    chords = rng.uniform(100, 2000, (int(np.ceil(seconds)), 3))[time.astype(int)]
    return 0.2 * np.sin(2 * np.pi * chords * time[:, None]).sum(1) * (0.3 + np.abs(np.sin(2 * time)))


def write_songs(folder: Path) -> dict[str, Path]:
    """Write songs of five formats (M4A where FFmpeg is there), nested, beside what is none."""
    (folder / "more" / ".hidden").mkdir(parents=True)
    places = {"wav": folder, "flac": folder, "ogg": folder / "more", "mp3": folder / "more"}
    files = {}
    for number, (form, place) in enumerate(places.items()):
        files[form] = place / f"{form} söng.{form}"
        soundfile.write(files[form], song(seed=number), SAMPLE_RATE)
    if FFMPEG:
        files["m4a"] = folder / "more" / "m4a söng.m4a"
        subprocess.run([FFMPEG, "-v", "error", "-i", files["wav"], files["m4a"]], check=True)
    shutil.copy(files["wav"], folder / "more" / ".hidden" / "unseen.wav")
    (folder / "notes.txt").write_text("no song")
    return files
