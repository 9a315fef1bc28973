"""The figures of one report: what was found, how sure that is, and what could not be judged."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from sonicscan.analysis.catalogue import Catalogue, by_score, folder_of, identity
from sonicscan.analysis.declarations import Declarations, count_declarations
from sonicscan.analysis.reviewed import KINDS, Reviewed
from sonicscan.analysis.statistics import (
    ErrorRates,
    Estimate,
    benjamini_hochberg,
    error_rates,
    shares,
    smallest_batch,
    wilson,
)
from sonicscan.analysis.suppliers import Declared, SupplierCounts, compare_declared
from sonicscan.errors import FAILED_STATUSES, STATUSES
from sonicscan.report.row import FileResult
from sonicscan.scoring.thresholds import VERDICTS

NO_ARTIST = "(no artist tag)"


@dataclass(frozen=True)
class Group:
    """The tracks of one folder or artist.

    Attributes:
        name: the folder, relative to what all paths have in common, or the artist.
        tracks: files found.
        assessed: tracks with a verdict.
        flagged: flagged ones, without those that people decided are by a human.
        review: tracks up for review, likewise.
        share: flagged among assessed, with Wilson's 95% interval; None where none was assessed.
    """

    name: str
    tracks: int
    assessed: int
    flagged: int
    review: int
    share: Estimate | None


@dataclass(frozen=True)
class Discoveries:
    """Which tracks can be flagged at a false-discovery rate.

    Attributes:
        fdr: the rate that was asked for.
        tracks: how many of the highest-scoring tracks qualify.
        score: the lowest score among them; None where there are none.
        smallest_batch: how many tracks must share the smallest possible p-value before any qualifies.
    """

    fdr: float
    tracks: int
    score: float | None
    smallest_batch: int


@dataclass(frozen=True)
class ReviewedCounts:
    """What decisions did to the report.

    Attributes:
        settled: flagged or review tracks by decision in force.
        lapsed: tracks whose decision no longer holds, by reason.
        open_flagged, open_review: tracks with that verdict that nobody has decided about.
    """

    settled: dict[str, int]
    lapsed: dict[str, int]
    open_flagged: int
    open_review: int


@dataclass(frozen=True)
class StatusCount:
    """Files of one status.

    Attributes:
        tracks: how many.
        not_assessed: how many of them have no score.
        reason: the first of their errors; None where there is none.
    """

    tracks: int
    not_assessed: int
    reason: str | None


@dataclass(frozen=True)
class Summary:
    """All of it; `dataclasses.asdict` is what `--json` prints.

    Attributes:
        report, model: names, for people.
        untrained: the model's weights are random and its scores mean nothing.
        started, finished: ISO 8601, UTC; empty where the report does not say.
        tracks: files found.
        assessed: those with a score.
        hours: sound in them.
        verdicts: tracks by verdict, as the model gave it.
        statuses: tracks by status; only those that occur.
        failed: tracks whose status is a failure; a truncated one may have a score all the same.
        flagged_from: the score from which a track is flagged; None without thresholds.
        max_fpr: the certified false-positive rate at that score; None where the user chose the score.
        rates: the model's error rates there; None for an uncalibrated model.
        ai_share: estimated share of AI among the assessed; None where it cannot be estimated.
        ai_share_why_not: the reason, in a sentence.
        false_flags: expected number of flagged tracks that are by people; without `ai_share` an upper limit.
        discoveries: what a false-discovery rate allows; None without p-values.
        reviewed: decisions; None where no file of them was given.
        folders, artists: all groups, most flagged tracks first.
        declarations: what the tracks declare about their own origin; None where that was not read.
        supplier: what suppliers declared against what was found; None where no file of declarations was given.
    """

    report: str
    model: str
    untrained: bool
    started: str
    finished: str
    tracks: int
    assessed: int
    hours: float
    verdicts: dict[str, int]
    statuses: dict[str, StatusCount]
    failed: int
    flagged_from: float | None
    max_fpr: float | None
    rates: ErrorRates | None
    ai_share: Estimate | None
    ai_share_why_not: str | None
    false_flags: Estimate | None
    discoveries: Discoveries | None
    reviewed: ReviewedCounts | None
    folders: tuple[Group, ...]
    artists: tuple[Group, ...]
    declarations: Declarations | None = None
    supplier: SupplierCounts | None = None


def summarise(
    catalogue: Catalogue,
    fdr: float = 0.05,
    reviewed: Reviewed | None = None,
    depth: int = 1,
    today: dt.date | None = None,
    declared: Declared | None = None,
) -> Summary:
    """The figures of a report.

    Args:
        catalogue: the report.
        fdr: false-discovery rate for `discoveries`, in (0, 1).
        reviewed: decisions to respect.
        depth: how many folder levels below the common folder are told apart.
        today: the day on which decisions must hold.
        declared: what suppliers declared.
    """
    rows, spec, limits = catalogue.rows, catalogue.spec, catalogue.thresholds
    today = today or dt.date.today()
    scored = [row for row in rows if row.score is not None]
    verdicts = Counter(row.verdict for row in rows if row.verdict)
    rates = error_rates(spec, limits) if spec is not None and limits is not None else None
    found = shares(verdicts["flagged"], len(scored), rates) if rates is not None else None
    why_not = found.why_not if found is not None else "the model is not calibrated, or the scan gave no verdicts"
    cleared = _cleared(rows, reviewed or Reviewed(), today)
    return Summary(
        report=catalogue.name,
        model=catalogue.metadata.model_name,
        untrained=spec is not None and spec.untrained,
        started=catalogue.metadata.started,
        finished=catalogue.metadata.finished,
        tracks=len(rows),
        assessed=len(scored),
        hours=sum(row.duration_s or 0.0 for row in scored) / 3600,
        verdicts={verdict: verdicts[verdict] for verdict in VERDICTS},
        statuses=_statuses(rows),
        failed=sum(row.status in FAILED_STATUSES for row in rows),
        flagged_from=None if limits is None else limits.flagged,
        max_fpr=None if limits is None else limits.max_fpr,
        rates=rates,
        ai_share=None if found is None else found.ai_share,
        ai_share_why_not=why_not,
        false_flags=None if found is None else found.false_flags,
        discoveries=_discoveries(scored, 0 if spec is None else spec.calibration.n, fdr),
        reviewed=None if reviewed is None else _counts(rows, reviewed, today),
        folders=_groups(rows, _folder_names(rows, depth), cleared),
        artists=_groups(rows, lambda row: row.artist or NO_ARTIST, cleared),
        declarations=count_declarations(rows),
        supplier=None if declared is None else compare_declared(rows, declared),
    )


def discovered(rows: Iterable[FileResult], fdr: float) -> list[FileResult]:
    """The tracks that can be flagged at a false-discovery rate, highest score first."""
    ranked = by_score(row for row in rows if row.p_value is not None)
    return ranked[: benjamini_hochberg([row.p_value for row in ranked if row.p_value is not None], fdr)]


def _discoveries(scored: Sequence[FileResult], n_human: int, fdr: float) -> Discoveries | None:
    tested = [row for row in scored if row.p_value is not None]
    if not tested or not n_human:
        return None
    found = discovered(tested, fdr)
    return Discoveries(fdr, len(found), found[-1].score if found else None, smallest_batch(len(tested), n_human, fdr))


def _cleared(rows: Iterable[FileResult], reviewed: Reviewed, today: dt.date) -> frozenset[bytes]:
    """The tracks that people decided are by a human."""
    decisions = ((row, reviewed.covers(row, today)) for row in rows)
    return frozenset(identity(row) for row, decision in decisions if decision and decision.decision == "human")


def _counts(rows: Sequence[FileResult], reviewed: Reviewed, today: dt.date) -> ReviewedCounts:
    found = [row for row in rows if row.verdict in ("flagged", "review")]
    decisions = [reviewed.covers(row, today) for row in found]
    settled = Counter(decision.decision for decision in decisions if decision)
    undecided = Counter(row.verdict for row, decision in zip(found, decisions, strict=True) if decision is None)
    return ReviewedCounts(
        {kind: settled[kind] for kind in KINDS},
        reviewed.lapsed(rows, today),
        undecided["flagged"],
        undecided["review"],
    )


def _statuses(rows: Iterable[FileResult]) -> dict[str, StatusCount]:
    found: dict[str, StatusCount] = {}
    for row in rows:
        so_far = found.get(row.status, StatusCount(0, 0, None))
        missing = so_far.not_assessed + (row.score is None)
        found[row.status] = StatusCount(so_far.tracks + 1, missing, so_far.reason or row.error)
    return {status: found[status] for status in STATUSES if status in found}


def common_folder(rows: Sequence[FileResult]) -> str:
    """What all paths begin with, up to and with a `/`; empty where there is no such thing."""
    # As text, and not as a path, so that `./` and `s3://` stay. What the first and the last share, all share.
    first, last = min((row.path for row in rows), default=""), max((row.path for row in rows), default="")
    same = next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), min(len(first), len(last)))
    return first[: first.rfind("/", 0, same) + 1]


def _folder_names(rows: Sequence[FileResult], depth: int) -> Callable[[FileResult], str]:
    """What to call a file's folder: at most `depth` levels below the folder that all have in common."""
    common = len(PurePosixPath(common_folder(rows)).parts)

    def name(row: FileResult) -> str:
        parts = PurePosixPath(folder_of(row)).parts[common : common + depth]
        return "/".join(parts) or "."

    return name


def _groups(
    rows: Iterable[FileResult], name_of: Callable[[FileResult], str], cleared: frozenset[bytes]
) -> tuple[Group, ...]:
    members: dict[str, list[FileResult]] = {}
    for row in rows:
        members.setdefault(name_of(row), []).append(row)
    groups = []
    for name, group in members.items():
        verdicts = Counter(row.verdict for row in group if identity(row) not in cleared)
        assessed = sum(row.verdict is not None for row in group)
        share = wilson(verdicts["flagged"], assessed) if assessed else None
        groups.append(Group(name, len(group), assessed, verdicts["flagged"], verdicts["review"], share))
    return tuple(sorted(groups, key=lambda g: (-g.flagged, -g.review, -g.tracks, g.name)))
