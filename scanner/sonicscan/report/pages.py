"""Adds up what the pages of a Parquet file expand to, without reading them.

A compressed page of some kilobytes can expand to two gigabytes, and the sizes in the footer can be wrong. The size in
a page's own header is binding: Arrow makes room for that many bytes, and refuses a page that has more. So this module
reads the headers of all pages (parquet.thrift, `PageHeader`), in Thrift's compact protocol.

Sources: https://parquet.apache.org/docs/file-format/data-pages/ and
https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import IO, Any

_MAX_HEADER = 64 << 10  # with the statistics of a page, which hold its smallest and largest value
_MAX_DEPTH = 20
_EXPANDED, _COMPRESSED = 2, 3  # fields of PageHeader
_TRUE, _FALSE, _BYTE, _I16, _I32, _I64, _DOUBLE, _BINARY, _STRUCT = 1, 2, 3, 4, 5, 6, 7, 8, 12  # types


class DamagedPageError(ValueError):
    """A page header cannot be read, or is impossible."""


def expanded_bytes(path: Path, metadata: Any, columns: Collection[str], most: int) -> int:
    """Bytes of all pages of some columns once they are decompressed; stops counting above `most`.

    Args:
        path: the Parquet file.
        metadata: its `pyarrow.parquet.FileMetaData`.
        columns: names of top-level columns.
        most: a larger total is not needed exactly.

    Raises:
        DamagedPageError: a page header makes no sense.
        OSError: the file cannot be read.
    """
    total = 0
    with path.open("rb") as file:
        for group in range(metadata.num_row_groups):
            row_group = metadata.row_group(group)
            for k in range(row_group.num_columns):
                chunk = row_group.column(k)
                if chunk.num_values and chunk.path_in_schema.partition(".")[0] in columns:
                    total += _of_chunk(file, chunk, most - total)
                if total > most:
                    return total
    return total


def _of_chunk(file: IO[bytes], chunk: Any, most: int) -> int:
    at = chunk.data_page_offset
    if chunk.has_dictionary_page and 0 < chunk.dictionary_page_offset < at:
        at = chunk.dictionary_page_offset
    end, total = at + chunk.total_compressed_size, 0
    while at < end and total <= most:
        file.seek(at)
        header = _Header(file.read(min(_MAX_HEADER, end - at)))
        sizes = header.numbers()
        expanded, compressed = sizes.get(_EXPANDED, -1), sizes.get(_COMPRESSED, -1)
        if expanded < 0 or compressed < 0:
            raise DamagedPageError("a page has no size")
        total += expanded
        at += header.length + compressed
    return total


class _Header:
    """A struct in Thrift's compact protocol at the start of `content`.

    Attributes:
        length: bytes that were read so far.
    """

    def __init__(self, content: bytes) -> None:
        self._content = content
        self.length = 0

    def numbers(self) -> dict[int, int]:
        """Reads the struct; returns its 32-bit numbers by field."""
        found: dict[int, int] = {}
        field = 0
        while (head := self._byte()) != 0:
            kind = head & 0x0F
            field = field + (head >> 4) if head >> 4 else self._number()
            if kind == _I32:
                found[field] = self._number()
            else:
                self._skip(kind, 0)
        return found

    def _skip(self, kind: int, depth: int) -> None:
        if depth > _MAX_DEPTH:
            raise DamagedPageError("a page header is nested too deeply")
        if kind in (_TRUE, _FALSE):  # a field's type is its value
            return
        if kind == _BYTE:
            self._byte()
        elif kind in (_I16, _I32, _I64):
            self._varint()
        elif kind == _DOUBLE:
            self._pass(8)
        elif kind == _BINARY:
            self._pass(self._varint())
        elif kind == _STRUCT:
            while (head := self._byte()) != 0:
                if not head >> 4:
                    self._varint()
                self._skip(head & 0x0F, depth + 1)
        else:  # no field of a page header is a list, a set or a map
            raise DamagedPageError("a page header has a field of an unknown type")

    def _byte(self) -> int:
        self._pass(1)
        return self._content[self.length - 1]

    def _pass(self, n: int) -> None:
        self.length += n
        if self.length > len(self._content):
            raise DamagedPageError("a page header does not end")

    def _varint(self) -> int:
        value = 0
        for shift in range(0, 70, 7):
            byte = self._byte()
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
        raise DamagedPageError("a number in a page header does not end")

    def _number(self) -> int:
        value = self._varint()
        return value >> 1 ^ -(value & 1)  # zigzag
