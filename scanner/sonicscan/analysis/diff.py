"""What changed between two reports of the same library."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from sonicscan.analysis.catalogue import Catalogue, identity
from sonicscan.analysis.moves import DRIFT, Content, moved
from sonicscan.analysis.reviewed import Reviewed
from sonicscan.report.row import FileResult
from sonicscan.scoring.aggregate import margin_of


@dataclass(frozen=True)
class Change:
    """A track whose verdict or score changed.

    Attributes:
        path: the track.
        before, after: verdict, or the status if there is no verdict; None if the file was absent.
        score_before, score_after: 0..1, or None.
        file: `same`, `changed`, `new` or `gone`.
    """

    path: str
    before: str | None
    after: str | None
    score_before: float | None
    score_after: float | None
    file: str


@dataclass(frozen=True)
class Difference:
    """The comparison of two reports; `--json` prints its `dataclasses.asdict`.

    Attributes:
        old, new: the reports' names.
        notes: limits of the comparison, in sentences; empty if there are none.
        comparable: both reports have the same model, so a score changes only if the sound changes.
        new_files, gone_files, changed_files: paths.
        moved_files: old and new path of files with the same bytes; without --hash, of the same size, time and score.
        verdict_changes: tracks in both reports whose verdict (or status) changed.
        drift: tracks with unchanged model and file whose margin changed by more than 0.01 log-odds.
        newly_flagged: tracks flagged only in the new report, without those that have a decision.
        decided: newly flagged tracks that have a decision.
        newly_declared: tracks that declare themselves generated only in the new report.
    """

    old: str
    new: str
    notes: tuple[str, ...]
    comparable: bool
    new_files: tuple[str, ...]
    gone_files: tuple[str, ...]
    changed_files: tuple[str, ...]
    moved_files: tuple[tuple[str, str], ...]
    verdict_changes: tuple[Change, ...]
    drift: tuple[Change, ...]
    newly_flagged: tuple[Change, ...]
    decided: int
    newly_declared: tuple[str, ...] = ()


def compare(
    old: Catalogue, new: Catalogue, reviewed: Reviewed | None = None, today: dt.date | None = None
) -> Difference:
    """Compare two reports, file by file.

    Files are matched by path. A file has changed if size, time of change or (if both reports have it) content hash
    differ. A moved file is compared with its old verdict.
    """
    reviewed, today = reviewed or Reviewed(), today or dt.date.today()
    before = {identity(row): row for row in old.rows}
    after = {identity(row): row for row in new.rows}
    comparable = _comparable(old, new)
    gone = {key: row for key, row in before.items() if key not in after}
    appeared = {key: row for key, row in after.items() if key not in before}
    origins = moved(_contents(gone, comparable), _contents(appeared, comparable))
    moved_from = set(origins.values())
    pairs = [(before.get(origins.get(key, key)), row) for key, row in after.items()]
    newly = [(was, row) for was, row in pairs if row.verdict == "flagged" and (was is None or was.verdict != "flagged")]
    open_ = [(was, row) for was, row in newly if reviewed.covers(row, today) is None]
    return Difference(
        old=old.name,
        new=new.name,
        notes=tuple(_notes(old, new)),
        comparable=comparable,
        new_files=tuple(row.path for was, row in pairs if was is None),
        gone_files=tuple(row.path for key, row in gone.items() if key not in moved_from),
        changed_files=tuple(row.path for was, row in pairs if was is not None and _file_of(was, row) == "changed"),
        moved_files=tuple((before[origin].path, after[key].path) for key, origin in origins.items()),
        verdict_changes=tuple(_change(was, row) for was, row in pairs if was is not None and _say(was) != _say(row)),
        drift=tuple(_change(was, row) for was, row in pairs if comparable and was is not None and _drifted(was, row)),
        newly_flagged=tuple(_change(was, row) for was, row in open_),
        decided=len(newly) - len(open_),
        newly_declared=tuple(row.path for was, row in pairs if _declares(row) and (was is None or not _declares(was))),
    )


def _declares(row: FileResult) -> bool:
    return row.provenance is not None and row.provenance.declares_generation


def _contents(rows: Mapping[bytes, FileResult], comparable: bool) -> dict[bytes, Content]:
    """The content of each row's file; leaves out scores if the models differ."""
    found = {key: Content.of(row) for key, row in rows.items()}
    return found if comparable else {key: dataclasses.replace(content, score=None) for key, content in found.items()}


def _comparable(old: Catalogue, new: Catalogue) -> bool:
    digests = [report.metadata.model_digest for report in (old, new)]
    return digests[0] is not None and digests[0] == digests[1]


def _notes(old: Catalogue, new: Catalogue) -> Iterable[str]:
    if not _comparable(old, new):
        yield (
            f"The reports are of different models: {old.metadata.model_name} and "
            f"{new.metadata.model_name}. Their scores are not on one scale, "
            "so score drift is left out, and a verdict may have changed because the model did."
        )
    for report in (old, new):
        if report.spec is not None and report.spec.untrained:
            yield f"The model of {report.name} is untrained: its scores mean nothing."
    for report in (old, new):
        if report.metadata.filtered is not None or old.metadata.shards != new.metadata.shards:
            yield from (f"{sentence} Files that it lacks are listed as new or gone." for sentence in report.partial)
    if old.thresholds != new.thresholds:
        yield (
            "The reports have different thresholds for `flagged` and `review` "
            f"({_limits(old)} and {_limits(new)}), so a verdict may have changed where the score did not."
        )
    if old.metadata.windows != new.metadata.windows:
        yield (
            f"The scans used different windows ({old.metadata.windows} and {new.metadata.windows} "
            "a track), which changes scores."
        )


def _limits(report: Catalogue) -> str:
    limits = report.thresholds
    return "none" if limits is None else f"from {limits.flagged:.4f}"


def _say(row: FileResult) -> str:
    """The verdict, or why there is none."""
    return row.verdict or ("no verdict" if row.score is not None else row.status)


def _file_of(was: FileResult, row: FileResult) -> str:
    if was.content_hash and row.content_hash:
        return "same" if was.content_hash == row.content_hash else "changed"
    return "same" if (was.size, was.mtime_ns) == (row.size, row.mtime_ns) else "changed"


def _drifted(was: FileResult, row: FileResult) -> bool:
    if was.score is None or row.score is None or _file_of(was, row) != "same" or was.score == row.score:
        return False
    return not abs(margin_of(was.score) - margin_of(row.score)) <= DRIFT


def _change(was: FileResult | None, row: FileResult) -> Change:
    if was is None:
        return Change(row.path, None, _say(row), None, row.score, "new")
    return Change(row.path, _say(was), _say(row), was.score, row.score, _file_of(was, row))
