"""``rmer server``: a tracking server for one lab machine."""

from __future__ import annotations

import click

from entrypoints.options import Command, run
from rmer.tracking.server import serve


@click.command("server", cls=Command, context_settings={"show_default": True})
@click.option(
    "--host", default="127.0.0.1", help="Address to listen at; the default serves this machine only."
)
@click.option("--port", default=5000, help="Port to listen at.")
@click.option("--folder", default=".", help="Folder of mlflow.db and mlartifacts.")
def cli(host: str, port: int, folder: str) -> None:
    """Serve a tracking store and its artifacts."""
    raise SystemExit(run(lambda: serve(host, port, folder)))
