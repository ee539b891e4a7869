"""Scores before and under attack, where the table that stands first is the published one."""

from __future__ import annotations

from rmer.report.contents import Contents
from rmer.report.html import ReportTable, Section
from rmer.report.robustness import ROBUSTNESS_CAPTION, readable_robustness


def scores_section(contents: Contents) -> Section | None:
    """Return the section; None under the corrected protocol, whose report begins with this table."""
    if contents.corrected:
        return None
    table = readable_robustness(contents.robustness[contents.norm])
    return Section("Clean, attacked, difference", tables=[ReportTable(ROBUSTNESS_CAPTION, table)])
