"""Checks the rows of a report that was read: a stranger's file can hold values that no scan writes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pyarrow as pa
import pyarrow.compute as pc

from sonicscan.errors import STATUSES, ReportError
from sonicscan.library.urls import Location
from sonicscan.provenance.record import Claim, Signature, Source
from sonicscan.scoring.thresholds import VERDICTS

_NEVER_NULL = ("path", "status", "windows", "silent_windows", "size", "mtime_ns", "warnings")
_WORDS = {"status": STATUSES, "verdict": VERDICTS}
_PROVENANCE_WORDS = {"claim": get_args(Claim), "signature": get_args(Signature), "source": get_args(Source)}
_AT_LEAST_0 = ("windows", "silent_windows", "duration_s", "flagged_s", "bandwidth_hz")
_SHARES = ("score", "p_value")


def check_rows(rows: pa.Table, path: Location | Path) -> None:
    """Raise `ReportError` if rows hold values that no scan writes.

    Args:
        rows: of the report's schema.
        path: of the report, for the message.
    """
    for column, wrong in _wrong(rows):
        if pc.any(wrong).as_py():
            raise ReportError(f"{path} holds values of `{column}` that no scan writes; do not use it.")


def _wrong(rows: pa.Table) -> Iterator[tuple[str, Any]]:
    """(column, array of booleans) for each check; true marks a wrong value."""
    for name in _NEVER_NULL:
        yield name, pc.is_null(rows.column(name))
    for name, words in _WORDS.items():
        yield name, _none_of(rows.column(name), words)
    for name in _AT_LEAST_0:
        yield name, pc.less(rows.column(name), 0)
    for name in _SHARES:  # NaN is not in the range either
        value = rows.column(name)
        yield name, pc.invert(pc.and_(pc.greater_equal(value, 0.0), pc.less_equal(value, 1.0)))
    yield "p_value", pc.equal(rows.column("p_value"), 0.0)
    yield "verdict", pc.and_(pc.is_valid(rows.column("verdict")), pc.is_null(rows.column("score")))
    yield "warnings", pc.is_null(pc.list_flatten(rows.column("warnings")))
    for name in ("window_starts_s", "window_margins"):
        yield name, _no_number(pc.list_flatten(rows.column(name)))
    ranges = pc.list_flatten(rows.column("flagged_ranges"))
    for name in ("start_s", "end_s"):
        yield "flagged_ranges", _no_number(pc.struct_field(ranges, name))
    for chunk in rows.column("class_scores").chunks:
        yield "class_scores", _no_number(chunk.items)
    declared = rows.column("provenance").filter(pc.is_valid(rows.column("provenance")))
    for name, words in _PROVENANCE_WORDS.items():
        found = pc.struct_field(declared, name)
        yield "provenance", _none_of(found, words)
        if name != "source":
            yield "provenance", pc.is_null(found)


def _no_number(column: Any) -> Any:
    """Marks null, NaN and infinity."""
    return pc.invert(pc.fill_null(pc.is_finite(column), False))


def _none_of(column: Any, words: tuple[str, ...]) -> Any:
    return pc.and_(pc.is_valid(column), pc.invert(pc.is_in(column, pa.array(words))))
