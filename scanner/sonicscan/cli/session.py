"""Runs a scan from the command line: messages, rows on stdout, signals.

Messages go to standard error; standard output carries only rows.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import heapq
import itertools
import signal
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from types import FrameType
from typing import TYPE_CHECKING, TextIO

import click
import pyarrow as pa
import pyarrow.compute as pc

from sonicscan.analysis.catalogue import lines
from sonicscan.analysis.reviewed import Reviewed
from sonicscan.analysis.words import CERTIFIED_ELSEWHERE, WAY_OUT
from sonicscan.cli.console import Ended
from sonicscan.cli.progress import Progress, Tally
from sonicscan.errors import FAILED_STATUSES
from sonicscan.library.discovery import Listing
from sonicscan.machine import interrupts, on_interrupt
from sonicscan.provenance.record import GENERATION
from sonicscan.report.row import FileResult
from sonicscan.report.schema import to_results
from sonicscan.report.writers import json_line
from sonicscan.scanning.resumable import ResumableScan
from sonicscan.scanning.scan import Scan
from sonicscan.text import harmless, printable

if TYPE_CHECKING:
    from sonicscan.cli.prometheus import MetricsFile

_NAMED = 10  # failed tracks that an unattended scan names


@dataclass(frozen=True)
class Session:
    """The output of a scan for the user.

    Attributes:
        scan: ready to run.
        tracks: what to run it on.
        reviewed: decisions on tracks; None for no decisions.
        quiet: only errors on stderr.
        verbose: a message for each track that is not `ok`.
        metrics: a file for the scan's metrics; None for no file.
        unattended: messages are stored until `release`, because cron may mail the text on stderr.
    """

    scan: Scan
    tracks: Listing
    reviewed: Reviewed | None = None
    quiet: bool = False
    verbose: bool = False
    metrics: MetricsFile | None = None
    unattended: bool = False
    _held: list[str] = field(default_factory=list, init=False)
    _failed: list[FileResult] = field(default_factory=list, init=False)  # the first failed tracks by path
    _unmatched: set[str] = field(default_factory=set, init=False)  # what decisions name and no row has had yet

    def __post_init__(self) -> None:
        if self.reviewed is not None:
            self._unmatched.update(self.reviewed.by_path, self.reviewed.by_hash)

    def to_report(self, reported: ResumableScan) -> Tally:
        """Scan into a report; returns the counts of all its rows."""
        self._announce()
        if reported.sink.resumed:
            self.say(
                f"resuming from {reported.sink.kept_in}, with {reported.sink.resumed} rows of an interrupted scan."
            )
        tally = self._tally()
        try:
            with self._progress(tally, not self.quiet and not self.unattended) as progress, _only_data():

                def each(result: FileResult) -> None:
                    self._note(result, tally)
                    progress.update()

                def carried(rows: int) -> None:
                    tally.carried = rows

                reported.run(each, carried)
            for without_effect in filter(None, (reported.nothing_resumed(), reported.nothing_carried())):
                self.say(without_effect)
            tally.carried = 0
            for rows in reported.carried():
                self._add_carried(rows, tally)
            reported.finish()
        except Interrupted:
            reported.sink.close()
            kept = f"{reported.sink.resumed + tally.fresh} rows are in {reported.sink.kept_in}"
            self.say(f"interrupted: {kept}; the same command resumes the scan.")
            self.release()
            raise
        except BaseException:
            reported.sink.close()
            raise
        self._conclude(tally)
        if found := reported.sink.differences:
            self.say(f"{CERTIFIED_ELSEWHERE}: {'; '.join(found)}. {WAY_OUT}")
        self.say(f"report   {printable(str(reported.sink.out))}")
        return tally

    def to_stdout(self, json_lines: bool) -> Tally:
        """Scan to standard output, one line for each track when it is done."""
        self._announce()
        tally = self._tally()
        results = self.scan.score(self.tracks)
        # A bar would mix with the rows if both were on the terminal.
        shown = not self.quiet and not sys.stdout.isatty()
        with self._progress(tally, shown) as progress, contextlib.closing(results), _only_data() as stdout:
            for result in map(self._with_decision, results):
                line = json_line(result) if json_lines else next(lines([result])) + "\n"
                stdout.buffer.write(line.encode())
                stdout.buffer.flush()
                self._note(result, tally)
                progress.update()
        self._conclude(tally)
        return tally

    def _with_decision(self, result: FileResult) -> FileResult:
        decision = None if self.reviewed is None else self.reviewed.valid(result, datetime.date.today())
        return result if decision is None else dataclasses.replace(result, decision=decision.decision)

    def say(self, message: str) -> None:
        """Print a message on stderr, unless `quiet` is set."""
        if self.unattended:
            self._held.append(message)
        elif not self.quiet:
            self.error(message)

    def error(self, message: str) -> None:
        """Print a message on stderr, also if `quiet` or `unattended` is set."""
        click.echo(f"sonicscan: {harmless(message)}", err=True)

    def release(self, name_failed: bool = False) -> None:
        """Print the stored messages of an unattended scan, because there is news.

        Args:
            name_failed: name the first few tracks that failed too.
        """
        if not self.unattended or self.quiet:
            return
        for result in self._failed if name_failed else ():
            self._note_failed(result)
        for message in self._held:
            self.error(message)
        self._held.clear()

    def _progress(self, tally: Tally, shown: bool) -> Progress:
        return Progress(tally, lambda: sum(1 for _ in dataclasses.replace(self.tracks)), not shown)

    def _tally(self) -> Tally:
        tally = Tally()
        if self.metrics is not None:
            self.metrics.watch(tally, self.scan.engine.stats)
        return tally

    def _note(self, result: FileResult, tally: Tally) -> None:
        tally.add(result, self._is_decided(result))
        if result.status in FAILED_STATUSES:
            self._keep_failed([result])
        self._unmatched.difference_update((result.path, result.content_hash or ""))
        if self.verbose and result.status != "ok":
            self._note_failed(result)

    def _note_failed(self, result: FileResult) -> None:
        self.say(f"{result.status}: {printable(result.path)}: {printable(result.error or '')}")

    def _keep_failed(self, results: Iterable[FileResult]) -> None:
        self._failed[:] = heapq.nsmallest(
            _NAMED, itertools.chain(self._failed, results), key=lambda result: result.path
        )

    def _is_decided(self, result: FileResult) -> bool:
        return self.reviewed is not None and self.reviewed.covers(result, datetime.date.today()) is not None

    def _add_carried(self, carried: pa.Table, tally: Tally) -> None:
        if self._unmatched:
            for name in ("path", "content_hash"):
                self._unmatched.difference_update(carried.column(name).to_pylist())
        self._keep_failed(to_results(carried.filter(pc.is_in(carried.column("status"), pa.array(FAILED_STATUSES)))))
        claims = pc.struct_field(carried.column("provenance"), "claim")
        declared = carried.filter(pc.is_in(claims, pa.array(GENERATION)))
        found = carried.filter(pc.is_in(carried.column("verdict"), pa.array(["flagged", "review"])))
        decided = [row.verdict for row in to_results(found) if self._is_decided(row)] if self.reviewed else []
        open_generated = declared.num_rows
        if self.reviewed:
            open_generated -= sum(self._is_decided(row) for row in to_results(declared))
        tally.add_carried(
            carried.column("status").to_pylist(),
            carried.column("verdict").to_pylist(),
            decided,
            claims.to_pylist(),
            open_generated,
        )

    def _announce(self) -> None:
        if self.unattended:  # true every night: no news
            return
        self.say(self.scan.engine.summary)
        for note in self.scan.notes:
            self.say(note)

    def _conclude(self, tally: Tally) -> None:
        for line in tally.lines():
            self.say(line)
        stats = self.scan.engine.stats
        if stats.windows:
            self.say(
                f"time     {stats.wall_s:.1f} s, {stats.windows} windows, "
                f"{tally.audio_s / stats.wall_s:.0f} times real time; the bottleneck was {stats.bottleneck}"
            )
        if tally.carried:
            self.say(f"carried  {tally.carried} rows of unchanged files from an earlier scan")
        if self.reviewed is not None:
            self.say(f"reviewed findings with a decision in --reviewed: {tally.decided.total()}")
        if self._unmatched:
            named = ", ".join(sorted(self._unmatched)[:3]) + (", ..." if len(self._unmatched) > 3 else "")
            self.say(f"reviewed decisions about tracks that this scan did not find: {len(self._unmatched)} ({named})")
            if (
                self.reviewed is not None
                and self._unmatched & self.reviewed.by_hash.keys()
                and not self.scan.options.hash
            ):
                self.say("reviewed decisions by content hash need --hash")
        self._conclude_listing()
        if self.tracks.links:
            self.say(f"linked folders that were not entered: {self.tracks.links} (--follow-symlinks enters them)")
        if not tally.tracks:
            self.say(f"no sound files were found ({self.tracks.others} other files); --include names them by pattern.")

    def _conclude_listing(self) -> None:
        """Report what the listing left out; warnings appear even with `quiet`."""
        for note in self.tracks.notes:
            click.echo(f"sonicscan: {printable(note)}", err=True)
        left_out = self.tracks.left_out
        for rule in left_out.rules:
            what = f"{left_out.files[rule]} files and {left_out.folders[rule]} folders"
            self.say(printable(f"left out {what} by the pattern {rule.text!r} of {rule.origin}"))
        for rule in self.tracks.unmatched:
            self.say(printable(f"the pattern {rule.text!r} of {rule.origin} matched nothing"))
        if self.tracks.system_files:
            self.say(f"left out {self.tracks.system_files} files of operating systems (such as ._* and .DS_Store)")


class Interrupted(Ended):
    """SIGINT, SIGTERM or SIGHUP arrived; the exit code is 128 plus its number, as in shells."""

    def __init__(self, signum: int) -> None:
        super().__init__(128 + signum)


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Let the first of `interrupts` raise `Interrupted`, and a second one end the process at once.

    After a SIGHUP, further ones are ignored: both the shell and the system send one when a terminal is closed.
    """

    def first(signum: int, frame: FrameType | None) -> None:
        for number in interrupts():
            again = number == signum and number not in (signal.SIGINT, signal.SIGTERM)
            signal.signal(number, signal.SIG_IGN if again else signal.SIG_DFL)
        raise Interrupted(signum)

    with on_interrupt(first):
        yield


@contextlib.contextmanager
def _only_data() -> Iterator[TextIO]:
    """Reserve standard output for rows: prints of libraries, such as Ray, go to standard error."""
    stdout = sys.stdout
    with contextlib.redirect_stdout(sys.stderr):
        yield stdout
