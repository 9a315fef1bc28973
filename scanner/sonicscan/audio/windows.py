"""Window plans: which windows of a track are scored.

- `count` spreads up to that many windows evenly from the first sample to the last. A track with less sound gets just
  enough windows to cover all of it; the last ones overlap.
- `all` takes every whole window from the start, one after the other.
- `adaptive` takes a part of those windows. It orders them so that the first few are far apart. A scan reads windows
  in that order until the verdict is decided (`sonicscan.scoring.adaptive`).
"""

from __future__ import annotations

import math
import operator
from dataclasses import dataclass, replace
from typing import Literal

from sonicscan.errors import InputError

MIN_TRACK_S = 1.0
MAX_WINDOWS = 10_000
FIRST_ROUND = 5  # first round of an adaptive plan: the smallest useful sample for a deviation

Mode = Literal["count", "all", "adaptive"]


@dataclass(frozen=True)
class WindowPlan:
    """Which windows of a track are scored.

    Attributes:
        count: how many windows the mode `count` spreads; without effect in the other modes.
        mode: `count`, `all` or `adaptive`.
        part: the positions (first, end) in the spread order that the mode `adaptive` reads; without effect in the
            other modes.
    """

    count: int = 12
    mode: Mode = "count"
    part: tuple[int, int] = (0, FIRST_ROUND)

    def __post_init__(self) -> None:
        if not 1 <= self.count <= MAX_WINDOWS:
            raise InputError(f"the number of windows must be 1 to {MAX_WINDOWS} or `all`, not {self.count}.")

    @classmethod
    def parse(cls, text: str, adaptive: bool = False) -> WindowPlan:
        """Read the value of `--windows N|all`, or of `--windows N|all|adaptive` if the command supports it."""
        if text == "all":
            return ALL_WINDOWS
        if text == "adaptive" and adaptive:
            return ADAPTIVE_WINDOWS
        try:
            return cls(int(text))
        except ValueError:
            named = "a whole number, `all` or `adaptive`" if adaptive else "a whole number or `all`"
            raise InputError(f"--windows takes {named}, not {text!r}.") from None

    @classmethod
    def of(cls, windows: int | str | None) -> WindowPlan:
        """A plan from the API's `windows`: a number, None for all, "all" or "adaptive"."""
        if windows is None:
            return ALL_WINDOWS
        if isinstance(windows, str):
            return cls.parse(windows, adaptive=True)
        try:
            return cls(operator.index(windows))
        except TypeError:
            raise InputError(f"windows is a whole number, None for all, or 'adaptive', not {windows!r}.") from None

    def __str__(self) -> str:
        return str(self.count) if self.mode == "count" else self.mode

    @property
    def adaptive(self) -> bool:
        """Whether a track may be read again in a later round."""
        return self.mode == "adaptive"

    @property
    def reads_all(self) -> bool:
        """Whether a track is read from its start to its end."""
        return self.mode == "all"

    @property
    def at_most(self) -> float:
        """The largest possible number of windows of a track."""
        if self.mode == "adaptive":
            return self.part[1] - self.part[0]
        return math.inf if self.mode == "all" else self.count

    def first(self, n: int) -> WindowPlan:
        """The adaptive plan that covers the first `n` windows of a track."""
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
            return [] if self.adaptive and self.part[0] else [0]
        if self.mode == "adaptive":
            return [window * k for k in sorted(spread_order(n_samples // window)[slice(*self.part)])]
        if self.mode == "all":
            return list(range(0, n_samples - window + 1, window))
        n = min(self.count, -(-n_samples // window))
        if n == 1:
            return [(n_samples - window) // 2]
        return [round(i * (n_samples - window) / (n - 1)) for i in range(n)]


ALL_WINDOWS = WindowPlan(mode="all")
ADAPTIVE_WINDOWS = WindowPlan(mode="adaptive")


def spread_order(n: int) -> list[int]:
    """0..n-1 in van der Corput's order: the middle, the quarters, the eighths, and so on.

    The first 2^k - 1 positions are evenly spaced. None lies at an end of the track, where it fades. Van der Corput
    1935, "Verteilungsfunktionen".
    """
    bits = (n - 1).bit_length()
    turned = (int(f"{i:0{bits}b}"[::-1], 2) for i in range(1, 1 << bits))
    return list(dict.fromkeys([*(place * n >> bits for place in turned), 0]))
