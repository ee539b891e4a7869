"""Recordings that are damaged, cut, too short or out of scale: what is said of each, word for word."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from rmer.data.audio.complaints import complaints_on_stderr
from rmer.data.audio.frontend import File2Spect
from rmer.data.audio.soundness import problems_of, warnings_of
from rmer.errors import UserError

RATE, SECONDS = 22050, 6


def music() -> np.ndarray:
    """Return six seconds of struck chords."""
    time = np.arange(SECONDS * RATE) / RATE
    rng = np.random.default_rng(3)
    strokes = [sum(np.sin(2 * np.pi * f * time) for f in rng.uniform(100, 3000, 3)) for _ in range(12)]
    beat = (time * 2).astype(int)
    return 0.1 * np.choose(beat, strokes) * np.exp(-4 * (time * 2 - beat))


def write(samples: np.ndarray, name: str = "017.wav", **how: object) -> Callable[[Path], Path]:
    def do(folder: Path) -> Path:
        given = {"samplerate": RATE} | how
        soundfile.write(folder / name, samples, **given)
        return folder / name

    return do


def edited(name: str, edit: Callable[[bytes], bytes]) -> Callable[[Path], Path]:
    def do(folder: Path) -> Path:
        path = write(music(), name)(folder)
        path.write_bytes(edit(path.read_bytes()))
        return path

    return do


def half(content: bytes) -> bytes:
    return content[: len(content) // 2]


def with_length(content: bytes, length: bytes) -> bytes:
    """Return a WAV file whose header states so many bytes of samples."""
    return content[:40] + length + content[44:]


def with_noise_at(content: bytes, start: int, count: int) -> bytes:
    noise = np.random.default_rng(0).integers(0, 256, count, np.uint8).tobytes()
    return content[:start] + noise + content[start + count :]


def with_frames_stated(content: bytes, frames: int) -> bytes:
    """Return an MP3 whose Xing header states so many frames of 26 ms."""
    place = content.index(b"Xing") + 8
    return content[:place] + struct.pack(">I", frames) + content[place + 4 :]


def said(path: Path, decoder: str = "soundfile") -> list[str]:
    try:
        _, sound = File2Spect(decoder).with_soundness(path)
    except UserError as error:
        return [error.what]
    return problems_of(sound) or warnings_of(sound, 3.0)


ODD: dict[str, tuple[Callable[[Path], Path], list[str]]] = {
    "sound": (write(music()), []),
    "sound mp3": (write(music(), "017.mp3"), []),
    "mp3 cut to 2 kB": (
        edited("017.mp3", lambda content: content[:2000]),
        ["lasts 0.47 s: at least 1 s are needed (its header promises 6.0 s)"],
    ),
    "mp3 cut to half": (
        edited("017.mp3", half),
        [
            "holds 3.0 s of the 6.0 s that it promises",
            "is damaged, says its decoder: Xing stream size off by more than 1%, fuzzy seeking may be even "
            "more fuzzy than by design",
            "lasts 3.0 s: its excerpt repeats it",
        ],
    ),
    "mp3 with noise inside": (
        edited("017.mp3", lambda content: with_noise_at(content, 12000, 600)),
        [
            "holds 5.9 s of the 6.0 s that it promises",
            "is damaged, says its decoder: dequantization failed and 3 more",
        ],
    ),
    "mp3 header that promises more": (
        edited("017.mp3", lambda content: with_frames_stated(content, 1000)),
        ["holds 6.0 s of the 26.1 s that it promises"],
    ),
    "mp3 header that states one frame": (
        edited("017.mp3", lambda content: with_frames_stated(content, 1)),
        ["cannot be decoded (its header makes no sense)"],
    ),
    "flac cut to half": (edited("017.flac", half), ["cannot be decoded (Error : flac decoder lost sync)"]),
    "wav cut to half": (
        edited("017.wav", lambda content: content[: len(content) // 2 + 1]),
        ["holds 3.0 s of the 6.0 s that it promises", "lasts 3.0 s: its excerpt repeats it"],
    ),
    "aiff cut to half": (
        edited("017.aiff", half),
        ["holds 3.0 s of the 6.0 s that it promises", "lasts 3.0 s: its excerpt repeats it"],
    ),
    "wav of an unfinished stream": (edited("017.wav", lambda content: with_length(content, b"\xff" * 4)), []),
    "wav header that states .02 s": (
        edited("017.wav", lambda content: with_length(content, struct.pack("<I", 882))),
        ["lasts 0.02 s: at least 1 s are needed"],
    ),
    "ten samples": (write(music()[:10]), ["lasts 0.00041 s: at least 1 s are needed"]),
    "half a second in silence": (
        write(np.r_[np.zeros(5 * RATE), music()[: RATE // 2]]),
        ["sounds for 0.5 s of its 5.5 s: at least 1 s are needed"],
    ),
    "shorter than an excerpt": (write(music()[: 2 * RATE]), ["lasts 2.0 s: its excerpt repeats it"]),
    "1 Hz": (write(music(), samplerate=1), ["has a sample rate of 1 Hz, outside 4000-384000"]),
    "2 GHz": (
        write(music(), samplerate=2_000_000_000),
        ["has a sample rate of 2000000000 Hz, outside 4000-384000"],
    ),
    "constant": (write(np.full(3 * RATE, 0.5)), ["holds a constant (DC) and no sound"]),
    "constant under sound": (write(music() * 0.5 + 0.3), ["has a constant (DC) of 13.9 times its sound"]),
    "silence": (write(np.zeros(3 * RATE)), ["is silent throughout"]),
    "faint": (
        write(music() * 1e-3, subtype="FLOAT"),
        ["is faint: its peak is -70 dB, near the rounding to 16 bit"],
    ),
    "amplitude 1e30": (write(music() * 1e30, subtype="FLOAT"), ["has samples of 2.99e+29 times full scale"]),
    "percents for fractions": (
        write(music() * 300, subtype="FLOAT"),
        ["is cut off at full scale in 75% of its samples: its scale is wrong"],
    ),
    "too loud": (write(music() * 30, subtype="FLOAT"), ["is cut off at full scale in 23% of its samples"]),
    "not a number": (
        write(np.where(np.arange(SECONDS * RATE) == 5, np.nan, music()), subtype="FLOAT"),
        ["holds samples that are not finite numbers"],
    ),
}


@pytest.mark.parametrize("kind", ODD)
def test_what_is_said_of_a_recording(kind: str, tmp_path: Path) -> None:
    make, expected = ODD[kind]
    assert said(make(tmp_path)) == expected


@pytest.mark.parametrize("kind", ["sound mp3", "1 Hz", "2 GHz", "not a number", "constant", "ten samples"])
def test_other_decoders_say_the_same(kind: str, tmp_path: Path) -> None:
    make, expected = ODD[kind]
    assert said(make(tmp_path), "pyav") == expected


def test_ffmpeg_says_what_it_finds(tmp_path: Path) -> None:
    path = edited("017.ogg", lambda content: with_noise_at(content, 15000, 3000))(tmp_path)
    assert said(path, "pyav") == ["is damaged, says its decoder: CRC mismatch"]


def test_what_others_print_meanwhile_is_passed_on(capfd: pytest.CaptureFixture[str]) -> None:
    with complaints_on_stderr() as complaints:
        os.write(2, b"Note: Illegal Audio-MPEG-Header 0x0 at offset 9.\nof another thread\n")
    assert complaints == ["Illegal Audio-MPEG-Header 0x0 at offset 9"]
    assert capfd.readouterr().err == "of another thread\n"
