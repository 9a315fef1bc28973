"""A scan with a person or a shell in front of it: messages, rows on stdout, signals.

Messages go to standard error; standard output carries rows and nothing else.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

import click

from sonicscan.console import printable
from sonicscan.discover import Listing
from sonicscan.progress import Progress, Tally
from sonicscan.report import json_line
from sonicscan.results import FileResult
from sonicscan.scanning import ReportedScan, Scan

Say = Callable[[str], None]


def scan_to_report(
    scan: Scan, tracks: Listing, target: Path, since: Path | None, fresh: bool, quiet: bool, verbose: bool, say: Say
) -> Tally:
    """Scan into a report file; returns the counts of all its rows."""
    reported = ReportedScan(scan, tracks, target, since, fresh)
    _announce(scan, say)
    if reported.resumed:
        say(f"going on from {reported.journal.path}, which holds {reported.resumed} rows of an interrupted scan.")
    tally = Tally()
    try:
        with Progress(tally, lambda: _length(tracks), quiet) as progress:

            def each(result: FileResult) -> None:
                tally.add(result)
                tally.carried = reported.n_carried
                _tell_failure(result, verbose, say)
                progress.update()

            reported.run(each)
        carried = reported.carried()
        tally.add_carried(carried.column("status").to_pylist(), carried.column("verdict").to_pylist())
        reported.finish()
    except Interrupted:
        reported.journal.close()
        say(f"interrupted: {tally.tracks} tracks are in {reported.journal.path}; the same command goes on from there.")
        raise
    except BaseException:
        reported.journal.close()
        raise
    _conclude(scan, tracks, tally, say)
    say(f"report   {printable(str(target))}")
    return tally


def scan_to_stdout(scan: Scan, tracks: Listing, json_lines: bool, quiet: bool, verbose: bool, say: Say) -> Tally:
    """Scan onto standard output, a line a track as it completes."""
    _announce(scan, say)
    tally = Tally()
    # A bar would run into the rows where both go to the terminal.
    show = not quiet and not sys.stdout.isatty()
    results = scan.score(tracks)
    with Progress(tally, lambda: _length(tracks), not show) as progress, contextlib.closing(results):
        for result in results:
            tally.add(result)
            line = json_line(result) if json_lines else table_line(result)
            try:
                sys.stdout.buffer.write(line.encode())
                sys.stdout.buffer.flush()
            except BrokenPipeError:
                _leave_closed_pipe()
            _tell_failure(result, verbose, say)
            progress.update()
    _conclude(scan, tracks, tally, say)
    return tally


def table_line(result: FileResult) -> str:
    """score, verdict, status and path, separated by tabs; `-` for what there is not."""
    score = "-" if result.score is None else f"{result.score:.4f}"
    return f"{score}\t{result.verdict or '-'}\t{result.status}\t{printable(result.path)}\n"


def _announce(scan: Scan, say: Say) -> None:
    say(scan.summary)
    for note in scan.notes:
        say(note)


def _conclude(scan: Scan, tracks: Listing, tally: Tally, say: Say) -> None:
    for line in tally.lines():
        say(line)
    stats = scan.stats
    if stats.windows:
        say(
            f"time     {stats.wall_s:.1f} s, {stats.windows} windows, "
            f"{tally.audio_s / stats.wall_s:.0f} times real time; the bottleneck was {stats.bottleneck}"
        )
    if tally.carried:
        say(f"carried  {tally.carried} rows of unchanged files from an earlier scan")
    if tracks.links:
        say(f"linked folders that were not entered: {tracks.links} (--follow-symlinks enters them)")
    if not tally.tracks:
        say(f"no sound files were found ({tracks.others} other files); --include names them by pattern.")


def _tell_failure(result: FileResult, verbose: bool, say: Say) -> None:
    if verbose and result.status != "ok":
        say(f"{result.status}: {printable(result.path)}: {printable(result.error or '')}")


def _length(tracks: Listing) -> int:
    return sum(1 for _ in dataclasses.replace(tracks))


def say_on_stderr(message: str) -> None:
    click.echo(f"sonicscan: {message}", err=True)


def say_nothing(message: str) -> None:
    pass


class Interrupted(SystemExit):
    """SIGINT or SIGTERM has come; the exit code is 128 and its number, as shells have it."""

    def __init__(self, signum: int) -> None:
        super().__init__(128 + signum)


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Let the first SIGINT or SIGTERM raise `Interrupted`, and a second one end the process at once."""

    def first(signum: int, frame: FrameType | None) -> None:
        for number in before:
            signal.signal(number, signal.SIG_DFL)
        raise Interrupted(signum)

    before = {number: signal.signal(number, first) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _leave_closed_pipe() -> None:
    """Whoever read standard output has gone: leave as `head` expects, without a message."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    raise SystemExit(128 + 13)
