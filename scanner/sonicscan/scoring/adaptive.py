"""`--windows adaptive`: scores windows of a track until its verdict is decided.

The windows are those of `--windows all`, in the order of `windows.spread_order`. After each round, a test computes how
likely it is that all windows together would give another verdict. Assume normal margins with unknown mean and
deviation. Given n of N margins, the (trimmed) mean of all N is then distributed as

    mean of the n + t(n - 1 + p) * s * sqrt(1/n - 1/N),    s^2 = (p * s0^2 + (n - 1) * d^2) / (n - 1 + p)

Sources: Cochran 1977, "Sampling Techniques", 2.15, for drawing without replacement; Tukey and McLaughlin 1963 for a
trimmed mean. There d is the Winsorised deviation, and n - 1 counts untrimmed windows only. Few windows that are alike
by chance have a deviation that is far too low, and most wrong verdicts came from these. So s also takes into account
the deviation s0 that tracks usually have, as if p further windows had shown it. This is the moderated t (Smyth 2004,
"Linear models and empirical Bayes methods for assessing differential expression"). Calibrated margins are log-odds, so
one s0 serves all models. A model whose margins vary far more within tracks makes more errors: in the test's simulation
3% at a deviation of 2 to 4, and 0.2% at 0.2 to 1.

A verdict is decided once less than `ERROR_RATE` of that distribution lies beyond the next threshold. This is
stochastic curtailment (Lan, Simon and Halperin 1982, "Stochastically curtailed tests in long-term clinical trials").
The bound holds for the round that decides, for any number of earlier rounds. So at most about `ERROR_RATE` of the
verdicts decided early differ from those of all windows. Far fewer differ if most tracks are far from a threshold.
`benchmarks/adaptive_windows.py` measures how many differ.

The result depends only on the file, the model and the thresholds, not on other tracks, batches or time.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from sonicscan.scoring import aggregate
from sonicscan.scoring.thresholds import Thresholds

ERROR_RATE = 0.01
USUAL_DEVIATION = 0.6  # s0, in log-odds: between the windows of a track
USUAL_WINDOWS = 6  # p
_AT_LEAST = 2  # windows a round: opening a file again costs as much as one or two
_GROWTH = 1.5  # most windows after a round, as a multiple of those before it: few windows predict poorly


def next_part(
    margins: npt.ArrayLike,
    silent: int,
    whole: int,
    thresholds: Thresholds,
    shrink: float = 0.0,
    error_rate: float = ERROR_RATE,
) -> tuple[int, int] | None:
    """The part of the spread order that must still be read; None once the verdict is decided.

    Args:
        margins: of the windows that were scored, [n].
        silent: windows that were read and are silent.
        whole: windows that the track holds.
        thresholds: what the verdict depends on.
        shrink: the model's.
        error_rate: share of the early verdicts that may differ from those of all windows.
    """
    known = np.asarray(margins, dtype=np.float64)
    seen = len(known) + silent
    if seen >= whole:
        return None
    needed = (
        windows_needed(known, whole * len(known) / seen, thresholds, shrink, error_rate) if len(known) else math.inf
    )
    if needed <= len(known):
        return None
    most = max(seen + _AT_LEAST, math.floor(_GROWTH * seen))
    end = min(whole, most, max(seen + _AT_LEAST, math.ceil(min(needed, whole) * seen / max(1, len(known)))))
    return seen, end


def windows_needed(
    margins: npt.NDArray[np.float64],
    population: float,
    thresholds: Thresholds,
    shrink: float = 0.0,
    error_rate: float = ERROR_RATE,
) -> float:
    """Number of windows that decide the verdict, if further ones are similar; at most `len(margins)` once decided.

    Args:
        margins: of the windows that are known, float64 [n].
        population: windows in all.
        thresholds: scores at which the verdict changes.
        shrink: the model's. The margins of n windows and of all windows are shrunk differently; both must lie on the
            same side of each threshold.
        error_rate: as for `next_part`.
    """
    import scipy.special  # here, because other scans do not need it to start

    n = len(margins)
    if n < 2:
        return math.inf
    ordered = np.sort(margins)
    cut = int(aggregate.TRIM * n)
    left = n - 2 * cut
    winsorised = np.clip(ordered, ordered[cut], ordered[n - cut - 1])
    variance = float(winsorised.var(ddof=1)) * (n / left) ** 2
    freedom = left - 1 + USUAL_WINDOWS
    deviation = math.sqrt((USUAL_WINDOWS * USUAL_DEVIATION**2 + (left - 1) * variance) / freedom)
    limits = [aggregate.margin_of(t) for t in (thresholds.flagged, thresholds.review) if t is not None]
    mean = float(aggregate.trimmed_mean(margins))
    now, at_last = (aggregate.pooling_factor(k, shrink) for k in (n, max(population, n)))
    if any((mean * now >= limit) != (mean * at_last >= limit) for limit in limits):
        return population
    distance = min(abs(mean - limit / at_last) for limit in limits)
    reach = float(scipy.special.stdtrit(freedom, 1.0 - error_rate)) * deviation
    if math.isinf(distance):
        return n
    return 1.0 / ((distance / reach) ** 2 + 1.0 / population)
