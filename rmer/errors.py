"""The one exception type for problems that a user can mend."""

from __future__ import annotations

from collections.abc import Sequence

from rmer.redaction import redacted


class UserError(Exception):
    """A problem with what the user gave: what is wrong, where, and how to mend it.

    Entry points print it as one line and exit with code 2; an open MLflow run is marked FAILED with the
    message in a tag. Credentials in addresses are taken out of it. Anything else that is raised is a bug and
    keeps its traceback.
    """

    exit_code = 2

    def __init__(self, what: str, *, where: str = "", mend: str = "") -> None:
        self.what, self.where, self.mend = redacted(what), redacted(where), redacted(mend)
        text = f"{self.where}: {self.what}" if where else self.what
        super().__init__(f"{text}. {self.mend}" if mend else text)


class DataErrors(UserError):
    """Every problem of a data set at once, one line each."""

    def __init__(self, problems: Sequence[str], *, where: str = "", mend: str = "") -> None:
        self.problems = tuple(map(redacted, problems))
        count = len(self.problems)
        head = f"{count} problem{'s' if count != 1 else ''} found"
        super().__init__(head, where=where, mend=mend)

    def __str__(self) -> str:
        return "\n  - ".join([super().__str__(), *self.problems])
