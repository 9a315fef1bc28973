"""What every command-line program of the project shares: how errors and file names are shown."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from sonicscan.errors import SonicscanError
from sonicscan.text import printable

if TYPE_CHECKING:
    from sonicscan.library.remote import Location


class LocationType(click.ParamType["Location"]):
    """The name of a file, or a URL."""

    name = "file"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> Location:
        from sonicscan.library.remote import located

        return located(str(value))


class FatalError(click.ClickException):
    """One sentence on stderr and exit code 2."""

    exit_code = 2


@contextlib.contextmanager
def clear_errors() -> Iterator[None]:
    """Turn the project's own errors into one clear sentence and exit code 2."""
    try:
        yield
    except SonicscanError as error:
        raise FatalError(printable(str(error))) from error
