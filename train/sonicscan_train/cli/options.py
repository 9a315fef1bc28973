"""Options that several commands share. Heavy modules are imported inside functions: `--help` is instant."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from sonicscan_train.data.clips import Clip

F = TypeVar("F", bound=Callable[..., Any])
FILE = click.Path(path_type=Path)

map_option = click.option(
    "--map",
    "maps",
    multiple=True,
    metavar="NAME=LABEL",
    help="Relabel a label or a source; codec=drop leaves clips out.",
)
max_bad_option = click.option(
    "--max-bad", default="1%", show_default=True, metavar="N|P%", help="Missing or unreadable files allowed."
)
family_option = click.option(
    "--family", multiple=True, metavar="SOURCE=NAME", help="Rename a source, or a pattern, as a class."
)
families_option = click.option(
    "--families", metavar="NAME|FILE.toml", help="Classes and their sources, such as `techniques`."
)
windows_option = click.option(
    "--windows", default="12", show_default=True, metavar="N|all", help="Windows to score in each track."
)
bootstraps_option = click.option(
    "--bootstraps", type=click.IntRange(min=1), default=1000, show_default=True, help="Draws of the 95% intervals."
)
license_option = click.option("--license-note", default="", help="Terms of weights and data; stored in the model.")
workers_option = click.option(
    "--workers", type=click.IntRange(0, 256), help="Number of decoding processes. [default: by machine]"
)


def family_options(command: F) -> F:
    """The options that group sources into classes."""
    return family_option(families_option(command))


def data_options(command: F) -> F:
    """The options of every command that reads data sets."""
    return map_option(max_bad_option(command))


def clips_of(data: tuple[str, ...], maps: tuple[str, ...] = ()) -> list[Clip]:
    """The clips of the data sets, relabelled."""
    from sonicscan_train.data.clips import pairs, relabel
    from sonicscan_train.data.datasets import load

    return relabel(load(data), pairs(maps, "map"))


def families_of(family: tuple[str, ...], families: str | None) -> dict[str, str]:
    """Class names by source or pattern: those of `--family`, then those of the file."""
    from sonicscan_train.data.clips import pairs
    from sonicscan_train.data.families import read_families

    found = pairs(family, "family")
    for source, name in read_families(families).items() if families else ():
        found.setdefault(source, name)
    return found


def workers_of(workers: int | None) -> int:
    """The requested number, or one that suits the machine."""
    from sonicscan.machine import usable_cpus

    return min(8, usable_cpus()) if workers is None else workers
