"""The ``rmer`` command: every stage as a subcommand."""

from __future__ import annotations

import atexit
import gc
import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import click
from click.shell_completion import CompletionItem

from entrypoints.options import Command, run
from rmer import __version__
from rmer.errors import UserError, shown
from rmer.nearest import did_you_mean

# The modules of this name; each is imported when it is asked for, as torch and MLflow take seconds.
COMMANDS = {
    "main": "Run the whole study: data, training, attacks, analysis.",
    "preprocess": "Compute spectrograms and log the data set.",
    "train": "Train one system on a preprocessed data set.",
    "attack": "Attack trained systems, chosen by tags, run id or model URI.",
    "analyze": "Compare attacked systems: tables, tests, figures, report.",
    "predict": "Predict the emotions of songs: audio files, and folders with all below them.",
    "sweep": "Run a grid of training and attack jobs, several at once.",
    "import-published": "Import the logs of the published study as runs.",
    "demo-data": "Write a synthetic data set in the layout of the real ones.",
    "validate": "List every problem of a data set; exit code 2 if there are any.",
    "server": "Serve a tracking store and its artifacts.",
    "sync": "Send what waits in the spool for the tracking store; mark runs whose process is dead.",
}

# Python would look through all that is alive at its end, which takes seconds.
atexit.register(gc.freeze)


class _Lazy(Command, click.Group):
    def list_commands(self, context: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        # MLproject calls its entry points with underscores, as identifiers must be.
        name = name.replace("_", "-")
        if name not in COMMANDS:
            return None
        try:
            with _import_without_collector():
                module = importlib.import_module(f"entrypoints.{name.replace('-', '_')}")
        except UserError as error:  # of a package that adds to this one
            click.echo(f"rmer: {error}", err=True)
            context.exit(error.exit_code)
        command: click.Command = module.cli
        return command

    def shell_complete(self, context: click.Context, typed: str) -> list[CompletionItem]:
        named = [CompletionItem(name, help=said) for name, said in COMMANDS.items() if name.startswith(typed)]
        return named + click.Command.shell_complete(self, context, typed)

    def resolve_command(
        self, context: click.Context, arguments: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(context, arguments)
        except click.UsageError:
            sys.exit(run(partial(_unknown, arguments[0])))

    def format_commands(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@contextmanager
def _import_without_collector() -> Iterator[None]:
    """Import in a block what lasts as long as the process: half a million objects, none of them garbage."""
    before = len(sys.modules)
    gc.disable()
    try:
        yield
    finally:
        if len(sys.modules) > before:
            gc.freeze()
        gc.enable()


def _unknown(name: str) -> int:
    mend = did_you_mean([name], COMMANDS) or f"Known are: {', '.join(COMMANDS)}"
    raise UserError(f"there is no command {shown(name)}", where="rmer", mend=mend)


@click.command(cls=_Lazy, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="rmer")
def main() -> None:
    """Robust Music Emotion Recognition: train, attack, compare and explain models on MLflow."""


if __name__ == "__main__":
    main()
