"""Finds moved files: pairs of a file that disappeared and a new file with the same content."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from sonicscan.report.row import FileResult
from sonicscan.scoring.aggregate import margin_of

DRIFT = 0.01  # log-odds: batches, threads and machines change margins by less

Name = TypeVar("Name", bound=Hashable)


@dataclass(frozen=True)
class Content:
    """Properties that identify a file's content, independent of its name.

    Attributes:
        content_hash: SHA-256 of the bytes, hex; None where the scan was not given --hash.
        size: bytes; -1 where it is unknown.
        mtime_ns: time of the last change, which a move keeps; 0 where it is unknown.
        score: 0..1, of one model; None without one.
    """

    content_hash: str | None
    size: int
    mtime_ns: int
    score: float | None

    @classmethod
    def of(cls, row: FileResult) -> Content:
        """From a row of a report."""
        return cls(row.content_hash, row.size, row.mtime_ns, row.score)


def moved(gone: Mapping[Name, Content], appeared: Mapping[Name, Content]) -> dict[Name, Name]:
    """New name of each file that moved, with its earlier name.

    Two files match if their bytes are equal. If one has no `content_hash`, they match if size, time of change and score
    are equal. Copies cannot be distinguished, so a file with several matches is left out.
    """
    found = _pairs(
        {name: content.content_hash for name, content in gone.items() if content.content_hash},
        {name: content.content_hash for name, content in appeared.items() if content.content_hash},
    )
    was = set(found.values())
    rest = _pairs(
        {name: key for name, content in gone.items() if name not in was and (key := _stamp(content))},
        {name: key for name, content in appeared.items() if name not in found and (key := _stamp(content))},
    )
    return found | {new: old for new, old in rest.items() if _alike(gone[old], appeared[new])}


def _pairs(gone: Mapping[Name, Hashable], appeared: Mapping[Name, Hashable]) -> dict[Name, Name]:
    lost = {key: name for name, key in gone.items()}
    times_lost, times_found = Counter(gone.values()), Counter(appeared.values())
    return {name: lost[key] for name, key in appeared.items() if times_lost[key] == times_found[key] == 1}


def _stamp(content: Content) -> tuple[int, int] | None:
    return (content.size, content.mtime_ns) if content.size > 0 and content.mtime_ns else None


def _alike(gone: Content, appeared: Content) -> bool:
    if gone.content_hash and appeared.content_hash:
        return False  # both are known, and they differ
    if gone.score is None or appeared.score is None:
        return False
    return gone.score == appeared.score or abs(margin_of(gone.score) - margin_of(appeared.score)) <= DRIFT
