"""What the perturbations were: their norms, whether the budget held, what they do to predictions."""

from __future__ import annotations

from rmer.report.contents import Contents
from rmer.report.html import ReportTable, Section
from rmer.report.readable import readable_attacks

CAPTION = (
    "Norms of the perturbations in standardised-spectrogram units. Off scale: outside 0-1. A dash: not "
    "known, or, for the saved adversaries, the same as adversarial MAE."
)


def perturbations_section(contents: Contents) -> Section:
    """Return the section, with ``tables/attacks.csv``."""
    table = ReportTable(CAPTION, readable_attacks(contents.attacks))
    return Section("Perturbations", tables=[table], data={"attacks": contents.attacks})
