"""The one exception type for problems that a user can mend."""

from __future__ import annotations

from collections.abc import Sequence


class UserError(Exception):
    """A problem with what the user gave: what is wrong, where, and how to mend it.

    Entry points print it as one line and exit with code 2; an open MLflow run is marked FAILED with the
    message in a tag. Anything else that is raised is a bug and keeps its traceback.
    """

    exit_code = 2

    def __init__(self, what: str, *, where: str = "", mend: str = "") -> None:
        self.what, self.where, self.mend = what, where, mend
        text = f"{where}: {what}" if where else what
        super().__init__(f"{text}. {mend}" if mend else text)


class DataErrors(UserError):
    """Every problem of a data set at once, one line each."""

    def __init__(self, problems: Sequence[str], *, where: str = "", mend: str = "") -> None:
        self.problems = tuple(problems)
        count = len(self.problems)
        head = f"{count} problem{'s' if count != 1 else ''} found"
        super().__init__(head, where=where, mend=mend)

    def __str__(self) -> str:
        return "\n  - ".join([super().__str__(), *self.problems])
