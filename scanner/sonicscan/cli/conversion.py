"""The commands of `sonicscan-report` that write a report in another form: `convert`, `merge` and `html`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sonicscan.cli.parameters import LocationType
from sonicscan.cli.report_options import (
    FILE,
    RATE,
    decisions_of,
    declarations_of,
    declared_option,
    depth_option,
    reviewed_option,
)
from sonicscan.errors import STATUSES, InputError
from sonicscan.model.bundled import DEFAULT
from sonicscan.text import harmless

if TYPE_CHECKING:
    from sonicscan.analysis.explained import Explained
    from sonicscan.library.urls import Location


@click.command()
@click.argument("report", type=LocationType())
@click.option(
    "--out",
    type=FILE,
    required=True,
    help="x.csv, x.jsonl, x.parquet, x.sarif (findings only), or - for JSON Lines on stdout.",
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
@click.option("--fdr", type=RATE, help="Write only tracks that can be flagged at this false-discovery rate.")
@reviewed_option
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
    import pyarrow as pa

    from sonicscan.analysis import catalogue, sarif
    from sonicscan.analysis.filters import Filter
    from sonicscan.report.metadata import metadata_of, with_metadata
    from sonicscan.report.writers import SUFFIXES, check_target, json_line, write_report

    onto_stdout = str(out) == "-"
    if not onto_stdout:
        check_target(out, (*SUFFIXES, sarif.SUFFIX))
    source = catalogue.load(report)
    if fdr is not None and source.metadata.selected:
        raise InputError(f"--fdr needs the p-values of all tracks. {source.partial[0]}")
    wanted = (*verdicts, "flagged") if flagged else verdicts
    chosen = Filter(wanted, statuses, min_score, path, fdr, decisions_of(reviewed))
    rows = chosen.indices(source)
    if onto_stdout:
        for index in rows:
            click.echo(json_line(source.rows[index]), nl=False)
        return
    if out.suffix == sarif.SUFFIX:
        found = sarif.write_sarif(source, (source.rows[index] for index in rows), out)
        click.echo(f"{found:,} findings written to {click.format_filename(out)}.", err=True)
        return
    filtered = source.metadata.joined(str(chosen))
    keys = metadata_of(source.table.schema)
    if filtered is not None:  # the differences are of all tracks
        keys |= {"filtered": json.dumps(filtered), "differences": "[]"}
    write_report(with_metadata(source.table.take(pa.array(rows, pa.int64())), keys), out)
    click.echo(f"{len(rows):,} of {len(source.rows):,} tracks written to {click.format_filename(out)}.", err=True)


@click.command()
@click.argument("reports", type=FILE, nargs=-1, required=True)
@click.option("--out", type=FILE, required=True, metavar="M.parquet", help="The merged report.")
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
    from sonicscan.analysis import merge as merging
    from sonicscan.report.writers import check_target

    if out.suffix != ".parquet":
        raise InputError(f"--out {out}: the name must end in .parquet.")
    check_target(out)
    rows = merging.merge(reports, out, merging.Allowed(allow_gaps, allow_overlap, allow_mixed_models), strip)
    click.echo(f"{rows:,} tracks written to {click.format_filename(out)}.", err=True)


@click.command()
@click.argument("report", type=LocationType())
@click.option("--out", type=FILE, required=True, metavar="X.html", help="The page.")
@click.option("--library", type=FILE, metavar="ROOT", help="The folder that was scanned, for --explain.")
@click.option(
    "--explain", "explain_n", type=click.IntRange(1, 100), metavar="N", help="Evidence for the N highest tracks."
)
@click.option("--model", type=FILE, help=f"The model of the scan, for --explain. [default: {DEFAULT}]")
@click.option("--since", type=FILE, metavar="OLD", help="An earlier report to compare with.")
@click.option("--fdr", type=RATE, default=0.05, show_default=True, help="False-discovery rate to flag at.")
@depth_option
@reviewed_option
@declared_option
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
        raise click.UsageError("--explain N and --library ROOT must be given together; evidence needs the sound files.")
    if model is not None and explain_n is None:
        raise click.UsageError("--model is the model for --explain N, which is missing.")
    from sonicscan.analysis.html import require_libraries, write_page

    require_libraries()
    from sonicscan.analysis import catalogue
    from sonicscan.analysis.diff import compare
    from sonicscan.analysis.page import audit_page

    if out.suffix != ".html":
        raise InputError(f"--out {out}: the name must end in .html.")
    source, decisions = catalogue.load(report), decisions_of(reviewed)
    earlier = None
    if since is not None:
        before = catalogue.load(since)
        before.metadata.require_flags_of(source.metadata, since)
        earlier = compare(before, source, decisions)
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
        declared=declarations_of(declared),
    )
    write_page(text, out)
    for note in notes:
        click.echo(harmless(f"Note: {note}"), err=True)
