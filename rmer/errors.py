"""The one exception type for problems that a user can mend."""

from __future__ import annotations

import re
from collections.abc import Sequence

from rmer.redaction import redacted

# Of what, where and mend: the longest that helps a reader; values that a user gave may be of any length.
LONGEST = 1000
LONGEST_VALUE = 100


class UserError(Exception):
    """A problem with what the user gave: what is wrong, where, and how to mend it.

    Entry points print it as one line and exit with code 2; an open MLflow run is marked FAILED with the
    message in a tag. Credentials in addresses are taken out of it. Anything else that is raised is a bug and
    keeps its traceback.
    """

    exit_code = 2

    def __init__(self, what: str, *, where: str = "", mend: str = "") -> None:
        self.what, self.where, self.mend = (shortened(redacted(part)) for part in (what, where, mend))
        text = f"{self.where}: {self.what}" if where else self.what
        super().__init__(f"{text.rstrip('.')}. {self.mend}" if mend else text)


class DataErrors(UserError):
    """Every problem of a data set at once, one line each."""

    def __init__(self, problems: Sequence[str], *, where: str = "", mend: str = "") -> None:
        self.problems = tuple(shortened(redacted(problem)) for problem in problems)
        count = len(self.problems)
        super().__init__(f"{count} problem{'s' if count != 1 else ''} found", where=where, mend=mend)

    def __str__(self) -> str:
        return "\n  - ".join([super().__str__(), *self.problems])


def shortened(text: str, most: int = LONGEST) -> str:
    """Return a text on one line, without the middle where it is longer than ``most`` characters."""
    line = re.sub(r"[\x00-\x1f\x7f]+", " ", text)
    if len(line) <= most:
        return line
    return f"{line[: most * 2 // 3]} ... {line[-most // 6 :]}"


def shown(value: object) -> str:
    """Return a value that a user gave as it is quoted in a message."""
    return shortened(repr(value), LONGEST_VALUE)
