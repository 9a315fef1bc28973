"""People's decisions on tracks, in a CSV file that `sonicscan-report` and `sonicscan --fail-on` read.

A track with a valid decision is not an open finding. A decision names the track by its path in the report, or by the
SHA-256 of the file's bytes (`--hash`). A decision on a path expires when the file changes after the decision's date.
Every program that applies decisions reports how many it applied, and how many have expired. A scan writes the valid
decisions to the report's column `decision`.
"""

from __future__ import annotations

import datetime as dt
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol, TypeGuard, get_args

from sonicscan.analysis.tables import csv_lines
from sonicscan.errors import InputError

if TYPE_CHECKING:
    import pyarrow as pa

Kind = Literal["human", "ai", "accepted", "unsure"]
KINDS: tuple[Kind, ...] = get_args(Kind)
DECISIVE: tuple[Kind, ...] = ("human", "ai", "accepted")  # `unsure` leaves a track open
COLUMNS = ("path", "content_hash", "decision", "by", "date", "expires")
STRATUM = "stratum"  # the additional column of a listening sample


class Named(Protocol):
    """The part of a report row that decisions are looked up by, such as a `FileResult`."""

    @property
    def path(self) -> str: ...
    @property
    def content_hash(self) -> str | None: ...
    @property
    def mtime_ns(self) -> int: ...


@dataclass(frozen=True)
class _Row:
    path: str
    content_hash: str | None
    mtime_ns: int


@dataclass(frozen=True)
class Decision:
    """One line of a reviewed-tracks file.

    Attributes:
        path: the track, as a report's `path` has it; empty where `content_hash` names it.
        content_hash: sha256 of the file's bytes, in hex; empty where `path` names it.
        decision: `human` (a false alarm), `ai` (confirmed), `accepted` (stays as it is) or `unsure`.
        by: who decided.
        date: the day of the decision.
        expires: the last day on which it is valid; None for no limit.
    """

    path: str
    content_hash: str
    decision: Kind
    by: str
    date: dt.date
    expires: dt.date | None

    def lapsed(self, row: Named, today: dt.date) -> str | None:
        """Why the decision is no longer valid for a row that it names; None if it is valid."""
        if self.expires is not None and today > self.expires:
            return "expired"
        if not self.content_hash and row.mtime_ns >= _end_of_day_ns(self.date):
            return "file changed since"
        return None


@dataclass(frozen=True)
class Reviewed:
    """All decisions of a file, by path or hash; the last one on a track counts.

    Attributes:
        by_path, by_hash: the decisions.
        strata: of a sample to listen to, the stratum of each path, decided or not.
    """

    by_path: Mapping[str, Decision] = field(default_factory=dict)
    by_hash: Mapping[str, Decision] = field(default_factory=dict)
    strata: Mapping[str, str] = field(default_factory=dict)

    def named(self, row: Named) -> Decision | None:
        """The decision on a row, valid or not; a decision by hash takes precedence over one by path."""
        by_hash = self.by_hash.get(row.content_hash) if row.content_hash else None
        return by_hash or self.by_path.get(row.path)

    def valid(self, row: Named, today: dt.date) -> Decision | None:
        """The valid decision on a row today, `unsure` included; None without one."""
        decision = self.named(row)
        return None if decision is None or decision.lapsed(row, today) is not None else decision

    def covers(self, row: Named, today: dt.date) -> Decision | None:
        """The valid and final decision on a row today; None without one."""
        decision = self.valid(row, today)
        return None if decision is None or decision.decision not in DECISIVE else decision

    def column(self, rows: pa.Table, today: dt.date) -> list[str | None]:
        """The column `decision` of a report's rows: the valid decision on each row today, null without one."""
        names = (rows.column(name).to_pylist() for name in ("path", "content_hash", "mtime_ns"))
        found = (self.valid(_Row(*values), today) for values in zip(*names, strict=True))
        return [None if decision is None else decision.decision for decision in found]

    def unmatched(self, rows: Iterable[Named]) -> tuple[str, ...]:
        """Tracks that the file names and the report does not contain: moved, deleted, or of another report."""
        paths, hashes = set(self.by_path), set(self.by_hash)
        for row in rows:
            paths.discard(row.path)
            hashes.discard(row.content_hash or "")
        return (*sorted(paths), *sorted(hashes))

    def lapsed(self, rows: Iterable[Named], today: dt.date) -> dict[str, int]:
        """Number of rows whose decision is no longer valid, by reason."""
        reasons = (d.lapsed(row, today) for row in rows if (d := self.named(row)) is not None)
        return dict(Counter(reason for reason in reasons if reason is not None))


def load_reviewed(path: Path) -> Reviewed:
    """Read a reviewed-tracks file: CSV, UTF-8, with a header line of the names in `COLUMNS`.

    `expires` may be left out or empty; `path` or `content_hash` must be there. A line without a decision is left out:
    nobody has decided yet. Further columns are the reader's own.

    Raises:
        InputError: the file is missing or of another kind, or a line is not valid; the message names the line.
    """
    names, lines = csv_lines(path, "reviewed tracks")
    if not {"decision", "by", "date"} <= set(names) or not {"path", "content_hash"} & set(names):
        raise InputError(
            f"{path} is not a file of reviewed tracks: its first line must name its columns, {', '.join(COLUMNS)}."
        )
    decisions, strata = [], {}
    for number, line in lines:
        if line.get(STRATUM) and line.get("path"):
            strata[str(line["path"])] = str(line[STRATUM])
        if (line.get("decision") or "").strip():
            decisions.append(_decision(line, f"{path}, line {number}"))
    return Reviewed(
        {d.path: d for d in decisions if not d.content_hash},
        {d.content_hash: d for d in decisions if d.content_hash},
        strata,
    )


def filled_in(path: Path) -> bool:
    """Whether a list to fill in, which `sample` wrote, has any entry of people.

    Raises:
        InputError: it cannot be read, or is not CSV in UTF-8.
    """
    _, lines = csv_lines(path, "reviewed tracks")
    return any(text for _, line in lines for name, text in line.items() if name not in ("path", STRATUM))


def _decision(line: dict[str, str | None], where: str) -> Decision:
    cell = {name: (line.get(name) or "").strip() for name in COLUMNS if name != "path"}
    path = line.get("path") or ""
    if not path and not cell["content_hash"]:
        raise InputError(f"{where}: neither a path nor a content hash says which track is meant.")
    if cell["content_hash"] and not re.fullmatch(r"[0-9a-fA-F]{64}", cell["content_hash"]):
        raise InputError(f"{where}: a content hash is the 64 hexadecimal digits of a SHA-256.")
    decision = cell["decision"]
    if not _is_kind(decision):
        raise InputError(f"{where}: the decision is {decision!r}; it must be one of {', '.join(KINDS)}.")
    if not cell["by"]:
        raise InputError(f"{where}: `by` must say who decided.")
    expires = _day(cell["expires"], "expires", where) if cell["expires"] else None
    return Decision(
        path, cell["content_hash"].lower(), decision, cell["by"], _day(cell["date"], "date", where), expires
    )


def _is_kind(text: str) -> TypeGuard[Kind]:
    return text in KINDS


def _day(text: str, name: str, where: str) -> dt.date:
    try:
        return dt.date.fromisoformat(text)
    except ValueError:
        raise InputError(f"{where}: {name} is {text!r}; it must be a day such as 2026-01-31.") from None


def _end_of_day_ns(day: dt.date) -> int:
    """Nanoseconds since 1970 at which `day` is over in every time zone; the last zone is 12 hours behind UTC."""
    start = dt.datetime(day.year, day.month, day.day, tzinfo=dt.UTC)
    return int((start + dt.timedelta(hours=36)).timestamp()) * 1_000_000_000
