"""Shared by all programs: exit codes, error messages and JSON output.

`Program` and `ProgramGroup` turn every exception into one sentence and an exit code. Exit code 1 means a finding; only
`Ended(1)` gives it.
"""

from __future__ import annotations

import atexit
import contextlib
import errno
import os
import re
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from sonicscan.cli.streams import StdoutError, discard_stdout, safe_streams
from sonicscan.errors import SonicscanError
from sonicscan.extras import extra_of, missing_extra
from sonicscan.text import printable

EXIT_FATAL = 2
_SIGINT, _SIGPIPE = 128 + 2, 128 + 13
_VERBOSE = re.compile(r"--verbose|-[A-Za-z0]*v[A-Za-z0]*")


class Ended(SystemExit):
    """Ends the program with this exit code."""

    def __init__(self, code: int) -> None:
        super().__init__(code)


class FatalError(click.ClickException):
    """One sentence on stderr and exit code 2."""

    exit_code = EXIT_FATAL


def print_json(found: Any) -> None:
    """Print a dataclass, or a list or tuple of them, as JSON on standard output."""
    import dataclasses
    import json

    plain = (
        [dataclasses.asdict(item) for item in found] if isinstance(found, list | tuple) else dataclasses.asdict(found)
    )
    click.echo(json.dumps(plain, indent=2, allow_nan=False))


def exit_code_of(error: BaseException | None) -> int:
    """The exit code of a program that `error` ends; 0 for None."""
    if error is None:
        return 0
    if isinstance(error, Ended):
        return int(str(error.code))
    if isinstance(error, KeyboardInterrupt):
        return _SIGINT
    if isinstance(error, StdoutError) and error.errno == errno.EPIPE:
        return _SIGPIPE
    return EXIT_FATAL


def run_program(body: Callable[[], object], name: str, verbose: bool) -> int:
    """Run a program; returns its exit code and raises nothing.

    Args:
        body: the program.
        name: the name of the program.
        verbose: show the traceback of an unexpected error.
    """
    try:
        try:
            body()
            code = 0
        except Ended as ended:
            code = exit_code_of(ended)
        except click.exceptions.Exit as ended:  # of --help and --version
            if ended.exit_code:
                raise
            code = 0
        sys.stdout.flush()  # unwritten rows are an error, even if there is a finding
        return code
    except BaseException as error:  # noqa: BLE001 - the last handler: it gives the error an exit code
        with contextlib.suppress(Exception):
            _show(error, name, verbose)
        discard_stdout()
        return exit_code_of(error)


def _show(error: BaseException, name: str, verbose: bool) -> None:
    if isinstance(error, click.ClickException):
        error.show()
    elif isinstance(error, SonicscanError):
        FatalError(printable(str(error))).show()
    elif isinstance(error, StdoutError):
        if error.errno != errno.EPIPE:
            FatalError(f"standard output cannot be written: {error.strerror}.").show()
    elif isinstance(error, MemoryError):
        FatalError(f"{name} ran out of memory; --workers 1 --batch-size 1 needs less.").show()
    elif isinstance(error, ModuleNotFoundError) and (extra := extra_of(error.name)) is not None:
        FatalError(missing_extra(f"this command of {name} needs the package {error.name}", extra)).show()
    elif not isinstance(error, KeyboardInterrupt):
        if verbose:
            import traceback

            click.echo("".join(traceback.format_exception(error)), err=True)
        advice = "report it with the lines above" if verbose else "run the command with -v to see where"
        FatalError(f"{name} failed unexpectedly ({_words(error)}); {advice}.").show()


def _end_process(code: int) -> None:
    """End the process at once where a thread was left behind, for example in ONNX Runtime after a second Ctrl-C.

    Python's own end unloads libraries while the thread still runs in them. The process then aborts, and its exit code
    is lost.
    """
    if any(thread.daemon and thread.name.startswith("sonicscan-") for thread in threading.enumerate()):
        atexit._run_exitfuncs()
        sys.stderr.flush()
        os._exit(code)


def _words(error: BaseException) -> str:
    lines = printable(str(error)).strip()[:300].rstrip(".")
    return f"{type(error).__name__}: {lines}" if lines else type(error).__name__


class _Guarded(click.Command):
    """A command that ends a process with the exit codes of `run_program`."""

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> Any:
        """Run as a program; as in `click.Command.main`."""
        if not standalone_mode:
            return super().main(args, prog_name, complete_var, standalone_mode=False, **extra)
        words = list(sys.argv[1:] if args is None else args)
        name = prog_name or Path(sys.argv[0]).name

        def body() -> None:
            self._complete(name, complete_var, extra)
            with self.make_context(name, words, **extra) as context:
                self.invoke(context)

        with safe_streams():
            verbose = any(_VERBOSE.fullmatch(word) for word in words) or os.environ.get("SONICSCAN_VERBOSE", "0") != "0"
            code = run_program(body, name, verbose)
        if args is None:  # this is the process's own program
            _end_process(code)
        sys.exit(code)

    def _complete(self, name: str, variable: str | None, extra: dict[str, Any]) -> None:
        """Print completions if a shell requests them."""
        variable = variable or "_" + re.sub(r"\W", "_", name).upper() + "_COMPLETE"
        if instruction := os.environ.get(variable):
            from click.shell_completion import shell_complete

            failed = shell_complete(self, extra, name, variable, instruction)
            raise Ended(EXIT_FATAL if failed else 0)


class Program(_Guarded):
    """A program that is one command."""


class ProgramGroup(_Guarded, click.Group):
    """A program that is a group of commands; each of them takes -v."""

    def add_command(self, cmd: click.Command, name: str | None = None) -> None:
        """Add a command, and the option -v to it."""
        verbose = ["-v", "--verbose"]
        cmd.params.append(click.Option(verbose, is_flag=True, expose_value=False, help="Show tracebacks."))
        super().add_command(cmd, name)
