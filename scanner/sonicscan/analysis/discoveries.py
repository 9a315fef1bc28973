"""Which tracks of a report can be flagged at a false-discovery rate (Benjamini-Hochberg)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sonicscan.analysis.catalogue import by_score
from sonicscan.analysis.copies import distinct
from sonicscan.analysis.statistics import benjamini_hochberg, smallest_batch
from sonicscan.report.row import FileResult
from sonicscan.scoring.thresholds import smallest_p_value
from sonicscan.spec import ModelSpec


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


def discovered(rows: Iterable[FileResult], fdr: float) -> list[FileResult]:
    """The tracks that can be flagged at a false-discovery rate, highest score first; copies count once."""
    ranked = by_score(row for row in rows if row.p_value is not None)
    p_values = sorted(row.p_value for row in distinct(ranked) if row.p_value is not None)
    n = benjamini_hochberg(p_values, fdr)
    return [row for row in ranked if n and row.p_value is not None and row.p_value <= p_values[n - 1]]


def discoveries(scored: Sequence[FileResult], spec: ModelSpec | None, fdr: float) -> Discoveries | None:
    """What a false-discovery rate allows; None without p-values, or for an uncalibrated model."""
    tested = [row for row in scored if row.p_value is not None]
    smallest = None if spec is None else smallest_p_value(spec.calibration)
    if not tested or smallest is None:
        return None
    found = discovered(tested, fdr)
    return Discoveries(
        fdr, len(found), found[-1].score if found else None, smallest_batch(len(distinct(tested)), smallest, fdr)
    )
