"""`sonicscan-report`: shows reports, compares them and explains scores.

Large modules are imported inside the commands, so that `--help` is quick.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sonicscan.cli import conversion, evidence
from sonicscan.cli.console import Ended, ProgramGroup
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
    from sonicscan.analysis.diff import Difference
    from sonicscan.analysis.groups import By, Group
    from sonicscan.analysis.summary import Summary
    from sonicscan.analysis.trend import Month
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
<<<<<<< HEAD
@click.option("--by", type=click.Choice(["artist", "album", "folder", "label"]), help="Only groups, with e-values.")
@depth_option
@reviewed_option
@declared_option
=======
@click.option(
    "--by", type=click.Choice(["artist", "album", "folder", "label"]), help="Print only groups, with e-values."
)
@_depth
@_reviewed
@_declared
>>>>>>> 165c253 (Help texts, findings and pages in plain English; man pages follow)
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
<<<<<<< HEAD
    """Counts, the estimated share of AI, and how many flags are expected to be false."""
    from sonicscan.analysis import catalogue
    from sonicscan.analysis.summary import summarise
=======
    """Print counts and the estimated share of AI.

    The summary also estimates how many flags are false.
    """
    with clear_errors():
        from sonicscan.analysis import catalogue
        from sonicscan.analysis.summary import summarise
>>>>>>> 165c253 (Help texts, findings and pages in plain English; man pages follow)

    source, decisions = catalogue.load(report), decisions_of(reviewed)
    if by is not None:
        from sonicscan.analysis.groups import groups_of
        from sonicscan.analysis.summary import decided_human

        groups = groups_of(source.rows, by, decided_human(source.rows, decisions), depth, fdr)
        if as_json:
            _print_json(groups)
            return
        from sonicscan.analysis import terminal

        terminal.print_groups(groups, by, fdr, top)
        return
    figures = summarise(source, fdr, decisions, depth, declared=declarations_of(declared))
    if as_json:
        _print_json(figures)
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

    after = catalogue.load(new)
    difference = compare(catalogue.load(old), after, decisions_of(reviewed))
    if quiet:
        flagged = {change.path for change in difference.newly_flagged}
        for line in catalogue.lines(catalogue.by_score(row for row in after.rows if row.path in flagged)):
            click.echo(line)
    elif as_json:
        _print_json(difference)
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
<<<<<<< HEAD
    """Show tracks and flags by month, from the last report of each month among the REPORTS of an audit."""
    from sonicscan.analysis import trend as trends
=======
    """Show tracks and flags by month.

    Each month is shown by the last of the REPORTS that finished in it.
    """
    with clear_errors():
        from sonicscan.analysis import trend as trends
>>>>>>> 165c253 (Help texts, findings and pages in plain English; man pages follow)

    months = trends.trend(reports, decisions_of(reviewed))
    if as_json:
        _print_json(months)
        return
    from sonicscan.analysis import terminal

<<<<<<< HEAD
    terminal.print_trend(months)
=======
        terminal.print_trend(months)


@main.command()
@click.argument("report", type=LocationType())
@click.option(
    "--out", type=_FILE, required=True, help="x.csv, x.jsonl or x.parquet, or - for JSON Lines on standard output."
)
@click.option("--flagged", is_flag=True, help="The same as --verdict flagged.")
@click.option(
    "--verdict",
    "verdicts",
    multiple=True,
    type=click.Choice(["flagged", "review", "clear"]),
    help="Write only tracks with this verdict.",
)
@click.option(
    "--status",
    "statuses",
    multiple=True,
    type=click.Choice(STATUSES),
    metavar="STATUS",
    help="Write only tracks with this status.",
)
@click.option("--min-score", type=click.FloatRange(0.0, 1.0), help="Write only tracks with at least this score.")
@click.option("--path", metavar="GLOB", help="Write only paths that match; * matches / too.")
@click.option("--fdr", type=_RATE, help="Write only tracks that can be flagged at this false-discovery rate.")
@_reviewed
def convert(
    report: Location,
    out: Path,
    flagged: bool,
    verdicts: tuple[str, ...],
    statuses: tuple[str, ...],
    min_score: float | None,
    path: str | None,
    fdr: float | None,
    reviewed: Path | None,
) -> None:
    """Write a report, or a part of it, in another format.

    A row is written if it meets every condition. With --reviewed, tracks that people have decided about are left out.
    """
    with clear_errors():
        import pyarrow as pa

        from sonicscan.analysis import catalogue
        from sonicscan.analysis.filters import Filter
        from sonicscan.report.metadata import metadata_of, with_metadata
        from sonicscan.report.writers import check_target, json_line, write_report

        onto_stdout = str(out) == "-"
        if not onto_stdout:
            check_target(out)
        source = catalogue.load(report)
        wanted = (*verdicts, "flagged") if flagged else verdicts
        chosen = Filter(wanted, statuses, min_score, path, fdr, _decisions(reviewed))
        rows = chosen.indices(source)
        if onto_stdout:
            for index in rows:
                click.echo(json_line(source.rows[index]), nl=False)
            return
        keys = metadata_of(source.table.schema) | ({"filtered": json.dumps(str(chosen))} if str(chosen) else {})
        write_report(with_metadata(source.table.take(pa.array(rows, pa.int64())), keys), out)
        click.echo(f"{len(rows):,} of {len(source.rows):,} tracks written to {click.format_filename(out)}.", err=True)


@main.command()
@click.argument("reports", type=_FILE, nargs=-1, required=True)
@click.option("--out", type=_FILE, required=True, metavar="M.parquet", help="The merged report.")
@click.option("--allow-gaps", is_flag=True, help="Allow missing shards.")
@click.option("--allow-overlap", is_flag=True, help="Allow a path in two reports; the later report's row is kept.")
@click.option("--allow-mixed-models", is_flag=True, help="Allow different models, windows and thresholds.")
@click.option("--strip", multiple=True, metavar="FOLDER", help="Remove this folder from the start of paths.")
def merge(
    reports: tuple[Path, ...],
    out: Path,
    allow_gaps: bool,
    allow_overlap: bool,
    allow_mixed_models: bool,
    strip: tuple[str, ...],
) -> None:
    """Join the reports of shards, or of several libraries."""
    with clear_errors():
        from sonicscan.analysis import merge as merging
        from sonicscan.report.writers import check_target

        if out.suffix != ".parquet":
            raise InputError(f"--out {out}: the name must end in .parquet.")
        check_target(out)
        rows = merging.merge(reports, out, merging.Allowed(allow_gaps, allow_overlap, allow_mixed_models), strip)
        click.echo(f"{rows:,} tracks written to {click.format_filename(out)}.", err=True)


def _decisions(path: Path | None) -> Reviewed | None:
    from sonicscan.analysis.reviewed import load_reviewed

    return None if path is None else load_reviewed(path)


def _declarations(path: Path | None) -> Declared | None:
    from sonicscan.analysis.suppliers import load_declared

    return None if path is None else load_declared(path)
>>>>>>> 165c253 (Help texts, findings and pages in plain English; man pages follow)


def _print_json(figures: Summary | Difference | list[Month] | tuple[Group, ...]) -> None:
    plain = (
        [dataclasses.asdict(f) for f in figures] if isinstance(figures, list | tuple) else dataclasses.asdict(figures)
    )
    click.echo(json.dumps(plain, indent=2, allow_nan=False))


<<<<<<< HEAD
for _command in (conversion.convert, conversion.merge, conversion.html):
    main.add_command(_command)
=======
@main.command()
@click.argument("report", type=LocationType())
@click.option("--out", type=_FILE, required=True, metavar="X.html", help="The page.")
@click.option("--library", type=_FILE, metavar="ROOT", help="The folder that was scanned, for --explain.")
@click.option(
    "--explain", "explain_n", type=click.IntRange(1, 100), metavar="N", help="Evidence for the N highest tracks."
)
@click.option("--model", type=_FILE, help=f"The model of the scan, for --explain. [default: {DEFAULT}]")
@click.option("--since", type=_FILE, metavar="OLD", help="An earlier report to compare with.")
@click.option("--fdr", type=_RATE, default=0.05, show_default=True, help="False-discovery rate to flag at.")
@_depth
@_reviewed
@_declared
def html(
    report: Location,
    out: Path,
    library: Path | None,
    explain_n: int | None,
    model: Path | None,
    since: Path | None,
    fdr: float,
    depth: int,
    reviewed: Path | None,
    declared: Path | None,
) -> None:
    """Write one page about a report, which works offline.

    The page fetches nothing. With --explain it holds short excerpts of the explained tracks.
    """
    if (explain_n is None) != (library is None):
        raise click.UsageError(
            "--explain N and --library ROOT must be given together: the evidence needs the sound files."
        )
    with clear_errors():
        from sonicscan.analysis.html import require_libraries, write_page

        require_libraries()
        from sonicscan.analysis import catalogue
        from sonicscan.analysis.diff import compare
        from sonicscan.analysis.page import audit_page

        if out.suffix != ".html":
            raise InputError(f"--out {out}: the name must end in .html.")
        source, decisions = catalogue.load(report), _decisions(reviewed)
        earlier = None if since is None else compare(catalogue.load(since), source, decisions)
        explained: dict[bytes, Explained] = {}
        notes: list[str] = []
        if library is not None and explain_n is not None:
            from sonicscan.analysis.highest import explain_highest
            from sonicscan.model.bundled import chosen_model

            explained, notes = explain_highest(source, library, explain_n, chosen_model(model))
        text = audit_page(
            source,
            out,
            fdr=fdr,
            depth=depth,
            reviewed=decisions,
            earlier=earlier,
            evidence=explained,
            notes=notes,
            declared=_declarations(declared),
        )
        write_page(text, out)


>>>>>>> 165c253 (Help texts, findings and pages in plain English; man pages follow)
for _command in (evidence.explain, evidence.case, evidence.sample, evidence.estimate):
    main.add_command(_command)
