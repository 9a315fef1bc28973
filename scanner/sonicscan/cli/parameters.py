"""The types of the programs' options: they parse and check values of the command line."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import click

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from sonicscan.library.urls import Location


def file_names(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Let the shell complete file names."""
    from click.shell_completion import CompletionItem

    return [CompletionItem(incomplete, type="file")]


class LocationType(click.ParamType["Location"]):
    """The name of a file, or a URL."""

    name = "file"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> Location:
        from sonicscan.library.urls import located

        if not value:
            self.fail("the name is empty.", param, ctx)
        return located(str(value))

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Completes file names, and names of bundled models for model options."""
        from click.shell_completion import CompletionItem

        names: list[str] = []
        if param.name == "model":
            from sonicscan.model.bundled import bundled_models

            names = [name for name in bundled_models() if name.startswith(incomplete)]
        return [*map(CompletionItem, names), *file_names(ctx, param, incomplete)]


LATEST = Path("latest")  # as --since: the newest report of the series that --out names


class SinceType(LocationType):
    """The name of a report, a URL, or the word `latest`."""

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> Location:
        """The location; `LATEST` only for the word. The path `./latest` becomes absolute, and so differs from it."""
        found = super().convert(value, param, ctx)
        return found.absolute() if isinstance(found, Path) and found == LATEST and value != str(LATEST) else found


class FileType(click.Path):
    """The name of a local file; refuses URLs, and an empty name, which would mean the working folder."""

    def __init__(self) -> None:
        super().__init__(path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not str(value):
            self.fail("the name is empty.", param, ctx)
        if "://" in str(value):  # a `Path` has no double slash
            from sonicscan.library.urls import Url, located

            value = located(value)
            if isinstance(value, Url):
                self.fail(f"{value} is a URL; name a file on this machine.", param, ctx)
        return super().convert(value, param, ctx)


class Size(click.ParamType[int]):
    """A number of bytes, such as 500MB or 2GB."""

    name = "SIZE"
    _UNITS: ClassVar = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        match = re.fullmatch(r"(\d{1,15}) ?([KMG]?I?B?)", str(value).upper())
        if match is None or match[2] not in self._UNITS:
            self.fail(f"{value!r} is not a size such as 500MB or 2GB.", param, ctx)
        return int(match[1]) * self._UNITS[match[2]]


class FailOn(click.ParamType[frozenset[str]]):
    """One or several findings, separated by commas."""

    def __init__(self, kinds: Sequence[str]) -> None:
        self.name = ",".join(kinds)
        self._kinds = kinds

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> frozenset[str]:
        if isinstance(value, frozenset):
            return value
        kinds = frozenset(part.strip() for part in str(value).split(","))
        for kind in sorted(kinds - set(self._kinds)):
            self.fail(f"{kind!r} is none of {', '.join(self._kinds)}; separate several by commas.", param, ctx)
        return kinds

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Completes the last of the findings."""
        from click.shell_completion import CompletionItem

        before, comma, last = incomplete.rpartition(",")
        return [CompletionItem(f"{before}{comma}{kind}") for kind in self._kinds if kind.startswith(last)]


class MaxErrors(click.ParamType[tuple[float, bool]]):
    """`N` tracks, or `P%` of them."""

    name = "N|P%"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> tuple[float, bool]:
        if isinstance(value, tuple):
            return value
        match = re.fullmatch(r"(\d+(?:\.\d+)?)(%?)", str(value))
        if not match or (not match[2] and "." in match[1]):
            self.fail(f"{value!r} is neither a number of tracks nor a percentage such as 2%.", param, ctx)
        return float(match[1]), bool(match[2])
