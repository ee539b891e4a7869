"""A clip, its adversary and their difference as sounds."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile

from rmer.data.audio.decoders import FULL_SCALE, SAMPLE_RATE, quantise
from rmer.evaluation.hearing.audibility import require_equal_lengths

Samples = npt.NDArray[np.int16]

DIFFERENCE_PEAK = -3.0  # dB of full scale
LONGEST_PART = 5.0  # seconds


def raised_difference(clean: Samples, adversary: Samples) -> tuple[Samples, float]:
    """Return adversary minus clean, its peak raised to -3 dB of full scale, and by how many dB it was raised.

    Both are int16 [samples]. A difference of zeros stays one, raised by 0 dB. Raises UserError when the
    lengths differ.
    """
    require_equal_lengths(clean, adversary)
    difference = adversary.astype(np.float64) - clean
    peak = np.abs(difference).max()
    if not peak:
        return np.zeros(len(clean), np.int16), 0.0
    gain = 10 ** (DIFFERENCE_PEAK / 20) * FULL_SCALE / peak
    return quantise(difference * gain / FULL_SCALE), 20 * float(np.log10(gain))


def changed_part(
    clean: Samples, adversary: Samples, seconds: float = LONGEST_PART
) -> tuple[Samples, Samples]:
    """Return both from where they begin to differ on, at most ``seconds`` long; from the start if nowhere.

    Both are int16 [samples]. Raises UserError when the lengths differ.
    """
    require_equal_lengths(clean, adversary)
    first = int(np.argmax(clean != adversary))
    length = min(int(seconds * SAMPLE_RATE), len(clean))
    part = slice(min(first, len(clean) - length), min(first, len(clean) - length) + length)
    return clean[part], adversary[part]


def write_sounds(folder: Path, clean: Samples, adversary: Samples) -> dict[str, Path]:
    """Write ``clean.wav``, ``adversary.wav`` and ``difference.wav`` and return their paths by name.

    All are mono, 16 bit, 22 050 Hz; the difference is that of :func:`raised_difference`. ``folder`` is made.
    """
    folder.mkdir(parents=True, exist_ok=True)
    sounds = {"clean": clean, "adversary": adversary, "difference": raised_difference(clean, adversary)[0]}
    paths = {}
    for name, samples in sounds.items():
        paths[name] = folder / f"{name}.wav"
        soundfile.write(paths[name], samples, SAMPLE_RATE, "PCM_16")
    return paths


def audio_uri(samples: Samples) -> str:
    """Return int16 [samples] as a data URI that browsers play: FLAC, which loses nothing."""
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, SAMPLE_RATE, "PCM_16", format="FLAC")
    return f"data:audio/flac;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def mp3_uri(samples: Samples) -> str:
    """Return int16 [samples] as a data URI of an MP3, about 40 kbit/s: for whole songs, to be listened to."""
    buffer = io.BytesIO()
    with soundfile.SoundFile(
        buffer, "w", SAMPLE_RATE, 1, "MPEG_LAYER_III", format="MP3", compression_level=0.8
    ) as file:
        file.write(samples)
    return f"data:audio/mpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"
