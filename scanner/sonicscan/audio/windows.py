"""Where in a track the model looks: a pure plan of window starts.

`WindowPlan(12)` spreads up to twelve windows evenly from the first sample to the last; a track with
less sound than that gets just enough windows to cover all of it, the last ones overlapping.
`WindowPlan(None)` is every whole window from the start, one after the other. An adaptive plan takes a
part of those: they are put into an order in which any first few lie well apart, and a scan goes on
along that order as far as the verdict needs it (`sonicscan.scoring.adaptive`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from sonicscan.errors import InputError

MIN_TRACK_S = 1.0
MAX_WINDOWS = 10_000
FIRST_ROUND = 6  # of an adaptive plan: what the smallest useful estimate of a deviation takes


@dataclass(frozen=True)
class WindowPlan:
    """Which windows of a track are scored.

    Attributes:
        count: how many, evenly spread; None for all.
        part: of an adaptive plan, the positions (first, end) in the spread order that are read.
    """

    count: int | None = 12
    part: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        if self.count is not None and not 1 <= self.count <= MAX_WINDOWS:
            raise InputError(f"the number of windows must be 1 to {MAX_WINDOWS} or `all`, not {self.count}.")

    @classmethod
    def parse(cls, text: str, adaptive: bool = False) -> WindowPlan:
        """A plan from the command line's `--windows N|all`, or `N|all|adaptive` where that makes sense."""
        if text == "all":
            return cls(None)
        if text == "adaptive" and adaptive:
            return cls(None, (0, FIRST_ROUND))
        try:
            return cls(int(text))
        except ValueError:
            named = "a whole number, `all` or `adaptive`" if adaptive else "a whole number or `all`"
            raise InputError(f"--windows takes {named}, not {text!r}.") from None

    def __str__(self) -> str:
        if self.part is not None:
            return "adaptive"
        return "all" if self.count is None else str(self.count)

    @property
    def adaptive(self) -> bool:
        return self.part is not None

    @property
    def at_most(self) -> float:
        """Windows that a track can have at most."""
        if self.part is not None:
            return self.part[1] - self.part[0]
        return math.inf if self.count is None else self.count

    def first(self, n: int) -> WindowPlan:
        """Of an adaptive plan, all that was read of a track once `n` windows were."""
        return replace(self, part=(0, n)) if self.adaptive else self

    def starts(self, n_samples: int, window: int) -> list[int]:
        """First samples of the windows, ascending, each window inside the track.

        Args:
            n_samples: length of the track, at the model's sample rate.
            window: length of a window.

        Returns:
            at least one start, `[0]` for a track no longer than a window; an adaptive plan's part
            may be empty.
        """
        if n_samples <= window:
            return [0] if self.part is None or not self.part[0] else []
        if self.part is not None:
            return [window * k for k in sorted(spread_order(n_samples // window)[slice(*self.part)])]
        if self.count is None:
            return list(range(0, n_samples - window + 1, window))
        n = min(self.count, -(-n_samples // window))
        if n == 1:
            return [(n_samples - window) // 2]
        return [round(i * (n_samples - window) / (n - 1)) for i in range(n)]


def spread_order(n: int) -> list[int]:
    """0..n-1 in van der Corput's order: the middle, the quarters, the eighths, and so on.

    The first 2^k - 1 of them lie evenly, and none of them at an end, where tracks fade.
    Van der Corput 1935, "Verteilungsfunktionen".
    """
    bits = (n - 1).bit_length()
    turned = (int(f"{i:0{bits}b}"[::-1], 2) for i in range(1, 1 << bits))
    return list(dict.fromkeys([*(place * n >> bits for place in turned), 0]))
