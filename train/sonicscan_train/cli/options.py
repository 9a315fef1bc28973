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
    "--map", "maps", multiple=True, metavar="LABEL=LABEL", help="Rename a label, or drop it: codec=drop."
)


def data_options(command: F) -> F:
    """The options of every command that reads data sets."""
    for option in (
        click.option("--max-bad", default="1%", show_default=True, metavar="N|P%", help="Bad files allowed."),
        map_option,
    ):
        command = option(command)
    return command


def workers_option(command: F) -> F:
    """How many processes decode."""
    return click.option(
        "--workers", type=click.IntRange(0, 256), help="Number of decoding processes. [default: by machine]"
    )(command)


def clips_of(data: tuple[str, ...], maps: tuple[str, ...] = ()) -> list[Clip]:
    """The clips of the data sets, relabelled."""
    from sonicscan_train.data.clips import pairs, relabel
    from sonicscan_train.data.datasets import load

    return relabel(load(data), pairs(maps, "map"))


def workers_of(workers: int | None) -> int:
    """The requested number, or one that suits the machine."""
    from sonicscan.machine import usable_cpus

    return min(8, usable_cpus()) if workers is None else workers
