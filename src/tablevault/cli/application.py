"""Group of all commands, with their options, exit statuses and error messages."""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from functools import wraps
from importlib import import_module
from io import TextIOWrapper
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import click

from tablevault.errors import TableVaultError, TableVaultWarning
from tablevault.notes import chain_of, frames_of, location_of, notes_of, outcome_of, traceback_of
from tablevault.texts.plain import shown
from tablevault.values.outcomes import Cause, Outcome, OutcomeKind

if TYPE_CHECKING:
    from tablevault.vault import TableVault

DONE, REFUSED, WRONG_USAGE, REVERTED, PAUSED, FAILED_ROWS, INTERRUPTED, TERMINATED = 0, 1, 2, 3, 4, 5, 130, 143
"""Exit statuses: 3 is an external error that was reverted, 4 any error that paused, 5 a success with failed rows."""
DIFFERENT = 6
"""Exit status of `diff --exit-code` for instances that differ."""
UNPRINTED = 7
"""Exit status of a command whose output could not be written."""

_THRESHOLDS = gc.get_threshold()
_MAXIMUM_NEW_OBJECTS = 50_000
"""Before garbage is looked for the first time, while a command is imported."""

Command = TypeVar("Command", bound=Callable[..., Any])

_COMMANDS = {
    "tablevault.cli.writing": (
        "apply",
        "create-builder-file",
        "create-code-module",
        "create-instance",
        "create-table",
        "delete-builder-file",
        "delete-code-module",
        "delete-instance",
        "delete-table",
        "delete-tag",
        "execute-instance",
        "gc",
        "rename-table",
        "retry-failed",
        "set-service",
        "tag",
        "write",
        "write-instance",
    ),
    "tablevault.cli.processes": (
        "generate-process-id",
        "get-active-processes",
        "get-history",
        "get-process",
        "get-process-completion",
        "log",
        "ps",
        "restart",
        "stop-process",
        "wait-process",
        "watch",
    ),
    "tablevault.cli.reading": (
        "get-artifact-folder",
        "get-builder-str",
        "get-builders-list",
        "get-code-module-str",
        "get-code-modules-list",
        "get-dataframe",
        "get-descriptions",
        "get-errors",
        "get-file-tree",
        "get-frame-path",
        "get-lineage",
        "get-modules-list",
        "get-services",
        "get-table-instances",
        "get-tables",
        "get-tags",
        "get-usage",
        "plan-instance",
        "read",
        "verify",
    ),
    "tablevault.cli.querying": ("sql",),
    "tablevault.cli.comparing": ("blame", "diff"),
    "tablevault.cli.sharing": ("export-table", "export-vault", "import-instances"),
    "tablevault.cli.freshness": ("refresh", "status"),
    "tablevault.cli.running": ("run",),
    "tablevault.cli.serving": ("serve",),
    "tablevault.cli.agents": ("mcp",),
    "tablevault.cli.archiving": ("compress", "decompress", "delete-vault", "import-legacy", "init"),
}

_BEFORE_USER_CODE = frozenset({"tablevault", "functools", "contextlib"})
"""Packages whose frames at the beginning of a traceback are omitted."""

OPERATIONS = (*_COMMANDS["tablevault.cli.writing"], "import-instances", "stop-process")
"""The commands that are operations."""


@dataclass
class CommandContext:
    """The vault and author of a command."""

    db_dir: Path | None
    author: str
    as_json: bool
    ray_address: str = ""
    runs_alone: bool = False
    """Whether this interpreter only runs the command, so that its signal handlers may be replaced."""
    opened: TableVault | None = None
    """The vault, once a command has opened it."""

    def vault(self, **options: Any) -> TableVault:
        """Open the vault; raises `UsageError` if its folder is not given."""
        if self.db_dir is None:
            raise click.UsageError("Which vault? Name its folder with --db-dir DIR, or set TABLEVAULT_DIR.")
        from tablevault import TableVault, operations

        operations.loaded_when_opened = False
        ray = {"address": self.ray_address} if self.ray_address else None
        vault = TableVault(self.db_dir, self.author, ray=ray, **options)
        self.opened = self.opened or vault
        # From here on, programs of users may run.
        gc.set_threshold(*_THRESHOLDS)
        return vault


class Commands(click.Group):
    """All commands, each imported when it is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all commands."""
        return sorted(name for names in _COMMANDS.values() for name in names)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a command, if there is one of this name."""
        for module, names in _COMMANDS.items():
            if cmd_name in names:
                command = getattr(import_module(module), cmd_name.replace("-", "_"))
                assert isinstance(command, click.Command)
                return command
        return None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command of an argument; raises `UsageError` that names the nearest command."""
        if args and not args[0].startswith("-") and self.get_command(ctx, args[0]) is None:
            near = get_close_matches(args[0], self.list_commands(ctx), n=1, cutoff=0.5)
            meant = f" Did you mean '{near[0]}'?" if near else " `tablevault --help` lists all commands."
            ctx.fail(f"There is no command '{args[0]}'.{meant}")
        return super().resolve_command(ctx, args)


@click.command(
    cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "auto_envvar_prefix": "TABLEVAULT"}
)
@click.option("--db-dir", type=click.Path(path_type=Path), envvar="TABLEVAULT_DIR", help="Folder of the vault.")
@click.option("--author", envvar="TABLEVAULT_AUTHOR", default="", help="Name in the history.")
@click.option("--json", "as_json", is_flag=True, help="Print lists and records as JSON, also on a terminal.")
@click.option("--ray-address", default="", metavar="ADDRESS", help="Ray cluster for 'executor: ray'.")
@click.version_option(package_name="tablevault", message="%(prog)s %(version)s")
@click.pass_context
def application(ctx: click.Context, db_dir: Path | None, author: str, as_json: bool, ray_address: str) -> None:
    """Tables of expensive results that survive errors, crashes and power cuts.

    Exit status: 0 succeeded, 1 refused by TableVault, 2 invalid usage, 3 an external error that was reverted, 4 paused,
    5 succeeded with failed rows, 6 different (diff --exit-code), 7 output could not be written, 130 and 143 interrupted
    and reverted.
    """
    ctx.obj = CommandContext(db_dir, author, as_json, ray_address, runs_alone=ctx.obj is _ALONE)


_ALONE = "runs alone"
"""Object of the context of a command in an interpreter of its own."""


def main() -> None:
    """Run the command line; the entry point `tablevault`."""
    # Imports make many objects, all of which stay: looking for garbage among them takes a fifth of a short command.
    gc.set_threshold(_MAXIMUM_NEW_OBJECTS)
    warnings.showwarning = _warn
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            # Characters that the encoding lacks are escaped, so that printing them cannot fail.
            stream.reconfigure(errors="backslashreplace")
    try:
        application(prog_name="tablevault", obj=_ALONE)
    except OSError as error:  # Commands end with a status; this is from printing help.
        raise SystemExit(_unprinted(error)) from None
    finally:
        # The end of the interpreter frees all of them, found or not.
        gc.freeze()


class OutputError(Exception):
    """Standard output cannot be written to.

    The command has done its work.
    """

    def __init__(self, reason: OSError) -> None:
        super().__init__(str(reason))
        self.reason = reason


def say(text: str | bytes, *, nl: bool = True) -> None:
    """Print on standard output.

    Raises `OutputError` if it cannot be written to.
    """
    try:
        click.echo(text, nl=nl)
    except OSError as error:
        raise OutputError(error) from error


def is_terminal() -> bool:
    """Return whether standard output is a terminal.

    It may also be closed.
    """
    return sys.stdout is not None and sys.stdout.isatty()


def _unprinted(error: OSError) -> int:
    """Report a failed write to standard output.

    Returns the exit status.
    """
    if not isinstance(error, BrokenPipeError):  # A pipe that is closed early, as by `head`, wants no more.
        _say(f"Standard output cannot be written to: {error.strerror}. The changes of the command have been made.")
    # What is still buffered would fail again at the end of the interpreter.
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return UNPRINTED


def _ask_for_json(ctx: click.Context, parameter: click.Parameter, asked: bool) -> None:
    del parameter
    if asked:
        ctx.find_root().obj.as_json = True


json_option = click.option(
    "--json", is_flag=True, expose_value=False, callback=_ask_for_json, help="Print JSON, also on a terminal."
)
"""For commands that show lists or records; `tablevault --json COMMAND` does the same."""
process_id_option = click.option(
    "--process-id", default="", help="Pause instead of reverting on an error; the same id resumes."
)
"""For commands that write."""


def in_context(command: Command) -> Command:
    """Open the vault for a command, and print its result.

    Exits with the status of its outcome.
    """

    @wraps(command)
    def run(*args: Any, **kwargs: Any) -> None:
        context = click.get_current_context().obj
        try:
            result = command(context, *args, **kwargs)
            if result is not None:
                say(result)
        except OutputError as error:
            raise SystemExit(_unprinted(error.reason)) from None
        except BaseException as error:
            outcome = outcome_of(error)
            is_from_function = outcome is not None and outcome.cause is Cause.FUNCTION
            if isinstance(error, click.ClickException | click.exceptions.Exit | click.Abort) and not is_from_function:
                raise
            _end(context, error)

    return run  # type: ignore[return-value]


def end_with_failures(context: CommandContext, process_id: str) -> str:
    """Return the id of a process that succeeded.

    If rows of it failed, prints the id and exits with 5.
    """
    progress = context.vault().get_process(process_id).progress
    if any(item.failed or item.skipped for item in progress.values()):
        say(process_id)
        raise click.exceptions.Exit(FAILED_ROWS)
    return process_id


def _end(context: CommandContext, error: BaseException) -> NoReturn:
    """Print an error and its remedies, and exit with the status of its outcome."""
    found = outcome_of(error)
    if isinstance(error, KeyboardInterrupt | SystemExit):
        if context.runs_alone:
            _ignore_interrupts()
        # A second interrupt may arrive once the first, or another error, has ended the operation.
        found = next(filter(None, map(outcome_of, chain_of(error))), None)
    outcome = found or Outcome(OutcomeKind.NOT_BEGUN, "")
    cause = outcome.cause or _cause_of(error)
    _say_what_happened(error, outcome, cause)
    if outcome.is_paused:
        _say(f"Paused as '{outcome.process_id}'. The computed cells are kept.")
        _say("\n".join(f"{f'{remedy.action.title()}:':7} {remedy.command}" for remedy in outcome.remedies))
        raise SystemExit(PAUSED)
    match cause:
        case Cause.VAULT:
            raise SystemExit(REFUSED)
        case Cause.INTERRUPT:
            raise error if isinstance(error, SystemExit) else SystemExit(INTERRUPTED)
    raise SystemExit(REVERTED)


def _ignore_interrupts() -> None:
    """Let further interrupts change neither the exit status nor the message of an interrupted command."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


def _cause_of(error: BaseException) -> Cause:
    """Return the cause of an error without an outcome."""
    if isinstance(error, KeyboardInterrupt | SystemExit):
        return Cause.INTERRUPT
    return Cause.VAULT if isinstance(error, TableVaultError) else Cause.SYSTEM


def _say_what_happened(error: BaseException, outcome: Outcome, cause: Cause) -> None:
    """Print an error.

    Errors of TableVault are printed as they are, often in one line; others with their tracebacks.
    """
    from tablevault.processes.messages import note

    if cause is Cause.VAULT:
        first, *more = str(error).split("\n")
        where = f" ({location_of(error)})" if location_of(error) else ""
        # The following lines are a difference, or a reference with a mark below its fault.
        _say("\n".join([f"{type(error).__name__}: {first}{where}", *more]))
        return
    if cause is Cause.INTERRUPT:
        _say("Asked to end." if isinstance(error, SystemExit) else "Interrupted.")
    else:
        _say_traceback(error)
    # A pause is shown as commands.
    told = note(outcome) if outcome.kind is OutcomeKind.PAUSED else None
    for text in notes_of(error):
        if text != told:
            _say(text)


def _say_traceback(error: BaseException) -> None:
    """Print a traceback that begins with the user's code."""
    inner = _frames_of_user(error)
    outcome = outcome_of(error)
    is_from_function = outcome is not None and outcome.cause is Cause.FUNCTION
    has_frames = any(_frames_of_user(each) for each in chain_of(error))
    if inner is None and (is_from_function or isinstance(error, SyntaxError)):
        # None of the user's code ran here: a result is refused, the error comes from another process, or it shows its
        # own line.
        error = error.with_traceback(None)
    _say(traceback_of(error, inner, notes=False, chain=has_frames or not is_from_function).rstrip("\n"))


def _frames_of_user(error: BaseException) -> TracebackType | None:
    """Return the traceback of an exception from its first frame in the user's code."""
    inner = frames_of(error)
    while inner is not None and str(inner.tb_frame.f_globals.get("__name__")).partition(".")[0] in _BEFORE_USER_CODE:
        inner = inner.tb_next
    return inner


def _warn(message: Warning | str, category: type[Warning], *where: object, **more: object) -> None:
    """Print a warning as a message; only a foreign one with its file and line."""
    if issubclass(category, TableVaultWarning):
        _say(f"Warning: {message}")
    else:
        _say(f"{where[0]}:{where[1]}: {category.__name__}: {message}" if len(where) > 1 else f"{message}")


def _say(text: str) -> None:
    # If standard error cannot be written to, the exit status remains.
    with contextlib.suppress(OSError):
        click.echo(shown(_secrets(text)), err=True)


def _secrets(text: str) -> str:
    """Return the text of a function's error without secrets."""
    running = click.get_current_context(silent=True)
    context = running.find_root().obj if running is not None else None
    return (
        context.opened._hide_secrets(text)
        if isinstance(context, CommandContext) and context.opened is not None
        else text
    )
