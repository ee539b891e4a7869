"""What is wrong, or merely odd, about a recording that can be decoded."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from rmer.data.audio.decoders import FULL_SCALE, SAMPLE_RATE, Signal, quantise

MIN_SECONDS = 1.0
SILENCE_SECONDS = 0.1  # before and after, which encoders add
MISSING_SECONDS, MISSING_SHARE = 0.1, 0.02  # encoders pad, and round lengths to their blocks
MOST_CUT_OFF, SOME_CUT_OFF = 0.5, 0.02  # shares of samples at full scale
OFFSET_ONLY, OFFSET = 100.0, 0.5  # mean over standard deviation
FAINT = 33  # steps of 16 bit, -60 dB of full scale


@dataclass(frozen=True)
class Soundness:
    """What was measured on a recording.

    ``seconds`` is the decoded length, ``sounding`` that from the first to the last sample that is not zero
    (all that the front end keeps), ``promised`` what the container states (None: nothing). ``peak`` is in
    steps of 16 bit, ``cut_off`` the share of samples at full scale, ``offset`` the mean (DC) over the
    standard deviation.
    """

    seconds: float
    sounding: float
    promised: float | None
    peak: int
    cut_off: float
    offset: float
    complaints: tuple[str, ...]


def measure(signal: Signal) -> Soundness:
    """Measure a signal that holds sound."""
    samples = quantise(signal.samples)
    magnitudes = np.abs(samples.astype(np.int32))
    return Soundness(
        seconds=len(samples) / SAMPLE_RATE,
        sounding=len(np.trim_zeros(samples)) / SAMPLE_RATE,
        promised=None if math.isnan(signal.promised) else signal.promised,
        peak=int(magnitudes.max()),
        cut_off=float((magnitudes >= FULL_SCALE - 1).mean()),
        offset=float(samples.mean(dtype=np.float64) / max(samples.std(dtype=np.float64), 1e-3)),
        complaints=signal.complaints,
    )


def problems_of(sound: Soundness, min_seconds: float = MIN_SECONDS) -> list[str]:
    """Return why nothing sensible can come of a recording; none: it can be used. Each goes on "<file> "."""
    problems = []
    if sound.sounding < min_seconds:
        problems.append(f"{_lasts(sound)}: at least {min_seconds:g} s are needed{_of_promised(sound)}")
    if abs(sound.offset) > OFFSET_ONLY:
        problems.append("holds a constant (DC) and no sound")
    elif sound.cut_off > MOST_CUT_OFF:
        problems.append(f"is cut off at full scale in {sound.cut_off:.0%} of its samples: its scale is wrong")
    return problems


def warnings_of(sound: Soundness, excerpt_seconds: float) -> list[str]:
    """Return what is odd about a recording that can be used. Each goes on "<file> "."""
    warnings = []
    if sound.promised is not None and _missing(sound) > 0:
        warnings.append(f"holds {sound.seconds:.1f} s of the {sound.promised:.1f} s that it promises")
    if sound.complaints:
        first, *more = sound.complaints
        warnings.append(f"is damaged, says its decoder: {first}" + (f" and {len(more)} more" if more else ""))
    if sound.sounding < excerpt_seconds:
        warnings.append(f"{_lasts(sound)}: its excerpt repeats it")
    if SOME_CUT_OFF < sound.cut_off <= MOST_CUT_OFF:
        warnings.append(f"is cut off at full scale in {sound.cut_off:.0%} of its samples")
    if OFFSET < abs(sound.offset) <= OFFSET_ONLY:
        warnings.append(f"has a constant (DC) of {abs(sound.offset):.1f} times its sound")
    if sound.peak < FAINT:
        level = 20 * math.log10(sound.peak / FULL_SCALE)
        warnings.append(f"is faint: its peak is {level:.0f} dB, near the rounding to 16 bit")
    return warnings


def _missing(sound: Soundness) -> float:
    """Return the seconds that a container promises and does not hold, beyond what encoders may miss."""
    promised = sound.promised or 0.0
    return promised - sound.seconds - max(MISSING_SECONDS, MISSING_SHARE * promised)


def _lasts(sound: Soundness) -> str:
    if sound.seconds - sound.sounding > SILENCE_SECONDS:
        return f"sounds for {_brief(sound.sounding)} s of its {_brief(sound.seconds)} s"
    return f"lasts {_brief(sound.sounding)} s"


def _of_promised(sound: Soundness) -> str:
    return f" (its header promises {sound.promised:.1f} s)" if sound.promised and _missing(sound) > 0 else ""


def _brief(seconds: float) -> str:
    """Return seconds with one decimal, shorter ones with two digits."""
    return f"{seconds:.1f}" if seconds >= 1 else f"{seconds:.2g}"
