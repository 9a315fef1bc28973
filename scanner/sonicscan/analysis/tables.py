"""Reads the tables that people give to `sonicscan-report`: decisions and declarations, as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator
from pathlib import Path

from sonicscan.errors import InputError
from sonicscan.files import read_small
from sonicscan.report.cells import unescaped

MAX_BYTES = 128 << 20  # a million lines


def csv_lines(path: Path, what: str) -> tuple[tuple[str, ...], Iterator[tuple[int, dict[str, str | None]]]]:
    """The column names of a CSV file in UTF-8, and its lines with their numbers.

    Cells that a CSV of this program escapes, because they look like formulas, are read back.

    Args:
        path: the file; a pipe too.
        what: what its lines are, a plural.

    Raises:
        InputError: it cannot be read, is larger than `MAX_BYTES`, or is not CSV in UTF-8; also while lines are read.
    """
    content = read_small(path, MAX_BYTES, f"the file of {what} {path}", InputError)
    try:
        reader = csv.DictReader(io.StringIO(content.decode("utf-8-sig"), newline=""))
        names = tuple(reader.fieldnames or ())
    except (UnicodeDecodeError, csv.Error) as error:
        raise _no_csv(path, what, error) from error
    return names, _lines(reader, path, what)


def _lines(
    reader: Iterable[dict[str, str | None]], path: Path, what: str
) -> Iterator[tuple[int, dict[str, str | None]]]:
    try:
        for line in reader:
            cells = {name: unescaped(text) if isinstance(text, str) else text for name, text in line.items()}
            yield reader.line_num, cells  # type: ignore[attr-defined]
    except csv.Error as error:
        raise _no_csv(path, what, error) from error


def _no_csv(path: Path, what: str, error: Exception) -> InputError:
    return InputError(f"the file of {what} {path} is not CSV in UTF-8 ({error}).")
