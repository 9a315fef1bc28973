"""Shows the progress of a scan on stderr: a bar on a terminal, otherwise one line a minute."""

from __future__ import annotations

import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from sonicscan.errors import FAILED_STATUSES
from sonicscan.report.row import FileResult

LINE_EVERY_S = 60.0
_DRAW_EVERY_S = 0.2


class Tally:
    """Counts of a scan by verdict and status.

    Attributes:
        fresh: tracks that were scored now.
        carried: tracks taken over from an earlier scan; they join the counts at the end.
        audio_s: seconds of sound in the fresh tracks.
        decided: findings with a valid decision, by verdict.
        claims: tracks by what they declare about their own origin.
        open_generated: tracks that declare themselves generated and have no valid decision.
    """

    def __init__(self) -> None:
        self.verdicts: Counter[str] = Counter()
        self.statuses: Counter[str] = Counter()
        self.fresh = 0
        self.carried = 0
        self.audio_s = 0.0
        self.decided: Counter[str] = Counter()
        self.claims: Counter[str] = Counter()
        self.open_generated = 0

    def add(self, result: FileResult, decided: bool) -> None:
        self.fresh += 1
        self.audio_s += result.duration_s or 0.0
        self.statuses[result.status] += 1
        if result.verdict is not None:
            self.verdicts[result.verdict] += 1
            if decided and result.verdict != "clear":
                self.decided[result.verdict] += 1
        if result.provenance is not None:
            self.claims[result.provenance.claim] += 1
            self.open_generated += result.provenance.declares_generation and not decided

    def add_carried(
        self,
        statuses: Sequence[str],
        verdicts: Iterable[str | None],
        decided: Iterable[str | None],
        claims: Iterable[str | None] = (),
        open_generated: int = 0,
    ) -> None:
        """Count rows that were taken over from an earlier scan."""
        self.carried += len(statuses)
        self.statuses.update(statuses)
        self.verdicts.update(v for v in verdicts if v is not None)
        self.decided.update(v for v in decided if v is not None)
        self.claims.update(claim for claim in claims if claim is not None)
        self.open_generated += open_generated

    @property
    def tracks(self) -> int:
        return self.fresh + self.carried

    @property
    def failed(self) -> int:
        return sum(n for status, n in self.statuses.items() if status in FAILED_STATUSES)

    def lines(self) -> list[str]:
        """Totals: by verdict and by declared origin, where there are any, and by status."""
        lines = ["status   " + _counts(self.statuses)]
        declared = Counter({claim: n for claim, n in self.claims.items() if claim != "none"})
        if declared:
            lines.insert(0, "declared " + _counts(declared))
        if self.verdicts:
            lines.insert(0, "verdict  " + _counts(self.verdicts))
        return lines


def _counts(counter: Counter[str]) -> str:
    return ", ".join(f"{name} {n}" for name, n in counter.most_common()) or "none"


class Progress:
    """Shows a scan's progress on stderr.

    Args:
        tally: what has been counted; drawn, never changed.
        count: lists the files again and returns their number; runs in parallel to the scan, only for a bar.
        quiet: show nothing.
    """

    def __init__(self, tally: Tally, count: Callable[[], int], quiet: bool) -> None:
        self._tally = tally
        self._count = count
        self._shown = not quiet
        self._began = time.monotonic()
        self._drawn = self._began
        self._total: int | None = None
        self._bar: Any = None
        self._task: Any = None

    def __enter__(self) -> Progress:
        if self._shown and sys.stderr.isatty():
            self._start_bar()
            threading.Thread(target=self._count_all, name="sonicscan-count", daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        if self._bar is not None:
            self.update(now=True)
            self._bar.stop()

    def update(self, now: bool = False) -> None:
        """Draw what has changed, at most five times a second, or a line a minute."""
        every = _DRAW_EVERY_S if self._bar is not None else LINE_EVERY_S
        moment = time.monotonic()
        if not self._shown or (moment - self._drawn < every and not now):
            return
        self._drawn = moment
        if self._bar is None:
            print(f"sonicscan: {self._tally.tracks} tracks{self._rates()}", file=sys.stderr, flush=True)  # noqa: T201
        else:
            self._bar.update(self._task, completed=self._tally.tracks, total=self._total, rates=self._rates())

    def _count_all(self) -> None:
        self._total = self._count()

    def _rates(self) -> str:
        took = max(1e-9, time.monotonic() - self._began)
        text = f" · {self._tally.fresh / took:.1f}/s · {self._tally.audio_s / took:.0f}x real time"
        if self._tally.verdicts["flagged"]:
            text += f" · {self._tally.verdicts['flagged']} flagged"
        if self._tally.failed:
            text += f" · {self._tally.failed} errors"
        return text

    def _start_bar(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as RichProgress

        self._bar = RichProgress(
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            TextColumn("tracks{task.fields[rates]}"),
            TimeRemainingColumn(compact=True),
            console=Console(stderr=True),
            transient=True,
        )
        self._task = self._bar.add_task("", total=None, rates="")
        self._bar.start()
