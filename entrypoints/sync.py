"""``rmer sync``: send what waits in the spool."""

from __future__ import annotations

import click

from entrypoints.options import Command, run
from rmer.tracking import connect


@click.command("sync", cls=Command)
def cli() -> None:
    """Send what waits in the spool for the tracking store; mark runs whose process is dead."""
    raise SystemExit(run(_sync))


def _sync() -> int:
    store = connect(send_waiting=False)
    result = store.sync()
    click.echo(
        f"{store.name}: sent {result.records} records of {result.runs} runs, {result.left} left"
        + (f" ({result.problem})" if result.problem else "")
        + f"; marked {len(result.marked)} dead runs as KILLED"
    )
    for reason in result.refused:
        click.echo(f"refused: {reason}", err=True)
    if result.elsewhere:
        click.echo(f"waiting for other stores: {result.elsewhere}")
    return 1 if result.left or result.refused else 0
