"""Options that several commands of `sonicscan-report` share, and the files that they name."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from sonicscan.cli.parameters import FileType

if TYPE_CHECKING:
    from sonicscan.analysis.reviewed import Reviewed
    from sonicscan.analysis.suppliers import Declared

FILE = FileType()
RATE = click.FloatRange(0.0, 1.0, min_open=True, max_open=True)
reviewed_option = click.option(
    "--reviewed",
    type=FILE,
    metavar="FILE",
    help="CSV of decisions: path or content_hash, decision, by, date, expires.",
)
declared_option = click.option(
    "--declared",
    type=FILE,
    metavar="FILE",
    help="Suppliers' declarations (CSV or Parquet): path, isrc or content_hash, and declared.",
)
depth_option = click.option(
    "--depth",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="Folder levels below the common folder that form groups.",
)


def decisions_of(path: Path | None) -> Reviewed | None:
    """The decisions of --reviewed."""
    from sonicscan.analysis.reviewed import load_reviewed

    return None if path is None else load_reviewed(path)


def declarations_of(path: Path | None) -> Declared | None:
    """The declarations of --declared."""
    from sonicscan.analysis.suppliers import load_declared

    return None if path is None else load_declared(path)
