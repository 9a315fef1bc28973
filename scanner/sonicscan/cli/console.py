"""What every command-line program of the project shares: how errors and file names are shown."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar

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


class Size(click.ParamType[int]):
    """A number of bytes, such as 500MB or 2GB."""

    name = "SIZE"
    _UNITS: ClassVar = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        match = re.fullmatch(r"(\d{1,15}) ?([KMG]?I?B?)", str(value).upper())
        if match is None or match[2] not in self._UNITS:
            self.fail(f"{value!r} is not a size such as 500MB or 2GB.", param, ctx)
        return int(match[1]) * self._UNITS[match[2]]


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
