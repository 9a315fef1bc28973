"""`--windows adaptive`: a track is looked at only as long as its verdict is open.

The windows are the track's whole windows, those of `--windows all`, along `windows.spread_order`. After
each round of them the test asks how likely it is that all windows together would give another verdict.
Where the margins of the track's windows are normal, and nothing is known of their mean and deviation
beforehand, then, given n of N margins, the (trimmed) mean of all N is distributed as

    mean of the n + t(n - 1) * s * sqrt(1/n - 1/N)

(Cochran 1977, "Sampling Techniques", 2.15, for drawing without replacement; Tukey and McLaughlin 1963 for a
trimmed mean, with its Winsorised deviation for s and the windows that are left for n in t). A track is
settled once less than `ERROR_RATE` of that distribution lies over the next threshold. This is
stochastic curtailment (Lan, Simon and Halperin 1982, "Stochastically curtailed tests in long-term clinical
trials"): the bound holds for the round at which a track is settled, however many came before it, so that
at most `ERROR_RATE` of the tracks settled early, and far less where most are far from a threshold, may get
another verdict than from all windows. `benchmarks/adaptive_windows.py` measures how many do.

Nothing here depends on other tracks, on batches or on time: a file, a model and thresholds give one result.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import scipy.special

from sonicscan.scoring import aggregate
from sonicscan.scoring.thresholds import Thresholds

ERROR_RATE = 0.035
_AT_LEAST = 2  # windows a round: opening a file again costs as much as one or two
_GROWTH = 1.5  # how far a round may go beyond what is known, since what is known says how many are needed


def next_part(
    margins: npt.ArrayLike, silent: int, whole: int, thresholds: Thresholds, shrink: float = 0.0
) -> tuple[int, int] | None:
    """Which part of the spread order must still be read; None where the verdict is decided.

    Args:
        margins: of the windows that were scored, [n].
        silent: windows that were read and are silent.
        whole: windows that the track holds.
        thresholds: what the verdict depends on.
        shrink: the model's.
    """
    known = np.asarray(margins, dtype=np.float64)
    seen = len(known) + silent
    if seen >= whole:
        return None
    needed = windows_needed(known, whole * len(known) / seen, thresholds, shrink) if len(known) else math.inf
    if needed <= len(known):
        return None
    most = max(seen + _AT_LEAST, math.floor(_GROWTH * seen))
    end = min(whole, most, max(seen + _AT_LEAST, math.ceil(min(needed, whole) * seen / max(1, len(known)))))
    return seen, end


def windows_needed(
    margins: npt.NDArray[np.float64], population: float, thresholds: Thresholds, shrink: float = 0.0
) -> float:
    """How many windows settle the verdict, if further ones are like these; at most `len(margins)` where it is.

    Args:
        margins: of the windows that are known, float64 [n].
        population: windows in all.
        thresholds: scores that part the verdicts.
        shrink: the model's. The margin of n windows and that of all windows, which are shrunk differently, must lie on
            the same side of each threshold.
    """
    n = len(margins)
    if n < 2:
        return math.inf
    ordered = np.sort(margins)
    cut = int(aggregate.TRIM * n)
    left = n - 2 * cut
    winsorised = np.clip(ordered, ordered[cut], ordered[n - cut - 1])
    deviation = float(winsorised.std(ddof=1)) * n / left
    limits = [aggregate.margin_of(t) for t in (thresholds.flagged, thresholds.review) if t is not None]
    mean = float(aggregate.trimmed_mean(margins))
    now, at_last = (aggregate.pooling_factor(k, shrink) for k in (n, max(population, n)))
    if any((mean * now >= limit) != (mean * at_last >= limit) for limit in limits):
        return population
    distance = min(abs(mean - limit / at_last) for limit in limits)
    reach = float(scipy.special.stdtrit(left - 1, 1.0 - ERROR_RATE)) * deviation
    if math.isinf(distance) or not reach:
        return n if distance else population
    return 1.0 / ((distance / reach) ** 2 + 1.0 / population)
