"""Decoding: any format, rate and number of channels to what FFmpeg would give."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import soundfile

from rmer.data.audio.decoders import SAMPLE_RATE, decode, resample
from rmer.errors import UserError

STEP = 1 / 32768


def tones(seconds: float, rate: int, channels: int = 1) -> np.ndarray:
    """Return a chord with a noisy attack, [samples, channels], each channel its own."""
    rng = np.random.default_rng(channels)
    time = np.arange(int(seconds * rate)) / rate
    voices = [sum(np.sin(2 * np.pi * f * (c + 1) * time) for f in (220, 277, 1330)) for c in range(channels)]
    noise = rng.normal(0, 1, (len(time), channels)) * np.exp(-3 * time)[:, None]
    return 0.15 * np.stack(voices, axis=1) + 0.1 * noise


@pytest.mark.parametrize(
    ("rate", "channels", "suffix"),
    [
        (44100, 2, "mp3"),
        (48000, 2, "mp3"),
        (32000, 1, "mp3"),
        (22050, 1, "mp3"),
        (44100, 1, "wav"),
        (96000, 2, "wav"),
        (11025, 1, "flac"),
        (8000, 2, "flac"),
        (22050, 2, "flac"),
        (48000, 2, "ogg"),
    ],
)
def test_soundfile_decoder_is_within_one_step_of_ffmpeg(
    rate: int, channels: int, suffix: str, tmp_path: Path
) -> None:
    path = tmp_path / f"clip.{suffix}"
    soundfile.write(path, tones(1.234, rate, channels), rate)
    ours, ffmpegs = decode(path), decode(path, "pyav")
    assert ours.dtype == np.float32
    assert ours.shape == ffmpegs.shape
    assert np.abs(ours - ffmpegs).max() <= STEP
    assert np.abs(ours).max() > 0.1


def test_samples_of_a_16_bit_file_at_the_target_rate_are_untouched(tmp_path: Path) -> None:
    samples = np.random.default_rng(0).integers(-32768, 32767, 5000, dtype=np.int16)
    samples[:2] = -32768, 32767
    soundfile.write(tmp_path / "a.wav", samples, SAMPLE_RATE)
    for decoder in ("soundfile", "madmom", "pyav"):
        np.testing.assert_array_equal(decode(tmp_path / "a.wav", decoder) * 32768, samples)


@pytest.mark.parametrize("suffix", ["mp3", "wav", "ogg", "flac"])
def test_a_resource_fork_beside_a_file_is_not_taken_for_it(tmp_path: Path, suffix: str) -> None:
    """Archives made on a Mac hold ``._001.mp3`` beside ``001.mp3``."""
    soundfile.write(tmp_path / f"001.{suffix}", tones(1, 22050), 22050)
    alone = decode(tmp_path / f"001.{suffix}")
    fork = bytes.fromhex("0005160700020000") + b"Mac OS X        " + bytes(4000)
    (tmp_path / f"._001.{suffix}").write_bytes(fork)
    beside = decode(tmp_path / f"001.{suffix}")
    np.testing.assert_array_equal(beside, alone)


def test_channels_are_averaged(tmp_path: Path) -> None:
    left = np.full(1000, 0.5)
    soundfile.write(tmp_path / "a.wav", np.stack([left, -left, left, left], axis=1), SAMPLE_RATE)
    np.testing.assert_allclose(decode(tmp_path / "a.wav"), 0.25, atol=STEP)


def test_resampling_keeps_the_band_below_the_cutoff_and_removes_what_would_alias() -> None:
    time = np.arange(44100) / 44100
    low = resample(np.sin(2 * np.pi * 5000 * time), 44100)[2000:-2000]
    high = resample(np.sin(2 * np.pi * 15000 * time), 44100)[2000:-2000]
    expected = np.sin(2 * np.pi * 5000 * np.arange(22050) / SAMPLE_RATE)[2000:-2000]
    np.testing.assert_allclose(low, expected, atol=1e-4)
    assert np.abs(high).max() < 1e-4


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="decoder madmom needs ffmpeg for MP3")
def test_madmom_decoder_reads_mp3_through_ffmpeg(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.mp3", tones(1, 44100, 2), 44100)
    difference = decode(tmp_path / "a.mp3", "madmom") - decode(tmp_path / "a.mp3")
    assert np.abs(difference).max() <= STEP


def wav(samples: np.ndarray, **how: str) -> Callable[[Path], None]:
    return partial(soundfile.write, data=samples, samplerate=44100, format="WAV", **how)


BAD_FILES = {
    "absent": (lambda path: None, "not found"),
    "folder": (lambda path: path.mkdir(), "not found"),
    "no bytes": (lambda path: path.write_bytes(b""), "cannot be decoded"),
    "text": (lambda path: path.write_text("not audio at all\n" * 99), "cannot be decoded|holds no audio"),
    "no samples": (wav(np.zeros((0, 2))), "holds no audio|cannot be decoded"),
    "silence": (wav(np.zeros((9000, 2))), "silent throughout"),
    "below one step": (wav(np.full(9000, 1e-6), subtype="FLOAT"), "silent throughout"),
}


@pytest.mark.parametrize("decoder", ["soundfile", "pyav"])
@pytest.mark.parametrize("kind", BAD_FILES)
def test_bad_file_is_named_with_the_reason(kind: str, decoder: str, tmp_path: Path) -> None:
    path = tmp_path / "017.mp3"
    write, reason = BAD_FILES[kind]
    write(path)
    with pytest.raises(UserError, match=reason) as caught:
        decode(path, decoder)
    assert str(path) in str(caught.value)


def test_samples_that_are_not_numbers_are_an_error(tmp_path: Path) -> None:
    samples = np.array([0.1, np.nan, 0.2])
    soundfile.write(tmp_path / "a.wav", samples, SAMPLE_RATE, subtype="FLOAT")
    with pytest.raises(UserError, match=r"a\.wav.*not finite"):
        decode(tmp_path / "a.wav")


def test_unknown_decoder_lists_the_known(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="soundfile, madmom, pyav"):
        decode(tmp_path / "a.mp3", "sox")


def test_madmom_decoder_without_ffmpeg_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    soundfile.write(tmp_path / "a.mp3", tones(1, 44100), 44100)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="ffmpeg executable"):
        decode(tmp_path / "a.mp3", "madmom")


@pytest.mark.parametrize(("decoder", "package"), [("madmom", "madmom"), ("pyav", "av")])
def test_absent_library_is_named(
    decoder: str, package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    soundfile.write(tmp_path / "a.wav", tones(0.1, 44100), 44100)
    for name in (package, f"{package}.io", f"{package}.io.audio"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(UserError, match=r"not installed.*pip install"):
        decode(tmp_path / "a.wav", decoder)
