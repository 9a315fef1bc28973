"""The journal stores the finished rows beside the report, so that the same command resumes the scan.

An Arrow IPC stream of `report.SCHEMA`. Its schema names the key (model, AudioSpec, window plan, schema version) and
holds a random secret. Each batch carries a BLAKE2b digest of its place and its serialised bytes, keyed with the secret.
Rows are written as they complete, so a killed scan loses only the files in progress. They are synced to the disk about
once a second, so a power cut loses a second. A cut or damaged tail is dropped when reading.

Other users may plant a file in a shared folder. So only a regular file of this user is opened, never through a link,
and only this user can read a new journal. Rows count only where nobody else can write to the file.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import io
import mmap
import os
import secrets
import stat
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from sonicscan.errors import ReportError
from sonicscan.report.row import FileResult
from sonicscan.report.schema import SCHEMA, to_batch
from sonicscan.scanning.locking import is_still, open_locked

_KEY = b"sonicscan.key"
_SECRET, _SECRET_CHECK = b"sonicscan.secret", b"sonicscan.secret_check"
_SECRET_BYTES = 32
_DIGEST = b"digest"
_STREAM = b"\xff\xff\xff\xff"  # how an Arrow stream begins; zeros are left by a power cut
_SYNC_S = 1.0
_JOINED_BATCHES = 300  # a batch takes 30 kB of memory in addition to its rows


@dataclass(frozen=True)
class _Rows:
    """Some rows of a journal, and in how many batches they were written."""

    table: pa.Table
    batches: int


class Journal:
    """An open journal, locked against a second scan.

    Args:
        path: the journal's file; made where it is not there.
        key: digest of what must be equal for rows to be comparable.
        fresh: delete the rows that an earlier scan left.

    Raises:
        ReportError: another scan holds it, it has another key, it is another kind of file, or it cannot be written.
    """

    def __init__(self, path: Path, key: str, fresh: bool = False) -> None:
        self.path = path
        self._key = key
        self._begin_anew()
        self._rows: int
        self._batches: int
        self._synced = time.monotonic()
        try:
            self._file = open_locked(path)
        except OSError as error:
            raise ReportError(f"the journal {path} cannot be written: {error.strerror}.") from error
        try:
            self._rows = self._batches = 0
            if fresh:
                self._refuse_foreign()
            for some in () if fresh else self._read(key):
                self._rows += some.table.num_rows
                self._batches += some.batches
            if not self._batches:
                self.clear()
        except BaseException:
            self._file.close()
            raise

    def rows(self) -> pa.Table:
        """Returns all rows that earlier scans and this one have written, in order.

        They are read from the disk, so that a scan keeps no rows in memory.
        """
        return pa.concat_tables([SCHEMA.empty_table(), *self.tables()])

    def tables(self, first: int = 0) -> Iterator[pa.Table]:
        """The same rows from number `first` on, a few thousand at a time."""
        seen = 0
        for some in self._read(self._key):
            yield some.table.slice(max(0, first - seen))
            seen += some.table.num_rows
        if seen != self._rows:
            raise ReportError(f"the journal {self.path} has changed or was damaged while it was in use; scan again.")

    def __len__(self) -> int:
        return self._rows

    def append(self, results: Sequence[FileResult]) -> None:
        """Adds rows; they survive the end of this process at once, and a power cut after `sync`."""
        if not results:
            return
        batch = to_batch(results)
        with self._writing():
            self._write(self._encoded(batch))
            if time.monotonic() - self._synced > _SYNC_S:
                self.sync()
        self._rows += batch.num_rows
        self._batches += 1

    def sync(self) -> None:
        """Wait until all rows are on the disk.

        Raises:
            ReportError: they cannot be written, or the journal was removed: the scan must not continue if its rows are
                lost.
        """
        with self._writing():
            os.fsync(self._file.fileno())
            self._synced = time.monotonic()
        if not is_still(self._file, self.path):
            raise ReportError(f"the journal {self.path} has been removed or replaced while the scan was running.")

    def _begin_anew(self) -> None:
        self._schema = _schema_of(self._key, secrets.token_hex(_SECRET_BYTES).encode())

    def _write(self, content: bytes) -> None:
        # The file has no buffer: a write that a full disk refused is not repeated on closing.
        view = memoryview(content)
        while view:
            view = view[self._file.write(view) :]

    def clear(self) -> None:
        """Remove all rows from the journal, once they are in a report; the journal gets a new secret."""
        self._begin_anew()
        with self._writing():
            self._file.seek(0)
            self._file.truncate()
            self._write(_preamble(self._schema))
        self._rows = self._batches = 0

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

    def _refuse_foreign(self) -> None:
        """A fresh scan discards a damaged journal, but never a file that cannot have been one."""
        start = os.pread(self._file.fileno(), len(_STREAM), 0)
        if start and start.strip(b"\0") not in (b"", _STREAM[: len(start)]):
            raise ReportError(
                f"{self.path} is not a journal of sonicscan, so --fresh does not discard it; move it away, or name "
                "another place with --journal."
            )

    def _read(self, key: str) -> Iterator[_Rows]:
        """The rows of the good batches; truncates the file after the last of them and seeks to its end."""
        if not os.fstat(self._file.fileno()).st_size:
            return
        if os.fstat(self._file.fileno()).st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise ReportError(
                f"other users can write to the journal {self.path}, so its rows do not count; "
                "remove it, and name another place with --journal."
            )
        # The file is mapped and not read: a million rows that were appended one by one take 3.4 GB.
        content = mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_READ)
        source = pa.BufferReader(pa.py_buffer(content))
        try:
            reader = pa.ipc.open_stream(source)
            metadata = reader.schema.metadata or {}
            secret = metadata.get(_SECRET, b"")
            if _KEY in metadata and (len(secret) != 2 * _SECRET_BYTES or metadata.get(_SECRET_CHECK) != _check(secret)):
                raise ValueError("the secret is damaged")
        except (pa.ArrowException, OSError, ValueError):
            if _is_torn_preamble(content, self._schema):
                return  # killed while the first bytes were written
            raise ReportError(
                f"{self.path} is not a journal of sonicscan, or its beginning is damaged; "
                "move it away, or discard it with --fresh."
            ) from None
        schema = _schema_of(key, secret)
        if metadata.get(_KEY) != key.encode() or not reader.schema.equals(schema):
            raise of_another_scan(self.path)
        self._schema = schema
        good = source.tell()
        waiting: list[pa.RecordBatch] = []
        batches = 0
        while True:
            try:
                batch, found = reader.read_next_batch_with_custom_metadata()
                batch.validate(full=True)
            except (StopIteration, pa.ArrowException, OSError, ValueError):
                break
            if found is None or not hmac.compare_digest(found.get(_DIGEST, b""), self._digest(batch, batches)):
                break
            batches += 1
            waiting.append(batch)
            good = source.tell()
            if len(waiting) == _JOINED_BATCHES:
                yield _Rows(_joined(waiting, schema), len(waiting))
                waiting.clear()
                if hasattr(content, "madvise"):
                    content.madvise(mmap.MADV_DONTNEED)  # these pages were read once and are not needed again
        if waiting:
            yield _Rows(_joined(waiting, schema), len(waiting))
        self._file.seek(good)
        self._file.truncate()

    def _digest(self, batch: pa.RecordBatch, place: int) -> bytes:
        """The keyed checksum of a batch, hex; `place` is its number in the journal."""
        secret = bytes.fromhex(self._schema.metadata[_SECRET].decode("ascii"))
        keyed = hashlib.blake2b(place.to_bytes(8, "big"), digest_size=16, key=secret)
        keyed.update(batch.serialize())
        return keyed.hexdigest().encode()

    def _encoded(self, batch: pa.RecordBatch) -> bytes:
        """One batch as it stands in the stream, behind the schema."""
        sink = io.BytesIO()
        with pa.ipc.new_stream(sink, self._schema) as writer:
            metadata = {_DIGEST: self._digest(batch, self._batches)}
            writer.write_batch(pa.RecordBatch.from_arrays(batch.columns, schema=self._schema), custom_metadata=metadata)
            end = sink.tell()
        return sink.getvalue()[len(_preamble(self._schema)) : end]


def _schema_of(key: str, secret: bytes) -> pa.Schema:
    return SCHEMA.with_metadata({_KEY: key.encode(), _SECRET: secret, _SECRET_CHECK: _check(secret)})


def _check(secret: bytes) -> bytes:
    """Returns a checksum that reveals a damaged secret, which would make all rows look forged."""
    return hashlib.sha256(secret).hexdigest().encode()


def of_another_scan(path: Path) -> ReportError:
    """The error for a journal or a part whose rows are not comparable with those of this scan."""
    return ReportError(
        f"{path} was left by a scan with another model, windows or version; "
        "finish that scan with its own options, choose another --out, or discard it with --fresh."
    )


def key_of_journal(path: Path) -> str | None:
    """The key of a journal that is not open; None where there is none, or it is not one."""
    try:
        with path.open("rb") as file:
            schema = pa.ipc.open_stream(file).schema
    except (pa.ArrowException, OSError, ValueError):
        return None
    key: bytes | None = (schema.metadata or {}).get(_KEY)
    return None if key is None else key.decode("ascii", "replace")


def _preamble(schema: pa.Schema) -> bytes:
    """The bytes that a stream of `schema` begins with."""
    return bytes(schema.serialize())


def _joined(batches: list[pa.RecordBatch], schema: pa.Schema) -> pa.Table:
    """Copies of batches of `schema` as one chunk, without the journal's metadata."""
    table = pa.Table.from_batches(batches, schema).replace_schema_metadata(None)
    # A single chunk would not be copied, and its memory is the file's, which `clear` truncates.
    return table.take(pa.array(range(table.num_rows))) if len(batches) == 1 else table.combine_chunks()


def _is_torn_preamble(content: mmap.mmap, schema: pa.Schema) -> bool:
    """Whether `content` is the beginning of a preamble like that of `schema`, with any secret."""
    whole = _preamble(schema)
    for name in (_SECRET, _SECRET_CHECK):
        value = schema.metadata[name]
        at = whole.index(value)
        whole = whole[:at] + content[at : at + len(value)].ljust(len(value), b"\0") + whole[at + len(value) :]
    return len(content) < len(whole) and whole.startswith(content[:])
