"""Records which flags of an audit were delivered, that is, printed as a line on standard output.

The record is a small file beside the audit's reports. A flag is new if the record does not contain its track; on the
first night all flags are new. The record is written after the lines. If the audit ends between the two, the next audit
prints the lines again, and no flag is lost. Deleting the record repeats all flags once.

A track is removed from the record when a scan scores it and does not flag it, or when a person has decided about it. A
missing or damaged track stays in the record, so its flag is not new when the track returns.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sonicscan.analysis.catalogue import by_score, identity
from sonicscan.analysis.moves import Content, moved
from sonicscan.analysis.reviewed import Reviewed
from sonicscan.errors import ReportError
from sonicscan.files import owned, write_whole
from sonicscan.library.roots import Roots
from sonicscan.report.row import FileResult

_FORMAT = "sonicscan-delivered-1"
_MAX_BYTES = 1 << 30


@dataclass(frozen=True)
class Delivered:
    """The tracks whose flags were delivered.

    Attributes:
        tracks: the content of each track when it was flagged, by its real path.
    """

    tracks: Mapping[bytes, Content] = field(default_factory=dict)

    @classmethod
    def by_report(cls, rows: Iterable[FileResult], roots: Roots) -> Delivered:
        """The record as if all flags of a report had been delivered; a scan with `--since` compares with it."""
        return cls({roots.real(identity(row)): Content.of(row) for row in rows if row.verdict == "flagged"})

    @classmethod
    def read(cls, path: Path) -> Delivered:
        """The record at `path`; an empty one where there is no file.

        Raises:
            ReportError: it cannot be read, is damaged, or another user made it.
        """
        try:
            with path.open("rb") as file:
                if not owned(os.fstat(file.fileno())):
                    raise ReportError(
                        f"another user owns {path}, the record of delivered flags, and could hide flags with it; "
                        "remove it, or change its owner."
                    )
                text = file.read(_MAX_BYTES)
        except FileNotFoundError:
            return cls()
        except OSError as error:
            raise ReportError(f"the record of delivered flags {path} cannot be read: {error.strerror}.") from error
        try:
            kept = json.loads(text)
            if kept["format"] != _FORMAT:
                raise ValueError("another format")
            return cls({os.fsencode(entry.pop("path")): Content(**entry) for entry in kept["tracks"]})
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise ReportError(
                f"{path} is not a record of delivered flags, or is damaged; "
                "move it away, and the next audit prints every flag once more."
            ) from error

    def write(self, path: Path) -> None:
        """Replace the record at `path`, whole or not at all.

        Raises:
            ReportError: it cannot be written.
        """
        tracks: list[dict[str, Any]] = [
            {"path": os.fsdecode(name), **dataclasses.asdict(content)} for name, content in sorted(self.tracks.items())
        ]
        try:
            write_whole(path, json.dumps({"format": _FORMAT, "tracks": tracks}, indent=0))
        except OSError as error:
            raise ReportError(
                f"the record of delivered flags {path} could not be written: {error.strerror or error}; "
                "the next audit prints these flags again."
            ) from error


@dataclass(frozen=True)
class News:
    """The flags of a report that were not delivered before.

    Attributes:
        flagged: newly flagged rows without a decision, highest score first.
        delivered: the record after these flags are delivered.
    """

    flagged: tuple[FileResult, ...]
    delivered: Delivered


def news(rows: Iterable[FileResult], before: Delivered, roots: Roots, reviewed: Reviewed | None = None) -> News:
    """Compare all rows of a report with what was delivered.

    Args:
        rows: of the whole report.
        before: the record so far.
        roots: the folders that the scan was given.
        reviewed: decisions on tracks; None for no decisions.
    """
    today, reviewed = dt.date.today(), reviewed or Reviewed()
    known, unknown = dict(before.tracks), dict[bytes, FileResult]()
    absent = set(before.tracks)
    for row in rows:
        name = roots.real(identity(row))
        absent.discard(name)
        if row.verdict == "flagged" and reviewed.covers(row, today) is None:
            if name in known:
                known[name] = Content.of(row)
            else:
                unknown[name] = row
        elif name in known and (row.score is not None or row.verdict == "flagged"):
            del known[name]
    gone = {name: known[name] for name in absent}
    names = moved(gone, {name: Content.of(row) for name, row in unknown.items()})
    fresh = [row for name, row in unknown.items() if name not in names]
    left = {name: content for name, content in known.items() if name not in names.values()}
    after = left | {name: Content.of(row) for name, row in unknown.items()}
    return News(tuple(by_score(fresh)), Delivered(after))
