"""`sonicscan-report`: shows reports, compares them and explains scores.

Large modules are imported inside the commands, so that `--help` is quick.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sonicscan.cli import conversion, evidence
from sonicscan.cli.console import Ended, ProgramGroup, print_json
from sonicscan.cli.parameters import LocationType
from sonicscan.cli.report_options import (
    RATE,
    decisions_of,
    declarations_of,
    declared_option,
    depth_option,
    reviewed_option,
)

if TYPE_CHECKING:
    from sonicscan.analysis.groups import By
    from sonicscan.library.urls import Location

EXIT_NEWLY_FLAGGED = 1

_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group(cls=ProgramGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="sonicscan", prog_name="sonicscan-report")
def main() -> None:
    """Show, compare and convert the reports that sonicscan writes, and explain scores."""


@main.command()
@click.argument("report", type=LocationType())
def show(report: Location) -> None:
    """Print score, verdict, status and path of every track.

    The highest score comes first. On a terminal the output is a table, otherwise tab-separated lines.
    """
    from sonicscan.analysis import catalogue

    rows = catalogue.by_score(catalogue.load(report).rows)
    if sys.stdout.isatty():
        from sonicscan.analysis import terminal

        terminal.print_rows(rows)
        return
    for line in catalogue.lines(rows):
        click.echo(line)


@main.command()
@click.argument("report", type=LocationType())
@click.option("--fdr", type=RATE, default=0.05, show_default=True, help="False-discovery rate to flag at.")
@click.option("--top", type=click.IntRange(1), default=15, show_default=True, help="Folders and artists to list.")
@click.option(
    "--by", type=click.Choice(["artist", "album", "folder", "label"]), help="Print only groups, with e-values."
)
@depth_option
@reviewed_option
@declared_option
@_json
def summary(
    report: Location,
    fdr: float,
    top: int,
    by: By | None,
    depth: int,
    reviewed: Path | None,
    declared: Path | None,
    as_json: bool,
) -> None:
    """Print counts and the estimated share of AI.

    The summary also estimates how many flags are false.
    """
    if by is not None and declared is not None:
        raise click.UsageError("--by and --declared are mutually exclusive: --by prints only groups.")
    from sonicscan.analysis import catalogue
    from sonicscan.analysis.summary import summarise

    source, decisions = catalogue.load(report), decisions_of(reviewed)
    if by is not None:
        from sonicscan.analysis.groups import groups_of
        from sonicscan.analysis.summary import decided_human, reservations
        from sonicscan.analysis.words import reserved

        groups = groups_of(source.rows, by, decided_human(source.rows, decisions), depth, fdr, source.metadata.selected)
        if as_json:
            print_json(groups)
            return
        from sonicscan.analysis import terminal

        terminal.print_groups(groups, by, fdr, top, reserved(*reservations(source)), source.partial)
        return
    figures = summarise(source, fdr, decisions, depth, declared=declarations_of(declared))
    if as_json:
        print_json(figures)
        return
    from sonicscan.analysis import terminal

    terminal.print_summary(figures, top)


@main.command()
@click.argument("old", type=LocationType())
@click.argument("new", type=LocationType())
@reviewed_option
@_json
@click.option("-q", "--quiet", is_flag=True, help="Print only the newly flagged tracks, one line each.")
def diff(old: Location, new: Location, reviewed: Path | None, as_json: bool, quiet: bool) -> None:
    """Compare two reports of one library.

    Exits with 1 if a track without a decision is flagged in NEW and not in OLD.
    """
    from sonicscan.analysis import catalogue
    from sonicscan.analysis.diff import compare

    before, after = catalogue.load(old), catalogue.load(new)
    before.metadata.require_flags_of(after.metadata, old)
    difference = compare(before, after, decisions_of(reviewed))
    if quiet:
        flagged = {change.path for change in difference.newly_flagged}
        for line in catalogue.lines(catalogue.by_score(row for row in after.rows if row.path in flagged)):
            click.echo(line)
    elif as_json:
        print_json(difference)
    else:
        from sonicscan.analysis import terminal

        terminal.print_difference(difference)
    if difference.newly_flagged:
        raise Ended(EXIT_NEWLY_FLAGGED)


@main.command()
@click.argument("reports", type=LocationType(), nargs=-1, required=True)
@reviewed_option
@_json
def trend(reports: tuple[Location, ...], reviewed: Path | None, as_json: bool) -> None:
    """Show tracks and flags by month.

    Each month is shown by the last of the REPORTS that finished in it.
    """
    from sonicscan.analysis import trend as trends

    months = trends.trend(reports, decisions_of(reviewed))
    if as_json:
        print_json(months)
        return
    from sonicscan.analysis import terminal

    terminal.print_trend(months)


for _command in (conversion.convert, conversion.merge, conversion.html):
    main.add_command(_command)
for _command in (evidence.explain, evidence.case, evidence.sample, evidence.estimate):
    main.add_command(_command)
