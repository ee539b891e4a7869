"""What is left of an adversary after what happens to recordings: codecs, resampling, gain, a cut.

Each transformation takes and returns a clip at 22 050 Hz, int16 [samples], of the same length and aligned
with what it was made of: delays of encoders are undone, so that a model hears the same excerpt. Samples that
leave 16 bit stop at full scale.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import soundfile
from scipy.signal import resample_poly

from rmer.data.audio.decoders import FULL_SCALE, SAMPLE_RATE, quantise, resample
from rmer.data.audio.filterbank import HOP
from rmer.errors import UserError
from rmer.evaluation.endpoints import Floats
from rmer.evaluation.metrics import regression_scores, under_attack

Samples = npt.NDArray[np.int16]
Transformation = Callable[[Samples], Samples]

UNCHANGED = "none"
# Libsndfile maps compression levels 0-1 to 160-8 kbit/s at this sampling rate.
_HIGHEST_RATE, _LOWEST_RATE = 160, 8
_LAME_SCALE = 0.95  # by which LAME lowers what it encodes, so that the decoded sound does not clip


def mp3(samples: Samples, kilobits: int) -> Samples:
    """Encode as MP3 (MPEG-2 layer III by LAME) at a constant ``kilobits`` a second, 8 to 160, and decode."""
    level = (_HIGHEST_RATE - kilobits) / (_HIGHEST_RATE - _LOWEST_RATE)
    # Mono; the encoder's delay is in the file's LAME header, which the decoder follows.
    decoded = _encoded(samples, "MP3", "MPEG_LAYER_III", compression_level=level, bitrate_mode="CONSTANT")
    return quantise(decoded / _LAME_SCALE)


def vorbis(samples: Samples, quality: float) -> Samples:
    """Encode as Ogg Vorbis of this ``quality``, 0 to 1, and decode."""
    return quantise(_encoded(samples, "OGG", "VORBIS", compression_level=1 - quality))


def resampled(samples: Samples) -> Samples:
    """Convert to 44.1 kHz, 16 bit, and back as when such a file is read."""
    doubled = quantise(resample_poly(samples.astype(np.float64), 2, 1) / FULL_SCALE)
    return quantise(resample(doubled / FULL_SCALE, 2 * SAMPLE_RATE)[: len(samples)])


def amplified(samples: Samples, decibels: float) -> Samples:
    """Change the level by so many dB."""
    return quantise(samples * (10 ** (decibels / 20) / FULL_SCALE))


def cut(samples: Samples) -> Samples:
    """Leave out the first frame of the front end, 704 samples or 32 ms, so that all others move.

    No other transformation moves the music. Zeros at the end keep the length.
    """
    return np.concatenate([samples[int(HOP) :], np.zeros(int(HOP), np.int16)])[: len(samples)]


TRANSFORMATIONS: Mapping[str, Transformation] = {
    "MP3 128 kbit/s": partial(mp3, kilobits=128),
    "MP3 64 kbit/s": partial(mp3, kilobits=64),
    "Ogg Vorbis q5": partial(vorbis, quality=0.5),
    "44.1 kHz and back": resampled,
    "+3 dB": partial(amplified, decibels=3.0),
    "-3 dB": partial(amplified, decibels=-3.0),
    "first frame cut": cut,
}


def robustness_table(
    clean: Sequence[Samples],
    adversaries: Sequence[Samples],
    labels: Floats,
    targets: Sequence[str],
    predict: Callable[[Sequence[Samples]], Floats],
    transformations: Mapping[str, Transformation] = TRANSFORMATIONS,
) -> pd.DataFrame:
    """Return how a model scores on clips and adversaries as they are and after each transformation.

    Parameters
    ----------
    clean, adversaries : Whole clips, in the order of ``labels`` [clips, targets].
    targets : Names of the targets.
    predict : The ordinary way from such clips to predictions [clips, targets].

    Returns a table with columns ``transformation`` (``none`` first) and, for each metric by which attacked
    models are judged, ``clean/<metric>``, ``adv/<metric>`` and ``delta/<metric>``, what the adversaries
    add. Raises UserError when an adversary and its original differ in length.
    """
    for number, (original, adversary) in enumerate(zip(clean, adversaries, strict=True)):
        if len(original) != len(adversary):
            what = f"an adversary has {len(adversary)} samples, its original {len(original)}"
            raise UserError(what, where=f"clip {number}", mend="Pass whole clips, before zeros are trimmed")
    rows = []
    for name, transform in {UNCHANGED: _unchanged, **transformations}.items():
        before, after = (
            regression_scores(labels, predict([transform(clip) for clip in clips]), targets).mean
            for clips in (clean, adversaries)
        )
        row: dict[str, Any] = {"transformation": name}
        for metric in under_attack():
            row[f"clean/{metric}"] = before[metric]
            row[f"adv/{metric}"] = after[metric]
            row[f"delta/{metric}"] = after[metric] - before[metric]
        rows.append(row)
    return pd.DataFrame(rows)


def _unchanged(samples: Samples) -> Samples:
    return samples


def _encoded(samples: Samples, form: str, subtype: str, **options: Any) -> npt.NDArray[np.float32]:
    """Return the samples as they come back from a file of this form, 1 being full scale."""
    buffer = io.BytesIO()
    with soundfile.SoundFile(buffer, "w", SAMPLE_RATE, 1, subtype, format=form, **options) as file:
        # In pieces: the Vorbis encoder overflows the stack with long blocks.
        for start in range(0, len(samples), SAMPLE_RATE):
            file.write(samples[start : start + SAMPLE_RATE])
    buffer.seek(0)
    decoded = soundfile.read(buffer, dtype="float32")[0][: len(samples)]
    return np.pad(decoded, (0, len(samples) - len(decoded)))
