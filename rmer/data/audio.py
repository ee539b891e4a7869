"""Audio files to mono samples at 22 050 Hz.

madmom decodes with an ``ffmpeg`` executable. So that none is needed, the default decoder reads the file with
libsndfile (inside the soundfile wheel) and resamples with FFmpeg's own filter, which leaves differences of
one step of 16 bit here and there.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable
from math import ceil, gcd
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import soundfile
from scipy.signal import upfirdn

from rmer.errors import UserError

SAMPLE_RATE = 22050
FULL_SCALE = 32768  # int16 steps per unit of the float signal

FloatArray = npt.NDArray[np.floating[Any]]


def decode(path: Path, decoder: str = "soundfile") -> npt.NDArray[np.float32]:
    """Read an audio file of any rate and number of channels.

    Parameters
    ----------
    path
        The file.
    decoder
        ``soundfile`` (WAV, FLAC, Ogg, MP3, ...: whatever libsndfile reads), ``madmom`` (madmom's own loading:
        an ``ffmpeg`` executable for anything but 22 050 Hz WAV) or ``pyav`` (FFmpeg inside the av wheel).

    Returns
    -------
    float32 [samples]
        Mono at 22 050 Hz in [-1, 1), quantised to 16 bit as the published code has it: every value is a
        multiple of 1 / 32768.

    Raises
    ------
    UserError
        When the file cannot be read, holds no samples, numbers that are not finite, or nothing but silence.
    """
    require_decoder(decoder)
    if not path.is_file():
        raise UserError("audio file not found", where=str(path))
    signal = DECODERS[decoder](path)
    if not signal.size:
        raise UserError("holds no audio", where=str(path), mend="Replace the file or remove its rating")
    if not np.isfinite(signal).all():
        raise UserError(
            "holds samples that are not finite numbers", where=str(path), mend="Re-encode the file"
        )
    samples = quantise(signal)
    if not samples.any():
        raise UserError("is silent throughout", where=str(path), mend="Replace the file or remove its rating")
    return np.asarray(samples / np.float32(FULL_SCALE), np.float32)


def require_decoder(decoder: str) -> None:
    """Raise UserError where ``decoder`` is unknown or its library is not installed."""
    if decoder not in DECODERS:
        raise UserError(f"no decoder {decoder!r}", mend=f"Choose one of: {', '.join(DECODERS)}")
    try:
        if decoder == "madmom":
            import madmom.io.audio  # noqa: F401
        elif decoder == "pyav":
            import av  # noqa: F401
    except ImportError as error:
        if decoder == "madmom":
            raise missing_madmom("decoder madmom") from error
        raise UserError(
            "decoder pyav needs av, which is not installed", mend="Run: pip install av"
        ) from error


def quantise(signal: FloatArray) -> npt.NDArray[np.int16]:
    """Round a signal in [-1, 1] to 16 bit, saturating, as FFmpeg does."""
    limits = np.iinfo(np.int16)
    return np.clip(np.rint(signal * FULL_SCALE), limits.min, limits.max).astype(np.int16)


def resample(signal: FloatArray, rate: int) -> FloatArray:
    """Resample [samples] from ``rate`` to 22 050 Hz with the filter of FFmpeg's libswresample (its defaults).

    A Kaiser-windowed sinc (beta 9) of 32 zero crossings, cut off at .97 of the lower Nyquist frequency, each
    phase normalised to unit gain; the signal is mirrored at both ends.
    """
    if rate == SAMPLE_RATE:
        return signal
    divisor = gcd(SAMPLE_RATE, rate)
    up, down = SAMPLE_RATE // divisor, rate // divisor
    phases = _swr_phases(up, down)
    taps = phases.shape[1]
    before = (taps - 1) // 2
    count = ceil(len(signal) * up / down)
    extended = np.pad(signal.astype(np.float64), (before, 0), "reflect")
    extended = np.pad(extended, (0, taps), "symmetric")
    # Output k reads inputs from k * down // up on with phase k * down % up: as one filter of an upsampled
    # signal, delayed until its first tap falls on a whole number of output samples.
    prototype = phases.T[::-1].reshape(-1)
    delay = -(-(taps - 1) * up // down)
    kernel = np.pad(prototype, (delay * down - (taps - 1) * up, 0))
    return np.asarray(upfirdn(kernel, extended, up, down)[delay : delay + count])


def decoder_version(decoder: str) -> str:
    """Name the library behind ``decoder`` with its version, for the record."""
    if decoder == "soundfile":
        return f"soundfile {soundfile.__version__}, {soundfile.__libsndfile_version__}"
    package = {"madmom": "madmom", "pyav": "av"}[decoder]
    return f"{package} {importlib.metadata.version(package)}"


def _swr_phases(up: int, down: int) -> FloatArray:
    """Return libswresample's filters [up, taps]: phase p interpolates at p / up of an input sample."""
    cutoff = min(0.97 * up / down, 1.0)
    taps = ceil(32 / cutoff)
    position = np.arange(taps) - (taps - 1) // 2 - np.arange(up)[:, None] / up
    window = np.i0(9 * np.sqrt(np.maximum(1 - (2 * position / taps) ** 2, 0)))
    phases = np.sinc(position * cutoff) * window
    return np.asarray(phases / phases.sum(1, keepdims=True))


def _decode_soundfile(path: Path) -> FloatArray:
    try:
        signal, rate = soundfile.read(path, dtype="float32", always_2d=True)
    except soundfile.SoundFileError as error:
        mend = "Replace the file, or convert it to WAV, FLAC, Ogg or MP3 (or install av and use decoder pyav)"
        raise UserError(f"cannot be decoded ({_reason(error)})", where=str(path), mend=mend) from error
    if len(signal) < 2:
        return np.zeros(0, np.float32)
    channels = signal.shape[1]
    return resample(signal @ np.full(channels, 1 / channels, np.float32), rate)


def _decode_madmom(path: Path) -> FloatArray:
    from madmom.io.audio import LoadAudioFileError, load_audio_file

    try:
        samples, _ = load_audio_file(str(path), sample_rate=SAMPLE_RATE, num_channels=1)
    except LoadAudioFileError as error:
        mend = "Replace the file; decoder madmom also needs an ffmpeg executable on the PATH"
        raise UserError("cannot be decoded by madmom", where=str(path), mend=mend) from error
    if np.issubdtype(samples.dtype, np.integer):
        return np.asarray(samples, np.float64) / -float(np.iinfo(samples.dtype).min)
    return np.asarray(samples)


def _decode_pyav(path: Path) -> FloatArray:
    import av

    blocks: list[npt.NDArray[np.int16]] = []
    try:
        with av.open(str(path)) as container:
            resampler = av.AudioResampler(format="s16", layout="mono", rate=SAMPLE_RATE)
            for frame in [*container.decode(audio=0), None]:
                blocks += [block.to_ndarray()[0] for block in resampler.resample(frame)]
    except (av.FFmpegError, IndexError) as error:  # IndexError: the file has no audio stream
        raise UserError(f"cannot be decoded ({error})", where=str(path), mend="Replace the file") from error
    return np.concatenate(blocks) / FULL_SCALE if blocks else np.zeros(0)


def missing_madmom(what: str) -> UserError:
    """Say how to get madmom, or do without."""
    mend = "Run pip install ./third_party/madmom in the project, or use decoder soundfile and frontend torch"
    return UserError(f"{what} needs madmom, which is not installed", mend=mend)


def _reason(error: soundfile.SoundFileError) -> str:
    return str(getattr(error, "error_string", error)).strip().rstrip(".")


DECODERS: dict[str, Callable[[Path], FloatArray]] = {
    "soundfile": _decode_soundfile,
    "madmom": _decode_madmom,
    "pyav": _decode_pyav,
}
