"""How much an adversary sounds like its original by ViSQOL, which takes no part in any attack.

M. Chinen et al., "ViSQOL v3: an open source production ready objective speech and audio metric", QoMEX 2020.
Its audio mode compares gammatone spectrograms, and maps their similarity to the grade that listeners would
give, learned from listening tests with coded music. The package ``visqol-python`` (extra ``visqol``) is a
port of Google's program. A clip of 10 s takes about 7 s.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.signal import resample_poly

from rmer.data.audio.decoders import FULL_SCALE, SAMPLE_RATE
from rmer.errors import UserError
from rmer.evaluation.hearing.audibility import Samples, require_equal_lengths

VISQOL_RATE = 48_000  # Hz; all that audio mode takes
SHORTEST = 1.0  # seconds that it needs for one comparison


@dataclass(frozen=True)
class PerceivedQuality:
    """``grade``, 1 (bad) to 4.73, which ViSQOL gives to what does not differ, and ``similarity``, 0-1."""

    grade: float
    similarity: float


def perceived_quality(clean: Samples, adversary: Samples) -> PerceivedQuality:
    """Compare an adversary with its original, int16 [samples] at 22 050 Hz of equal length.

    Raises UserError when ViSQOL is not installed, or the clips differ in length or last less than a second.
    """
    require_equal_lengths(clean, adversary)
    if len(clean) < SHORTEST * SAMPLE_RATE:
        what = f"ViSQOL needs clips of a second, not {len(clean) / SAMPLE_RATE:.2g} s"
        raise UserError(what, where="listening", mend="Pass the whole clip and the whole adversary")
    result = _visqol().measure_from_arrays(_raised(clean), _raised(adversary), VISQOL_RATE)
    return PerceivedQuality(float(result.moslqo), float(result.vnsim))


def visqol_is_installed() -> bool:
    """Return whether :func:`perceived_quality` can be had."""
    try:
        _visqol()
    except UserError:
        return False
    return True


@cache
def _visqol() -> Any:
    try:
        from visqol import VisqolApi
    except ImportError as error:
        mend = "Run: pip install visqol-python (it compiles libsvm, which needs g++)"
        raise UserError("ViSQOL is not installed", where="listening", mend=mend) from error
    api = VisqolApi()
    api.create(mode="audio")
    return api


def _raised(samples: Samples) -> npt.NDArray[np.float64]:
    up, down = 320, 147  # 48 000 / 22 050
    return np.asarray(resample_poly(samples / FULL_SCALE, up, down))
