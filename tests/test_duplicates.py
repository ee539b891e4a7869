"""Copies of a recording are found whatever their gain, codec, rate or cut; different recordings are not."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import soundfile

from rmer.data.audio.decoders import resample
from rmer.data.audio.frontend import File2Spect
from rmer.data.demo.demo_files import write_demo_data
from rmer.data.preparation.duplicates import find_duplicates

RATE = 44100
WESNOTH = Path("/usr/share/games/wesnoth/1.16/data/core/music")  # Debian's wesnoth-1.16-music
TRACKS = ("battle-epic", "elf-land", "frantic-old", "sad", "transience", "loyalists")


@cache
def music(seed: int, seconds: float = 8.0) -> np.ndarray:
    """Return notes of random pitch, length and loudness over noise, [samples] at 44.1 kHz."""
    rng, note = np.random.default_rng(seed), np.arange(RATE) / RATE
    sound = 0.005 * rng.normal(size=int(seconds * RATE))
    for start in rng.integers(0, len(sound) - RATE, 40):
        pitch, loudness, decay = rng.uniform((100, 0.05, 3), (1500, 0.2, 10))
        tone = sum(np.sin(2 * np.pi * k * pitch * note) / k for k in (1, 2, 3))
        sound[start : start + RATE] += loudness * tone * np.exp(-decay * note)
    return sound / np.abs(sound).max() * 0.45


COPIES = {
    "the same": lambda x, f: soundfile.write(f"{f}.wav", x, RATE),
    "mp3 128 kbit/s": lambda x, f: mp3(x, f, 128),
    "mp3 64 kbit/s": lambda x, f: mp3(x, f, 64),
    "ogg": lambda x, f: soundfile.write(f"{f}.ogg", x, RATE),
    "6 dB louder": lambda x, f: soundfile.write(f"{f}.wav", 2 * x, RATE),
    "6 dB softer": lambda x, f: soundfile.write(f"{f}.wav", x / 2, RATE),
    "22 050 Hz": lambda x, f: soundfile.write(f"{f}.wav", resample(x, RATE), RATE // 2),
    "5 ms later": lambda x, f: soundfile.write(f"{f}.wav", x[220:], RATE),
    "16 ms later": lambda x, f: soundfile.write(f"{f}.wav", x[706:], RATE),
    "20 ms later": lambda x, f: soundfile.write(f"{f}.wav", x[882:], RATE),
    "20 ms earlier": lambda x, f: soundfile.write(f"{f}.wav", np.r_[np.full(882, 1e-4), x], RATE),
    "inside": lambda x, f: soundfile.write(f"{f}.wav", x[int(2.014 * RATE) : int(6.5 * RATE)], RATE),
    "all at once": lambda x, f: mp3(x[706:] * 2, f, 64),
}


def mp3(samples: np.ndarray, path: Path, rate: int) -> None:
    """Write at 32-320 kbit/s, which libsndfile maps to a compression level of 1-0."""
    level = (320 - rate) / 288
    soundfile.write(f"{path}.mp3", samples, RATE, bitrate_mode="CONSTANT", compression_level=level)


def pairs(files: Sequence[Path]) -> list[tuple[str, str]]:
    file2spect = File2Spect()
    matches = find_duplicates([file2spect(path) for path in files])
    return [(files[match.rows[0]].stem, files[match.rows[1]].stem) for match in matches]


@pytest.fixture(scope="module")
def others(tmp_path_factory: pytest.TempPathFactory) -> list[np.ndarray]:
    """Return the spectrograms of three recordings."""
    path = tmp_path_factory.mktemp("others") / "clip.wav"
    found = []
    for seed in range(3):
        soundfile.write(path, music(seed), RATE)
        found.append(File2Spect()(path))
    return found


@pytest.mark.parametrize("copy", COPIES)
def test_a_copy_is_found_among_others(copy: str, others: list[np.ndarray], tmp_path: Path) -> None:
    COPIES[copy](music(1), tmp_path / "copy")
    (path,) = tmp_path.glob("copy.*")
    matches = find_duplicates([*others, File2Spect()(path)])
    assert [match.rows for match in matches] == [(1, 3)]


def test_a_lag_says_where_the_second_starts() -> None:
    rng = np.random.default_rng(0)
    first = rng.random((200, 149)).astype(np.float32)
    (match,) = find_duplicates([first, first[30:]])
    assert (match.rows, match.lag) == ((0, 1), 30)
    assert match.similarity == pytest.approx(1, abs=0.01)


def test_clips_of_one_synthesiser_are_not_taken_for_copies(tmp_path: Path) -> None:
    folder = write_demo_data(tmp_path / "demo", clips=24, seconds=4.0)
    assert pairs(sorted((folder / "Set1").iterdir())) == []


@pytest.mark.parametrize("frames", [0, 1, 4, 5, 6, 40])
def test_spectrograms_of_any_length_are_compared(frames: int) -> None:
    flat = np.zeros((frames, 149), np.float32)
    long = np.random.default_rng(1).random((300, 149)).astype(np.float32)
    assert find_duplicates([flat, long, flat]) == []
    assert find_duplicates([]) == []


@pytest.mark.skipif(not WESNOTH.is_dir(), reason="real music not found: apt install wesnoth-1.16-music")
def test_excerpts_of_real_music_are_told_apart_and_their_copies_found(tmp_path: Path) -> None:
    for name in TRACKS:
        for part in range(3):
            samples, rate = soundfile.read(
                WESNOTH / f"{name}.ogg", start=part * 10 * RATE, frames=10 * RATE, always_2d=True
            )
            soundfile.write(tmp_path / f"{name} {part}.wav", samples.mean(axis=1), rate)
    samples, _ = soundfile.read(tmp_path / "loyalists 1.wav")
    mp3(samples[706:], tmp_path / "loyalists copy", 64)
    assert pairs(sorted(tmp_path.iterdir())) == [("loyalists 1", "loyalists copy")]
