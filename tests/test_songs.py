"""Songs: found among files and folders, read whatever their format, and cut into windows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
from heard_models import FFMPEG, song, write_songs

from rmer.data.audio.any_format import read_any
from rmer.data.audio.decoders import SAMPLE_RATE, decode
from rmer.data.audio.filterbank import FPS
from rmer.data.preparation.songs import Song, read_song
from rmer.data.readers.song_files import find_songs
from rmer.errors import UserError


def a_song(frames: int, lead: int = 0) -> Song:
    samples = np.r_[np.zeros(lead, np.int16), np.ones(100, np.int16)]
    spectrogram = np.arange(frames, dtype=np.float32)[:, None] * np.ones(149, np.float32)
    return Song("a", samples, spectrogram, "none")


def test_songs_are_found_below_folders_once_and_hidden_ones_are_not(tmp_path: Path) -> None:
    files = write_songs(tmp_path)
    found, problems = find_songs([tmp_path, files["wav"], tmp_path / "gone.wav", tmp_path / "more" / ".."])
    assert sorted(found) == sorted(files.values())
    assert [str(problem) for problem in problems] == [
        f"{tmp_path / 'gone.wav'}: there is no such file or folder"
    ]


def test_a_file_that_is_named_counts_whatever_its_ending(tmp_path: Path) -> None:
    write_songs(tmp_path)
    assert find_songs([tmp_path / "notes.txt"])[0] == [tmp_path / "notes.txt"]
    (tmp_path / "empty").mkdir()
    found, (problem,) = find_songs([tmp_path / "empty"])
    assert not found
    assert problem.what == "holds no audio file"


@pytest.mark.parametrize(
    ("frames", "hop", "starts"),
    [
        (100, 32 / FPS, [0, 32, 60]),  # the last one ends where the song does
        (72, 32 / FPS, [0, 32]),
        (40, 32 / FPS, [0]),
        (7, 32 / FPS, [0]),
        (42, 0.01, [0, 1, 2]),  # a hop is a frame at least
    ],
)
def test_windows_cover_the_whole_song(frames: int, hop: float, starts: list[int]) -> None:
    one = a_song(frames)
    assert one.starts(40, hop) == starts
    windows = one.windows(starts, 40)
    assert windows.shape == (len(starts), 40, 149)
    expected = [(np.arange(start, start + 40) % frames) for start in starts]
    np.testing.assert_array_equal(windows[:, :, 0], expected)


def test_the_middle_of_a_window_counts_the_silence_before_the_song() -> None:
    one = a_song(100, lead=SAMPLE_RATE)
    assert one.middle(10, 40) == pytest.approx(1 + 30 / FPS)
    assert a_song(20).middle(0, 40) == pytest.approx(10 / FPS)


@pytest.mark.skipif(FFMPEG is None, reason="needs ffmpeg to make an M4A")
def test_what_libsndfile_cannot_read_goes_to_ffmpeg(tmp_path: Path) -> None:
    files = write_songs(tmp_path)
    signal, decoder = read_any(files["m4a"])
    assert decoder in ("pyav", "madmom")
    assert read_any(files["wav"])[1] == "soundfile"
    original = decode(files["wav"])
    heard = signal.samples[: len(original)]
    # AAC keeps the sound and not the samples: the rest is 20 dB below it.
    assert np.square(heard - original[: len(heard)]).mean() < 0.01 * np.square(original).mean()


def test_what_is_no_song_is_refused_with_a_mend(tmp_path: Path) -> None:
    for name, content in (("text.mp3", b"no audio"), ("empty.wav", b"")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UserError, match=r"is no audio that can be decoded. Replace the file"):
            read_song(tmp_path / name)
    soundfile.write(tmp_path / "short.wav", song(0.4), SAMPLE_RATE)
    with pytest.raises(UserError, match=r"lasts 0.4 s: at least 1 s are needed"):
        read_song(tmp_path / "short.wav")
    soundfile.write(tmp_path / "silent.wav", np.zeros(SAMPLE_RATE * 2), SAMPLE_RATE)
    with pytest.raises(UserError, match="is silent throughout"):
        read_song(tmp_path / "silent.wav")
