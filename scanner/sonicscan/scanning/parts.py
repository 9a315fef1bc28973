"""A report that is a folder of parts, for catalogues whose rows do not fit into memory.

    folder/_journal              rows that are not in a part yet (Journal)
    folder/part-000000.parquet   a part, sorted by path; it appears whole or not at all
    folder/_SUCCESS              an empty file: the scan is complete

A part is written from the whole journal, which is then cleared. If the scan dies between these steps, both hold the
same rows, and the next start detects this. Until `_SUCCESS` exists, the same command resumes the scan. It keeps eight
bytes in memory for each finished row. At the end it removes outdated rows from the parts: their files changed, vanished
or were scored again. Names that begin with `_` are not data to Arrow, Spark, DuckDB and their like.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from sonicscan.errors import InputError, ReportError
from sonicscan.files import only_users_own, same_place, write_whole
from sonicscan.library.discovery import of_system
from sonicscan.library.tracks import Track
from sonicscan.library.urls import Location
from sonicscan.report.bounded import read_bounded, schema_of
from sonicscan.report.compared import COLUMNS, MOST_ROWS
from sonicscan.report.metadata import ReportMetadata, with_metadata
from sonicscan.report.readers import PART_GLOB, SUCCESS, part_number, read_report, sorted_parts
from sonicscan.report.row import FileResult
from sonicscan.report.schema import sort_rows
from sonicscan.report.writers import write_report
from sonicscan.scanning.journal import Journal, key_of_journal, of_another_scan
from sonicscan.scanning.reuse import identified
from sonicscan.scanning.sinks import Origin

PART_ROWS = 50_000
JOURNAL = "_journal"
_PART_MODE = 0o644  # a part that a group may write would not count when the scan is resumed


def check_folder(folder: Path) -> None:
    """Raise `InputError` unless a report can be written into `folder`, which need not be there."""
    if not folder.exists():
        if not folder.parent.is_dir():
            raise InputError(f"--out {folder}/: there is no folder {folder.parent}.")
        return
    if not folder.is_dir():
        raise InputError(f"--out {folder}/: that is a file.")
    if (other := _other_file(folder)) is not None:
        raise InputError(f"--out {folder}/: there are other files in it ({other.name}); name a new or an empty folder.")


def keys_of_unfinished(folder: Path, journal: Path | None = None) -> frozenset[str]:
    """The keys of the scans whose unfinished report `folder` and `journal` hold; None for a journal in the folder.

    Empty for a finished report, for a folder with other files, and for one whose journal and parts cannot be read.
    """
    keys: set[str | None] = set()
    with contextlib.suppress(OSError, ReportError):
        if not (folder / SUCCESS).exists() and _other_file(folder) is None:
            keys.add(key_of_journal(journal or folder / JOURNAL))
            keys.update(ReportMetadata.of(schema_of(part), part).key for part in sorted_parts(folder)[:1])
    return frozenset(key for key in keys if key is not None)


def _other_file(folder: Path) -> Path | None:
    """A file in `folder` that belongs to no report; None if there is none, or no folder."""
    if not folder.exists():
        return None
    ours = {JOURNAL, SUCCESS}
    others = (
        p for p in folder.iterdir() if p.name not in ours and not p.match(f"*{PART_GLOB}*") and not of_system(p.name)
    )
    return next(others, None)


class PartsSink:
    """A `ReportSink` that writes a folder of parts.

    Args:
        origin: the scan.
        out: the folder.
        fresh: delete the rows that an interrupted or a finished scan left.
        part_rows: rows of a part.
        journal: rows that are in no part yet; None for a file in the folder.

    Raises:
        InputError: the journal is a file of the folder under another name than `JOURNAL`.
        ReportError: the folder holds a finished report or the parts of another scan.
    """

    def __init__(
        self,
        origin: Origin,
        out: Path,
        fresh: bool = False,
        part_rows: int = PART_ROWS,
        journal: Path | None = None,
    ) -> None:
        if journal is not None and journal.name != JOURNAL and same_place(journal.parent, out):
            raise InputError(f"--journal {journal} is in the report {out}; name a file outside that folder.")
        self.out: Location = out
        self.kept_in = out
        self._folder = out
        self.differences: tuple[str, ...] = ()
        self._origin = origin
        self._part_rows = part_rows
        if (out / SUCCESS).exists() and not fresh:
            raise ReportError(f"{out} holds a finished report; name another folder, or replace it with --fresh.")
        try:
            out.mkdir(exist_ok=True)
        except OSError as error:
            raise ReportError(f"the folder {out} cannot be made: {error.strerror}.") from error
        self._journal = Journal(journal or out / JOURNAL, origin.key, fresh)
        try:
            if fresh:  # delete the marker first, so that remaining parts do not look like a report
                for path in (out / SUCCESS, *self._parts):
                    path.unlink(missing_ok=True)
            self._check_parts()
            self._empty_journal()
            self.known = _Done(self._parts, origin.needed)
        except BaseException:
            self.close()
            raise
        self.resumed = len(self.known.keys)

    def append(self, results: Sequence[FileResult]) -> None:
        while results:
            room = self._part_rows - len(self._journal)
            self._journal.append(results[:room])
            results = results[room:]
            if len(self._journal) == self._part_rows:
                self._write_part(self._journal.rows())
                self._journal.clear()

    def carried(self) -> Iterator[pa.Table]:
        for part in self.known.parts:
            yield self._kept(part)

    def finish(self, further: Iterable[pa.Table]) -> None:
        """Writes the last rows as a part, removes outdated rows from the parts, writes the report's differences into
        its first part, and writes the marker."""
        if len(self._journal) or not self._parts:
            self._write_part(self._journal.rows())
            self._journal.clear()
        for rows in further:
            for start in range(0, rows.num_rows, self._part_rows):
                self._write_part(rows.slice(start, self._part_rows))
        for part in self.known.parts:
            kept = self._kept(part)
            if kept.num_rows != pq.read_metadata(part).num_rows or not self._is_current(part, kept):
                self._write_part(kept, part)
        self.differences = self._origin.differences(self._compared())
        first = self._parts[0]
        if ReportMetadata.of(schema_of(first), first).differences != self.differences:
            self._write_part(read_report(first), first)
        try:
            write_whole(self._folder / SUCCESS, b"")
        except OSError as error:
            raise ReportError(f"{self._folder / SUCCESS} could not be written: {error.strerror}.") from error
        self._journal.remove()

    def close(self) -> None:
        self._journal.close()

    def _compared(self) -> pa.Table:
        """Rows from all parts that are compared with the calibration; few enough for any memory."""
        parts = self._parts
        each = -(-MOST_ROWS // len(parts))
        thinned = []
        for part in parts:
            rows = read_bounded(part, COLUMNS)
            chosen = np.linspace(0, rows.num_rows, min(each, rows.num_rows), endpoint=False).astype(np.int64)
            # pyarrow gets lists here and in `_kept`, because numpy arrays make it import numpy.ma, which takes 30 ms.
            thinned.append(rows.take(pa.array(chosen.tolist(), pa.int64())))
        return pa.concat_tables(thinned).replace_schema_metadata(None)

    @property
    def _parts(self) -> list[Path]:
        return sorted_parts(self._folder)

    def _check_parts(self) -> None:
        """Refuses parts that other users may have written, and parts of another scan."""
        for part in self._parts:
            if not only_users_own(part):
                raise ReportError(
                    f"other users can write to the part {part}, or it is a link; "
                    "start again with --fresh in a folder that is only yours."
                )
            if ReportMetadata.of(schema_of(part), part).key != self._origin.key:
                raise of_another_scan(part)

    def _empty_journal(self) -> None:
        """Write the rows of an interrupted scan's journal as a part, unless its last part has them already."""
        if not len(self._journal):
            return
        parts, rows = self._parts, sort_rows(self._journal.rows())
        if not parts or _identity(read_report(parts[-1])) != _identity(rows):
            self._write_part(self._origin.judged(rows))
        self._journal.clear()

    def _kept(self, part: Path) -> pa.Table:
        """The rows of an earlier part that still hold, with the verdicts of this scan."""
        table = read_report(part)
        kept = table.filter(pa.array(self.known.taken_of(table).tolist(), pa.bool_())).replace_schema_metadata(None)
        return kept if self._has_verdicts(part) else self._origin.judged(kept)

    def _has_verdicts(self, part: Path) -> bool:
        return self._origin.same_verdicts(ReportMetadata.of(schema_of(part), part))

    def _is_current(self, part: Path, kept: pa.Table) -> bool:
        """Whether a part has the verdicts of this scan, and the decisions that people have taken by now."""
        decisions = self._origin.decided(kept).column("decision")
        return self._has_verdicts(part) and bool(decisions.equals(kept.column("decision")))

    def _write_part(self, rows: pa.Table, path: Path | None = None) -> None:
        if path is None:
            parts = self._parts
            number = part_number(parts[-1]) + 1 if parts else 0
            path = self._folder / PART_GLOB.replace("*", f"{number:06d}")
        metadata = self._origin.metadata(self.differences)
        write_report(with_metadata(sort_rows(self._origin.decided(rows)), metadata), path, _PART_MODE)


class _Done:
    """Looks up tracks among the rows of the parts that an interrupted scan left.

    Attributes:
        parts: those parts.
        keys: a sorted digest of path, size and time of change for each row that can be kept.
        lacking: empty, since rows without a needed column are not among the keys.
    """

    lacking: tuple[str, ...] = ()

    def __init__(self, parts: list[Path], needed: Sequence[str]) -> None:
        self.parts = parts
        self._needed = needed
        columns = ["path", "path_raw", "size", "mtime_ns", "status", *needed]
        digests = [self._digests(read_bounded(part, columns))[0] for part in parts]
        self.keys = np.sort(np.concatenate([np.empty(0, np.int64), *digests]))
        self._taken = np.zeros(len(self.keys), dtype=bool)
        self._n = 0

    def take(self, track: Track) -> bool:
        digest = hash((track.path, track.size, track.mtime_ns))
        at = int(np.searchsorted(self.keys, digest))
        if track.size < 0 or at == len(self.keys) or self.keys[at] != digest:
            return False
        self._n += not self._taken[at]
        self._taken[at] = True
        return True

    def __len__(self) -> int:
        return self._n

    def taken_of(self, table: pa.Table) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
        """Which rows of a part have been taken."""
        digests, usable = self._digests(table)
        usable[usable] = self._taken[np.searchsorted(self.keys, digests)]
        return usable

    def _digests(self, table: pa.Table) -> tuple[np.ndarray, np.ndarray]:
        """Digests of the rows that can be kept, and which rows those are."""
        digests, usable = [], []
        for path, size, mtime_ns, ok in identified(table, self._needed):
            usable.append(ok)
            if ok:
                digests.append(hash((path, size, mtime_ns)))
        return np.array(digests, dtype=np.int64), np.array(usable, dtype=bool)


def _identity(rows: pa.Table) -> pa.Table:
    """The columns that identify a row, independent of the thresholds."""
    return rows.select(["path", "path_raw", "size", "mtime_ns", "status", "window_margins", "elapsed_ms"])
