"""Joins the reports of shards, or of several libraries, into one.

Scans write rows sorted by path. So the merge reads each input once, a batch at a time, and holds only the current
batches in memory. Each part of a folder is an input of its own.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from sonicscan.errors import ReportError
from sonicscan.files import replacing
from sonicscan.report.bounded import bounded_batches, schema_of
from sonicscan.report.checks import check_rows
from sonicscan.report.metadata import ReportMetadata, with_metadata
from sonicscan.report.readers import part_files
from sonicscan.report.schema import SCHEMA, SCHEMA_VERSION
from sonicscan.report.versions import check_version, upgraded

BATCH_ROWS = 8192


@dataclass(frozen=True)
class Allowed:
    """Exceptions that a merge allows.

    Attributes:
        gaps: shards that are missing.
        overlap: a path in two inputs, or a shard twice; the rows of the scan that finished last are kept.
        mixed_models: reports that are not comparable; the result then names no model.
    """

    gaps: bool = False
    overlap: bool = False
    mixed_models: bool = False


@dataclass(frozen=True)
class _Input:
    """One report, or one of the parts of it."""

    path: Path
    files: tuple[Path, ...]
    metadata: ReportMetadata


def merge(paths: Sequence[Path], out: Path, allowed: Allowed, strip: Sequence[str] = ()) -> int:
    """Merge reports into `out`, which appears whole or not at all.

    Args:
        paths: Parquet reports, or folders of parts.
        out: a Parquet file.
        allowed: exceptions to allow.
        strip: folders to remove from the start of paths; each path must begin with one. Empty keeps paths unchanged.

    Returns:
        the number of rows.

    Raises:
        ReportError: an input cannot be read, or the inputs do not belong together.
    """
    # The one that finished last comes first: of equal paths, the first is kept.
    inputs = sorted(map(_opened, paths), key=lambda source: source.metadata.finished, reverse=True)
    _refuse_filtered(inputs)
    if not allowed.mixed_models:
        _refuse_mixed(inputs)
    left = _shards_left(inputs, allowed)
    started = min(source.metadata.started for source in inputs)
    version = str(SCHEMA_VERSION)
    metadata = dataclasses.replace(
        inputs[0].metadata,
        shards=tuple(left),
        roots=() if strip else _common_roots(inputs),
        started=started,
        schema_version=version,
        command={},  # of one scan; this report is of several
        differences=(),  # of the tracks of one scan
        left_out=tuple(rule for source in inputs for rule in source.metadata.left_out),
    )
    if any(_differences(inputs[0], source) for source in inputs):
        metadata = metadata.without_model()
    schema = with_metadata(SCHEMA.empty_table(), metadata).schema
    names = [source.path for source in inputs for _ in source.files]
    files = [file for source in inputs for file in source.files]
    rows = 0
    try:
        with (
            contextlib.ExitStack() as stack,
            replacing(out) as target,
            pq.ParquetWriter(target, schema, compression="zstd") as writer,
        ):
            batches = [stack.enter_context(contextlib.closing(bounded_batches(file, BATCH_ROWS))) for file in files]
            cursors = [
                _Cursor(rows_of_file, file, rank, strip)
                for rank, (rows_of_file, file) in enumerate(zip(batches, files, strict=True))
            ]
            for table in _in_order(cursors):
                kept = _without_doubles(table, names, allowed.overlap)
                writer.write_table(kept.cast(schema))
                rows += kept.num_rows
    except (OSError, pa.ArrowException) as error:
        raise ReportError(f"the reports could not be merged into {out}: {error}.") from error
    return rows


def _opened(path: Path) -> _Input:
    """The input's metadata, read from its first part; all parts of a folder have one model."""
    files = part_files(path)
    schemas = [schema_of(file) for file in files]
    for schema in schemas:
        check_version(schema, path)
    found = [ReportMetadata.of(schema, path) for schema in schemas]
    finished = max(metadata.finished for metadata in found)
    return _Input(path, files, dataclasses.replace(found[0], finished=finished))


def _differences(a: _Input, b: _Input) -> list[str]:
    """The first difference that makes two reports not comparable, in words; empty if they are comparable."""
    names = {"model_digest": "models", "key": "windows or versions", "thresholds": "thresholds"}
    found = [words for name, words in names.items() if getattr(a.metadata, name) != getattr(b.metadata, name)]
    return found[:1]


def _refuse_filtered(inputs: Sequence[_Input]) -> None:
    for source in inputs:
        if source.metadata.filtered is not None:
            raise ReportError(
                f"{source.path} has {source.metadata.chosen}; "
                "merge the reports of whole scans, and convert the merged report."
            )


def _refuse_mixed(inputs: Sequence[_Input]) -> None:
    for source in inputs[1:]:
        for words in _differences(inputs[0], source):
            raise ReportError(
                f"{inputs[0].path} and {source.path} were made with different {words}; "
                "scan one of them again, or allow it with --allow-mixed-models."
            )


def _shards_left(inputs: Sequence[_Input], allowed: Allowed) -> list[tuple[int, int]]:
    """The shards in the merged report; none if all shards are there."""
    holders: dict[tuple[int, int], Path] = {}
    for source in inputs:
        for shard in source.metadata.shards:
            if shard in holders and not allowed.overlap:
                raise ReportError(
                    f"{holders[shard]} and {source.path} are both shard {shard[0]}/{shard[1]}; "
                    "leave one out, or keep the newer one with --allow-overlap."
                )
            holders.setdefault(shard, source.path)
    counts = sorted({count for _, count in holders})
    if len(counts) > 1 and not allowed.gaps:
        raise ReportError(
            f"these are shards of different splits (of {' and of '.join(map(str, counts))}); "
            "merge each split by itself, or allow it with --allow-gaps."
        )
    # A report can claim to be one of any number of shards.
    missing = list(itertools.islice((f"{i}/{n}" for n in counts for i in range(1, n + 1) if (i, n) not in holders), 11))
    if missing and not allowed.gaps:
        raise ReportError(
            f"shard {', '.join(missing[:10])}{' and more' if len(missing) > 10 else ''} of the library is missing; "
            "add its report, or allow it with --allow-gaps."
        )
    return sorted(holders) if missing else []


class _Cursor:
    """The rows of one file that were read but not yet merged."""

    def __init__(self, batches: Iterator[pa.RecordBatch], path: Path, rank: int, strip: Sequence[str] = ()) -> None:
        self._batches = batches
        self._path = path
        self._rank = rank
        self._strip = tuple(folder.rstrip("/") + "/" for folder in strip)
        self._last: str | None = None
        self.rows = SCHEMA.empty_table().append_column("rank", pa.array([], pa.int32()))
        self.open = True
        self.read()

    @property
    def last(self) -> str:
        """The path up to which the rows of this file are known."""
        return self._last or ""

    def read(self) -> None:
        """Read the next batch; sets `open` to whether there was one."""
        batch = next((b for b in self._batches if b.num_rows), None)
        if batch is None:
            self.open = False
            return
        table = upgraded(pa.Table.from_batches([batch]).replace_schema_metadata(None), self._path)
        check_rows(table, self._path)
        if self._strip:
            table, self._strip = _stripped(table, self._strip, self._path)
        paths = table.column("path").combine_chunks()
        if (self._last or "").encode() > paths[0].as_py().encode() or pc.any(pc.less(paths[1:], paths[:-1])).as_py():
            raise ReportError(f"the rows of {self._path} are not sorted by path: sonicscan did not write them so.")
        self._last = paths[-1].as_py()
        ranks = pa.array(np.full(table.num_rows, self._rank, np.int32))
        self.rows = pa.concat_tables([self.rows, table.append_column("rank", ranks)])

    def take_before(self, path: str | None) -> pa.Table:
        """Remove and return the rows with a lower path; all of them for None."""
        if path is None:
            taken, self.rows = self.rows, self.rows.slice(self.rows.num_rows)
            return taken
        n = pc.sum(pc.less(self.rows.column("path"), path)).as_py() or 0
        taken, self.rows = self.rows.slice(0, n), self.rows.slice(n)
        return taken


def _stripped(table: pa.Table, prefixes: tuple[str, ...], path: Path) -> tuple[pa.Table, tuple[str, ...]]:
    """Remove the common prefix of all paths, one of `prefixes`; returns the rows and that prefix."""
    paths, raws = (table.column(name).to_pylist() for name in ("path", "path_raw"))
    prefix = max((p for p in prefixes if paths[0].startswith(p)), key=len, default=None)
    if prefix is None or not all(name.startswith(prefix) for name in paths):
        other = next(name for name in paths if prefix is None or not name.startswith(prefix))
        raise ReportError(
            f"{path} has a row for {other}, which is not below "
            f"{prefix or ' or '.join(prefixes)}; name with --strip the one folder of all of its rows."
        )
    cut, raw_cut = len(prefix), len(os.fsencode(prefix))
    columns = {
        "path": [name[cut:] for name in paths],
        "path_raw": [None if raw is None else raw[raw_cut:] for raw in raws],
    }
    for name, values in columns.items():
        at = table.schema.get_field_index(name)
        table = table.set_column(at, table.schema.field(at), pa.array(values, table.schema.field(at).type))
    return table, (prefix,)


def _common_roots(inputs: Sequence[_Input]) -> tuple[tuple[str, str], ...]:
    """The roots of all inputs, without prefixes that mean different folders in different inputs."""
    folders: dict[str, set[str]] = {}
    for prefix, digest in (root for source in inputs for root in source.metadata.roots):
        folders.setdefault(prefix, set()).add(digest)
    return tuple((prefix, min(digests)) for prefix, digests in folders.items() if len(digests) == 1)


def _in_order(cursors: list[_Cursor]) -> Iterator[pa.Table]:
    """Yield all rows, sorted by path; all rows of one path are in the same table."""
    bound: str | None = ""
    while bound is not None:
        # All unfinished files were read up to this path, but the next batch may hold the same path again.
        bound = min((cursor.last for cursor in cursors if cursor.open), key=str.encode, default=None)
        found = pa.concat_tables(cursor.take_before(bound) for cursor in cursors)
        if found.num_rows:
            keys = [("path", "ascending"), ("path_raw", "ascending"), ("rank", "ascending")]
            yield found.combine_chunks().take(pc.sort_indices(found, sort_keys=keys))
        for cursor in cursors:
            if cursor.open and cursor.last == bound:
                cursor.read()


def _without_doubles(table: pa.Table, names: Sequence[Path], allowed: bool) -> pa.Table:
    """The first row of each path; refuses a second one unless it is allowed."""
    raw, paths = table.column("path_raw").combine_chunks(), table.column("path").combine_chunks()
    same_raw = pc.fill_null(pc.equal(raw[1:], raw[:-1]), pc.and_(raw[1:].is_null(), raw[:-1].is_null()))
    double = np.concatenate(
        [[False], pc.and_(pc.equal(paths[1:], paths[:-1]), same_raw).to_numpy(zero_copy_only=False)]
    )
    if double.any() and not allowed:
        at = int(np.flatnonzero(double)[0])
        first, second = (names[table.column("rank")[k].as_py()] for k in (at - 1, at))
        where = f"both {first} and {second} have" if first != second else f"{first} has"
        again = "" if first != second else " twice"
        raise ReportError(
            f"{where} a row for {paths[at].as_py()}{again}; leave one out, or keep the newer one with --allow-overlap."
        )
    return table.filter(pa.array(~double)).drop_columns(["rank"])
