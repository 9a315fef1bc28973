"""One row of the report as a Python object; `report.schema.SCHEMA` has the same fields in the same order."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

from sonicscan.errors import Status
from sonicscan.provenance.record import Provenance
from sonicscan.scoring.thresholds import Verdict

OUT_OF_RANGE = "out_of_range"  # the warning of a row of which a value was left out or clamped
_BITS = {"windows": 31, "silent_windows": 31, "sample_rate": 31, "channels": 15, "size": 63, "mtime_ns": 63}
_OPTIONAL = ("sample_rate", "channels")
_REALS = ("score", "p_value", "log10_lr", "flagged_s", "duration_s", "bandwidth_hz", "loudness_db", "elapsed_ms")
_TEXTS = ("path", "error", "decision", "attribution", "codec", "title", "artist", "album", "isrc", "content_hash")
_MAX_FLOAT32 = 3.4e38


@dataclass(frozen=True, slots=True, kw_only=True)
class FileResult:
    """The result for one file. docs/columns.md gives unit and meaning of each field.

    A value that a column cannot hold is replaced. A whole number is clamped or becomes None, a real number becomes
    None, and a character that is not Unicode becomes an escape. The row then has the warning `out_of_range`. So one
    strange file never prevents the rows of other files.
    """

    path: str
    path_raw: bytes | None = None
    status: Status
    error: str | None = None
    score: float | None = None
    verdict: Verdict | None = None
    decision: str | None = None
    p_value: float | None = None
    log10_lr: float | None = None
    class_scores: dict[str, float] | None = None
    attribution: str | None = None
    windows: int = 0
    silent_windows: int = 0
    window_starts_s: list[float] | None = None
    window_margins: list[float] | None = None
    flagged_s: float | None = None
    flagged_ranges: list[dict[str, float]] | None = None
    provenance: Provenance | None = None
    duration_s: float | None = None
    sample_rate: int | None = None
    channels: int | None = None
    codec: str | None = None
    bandwidth_hz: float | None = None
    loudness_db: float | None = None
    title: str | None = None
    artist: str | None = None
    album: str | None = None
    isrc: str | None = None
    content_hash: str | None = None
    size: int
    mtime_ns: int
    warnings: list[str]
    elapsed_ms: float | None = None

    def __post_init__(self) -> None:
        changed: dict[str, Any] = {**_whole_numbers(self), **_real_numbers(self), **_texts(self)}
        if self.provenance is not None and (texts := dict[str, Any](_texts(self.provenance))):
            changed["provenance"] = dataclasses.replace(self.provenance, **texts)
        for name, value in changed.items():
            object.__setattr__(self, name, value)
        if changed and OUT_OF_RANGE not in self.warnings:
            object.__setattr__(self, "warnings", [*self.warnings, OUT_OF_RANGE])


def _whole_numbers(row: FileResult) -> dict[str, int | None]:
    """Returns numbers that do not fit their columns, clamped or None; the largest value marks a clamped one."""
    changed: dict[str, int | None] = {}
    for name, bits in _BITS.items():
        value = getattr(row, name)
        if value is not None and not -(1 << bits) < value < (1 << bits) - 1:
            clamped = max(-(1 << bits), min(value, (1 << bits) - 1))
            changed[name] = None if name in _OPTIONAL else clamped
    return changed


def _real_numbers(row: FileResult) -> dict[str, None]:
    values = {name: getattr(row, name) for name in _REALS}
    return {
        name: None for name, v in values.items() if v is not None and not (math.isfinite(v) and abs(v) < _MAX_FLOAT32)
    }


def _texts(row: FileResult | Provenance) -> dict[str, str]:
    """Texts that are not Unicode, with escapes."""
    names = _TEXTS if isinstance(row, FileResult) else [field.name for field in dataclasses.fields(row)]
    changed = {}
    for name in names:
        value = getattr(row, name)
        if isinstance(value, str) and not value.isascii():
            text = value.encode("utf-8", "backslashreplace").decode()
            if text != value:
                changed[name] = text
    return changed
