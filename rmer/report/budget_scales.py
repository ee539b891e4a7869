"""How budgets are told in curves and tables: as epsilon a cell, or, of sounds, in dB of their norm."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from rmer.attacks.sound_budgets import UNITS, budget_of
from rmer.report.readable import NORM_NAMES, SOUND_NORM_NAMES, tick


class Scale:
    """Budgets of spectrograms.

    Attributes
    ----------
    unit : What a budget is counted in.
    mean_over : What means of curves are taken over.
    zero : What the clean clips are shown as.
    note : What is to be said of signs in the table of break-even budgets.
    names : Norm -> its name, in the order of figures.
    of_each_norm : Whether norms have axes of their own.
    """

    unit: ClassVar[str] = "ε"
    mean_over: ClassVar[str] = "log ε"
    zero: ClassVar[str] = "0"
    note: ClassVar[str] = ""
    names: ClassVar[Mapping[str, str]] = NORM_NAMES
    of_each_norm: ClassVar[bool] = False

    def name(self, norm: str) -> str:
        """Return the name of a norm."""
        return self.names.get(norm, norm)

    def shown(self, norm: str, epsilon: float) -> str:
        """Return a budget as it is shown: ``.01``, or ``-6`` dB."""
        return tick(epsilon)

    def axis(self, norm: str) -> str:
        """Return the label of the axis of budgets."""
        return "ε a cell (standardised units)"


class SoundScale(Scale):
    """Budgets of sounds."""

    unit = mean_over = "dB"
    zero = "none"  # silence has no level in dB
    note = "; >: a larger budget than that; none: worse before the attack"
    names = SOUND_NORM_NAMES
    of_each_norm = True

    def shown(self, norm: str, epsilon: float) -> str:
        return f"{budget_of(norm, epsilon):.3g}" if epsilon > 0 else self.zero

    def axis(self, norm: str) -> str:
        return f"budget ({UNITS[norm]})"


OF_SPECTROGRAMS, OF_SOUNDS = Scale(), SoundScale()
