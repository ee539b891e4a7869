"""The published test, and tests over seeds."""

from __future__ import annotations

from rmer.report.contents import Contents
from rmer.report.html import ReportTable, Section
from rmer.report.readable import readable_tests

TITLE = "Published test, and tests over seeds"
CAPTION = (
    "Two-sided, not corrected for their number; a positive statistic says that a has the larger mean. "
    "Δ: attacked minus clean. n: pairs, or, of Welch's test, values of both systems together."
)
PUBLISHED = (
    "The published test, a paired t over the clips of all seeds pooled, is shown to reproduce it and for "
    "nothing else: it takes the same clips under several seeds for independent."
)


def tests_section(contents: Contents) -> Section:
    """Return the section, with ``tables/tests.csv``; without tests the table alone."""
    tests = contents.tests
    if tests.empty:
        return Section(TITLE, data={"tests": tests})
    return Section(TITLE, [PUBLISHED], [ReportTable(CAPTION, readable_tests(tests))], data={"tests": tests})
