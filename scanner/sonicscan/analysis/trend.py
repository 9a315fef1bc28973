"""Shows a catalogue's flags over time: one line for each month, from the reports of an audit."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

from sonicscan.analysis import catalogue
from sonicscan.analysis.catalogue import Catalogue, identity
from sonicscan.analysis.diff import compare
from sonicscan.analysis.reviewed import Reviewed
from sonicscan.analysis.statistics import Estimate, wilson
from sonicscan.errors import ReportError
from sonicscan.library.urls import Location, Url
from sonicscan.report.bounded import schema_of
from sonicscan.report.metadata import ReportMetadata
from sonicscan.report.readers import part_files


@dataclass(frozen=True)
class Month:
    """One month, by the last report that finished in it.

    Attributes:
        month: `2026-11`, in UTC.
        report: that report's name.
        reports: how many of the reports finished in the month.
        tracks: in the catalogue.
        assessed: those with a score.
        flagged, review: those with these verdicts.
        share: flagged among assessed, with Wilson's 95% interval; None where none was assessed, or for a report
            whose tracks were selected by score, verdict or decision.
        added: tracks that the month before did not have; None in the first month.
        added_assessed, added_flagged: those of them with a score, and those that are flagged.
        added_share: `added_flagged` among `added_assessed`; None where there are none, or as for `share`.
        newly_flagged: tracks flagged that were not flagged the month before, without those decided about; None in the
            first month, and where the report of the month before may lack flags.
        notes: what makes the month hard to compare with the one before, or what its report lacks of the library.
    """

    month: str
    report: str
    reports: int
    tracks: int
    assessed: int
    flagged: int
    review: int
    share: Estimate | None
    added: int | None = None
    added_assessed: int | None = None
    added_flagged: int | None = None
    added_share: Estimate | None = None
    newly_flagged: int | None = None
    notes: tuple[str, ...] = ()


def trend(reports: Sequence[Location], reviewed: Reviewed | None = None) -> list[Month]:
    """The months of an audit's reports, in order; two reports are in memory at a time.

    Raises:
        ReportError: one cannot be read, or does not say when it was finished.
    """
    by_month: dict[str, list[tuple[str, Location]]] = {}
    for report in reports:
        finished = _finished(report)
        by_month.setdefault(finished[:7], []).append((finished, report))
    months: list[Month] = []
    before: Catalogue | None = None
    for month, found in sorted(by_month.items()):
        now = catalogue.load(max(found, key=lambda pair: pair[0])[1])
        line = _counts(month, now, len(found))
        months.append(line if before is None else _since(line, before, now, reviewed))
        before = now
    return months


def _finished(report: Location) -> str:
    """When a report was finished, ISO 8601; of a local file only the schema is read."""
    if isinstance(report, Url):
        finished = catalogue.load(report).metadata.finished
    else:
        finished = ReportMetadata.of(schema_of(part_files(report)[-1]), report).finished
    if len(finished) < len("2026-11"):
        raise ReportError(f"{report} does not say when it was finished; only reports of sonicscan have a month.")
    return finished


def _counts(month: str, now: Catalogue, reports: int) -> Month:
    verdicts = [row.verdict for row in now.rows]
    assessed = sum(row.score is not None for row in now.rows)
    flagged = verdicts.count("flagged")
    return Month(
        month=month,
        report=now.name,
        reports=reports,
        tracks=len(now.rows),
        assessed=assessed,
        flagged=flagged,
        review=verdicts.count("review"),
        share=wilson(flagged, assessed) if assessed and not now.metadata.selected else None,
        notes=now.partial,
    )


def _since(line: Month, before: Catalogue, now: Catalogue, reviewed: Reviewed | None) -> Month:
    difference = compare(before, now, reviewed)
    known = {identity(row) for row in before.rows}
    moved = {path for _, path in difference.moved_files}
    added = [row for row in now.rows if identity(row) not in known and row.path not in moved]
    assessed = sum(row.score is not None for row in added)
    flagged = sum(row.verdict == "flagged" for row in added)
    return dataclasses.replace(
        line,
        added=len(added),
        added_assessed=assessed,
        added_flagged=flagged,
        added_share=wilson(flagged, assessed) if assessed and not now.metadata.selected else None,
        newly_flagged=None if before.metadata.may_lack_flags_of(now.metadata) else len(difference.newly_flagged),
        notes=difference.notes,
    )
