"""What a scan has done so far, on disk beside the report, so that the same command goes on from there.

An Arrow IPC stream of `report.SCHEMA`. Its schema names the key (model, AudioSpec, window plan, schema
version); each batch carries the CRC-32 of its own serialised bytes. Rows are handed to the operating
system as they complete, so that killing the scan loses only the files in hand, and synced to the disk
about once a second, so that a power cut loses a second. A cut or damaged tail is dropped when reading.
"""

from __future__ import annotations

import contextlib
import io
import os
import time
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa

from sonicscan.errors import ReportError
from sonicscan.files import open_to_append
from sonicscan.report.row import FileResult
from sonicscan.report.schema import SCHEMA, to_batch

_KEY = b"sonicscan.key"
_CRC = b"crc32"
_SYNC_S = 1.0


class Journal:
    """An open journal, locked against a second scan.

    Args:
        path: the journal's file; made where it is not there.
        key: digest of what must be equal for rows to be comparable.
        fresh: throw away what an earlier scan left.

    Raises:
        ReportError: another scan holds it, it has another key, or it cannot be written.
    """

    def __init__(self, path: Path, key: str, fresh: bool = False) -> None:
        self.path = path
        self._key = key
        self._schema = SCHEMA.with_metadata({_KEY: key.encode()})
        self._synced = time.monotonic()
        try:
            self._file = _open_locked(path)
        except OSError as error:
            raise ReportError(f"the journal {path} cannot be written: {error.strerror}.") from error
        try:
            earlier = [] if fresh else self._read(key)
            with self._writing():
                if not earlier:
                    self._file.seek(0)
                    self._file.truncate()
                    self._write(_preamble(self._schema))
            self._rows: int = sum(batch.num_rows for batch in earlier)
        except BaseException:
            self._file.close()
            raise

    def rows(self) -> pa.Table:
        """What earlier scans and this one have written, in order; read back, so that a scan holds no rows."""
        batches = self._read(self._key)
        table = pa.Table.from_batches(batches, self._schema).replace_schema_metadata(None).combine_chunks()
        if table.num_rows != self._rows:
            raise ReportError(f"the journal {self.path} has changed or was damaged while it was in use; scan again.")
        return table

    def __len__(self) -> int:
        return self._rows

    def append(self, results: Sequence[FileResult]) -> None:
        """Add rows; they survive the end of this process at once, and of the machine after `sync`."""
        if not results:
            return
        batch = to_batch(results)
        with self._writing():
            self._write(_encode(batch, self._schema))
            if time.monotonic() - self._synced > _SYNC_S:
                self.sync()
        self._rows += batch.num_rows

    def sync(self) -> None:
        """Wait until all rows are on the disk.

        Raises:
            ReportError: they cannot be written, or somebody has removed the journal: rows that
                nobody can ever read again are worth no further hours of work.
        """
        with self._writing():
            os.fsync(self._file.fileno())
            self._synced = time.monotonic()
        if not _is_still(self._file, self.path):
            raise ReportError(f"the journal {self.path} has been removed or replaced while the scan was running.")

    def _write(self, content: bytes) -> None:
        # The file has no buffer: what a full disk refuses is not tried again when it is closed.
        view = memoryview(content)
        while view:
            view = view[self._file.write(view) :]

    def clear(self) -> None:
        """Forget all rows: they are safe somewhere else."""
        with self._writing():
            self._file.seek(0)
            self._file.truncate()
            self._write(_preamble(self._schema))
        self._rows = 0

    def close(self) -> None:
        """Keep the journal for a later scan."""
        with contextlib.suppress(OSError):
            os.fsync(self._file.fileno())
        self._file.close()

    def remove(self) -> None:
        """Delete the journal: its report is written."""
        with contextlib.suppress(OSError):
            self.path.unlink()
        self._file.close()

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise ReportError(f"the journal {self.path} could not be written: {error.strerror or error}.") from error

    def _read(self, key: str) -> list[pa.RecordBatch]:
        """The good batches; leaves the file cut after the last of them and standing at its end."""
        self._file.seek(0)
        content = self._file.read()
        if not content:
            return []
        source = pa.BufferReader(content)
        batches: list[pa.RecordBatch] = []
        try:
            reader = pa.ipc.open_stream(source)
        except (pa.ArrowException, OSError, ValueError):
            if _preamble(self._schema).startswith(content):
                return []  # killed while the very first bytes were written
            raise ReportError(
                f"{self.path} is not a journal of sonicscan, or its beginning is damaged; "
                "move it away, or throw it away with --fresh."
            ) from None
        found = (reader.schema.metadata or {}).get(_KEY, b"").decode("ascii", "replace")
        if found != key or not reader.schema.equals(self._schema):
            raise ReportError(
                f"{self.path} was left by a scan with another model, other windows or another version; "
                "finish that scan with its own options, choose another --out, or throw it away with --fresh."
            )
        good = source.tell()
        while True:
            try:
                batch, metadata = reader.read_next_batch_with_custom_metadata()
                batch.validate(full=True)
            except (StopIteration, pa.ArrowException, OSError, ValueError):
                break
            if metadata is None or metadata.get(_CRC) != _crc(batch):
                break
            batches.append(batch)
            good = source.tell()
        self._file.seek(good)
        self._file.truncate()
        return batches


def _crc(batch: pa.RecordBatch) -> bytes:
    return b"%08x" % zlib.crc32(batch.serialize())


def _preamble(schema: pa.Schema) -> bytes:
    """The bytes that a stream of `schema` begins with."""
    return bytes(schema.serialize())


def _encode(batch: pa.RecordBatch, schema: pa.Schema) -> bytes:
    """One batch as it stands in the stream, behind the schema."""
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, schema) as writer:
        writer.write_batch(batch.cast(schema), custom_metadata={_CRC: _crc(batch)})
        end = sink.tell()
    return sink.getvalue()[len(_preamble(schema)) : end]


def _is_still(file: io.FileIO, path: Path) -> bool:
    """Whether `path` leads to the open `file`."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except OSError:
        return False


def _open_locked(path: Path) -> io.FileIO:
    """Open for reading and appending, for this process alone until it ends."""
    while True:
        file = _locked(path)
        if _is_still(file, path):  # or else the scan that held it has just finished and removed it
            return file
        file.close()


def _locked(path: Path) -> io.FileIO:
    file = open_to_append(path)
    try:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except ImportError:  # no advisory locks here: two scans on one target are the user's to avoid
        pass
    except OSError:
        file.close()
        raise ReportError(f"another scan is writing {path}; wait for it, or choose another --out.") from None
    if not os.fstat(file.fileno()).st_nlink:  # its scan ended, and deleted it, between our two calls
        file.close()
        return _open_locked(path)
    return file
