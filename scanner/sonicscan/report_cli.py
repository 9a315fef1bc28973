"""`sonicscan-report`: looks at reports, compares them and explains scores.

Everything heavy is imported inside the commands, so that `--help` is quick.
"""

from __future__ import annotations

import sys
from pathlib import Path

import click

from sonicscan.console import clear_errors

_REPORT = click.Path(path_type=Path)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="sonicscan", prog_name="sonicscan-report")
def main() -> None:
    """Look at the reports that sonicscan writes."""


@main.command()
@click.argument("report", type=_REPORT)
def show(report: Path) -> None:
    """Print score, verdict, status and path of every track, highest score first.

    A table on a terminal; tab-separated lines anywhere else.
    """
    with clear_errors():
        from sonicscan.reporting import catalogue

        rows = catalogue.by_score(catalogue.load(report).rows)
        if sys.stdout.isatty():
            from sonicscan.reporting import terminal

            terminal.print_rows(rows)
            return
        for line in catalogue.lines(rows):
            click.echo(line)
