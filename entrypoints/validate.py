"""``rmer validate``: every problem of a data set."""

from __future__ import annotations

from entrypoints.options import command
from rmer.stages.data.validate import ValidateParams, validate


@command("validate", ValidateParams, help="List every problem of a data set; exit code 2 if there are any.")
def cli(params: ValidateParams) -> int:
    return 2 if validate(params) else 0
