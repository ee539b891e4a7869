"""Budgets of sounds as they are named, in dB, and as they are counted, as ratios of amplitudes.

======== ============================================= =================================
norm     a budget of x dB                              ratio (``epsilon``)
======== ============================================= =================================
linf     no sample changes by more than x dBFS         change / full scale
snr      signal-to-noise ratio of x over the excerpt   root mean square of change / clip
masking  no band of any frame exceeds what the clip    amplitude of change / masked
         masks by more than x dB
======== ============================================= =================================

A larger ratio is a larger budget. Its *level*, 20 log10 of it, is the budget in dB, but for the sign of snr.
"""

from __future__ import annotations

import math

SOUND_NORMS = ("linf", "snr", "masking")
# The budget in dB that is reported where users name none, those of a suite, and one that breaks every model.
REPORTED_DB = {"linf": -60.0, "snr": 40.0, "masking": -6.0}
SUITE_DB = {
    "linf": (-80.0, -70.0, -60.0, -50.0),
    "snr": (60.0, 50.0, 40.0, 30.0),
    "masking": (-20.0, -10.0, -6.0, 0.0),
}
HUGE_DB = {"linf": -20.0, "snr": 0.0, "masking": 20.0}
# No sample can change by less than a step of 16 bit, which is this far below full scale.
LEAST_LINF_DB = 20 * math.log10(1 / 32768)
UNITS = {"linf": "dBFS", "snr": "dB SNR", "masking": "dB over masked"}


def level(epsilon: float) -> float:
    """Return a ratio of amplitudes in dB; minus infinity for 0."""
    return 20 * math.log10(epsilon) if epsilon > 0 else -math.inf


def epsilon_of(norm: str, budget: float) -> float:
    """Return the ratio of amplitudes of a budget in dB."""
    return float(10.0 ** ((-budget if norm == "snr" else budget) / 20))


def budget_of(norm: str, epsilon: float) -> float:
    """Return the budget in dB of a ratio of amplitudes, without what rounding adds to it."""
    return round(-level(epsilon) if norm == "snr" else level(epsilon), 9)


def sound_step(epsilon: float) -> int:
    """Return the step of a budget in ``curve/*``: its level in tenths of a dB, negative below 0 dB."""
    return round(10 * level(epsilon))
