"""One row of the report as a Python object; `report.SCHEMA` has the same fields in the same order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

from sonicscan.errors import Status

Verdict = Literal["flagged", "review", "clear"]
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)


class Track(NamedTuple):
    """A file that was found and is to be scored.

    Attributes:
        path: as the operating system names it; a URL without what is secret in it.
        size: bytes; -1 where it could not be asked.
        mtime_ns: time of the last change, nanoseconds since 1970; 0 where it could not be asked.
        address: what opens it, where that is not `path`: a URL with a password or a signature.
    """

    path: bytes
    size: int
    mtime_ns: int
    address: bytes | None = None

    @property
    def name(self) -> str:
        """The path as text; bytes that are not UTF-8 are shown as `\\xNN`."""
        return self.path.decode("utf-8", "backslashreplace")

    @property
    def path_raw(self) -> bytes | None:
        """The path's bytes where `name` does not say them all."""
        return None if self.name.encode() == self.path else self.path


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
    class_scores: dict[str, float] | None = None
    attribution: str | None = None
    windows: int = 0
    silent_windows: int = 0
    window_starts_s: list[float] | None = None
    window_margins: list[float] | None = None
    flagged_s: float | None = None
    flagged_ranges: list[dict[str, float]] | None = None
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
