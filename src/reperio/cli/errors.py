"""Show errors, warnings and interrupts in one line each, with their exit codes."""

from __future__ import annotations

import logging
import re
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import typer
from typer.core import TyperGroup

from reperio.arguments import nearest
from reperio.cli import output
from reperio.errors import ReperioError, ReperioWarning

# Named through a public subclass: typer brings click along or depends on it, according to its version.
_UsageError = cast("type[typer.BadParameter]", typer.BadParameter.__bases__[0])

_UNREAD = 141  # what a shell tells of a program that SIGPIPE has ended

_KEPT = {
    "optimize": "the index before stays in use, and the next optimize goes on from what this one has saved",
    "tune": "what was measured before stays in use",
}
"""The state that an interrupted command leaves, by command; the others keep what they have stored."""


class Commands(TyperGroup):
    """Turns errors into one line and an exit code."""

    def main(self, *args: Any, **options: Any) -> Any:
        """Run a command line; see `click.Command.main`, whose exit codes for usage errors this keeps."""
        output.prepare()
        standalone = options.get("standalone_mode", True)
        try:
            code = super().main(*args, **{**options, "standalone_mode": False})
            sys.stdout.flush()  # what cannot be written is told here, and not at the end of Python
        except _UsageError as error:
            if not standalone:
                raise
            command = error.ctx.command_path if error.ctx else "reperio"
            message = _told(error)
            output.print_error(f"{message}{'' if message.endswith(('.', '?')) else '.'} See: {command} --help")
            code = 2
        except (OSError, SystemExit) as error:
            code = _unwritten(error)
        if not standalone:
            return code
        # Commands return None, and click an exit code where one was raised.
        sys.exit(code if isinstance(code, int) else 0)

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the commands in the order in which they are written down, and groups of commands after them."""
        return sorted(super().list_commands(ctx), key=lambda name: isinstance(self.commands[name], TyperGroup))

    def invoke(self, ctx: Any) -> Any:
        """Run a command, and tell what the package raises."""
        try:
            with _warnings_in_one_line():
                return super().invoke(ctx)
        except ReperioError as error:
            command = self.commands.get(ctx.invoked_subcommand)
            output.print_error(in_words_of(command, str(error)))
            raise typer.Exit(2) from error  # as for an error of usage: 1 is for problems found
        except KeyboardInterrupt:
            kept = _KEPT.get(ctx.invoked_subcommand, "what was stored before is kept")
            output.print_error(f"interrupted; {kept}", label="stopped")
            raise typer.Exit(130) from None  # what a shell tells of a program that SIGINT has ended


def in_words_of(command: Any, message: str) -> str:
    """Return a message of the package as the command line says it: ``--name docs`` for ``name='docs'``.

    Args:
        command: that was run; what it has no option for stays as it is.
        message: of an error; where it names both, ``rechunk=True (--rechunk)``, what is for Python goes.
    """
    message = re.sub(r"[\w.]+(?:=(?:'[^']*'|[\w…]+)?)? \((--[^)]+)\)", r"\1", message)
    for parameter in getattr(command, "params", ()):
        option = next((text for text in parameter.opts if text.startswith("--")), None)
        if option is not None:
            # In a call, open(embedder=…), it is Python's, and stays.
            python = rf"(?<![\w('\".-])(?<!, ){parameter.name}=(?:True|'([^']*)'|([\w.]+))?"
            message = re.sub(python, lambda found, name=option: _option(name, found), message)  # type: ignore[misc]  # as bound here
    return message


def _option(name: str, found: re.Match[str]) -> str:
    value = found[1] or found[2]
    return f"{name} {value}" if value else name


def _told(error: Any) -> str:
    """Return the message of a usage error; an option that other programs have is answered with ours."""
    name = getattr(error, "option_name", None)
    if name is not None and error.ctx is not None:
        known = {text.lstrip("-"): text for each in error.ctx.command.params for text in each.opts if text[0] == "-"}
        near = nearest(name.lstrip("-").replace("-", "_"), known)
        # Its own guess goes by spelling alone, and knows no names of other libraries.
        error.possibilities = [known[near]] if near else error.possibilities
    return str(error.format_message())


def _unwritten(error: OSError | SystemExit) -> int:
    """Return the exit code for output that could not be written; raise what is anything else again.

    click and rich make an exit of a pipe that nobody reads, with the code of "problems found".
    """
    if isinstance(error, BrokenPipeError) or isinstance(error.__context__, BrokenPipeError):
        output.abandon(sys.stdout)
        return _UNREAD
    if isinstance(error, SystemExit) or error.filename is not None:
        raise error
    reason = error.strerror or str(error)
    output.print_error(f"the output cannot be written: {reason}; what the command did is done, write it elsewhere")
    output.abandon(sys.stdout)
    return 2


@contextmanager
def _warnings_in_one_line() -> Iterator[None]:
    def show(message: Warning | str, *_: object) -> None:
        output.print_error(str(message), label="warning")

    handler = _OneLine(logging.WARNING)
    logger = logging.getLogger("reperio")
    logger.addHandler(handler)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("always", ReperioWarning)
            warnings.showwarning = show  # type: ignore[assignment]  # the file and line of the call are no news to a user
            yield
    finally:
        logger.removeHandler(handler)


class _OneLine(logging.Handler):
    """Prints what the package logs as warnings, each text once: several recipes may be tried."""

    def __init__(self, level: int) -> None:
        super().__init__(level)
        self._told: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        """Print a record's text, if it was not printed before."""
        message = record.getMessage()
        if message not in self._told:
            self._told.add(message)
            output.print_error(message, label="warning")
