"""``rmer server``: a tracking server for one lab machine."""

from __future__ import annotations

import functools

import click

from entrypoints.options import Command, run
from rmer.tracking.server.serving import serve


@click.command("server", cls=Command, context_settings={"show_default": True})
@click.option(
    "--host", default="127.0.0.1", help="Address to listen at; the default serves this machine only."
)
@click.option("--port", default=5000, help="Port to listen at.")
@click.option("--folder", default=".", help="Folder of mlflow.db and mlartifacts.")
@click.option(
    "--backend",
    default="",
    envvar="MLFLOW_BACKEND_STORE_URI",
    help="Database of the runs (postgresql://...) instead of mlflow.db; with a password better given as "
    "MLFLOW_BACKEND_STORE_URI, which others cannot list.",
)
@click.option("--auth", is_flag=True, default=False, help="Ask for logins; needs pip install 'rmer[auth]'.")
@click.option(
    "--insecure",
    is_flag=True,
    default=False,
    help="Listen where others reach it without logins: they may do anything.",
)
@click.option(
    "--allowed-hosts",
    default="",
    help="Further names by which clients call the server, separated by commas (of a proxy, say).",
)
def cli(
    host: str, port: int, folder: str, backend: str, auth: bool, insecure: bool, allowed_hosts: str
) -> None:
    """Serve a tracking store and its artifacts."""
    serving = functools.partial(
        serve, host, port, folder, backend=backend, auth=auth, insecure=insecure, allowed_hosts=allowed_hosts
    )
    raise SystemExit(run(serving))
