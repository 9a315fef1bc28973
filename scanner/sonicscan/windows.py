"""Where in a track the model looks: a pure plan of window starts.

`WindowPlan(12)` spreads up to twelve windows evenly from the first sample to the last; a track with
less sound than that gets just enough windows to cover all of it, the last ones overlapping.
`WindowPlan(None)` is every whole window from the start, one after the other.
"""

from __future__ import annotations

from dataclasses import dataclass

from sonicscan.errors import InputError

MIN_TRACK_S = 1.0
MAX_WINDOWS = 10_000


@dataclass(frozen=True)
class WindowPlan:
    """How many windows of a track are scored; `count` None means all of them."""

    count: int | None = 12

    def __post_init__(self) -> None:
        if self.count is not None and not 1 <= self.count <= MAX_WINDOWS:
            raise InputError(f"the number of windows must be 1 to {MAX_WINDOWS} or `all`, not {self.count}.")

    @classmethod
    def parse(cls, text: str) -> WindowPlan:
        """A plan from the command line's `--windows N|all`."""
        if text == "all":
            return cls(None)
        try:
            return cls(int(text))
        except ValueError:
            raise InputError(f"--windows takes a whole number or `all`, not {text!r}.") from None

    def __str__(self) -> str:
        return "all" if self.count is None else str(self.count)

    def starts(self, n_samples: int, window: int) -> list[int]:
        """First samples of the windows, ascending, each window inside the track.

        Args:
            n_samples: length of the track, at the model's sample rate.
            window: length of a window.

        Returns:
            at least one start; `[0]` for a track no longer than a window.
        """
        if n_samples <= window:
            return [0]
        if self.count is None:
            return list(range(0, n_samples - window + 1, window))
        n = min(self.count, -(-n_samples // window))
        if n == 1:
            return [(n_samples - window) // 2]
        return [round(i * (n_samples - window) / (n - 1)) for i in range(n)]
