"""Audio files to mono samples at 22 050 Hz.

madmom decodes with an ``ffmpeg`` executable. So that none is needed, the default decoder reads the file with
libsndfile (inside the soundfile wheel) and resamples with FFmpeg's own filter, which leaves differences of
one step of 16 bit here and there.
"""

from __future__ import annotations

import importlib.metadata
import math
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import ceil, gcd
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import soundfile
from scipy.signal import upfirdn

from rmer.data.audio.complaints import complaints_of_libav, complaints_on_stderr
from rmer.errors import UserError

SAMPLE_RATE = 22050
FULL_SCALE = 32768  # int16 steps per unit of the float signal
LOWEST_RATE, HIGHEST_RATE = 4000, 384_000  # Hz of a file: below telephones, above studios
_FORKS = ".AppleDouble"  # the other place of resource forks
LOUDEST = 100.0  # 40 dB over full scale: no recording, but numbers taken for samples

FloatArray = npt.NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Signal:
    """What a decoder makes of a file.

    ``samples`` [samples] are mono at 22 050 Hz, 1 being full scale, not yet quantised. ``promised`` is the
    length in seconds that the file's container states (NaN: none); ``complaints`` are the decoder's, one
    line each.
    """

    samples: FloatArray
    promised: float = math.nan
    complaints: tuple[str, ...] = ()


def decode(path: Path, decoder: str = "soundfile") -> npt.NDArray[np.float32]:
    """Read an audio file of any rate and number of channels; see :func:`read_signal`.

    Returns float32 [samples], mono at 22 050 Hz in [-1, 1), quantised to 16 bit as the published code has it:
    every value is a multiple of 1 / 32768.
    """
    return rounded(read_signal(path, decoder).samples)


def read_signal(path: Path, decoder: str = "soundfile") -> Signal:
    """Read an audio file with all that its decoder says of it.

    ``decoder`` is ``soundfile`` (WAV, FLAC, Ogg, MP3, ...: whatever libsndfile reads), ``madmom`` (madmom's
    own loading: an ``ffmpeg`` executable for anything but 22 050 Hz WAV) or ``pyav`` (FFmpeg inside the av
    wheel).

    Raises UserError when the file cannot be read, states a rate that no recording has, or holds no samples,
    samples that are not finite or absurdly large, or nothing but silence.
    """
    require_decoder(decoder)
    if not path.is_file():
        raise UserError("audio file not found", where=str(path))
    signal = DECODERS[decoder](path)
    if not signal.samples.size:
        raise UserError("holds no audio", where=str(path), mend="Replace the file or remove its rating")
    if not quantise(signal.samples).any():
        raise UserError("is silent throughout", where=str(path), mend="Replace the file or remove its rating")
    return signal


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
        mend = "Run: pip install av"
        raise UserError("decoder pyav needs av, which is not installed", mend=mend) from error


def quantise(signal: FloatArray) -> npt.NDArray[np.int16]:
    """Round a signal in [-1, 1] to 16 bit, saturating, as FFmpeg does."""
    limits = np.iinfo(np.int16)
    return np.clip(np.rint(signal * FULL_SCALE), limits.min, limits.max).astype(np.int16)


def rounded(signal: FloatArray) -> npt.NDArray[np.float32]:
    """Round a signal in [-1, 1] to 16 bit and return it as fractions of full scale, float32 [samples]."""
    return np.asarray(quantise(signal) / np.float32(FULL_SCALE), np.float32)


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


def _decode_soundfile(path: Path) -> Signal:
    try:
        with complaints_on_stderr() as complaints, _opened(path) as file:
            rate = _plausible(file.samplerate, path)
            promised = _promised(path, file)
            signal = file.read(dtype="float32", always_2d=True)
    except soundfile.SoundFileError as error:
        mend = "Replace the file, or convert it to WAV, FLAC, Ogg or MP3 (or install av and use decoder pyav)"
        raise UserError(f"cannot be decoded ({_reason(error)})", where=str(path), mend=mend) from error
    if len(signal) < 2:
        return Signal(np.zeros(0, np.float32), promised)
    _check_amplitude(signal, path)
    channels = signal.shape[1]
    mono = signal @ np.full(channels, 1 / channels, np.float32)
    return Signal(resample(mono, rate), promised, tuple(complaints))


@contextmanager
def _opened(path: Path) -> Iterator[soundfile.SoundFile]:
    """Open a file by its name, or by its descriptor where a resource fork lies beside it.

    libsndfile would take ``._001.mp3``, which archives made on a Mac hold, for the better half of
    ``001.mp3``, and fail; without a name it cannot find it, nor guess a format by the ending.
    """
    forks = (path.with_name(f"._{path.name}"), path.parent / _FORKS / path.name)
    if not any(fork.exists() for fork in forks):
        with soundfile.SoundFile(path) as file:
            yield file
        return
    with path.open("rb") as stream, soundfile.SoundFile(stream.fileno(), closefd=False) as file:
        yield file


def _decode_madmom(path: Path) -> Signal:
    from madmom.io.audio import LoadAudioFileError, load_audio_file

    try:
        with complaints_on_stderr() as complaints:
            promised = _promised_to_libsndfile(path)
            samples, _ = load_audio_file(str(path), sample_rate=SAMPLE_RATE, num_channels=1)
    except LoadAudioFileError as error:
        mend = "Replace the file; decoder madmom also needs an ffmpeg executable on the PATH"
        raise UserError("cannot be decoded by madmom", where=str(path), mend=mend) from error
    if np.issubdtype(samples.dtype, np.integer):
        samples = np.asarray(samples, np.float64) / -float(np.iinfo(samples.dtype).min)
    _check_amplitude(samples, path)
    return Signal(np.asarray(samples), promised, tuple(complaints))


def _decode_pyav(path: Path) -> Signal:
    import av

    blocks: list[npt.NDArray[np.int16]] = []
    promised = math.nan
    try:
        with complaints_of_libav() as complaints, av.open(str(path)) as container:
            _plausible(container.streams.audio[0].rate, path)
            if container.duration:
                promised = container.duration / av.time_base
            resampler = av.AudioResampler(format="s16", layout="mono", rate=SAMPLE_RATE)
            for frame in [*container.decode(audio=0), None]:
                if frame is not None and frame.format.name.startswith(("flt", "dbl")):
                    _check_amplitude(np.asarray(frame.to_ndarray(), np.float64), path)
                blocks += [block.to_ndarray()[0] for block in resampler.resample(frame)]
    except (av.FFmpegError, IndexError) as error:  # IndexError: the file has no audio stream
        raise UserError(f"cannot be decoded ({error})", where=str(path), mend="Replace the file") from error
    samples = np.concatenate(blocks) / FULL_SCALE if blocks else np.zeros(0)
    return Signal(samples, promised, tuple(complaints))


def _plausible(rate: int, path: Path) -> int:
    """Return the rate of a file; raises UserError where no recording has it, before it costs memory."""
    if not LOWEST_RATE <= rate <= HIGHEST_RATE:
        what = f"has a sample rate of {rate} Hz, outside {LOWEST_RATE}-{HIGHEST_RATE}"
        raise UserError(what, where=str(path), mend="Its header is wrong: replace the file")
    return rate


def _check_amplitude(signal: FloatArray, path: Path) -> None:
    """Raise UserError where samples, 1 being full scale, are no numbers or no sound."""
    if not np.isfinite(signal).all():
        mend = "Re-encode the file"
        raise UserError("holds samples that are not finite numbers", where=str(path), mend=mend)
    peak = float(np.abs(signal).max(initial=0))
    if peak > LOUDEST:
        mend = "Scale it to -1 ... 1"
        raise UserError(f"has samples of {peak:.3g} times full scale", where=str(path), mend=mend)


def _promised_to_libsndfile(path: Path) -> float:
    """Return the seconds that a container states, NaN where it is none of libsndfile's; checks the rate."""
    try:
        with _opened(path) as file:
            _plausible(file.samplerate, path)
            return _promised(path, file)
    except soundfile.SoundFileError:
        return math.nan


def _promised(path: Path, file: soundfile.SoundFile) -> float:
    """Return the seconds that the container states; NaN where libsndfile only estimates or knows none.

    MP3 states a length in a Xing, Info or VBRI header alone. libsndfile corrects the size of a chunk that is
    longer than the file, and logs what was stated; sizes near 2^31 and 2^32 are those of unfinished streams.
    """
    seconds = float(file.frames / file.samplerate)
    if file.format == "MP3":
        with path.open("rb") as stream:
            states = re.search(rb"Xing|Info|VBRI", stream.read(_SEARCHED_FOR_XING))
        return seconds if states else math.nan
    stated = re.search(r"^ ?(?:data|SSND) *: (\d+) \(should be (\d+)\)", file.extra_info, re.MULTILINE)
    if stated and int(stated[2]) > 0 and int(stated[1]) < _UNFINISHED:
        return seconds * int(stated[1]) / int(stated[2])
    return seconds


def missing_madmom(what: str) -> UserError:
    """Say how to get madmom, or do without."""
    mend = "Run pip install ./third_party/madmom in the project, or use decoder soundfile and frontend torch"
    return UserError(f"{what} needs madmom, which is not installed", mend=mend)


def _reason(error: soundfile.SoundFileError) -> str:
    reason = str(getattr(error, "error_string", error)).strip().rstrip(".")
    # The file is there: libsndfile says so of an MP3 whose header contradicts its contents.
    return "its header makes no sense" if reason.startswith("File does not exist") else reason


_SEARCHED_FOR_XING = 1 << 18  # bytes: an ID3 tag with a picture may come first
_UNFINISHED = 0x7FFFFF00

DECODERS: dict[str, Callable[[Path], Signal]] = {
    "soundfile": _decode_soundfile,
    "madmom": _decode_madmom,
    "pyav": _decode_pyav,
}
