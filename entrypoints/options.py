"""Turns a stage's parameters into a command, and user errors into one line and exit code 2."""

from __future__ import annotations

import dataclasses
import math
import sys
import traceback
import typing
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.shell_completion import CompletionItem

from rmer.errors import UserError, shortened
from rmer.old_names import told_new_option
from rmer.parameters import Parameters, unknown_parameters
from rmer.redaction import redacted

if TYPE_CHECKING:  # MLflow takes seconds to import, and --help needs none of it
    from rmer.tracking import Outcome, Store

P = TypeVar("P", bound=Parameters)
Complete = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]

BUG, INTERRUPTED = 1, 130
WAITING = 75  # EX_TEMPFAIL of sysexits.h: the work is done, and its values are to be sent later
NO_NAMES: Mapping[str, str] = {}
METAVARS = {str: "TEXT", int: "INTEGER", float: "FLOAT", bool: "true|false"}


def command(
    name: str, parameters: type[P], *, help: str, arguments: str = "", also: Mapping[str, str] = NO_NAMES
) -> Callable[[Callable[..., int | None]], click.Command]:
    """Make a click command of a function that takes a stage's parameters and returns an exit code or None.

    With ``arguments``, their name in the help, the function also takes any number of texts that stand alone;
    ``also`` gives parameters a second option (parameter -> option).

    Every parameter is an option of its own name (``--task_loss_weight``, or with hyphens). ``mlflow run``
    passes every value as text, so options take text and an empty one stands for the default.
    """

    hints = typing.get_type_hints(parameters)

    def decorate(function: Callable[..., int | None]) -> click.Command:
        def callback(alone: tuple[str, ...] = (), **texts: str) -> None:
            sys.exit(run(lambda: function(parameters.from_mapping(texts), *alone)))

        alone = [click.Argument(["alone"], nargs=-1, metavar=arguments)] if arguments else []
        options = [
            _option(field, hints[field.name], also.get(field.name, ""))
            for field in dataclasses.fields(parameters)
        ]
        return Command(
            name,
            callback=callback,
            params=[*alone, *options],
            help=help,
            context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
        )

    return decorate


class Command(click.Command):
    """A command whose user is told of bad options as of any other mistake."""

    def parse_args(self, context: click.Context, arguments: list[str]) -> list[str]:
        """Return what is left of the arguments, none; exits with code 2 where they cannot be understood."""
        try:
            return super().parse_args(context, [told_new_option(argument) for argument in arguments])
        except click.UsageError as error:
            if type(error).__name__ == "NoArgsIsHelpError":  # a group that stands alone; new in click 8.2
                raise
            sys.exit(run(partial(refuse, error, self)))


def logged(outcome: Outcome, metric: str) -> float:
    """Return a metric of a run, to be shown, whether the store has it or it waits; NaN without a value."""
    return outcome.metrics.get(metric, math.nan)


def end(store: Store, ending: Callable[[], str]) -> int:
    """Print what a command says at its end, unless the store is away; return its exit code."""
    if not store.left_behind():
        try:
            click.echo(ending())
        except UserError as error:  # the work is done, whatever can be seen of it now
            click.echo(f"rmer: {error}", err=True)
    return exit_code(store)


def exit_code(store: Store) -> int:
    """Return 0, or 75 where values wait in the spool, which the last line then says."""
    runs = store.left_behind()
    if not runs:
        return 0
    told = f"values of {runs} runs for {store.name}; `rmer sync` sends them (exit code {WAITING})"
    click.echo(f"waiting: {told}")
    return WAITING


def run(call: Callable[[], int | None]) -> int:
    """Return the exit code of a call; a user error is printed as one line and leaves no run open.

    Of a bug the traceback is printed, without credentials.
    """
    try:
        return call() or 0
    except UserError as error:
        return _refuse(error)
    except KeyboardInterrupt:
        click.echo("rmer: interrupted; the same command goes on from here", err=True)
        return INTERRUPTED
    except Exception as error:
        from rmer.tracking.machine import lack  # as below

        lacking = lack(error)
        if lacking is None:  # a bug, whose traceback may quote the address of a store with its password
            click.echo(redacted(traceback.format_exc()), err=True, nl=False)
            return BUG
        return _refuse(lacking)


def _refuse(error: UserError) -> int:
    _mark_failed(error)
    click.echo(f"rmer: {error}", err=True)
    return error.exit_code


def refuse(error: click.UsageError, command: click.Command) -> int:
    """Raise UserError that says on one line what is wrong with the options of a command."""
    where = f"rmer {command.name}"
    if isinstance(error, click.NoSuchOption):
        known = [option.name for option in command.params if option.name]
        raise unknown_parameters([error.option_name.lstrip("-")], known, where=where)
    what = shortened(error.format_message().rstrip("."))
    raise UserError(what[0].lower() + what[1:], where=where, mend=f"See {where} --help")


def _option(field: dataclasses.Field[Any], hint: Any, also: str = "") -> click.Option:
    name, rules = field.name, field.metadata
    names = [
        f"--{name}",
        *([f"--{name.replace('_', '-')}"] if "_" in name else []),
        *([also] if also else []),
    ]
    shown = "" if field.default in (None, "") else f"  [default: {_text(field.default)}]"
    choices = "|".join(str(choice) for choice in rules["choices"] if choice != "")
    kind = (typing.get_args(hint) or (hint,))[0]
    # A switch may stand alone. Even flag_value=None would let other options do so, and "--lr -1" be two.
    alone: dict[str, Any] = {"flag_value": "true"} if kind is bool else {}
    return click.Option(
        [*names, name],
        default="",
        metavar=f"[{choices}]" if choices and len(choices) < 60 else METAVARS[kind],
        help=f"{rules['help']}{shown}",
        is_flag=False,
        shell_complete=_completion(rules),
        **alone,
    )


def _completion(rules: Mapping[str, Any]) -> Complete:
    """Return what the shell asks for values of a parameter: its choices, or where it is a path, files."""

    def complete(context: click.Context, option: click.Parameter, typed: str) -> list[CompletionItem]:
        if rules["kind"] == "path":
            return [CompletionItem(typed, type="file")]
        return [CompletionItem(str(choice)) for choice in rules["choices"] if str(choice).startswith(typed)]

    return complete


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _mark_failed(error: UserError) -> None:
    from rmer.tracking import mark_wrapper_failed  # MLflow takes seconds to import; --help needs none of it

    try:
        mark_wrapper_failed(error)
    except UserError as also:
        if str(also) != str(error):  # a store that cannot be used has been told of
            click.echo(f"rmer: {also}", err=True)
