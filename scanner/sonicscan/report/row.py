"""One row of the report as a Python object; `report.schema.SCHEMA` has the same fields in the same order."""

from __future__ import annotations

from dataclasses import dataclass

from sonicscan.errors import Status
from sonicscan.provenance.record import Provenance
from sonicscan.scoring.thresholds import Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class FileResult:
    """What became of one file. docs/report.md gives unit and meaning of each field."""

    path: str
    path_raw: bytes | None = None
    status: Status
    error: str | None = None
    score: float | None = None
    verdict: Verdict | None = None
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
    title: str | None = None
    artist: str | None = None
    album: str | None = None
    isrc: str | None = None
    content_hash: str | None = None
    size: int
    mtime_ns: int
    warnings: list[str]
    elapsed_ms: float | None = None
