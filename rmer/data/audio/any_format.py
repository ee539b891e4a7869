"""Recordings of any format: by the decoder asked for, else by FFmpeg, where libsndfile cannot read a file."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path

import soundfile

from rmer.data.audio.complaints import complaints_on_stderr
from rmer.data.audio.decoders import Signal, read_signal
from rmer.errors import UserError


def read_any(path: Path, decoder: str = "soundfile") -> tuple[Signal, str]:
    """Return a recording as :func:`rmer.data.audio.decoders.read_signal` does, and the decoder that read it.

    ``soundfile`` knows no M4A, AAC or WMA: these go to PyAV, where it is installed, else to an ``ffmpeg``
    executable. Their samples differ from those of libsndfile by a step of 16 bit here and there.
    Raises UserError as ``read_signal`` does, and where nothing here reads such a file.
    """
    if decoder != "soundfile" or not path.is_file() or _libsndfile_knows(path):
        return read_signal(path, decoder), decoder
    others = [name for name, there in (("pyav", _has_pyav()), ("madmom", _has_ffmpeg())) if there]
    if not others:
        mend = "Run: pip install av, or install ffmpeg"
        raise UserError("is of a format that libsndfile cannot read", where=str(path), mend=mend)
    try:
        return read_signal(path, others[0]), others[0]
    except UserError as error:
        if not error.what.startswith("cannot be decoded"):
            raise
        mend = "Replace the file, or convert it to WAV, FLAC, Ogg or MP3"
        raise UserError("is no audio that can be decoded", where=str(path), mend=mend) from error


def _libsndfile_knows(path: Path) -> bool:
    try:
        with complaints_on_stderr():
            soundfile.info(path)
    except soundfile.SoundFileError:
        return False
    return True


def _has_pyav() -> bool:
    return importlib.util.find_spec("av") is not None


def _has_ffmpeg() -> bool:
    # It is madmom that calls the executable.
    return shutil.which("ffmpeg") is not None and importlib.util.find_spec("madmom") is not None
