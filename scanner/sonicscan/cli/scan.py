"""The `sonicscan` program. It imports heavy modules inside the command, so that `--help` is fast."""

from __future__ import annotations

import contextlib
import datetime
import functools
import importlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sonicscan.cli.console import Ended
from sonicscan.cli.options import INFORMATION, NEW_FLAGGED, Arguments, ScanProgram, scan_options
from sonicscan.errors import InputError
from sonicscan.files import read_at_most
from sonicscan.library.urls import Location, is_url, located
from sonicscan.machine import hold_interrupts, leave_out_pandas, save_address_space, usable_cpus

if TYPE_CHECKING:
    from sonicscan.cli.progress import Tally
    from sonicscan.cli.prometheus import MetricsFile
    from sonicscan.cli.session import Session
    from sonicscan.engine.process import StartWorker
    from sonicscan.library.discovery import Listing

_MAX_LIST_BYTES = 1 << 30  # ten million paths
_EARLY_WORKERS = 4  # at most, because a folder may hold few tracks
EXIT_FAIL_ON, EXIT_ERRORS = 1, 3  # 2 is console.FatalError's, 129, 130 and 143 are a signal's


_SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 100, "auto_envvar_prefix": "SONICSCAN"}


@click.command(
    cls=ScanProgram, context_settings=_SETTINGS, short_help="Score audio files for being AI-generated music."
)
@scan_options
@click.pass_context
def main(ctx: click.Context, /, **given: Any) -> None:
    """Score every audio file below PATHS for being AI-generated music.

    PATHS, the model and reports may also be URLs: s3://bucket/folder, gs://, hf://, https://.

    Exit code 0: done. 1: --fail-on was met. 2: usage error or fatal error, without a report. 3: report written, but
    more than --max-errors tracks failed. 129, 130, 143: interrupted; the same command resumes the scan.
    """
    from sonicscan.cli import configuration

    asked = {name for name in INFORMATION if given.pop(name)}
    configuration.resolve_exclusive(ctx, given)
    configuration.environment_notes(ctx)
    if "show_config" in asked:
        if len(asked) > 1:
            raise click.UsageError("--show-config prints the options alone; ask for the rest in another command.")
        for line in configuration.shown(ctx, given):
            click.echo(line)
    elif asked:
        from sonicscan.cli.doctor import inform

        inform(asked)
    else:
        run(Arguments(**given))


def run(given: Arguments) -> None:
    """Scan as the options say.

    Raises:
        Ended: always, with the exit code.
        SonicscanError: the scan cannot be done.
    """
    save_address_space()  # before numpy and Arrow are imported
    if given.engine == "local":  # Ray Data needs pandas
        leave_out_pandas()
    from sonicscan.engine.process import EarlyWorkers

    with EarlyWorkers(_early_workers(given)) as start_worker:
        with hold_interrupts():
            importlib.import_module("sonicscan.cli.session")  # with nearly all that a scan needs
        _run(given, start_worker)


def _early_workers(given: Arguments) -> int:
    """How many workers start before the tracks are known; one CPU is left for what the scanner imports."""
    if given.engine != "local" or any(map(is_url, given.paths)):
        return 0
    files = given.files_from is None and all(Path(path).suffix for path in given.paths)
    tracks = len(given.paths) if files else _EARLY_WORKERS
    return min(tracks, given.workers or _EARLY_WORKERS, _EARLY_WORKERS, max(1, usable_cpus() - 1))


def _run(given: Arguments, start_worker: StartWorker) -> None:
    from sonicscan.cli.session import interruptible

    following = contextlib.nullcontext() if given.metrics_file is None else _metrics_file(given.metrics_file)
    with interruptible(), following as metrics:  # first of all, so that the metrics show every error of the scan
        _scan(given, start_worker, metrics)


def _scan(given: Arguments, start_worker: StartWorker, metrics: MetricsFile | None) -> None:
    from sonicscan.analysis.reviewed import load_reviewed
    from sonicscan.audio.windows import WindowPlan
    from sonicscan.cli.audit import audit_of, is_audit
    from sonicscan.cli.configuration import command_of
    from sonicscan.cli.session import Session
    from sonicscan.library.roots import Roots
    from sonicscan.library.selection import parse_shard
    from sonicscan.model.sessions import Device
    from sonicscan.scanning.parts import PART_ROWS, PartsSink
    from sonicscan.scanning.reportfile import FileSink
    from sonicscan.scanning.resumable import ResumableScan, comparable_rows
    from sonicscan.scanning.scan import Scan, ScanOptions, local_engine, ray_engine
    from sonicscan.scanning.sinks import Origin, ReportSink
    from sonicscan.scoring.thresholds import DEFAULT_MAX_FPR

    part = None if given.shard is None else parse_shard(given.shard)
    tracks = _tracks(given, part)
    options = ScanOptions(
        model=given.model,
        windows=WindowPlan.parse(given.windows, adaptive=True),
        max_fpr=DEFAULT_MAX_FPR if given.max_fpr is None else given.max_fpr,
        threshold=given.threshold,
        device=Device.parse(given.device),
        workers=given.workers or 0,
        threads=given.threads or 0,
        batch_size=given.batch_size or 0,
        timeout_s=given.timeout,
        hash=given.hash,
        provenance=not given.no_provenance,
        c2pa_trust=given.c2pa_trust,
        max_model_bytes=given.max_model_size,
        model_sha256=given.model_sha256,
        model_key=given.model_key,
    )
    decisions = None if given.reviewed is None else load_reviewed(given.reviewed)
    column = None if decisions is None else functools.partial(decisions.column, today=datetime.date.today())
    series = audit_of(str(given.out), given.since) if is_audit(given) else contextlib.nullcontext()
    with series as audit:
        target = _target(given, None if audit is None else audit.report)
        if given.engine == "local":
            scan = Scan(options, local_engine(options, start_worker))
        else:
            scan = Scan(options, ray_engine(options, given.ray_address, given.gpus_per_actor))
        if given.fail_on - {"generated"} and scan.thresholds is None:
            raise InputError("--fail-on needs verdicts, and this model gives none without --threshold.")
        if "review" in given.fail_on and given.threshold is not None:
            raise InputError("--fail-on review needs --max-fpr: --threshold gives no `review`.")
        unattended = audit is not None and not given.verbose and not sys.stderr.isatty()
        session = Session(scan, tracks, decisions, given.quiet, given.verbose, metrics, unattended)
        if target is None:
            tally = session.to_stdout(given.out == "-")
            _say_failed(session, tally, given)
            raise Ended(_exit_code(tally, given))
        standing = len(scan.notes)
        since, journal, fresh = given.since, given.journal, given.fresh
        if audit is not None:
            since, journal = audit.since, journal or audit.journal()
            scan.notes.extend(audit.notes)
            if audit.starts_anew(scan.key, journal):
                fresh = True
                scan.notes.append("an unfinished scan had another model, windows or version; it is not resumed.")
        roots = Roots.of(tracks.roots)
        earlier = comparable_rows(scan, since, roots)
        before = audit.delivered(roots, part) if audit is not None and NEW_FLAGGED in given.fail_on else None
        for note in scan.notes[standing:] if unattended else ():
            session.say(note)
        origin = Origin(scan, tracks, roots, command_of(vars(given), DEFAULT_MAX_FPR), column)
        sink: ReportSink
        if isinstance(target, Path) and given.into_folder:
            sink = PartsSink(origin, target, fresh, given.part_size or PART_ROWS, journal)
        else:
            sink = FileSink(origin, target, fresh, journal)
        tally = session.to_report(ResumableScan(scan, tracks, sink, earlier))
        newly = 0
        if audit is not None and before is not None:
            found = audit.news(before, roots, decisions)
            audit.deliver(found)
            newly = len(found.flagged)
        code = _exit_code(tally, given, newly)
        _say_failed(session, tally, given)
        if code:
            session.release(name_failed=code == EXIT_ERRORS)
        raise Ended(code)


def _metrics_file(path: Path) -> MetricsFile:
    from sonicscan.cli.prometheus import MetricsFile  # its library takes a tenth of a second to import

    return MetricsFile(path)


def _target(given: Arguments, report: Location | None) -> Location | None:
    """The checked location of the report: `report`, or --out; None for standard output."""
    if given.out is None or given.out == "-":
        return None
    path = located(given.out) if report is None else report
    if isinstance(path, Path) and given.into_folder:
        from sonicscan.scanning.parts import check_folder

        check_folder(path)
    else:
        from sonicscan.report.writers import check_target

        check_target(path)
    return path


def _tracks(given: Arguments, shard: tuple[int, int] | None) -> Listing:
    import dataclasses

    from sonicscan.library.discovery import listing
    from sonicscan.library.lists import file_list
    from sonicscan.library.selection import Selection

    selection = Selection(
        given.include, given.exclude, given.follow_symlinks, shard, given.ignore_file, not given.no_ignore
    )
    tracks = listing(given.paths, selection, given.timeout)
    if given.files_from is None:
        return tracks
    try:
        with click.open_file(given.files_from, "rb") as stream:
            content = read_at_most(stream, _MAX_LIST_BYTES)
    except OSError as error:
        raise InputError(f"the list {given.files_from} cannot be read: {error.strerror}.") from error
    listed = file_list(content, given.files_from, given.null)
    return dataclasses.replace(tracks, roots=tuple(dict.fromkeys([*tracks.roots, *listed])))


def _too_many_failed(tally: Tally, given: Arguments) -> bool:
    limit, percent = given.max_errors
    return tally.failed > (limit / 100 * tally.tracks if percent else limit)


def _say_failed(session: Session, tally: Tally, given: Arguments) -> None:
    """Say why the exit code is 3, if it is."""
    if _too_many_failed(tally, given):
        limit, percent = given.max_errors
        allowed = f"{limit:g}{'%' * percent}"
        names = "" if given.verbose or session.unattended else "; -v names them"
        session.error(f"{tally.failed} of {tally.tracks} tracks failed, and --max-errors allows {allowed}{names}.")


def _exit_code(tally: Tally, given: Arguments, newly: int = 0) -> int:
    if _too_many_failed(tally, given):
        return EXIT_ERRORS
    verdicts = set(given.fail_on & {"flagged", "review"})
    if "review" in verdicts:
        verdicts.add("flagged")
    met = sum(tally.verdicts[verdict] - tally.decided[verdict] for verdict in verdicts)
    if "generated" in given.fail_on:
        met += tally.open_generated
    if NEW_FLAGGED in given.fail_on:
        met += newly
    return EXIT_FAIL_ON if met else 0
