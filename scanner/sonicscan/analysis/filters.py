"""Selects the rows of a report that a command uses."""

from __future__ import annotations

import datetime as dt
import fnmatch
from dataclasses import dataclass

from sonicscan.analysis.catalogue import Catalogue, identity
from sonicscan.analysis.discoveries import discovered
from sonicscan.analysis.reviewed import Reviewed


@dataclass(frozen=True)
class Filter:
    """Conditions that a row must meet, all of them.

    Attributes:
        verdicts: any of these; empty for all.
        statuses: any of these; empty for all.
        min_score: at least this score.
        path: a glob that the whole path matches; `*` matches `/` too.
        fdr: only tracks that can be flagged at this false-discovery rate.
        reviewed: leaves out tracks that have a valid decision among these.
    """

    verdicts: tuple[str, ...] = ()
    statuses: tuple[str, ...] = ()
    min_score: float | None = None
    path: str | None = None
    fdr: float | None = None
    reviewed: Reviewed | None = None

    def __str__(self) -> str:
        """The conditions as options; empty if all rows are taken."""
        parts = [f"--verdict {verdict}" for verdict in self.verdicts] + [f"--status {s}" for s in self.statuses]
        parts += [] if self.min_score is None else [f"--min-score {self.min_score:g}"]
        parts += [] if self.path is None else ["--path"]
        parts += [] if self.fdr is None else [f"--fdr {self.fdr:g}"]
        parts += [] if self.reviewed is None else ["--reviewed"]
        return " ".join(parts)

    def indices(self, catalogue: Catalogue, today: dt.date | None = None) -> list[int]:
        """The rows that meet the conditions, in the report's order."""
        today = today or dt.date.today()
        found = None if self.fdr is None else {identity(row) for row in discovered(catalogue.rows, self.fdr)}
        return [
            i
            for i, row in enumerate(catalogue.rows)
            if (not self.verdicts or row.verdict in self.verdicts)
            and (not self.statuses or row.status in self.statuses)
            and (self.min_score is None or (row.score is not None and row.score >= self.min_score))
            and (self.path is None or fnmatch.fnmatchcase(row.path, self.path))
            and (found is None or identity(row) in found)
            and (self.reviewed is None or self.reviewed.covers(row, today) is None)
        ]
