"""The figures of one report: findings, their uncertainty, and the tracks that could not be assessed."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sonicscan.analysis.catalogue import Catalogue, identity
from sonicscan.analysis.codecs import CodecClass, codec_classes
from sonicscan.analysis.copies import distinct
from sonicscan.analysis.declarations import Declarations, count_declarations
from sonicscan.analysis.discoveries import Discoveries, discoveries
from sonicscan.analysis.groups import Group, groups_of
from sonicscan.analysis.reviewed import DECISIVE, Reviewed
from sonicscan.analysis.statistics import LISTEN, ErrorRates, Estimate, Shares, error_rates, shares
from sonicscan.analysis.suppliers import Declared, SupplierCounts, compare_declared
from sonicscan.errors import FAILED_STATUSES, STATUSES
from sonicscan.report.compared import differences
from sonicscan.report.row import FileResult
from sonicscan.scoring.thresholds import VERDICTS, Thresholds, why_not_certified
from sonicscan.spec import UNKNOWN_WINDOWS, codec_class


@dataclass(frozen=True)
class ReviewedCounts:
    """The effect of decisions on the report.

    Attributes:
        decided: flagged or review tracks with a valid decision, by decision.
        lapsed: tracks whose decision is no longer valid, by reason.
        unmatched: tracks that the file of decisions names and the report does not contain.
        open_flagged, open_review: tracks with that verdict and without a valid decision.
    """

    decided: dict[str, int]
    lapsed: dict[str, int]
    unmatched: tuple[str, ...]
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
    """All figures of a report; `--json` prints their `dataclasses.asdict`.

    Attributes:
        report, model: names, for people.
        partial: what the report lacks of its library, in sentences; empty if it has all tracks.
        untrained: the model's weights are random and its scores mean nothing.
        started, finished: ISO 8601, UTC; empty if the report does not hold them.
        tracks: files found.
        assessed: tracks with a score.
        copies: assessed tracks that are copies of other tracks; copies count once in every estimate.
        hours: length of the sound of the assessed tracks.
        verdicts: tracks by verdict, as the model gave it.
        flagged_once: flagged tracks, copies counted once.
        statuses: tracks by status; only those that occur.
        failed: tracks whose status is a failure; a truncated one may still have a score.
        flagged_from: the score from which a track is flagged; None without thresholds.
        max_fpr: the certified false-positive rate at that score; None where the user chose the score.
        not_certified: why that rate is not certified for this scan, in a sentence; None where it is.
        differences: how the tracks differ from those that the model was calibrated on, in sentences.
        codecs: the codec classes of the tracks; empty if the calibration has no codec classes, or the rate is not
            certified.
        rates: the model's error rates at `flagged_from`; None for an uncalibrated model.
        ai_share: estimated share of AI among the assessed, copies counted once; None where it cannot be estimated.
        ai_share_why_not: the reason, in a sentence.
        false_flags: expected number of flagged tracks that are by people; None without `ai_share`.
        chance_flags: how many tracks would be flagged on average if all were by people; copies count once. None for an
            uncalibrated model, for selected tracks, and if a codec class of the tracks has a higher threshold.
        discoveries: what a false-discovery rate allows; None without p-values, or for selected tracks.
        reviewed: decisions; None where no file of them was given.
        folders, artists: all groups, most flagged tracks first.
        declarations: what the tracks declare about their own origin; None where that was not read.
        supplier: suppliers' declarations compared with the findings; None where no file of declarations was given.
    """

    report: str
    model: str
    partial: tuple[str, ...]
    untrained: bool
    started: str
    finished: str
    tracks: int
    assessed: int
    copies: int
    hours: float
    verdicts: dict[str, int]
    flagged_once: int
    statuses: dict[str, StatusCount]
    failed: int
    flagged_from: float | None
    max_fpr: float | None
    not_certified: str | None
    differences: tuple[str, ...]
    codecs: tuple[CodecClass, ...]
    rates: ErrorRates | None
    ai_share: Estimate | None
    ai_share_why_not: str | None
    false_flags: Estimate | None
    chance_flags: float | None
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
        depth: how many folder levels below the common folder form groups.
        today: the day on which decisions must hold.
        declared: what suppliers declared.
    """
    rows, spec, limits = catalogue.rows, catalogue.spec, catalogue.thresholds
    today = today or dt.date.today()
    scored = [row for row in rows if row.score is not None]
    verdicts = Counter(row.verdict for row in rows if row.verdict)
    single = distinct(scored)
    # Error rates are those of the threshold of all tracks, and a codec class may have a higher one.
    flagged = 0 if limits is None else sum(row.score is not None and row.score >= limits.flagged for row in single)
    rates = error_rates(spec, limits) if spec is not None and limits is not None else None
    uncertain, different = reservations(catalogue)
    selected = catalogue.metadata.selected
    found = None if rates is None or selected else shares(flagged, len(single), rates)
    if found is not None and (different or uncertain):
        reason = (
            "these tracks differ from those of the calibration" if different else "the error rates are not certified"
        )
        found = Shares(None, None, found.chance_flags, f"{reason}; {LISTEN}")
    if found is not None and limits is not None and _own_thresholds(single, limits):
        found = dataclasses.replace(found, false_flags=None, chance_flags=None)
    if found is not None:
        why_not = found.why_not
    elif selected:
        why_not = f"the report has {catalogue.metadata.chosen}"
    else:
        why_not = "the model is not calibrated, or the scan gave no verdicts"
    declarations = count_declarations(rows)
    if declarations is not None and selected:
        declarations = dataclasses.replace(declarations, recall=None)
    cleared = decided_human(rows, reviewed, today)
    return Summary(
        report=catalogue.name,
        model=catalogue.metadata.model_name,
        partial=catalogue.partial,
        untrained=spec is not None and spec.untrained,
        started=catalogue.metadata.started,
        finished=catalogue.metadata.finished,
        tracks=len(rows),
        assessed=len(scored),
        copies=len(scored) - len(single),
        hours=sum(row.duration_s or 0.0 for row in scored) / 3600,
        verdicts={verdict: verdicts[verdict] for verdict in VERDICTS},
        flagged_once=sum(row.verdict == "flagged" for row in single),
        statuses=_statuses(rows),
        failed=sum(row.status in FAILED_STATUSES for row in rows),
        flagged_from=None if limits is None else limits.flagged,
        max_fpr=None if limits is None else limits.max_fpr,
        not_certified=uncertain,
        differences=different,
        codecs=() if uncertain else codec_classes(scored, spec, limits),
        rates=rates,
        ai_share=None if found is None else found.ai_share,
        ai_share_why_not=why_not,
        false_flags=None if found is None else found.false_flags,
        chance_flags=None if found is None else found.chance_flags,
        discoveries=None if selected else discoveries(scored, spec, fdr),
        reviewed=None if reviewed is None else _counts(rows, reviewed, today),
        folders=groups_of(rows, "folder", cleared, depth, fdr, selected),
        artists=groups_of(rows, "artist", cleared, depth, fdr, selected),
        declarations=declarations,
        supplier=None if declared is None else compare_declared(rows, declared),
    )


def reservations(catalogue: Catalogue) -> tuple[str | None, tuple[str, ...]]:
    """Why the rate of a report is not certified, and how its tracks differ from the calibration's, in sentences."""
    # A selection by score or verdict differs from the calibration's tracks, whatever the library is like.
    compared = catalogue.thresholds is not None and not catalogue.metadata.selected
    different = differences(catalogue.table, catalogue.spec) if compared else ()
    return _why_not_certified(catalogue), different


def _why_not_certified(catalogue: Catalogue) -> str | None:
    spec, limits = catalogue.spec, catalogue.thresholds
    if spec is None or limits is None or spec.untrained:
        return None
    return why_not_certified(spec.calibration, limits, catalogue.metadata.windows or UNKNOWN_WINDOWS)


def decided_human(
    rows: Iterable[FileResult], reviewed: Reviewed | None, today: dt.date | None = None
) -> frozenset[bytes]:
    """Identities of the tracks that people decided are by a human."""
    if reviewed is None:
        return frozenset()
    decisions = ((row, reviewed.covers(row, today or dt.date.today())) for row in rows)
    return frozenset(identity(row) for row, decision in decisions if decision and decision.decision == "human")


def _own_thresholds(rows: Iterable[FileResult], limits: Thresholds) -> bool:
    """Whether a row's codec class has a higher threshold for `flagged` than all tracks."""
    higher = {own.name for own in limits.classes if own.flagged > limits.flagged}
    return bool(higher) and any(codec_class(row.codec) in higher for row in rows)


def _counts(rows: Sequence[FileResult], reviewed: Reviewed, today: dt.date) -> ReviewedCounts:
    found = [row for row in rows if row.verdict in ("flagged", "review")]
    decisions = [reviewed.covers(row, today) for row in found]
    decided = Counter(decision.decision for decision in decisions if decision)
    undecided = Counter(row.verdict for row, decision in zip(found, decisions, strict=True) if decision is None)
    return ReviewedCounts(
        {kind: decided[kind] for kind in DECISIVE},
        reviewed.lapsed(rows, today),
        reviewed.unmatched(rows),
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
