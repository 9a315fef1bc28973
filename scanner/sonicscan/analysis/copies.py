"""Finds copies of a track. They count once in every estimate, because copies are not independent draws."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from sonicscan.report.row import FileResult
from sonicscan.text import bare_isrc

ALIKE = 0.1  # log-odds: the margins of copies of one recording differ by less in every window
_LEAST_WINDOWS = 3  # fewer windows can be equal by chance
_SAME_LENGTH_S = 0.2


def distinct(rows: Iterable[FileResult]) -> list[FileResult]:
    """Remove the rows that are copies of an earlier row.

    Copies have the same bytes (`--hash`), the same ISRC, or the same length and window margins. Examples are re-encoded
    tracks, tracks with other tags, and files with two names.
    """
    seen: dict[tuple[object, ...], FileResult] = {}
    kept = []
    for row in rows:
        keys = list(_keys(row))
        if any(key in seen and _alike(row, seen[key], key) for key in keys):
            continue
        kept.append(row)
        for key in keys:
            seen.setdefault(key, row)
    return kept


def _keys(row: FileResult) -> Iterator[tuple[object, ...]]:
    if row.content_hash:
        yield "content", row.content_hash
    if row.isrc:
        yield "isrc", bare_isrc(row.isrc)
    margins = row.window_margins or []
    if row.duration_s is not None and len(margins) >= _LEAST_WINDOWS:
        mean = sum(margins) / len(margins)
        # Two grids, offset by half a step: close values share a cell in at least one grid.
        for moved in (0.0, 0.5):
            for other in (0.0, 0.5):
                length, level = int(row.duration_s / _SAME_LENGTH_S + moved), int(mean / (2 * ALIKE) + 1000.0 + other)
                yield "sound", moved, other, len(margins), length, level


def _alike(row: FileResult, other: FileResult, key: tuple[object, ...]) -> bool:
    if key[0] != "sound":
        return True
    pairs = zip(row.window_margins or (), other.window_margins or (), strict=True)
    return all(abs(a - b) < ALIKE for a, b in pairs)
