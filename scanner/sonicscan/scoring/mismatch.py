"""Tests whether a scanned library resembles the calibration tracks. The certified false-positive rate assumes it.

Four properties are compared:

- codec: chi-squared test of homogeneity (Pearson 1900);
- sample rate: the same test;
- bandwidth: Kolmogorov-Smirnov test (Smirnov 1948), against the stored quantiles;
- lower scores: the same test, among the tracks that score no higher than the calibration's median.

The share of AI in a library changes the upper scores, but hardly the distribution of the lower ones.

Each test uses a quarter of `ALARM_RATE` (Bonferroni). So if a library's tracks are independent draws, as those of the
calibration are, the probability of any false alarm is at most `ALARM_RATE`. A distance below `SMALLEST` never raises an
alarm, even if it is significant.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from sonicscan.arrays import Float64
from sonicscan.spec import Calibration

ALARM_RATE = 0.01
SMALLEST = 0.1  # total variation, or distance between distribution functions
MIN_TRACKS = 30  # with fewer in the library, or in half of the calibration, nothing is compared
_TESTS = 4
_MIN_EXPECTED = 5.0  # tracks of a category; rarer ones are counted together


@dataclass(frozen=True)
class Library:
    """Properties of the scored tracks of a library, one value for each track.

    Attributes:
        codecs, sample_rates: None if unknown.
        bandwidth_hz: NaN if unknown.
        scores: 0..1.
    """

    codecs: Sequence[str | None]
    sample_rates: Sequence[int | None]
    bandwidth_hz: Float64
    scores: Float64


@dataclass(frozen=True)
class Comparison:
    """One of the comparisons.

    Attributes:
        what: `codec`, `sample rate`, `bandwidth` or `lower scores`.
        distance: 0..1; 0 for the same distribution.
        p_value: of the test.
        sentence: what differs, for people.
    """

    what: str
    distance: float
    p_value: float
    sentence: str

    @property
    def differs(self) -> bool:
        """Whether it raises an alarm."""
        return self.distance >= SMALLEST and self.p_value <= ALARM_RATE / _TESTS


def compare(calibration: Calibration, library: Library) -> tuple[Comparison, ...]:
    """The comparisons that calibration and library allow; none with fewer than `MIN_TRACKS` tracks."""
    found = []
    material = calibration.material
    if len(library.scores) >= MIN_TRACKS and material is not None:
        found.append(_categories("codec", material.codecs, library.codecs))
        rates = [None if rate is None else str(rate) for rate in library.sample_rates]
        found.append(_categories("sample rate", material.sample_rates, rates))
        found.append(_bandwidth(material.bandwidth_hz, calibration.n, library.bandwidth_hz))
    found.append(_lower_scores(calibration, library.scores))
    return tuple(comparison for comparison in found if comparison is not None)


def _categories(what: str, known: Mapping[str, int], found: Iterable[str | None]) -> Comparison | None:
    import scipy.special  # here and below, because a scan of few tracks does not need it

    counts = Counter(value for value in found if value)
    n, m = sum(known.values()), sum(counts.values())
    if min(n, m) < MIN_TRACKS:
        return None
    names = sorted(known.keys() | counts.keys())
    table = np.array([[known.get(name, 0) for name in names], [counts[name] for name in names]], dtype=np.float64)
    distance = 0.5 * float(np.abs(table[0] / n - table[1] / m).sum())
    # Rare values are put together, the rarest first, until each count is expected to be large enough. The test of two
    # values is exact.
    columns = sorted(table.T, key=np.sum)
    while len(columns) > 2 and columns[0].sum() * min(n, m) / (n + m) < _MIN_EXPECTED:
        columns = sorted([columns[0] + columns[1], *columns[2:]], key=np.sum)
    pooled = np.column_stack(columns)
    if len(columns) == 1:
        p_value = 1.0
    elif len(columns) == 2:
        p_value = _fisher(n, m, int(columns[0].sum()), int(columns[0][1]))
    else:
        expected = pooled.sum(axis=1, keepdims=True) * pooled.sum(axis=0) / (n + m)
        p_value = float(scipy.special.chdtrc(len(columns) - 1, float(np.sum((pooled - expected) ** 2 / expected))))
    most = names[int(np.argmax(np.abs(table[0] / n - table[1] / m)))]
    shares = f"{known.get(most, 0) / n:.0%} of the calibration's tracks and {counts[most] / m:.0%} of these"
    unit = " Hz" if what == "sample rate" else ""
    return Comparison(what, distance, p_value, f"{what}: {shares} are {most}{unit}")


def _fisher(n: int, m: int, hits: int, found: int) -> float:
    """Fisher's exact test, two-sided: `hits` of n + m tracks have a value, `found` of them among the m."""
    from scipy.special import gammaln

    k = np.arange(max(0, hits - n), min(m, hits) + 1, dtype=np.float64)
    log_p = -(gammaln(k + 1) + gammaln(m - k + 1) + gammaln(hits - k + 1) + gammaln(n - hits + k + 1))
    p = np.exp(log_p - log_p.max())
    return float(p[p <= p[found - int(k[0])] * (1.0 + 1e-7)].sum() / p.sum())


def _bandwidth(quantiles: Sequence[float], n: int, found: Float64) -> Comparison | None:
    values = np.sort(found[np.isfinite(found)])
    if len(quantiles) < 2 or min(n, len(values)) < MIN_TRACKS:
        return None
    edges = np.asarray(quantiles)
    grid = 1.0 / (len(edges) - 1)  # between two quantiles the calibration's distribution is known to within this
    below = np.searchsorted(edges, values, side="left"), np.searchsorted(edges, values, side="right")
    low, high = np.maximum(below[0] - 1, 0) * grid, np.minimum(below[1], len(edges) - 1) * grid
    ranks = np.searchsorted(values, values, side="left"), np.searchsorted(values, values, side="right")
    m = len(values)
    # The smallest distance that the quantiles allow.
    distance = max(0.0, float((low - ranks[1] / m).max()), float((ranks[0] / m - high).max()))
    medians = f"{np.median(edges) / 1000:.1f} kHz in the calibration and {np.median(values) / 1000:.1f} kHz here"
    return Comparison("bandwidth", distance, _smirnov(distance, n, m), f"bandwidth: the median is {medians}")


def _lower_scores(calibration: Calibration, found: Float64) -> Comparison | None:
    known = calibration.weighted_scores()
    if known is None or not known[0]:
        return None
    scores, weights = np.asarray(known[0]), np.asarray(known[1])
    order = np.cumsum(weights)
    middle = float(scores[np.searchsorted(order, order[-1] / 2)])
    ours, weights = scores[scores <= middle], weights[scores <= middle]
    theirs = np.sort(found[found <= middle])
    effective = float(weights.sum() ** 2 / (weights**2).sum())
    if min(effective, len(theirs)) < MIN_TRACKS / 2:
        return None
    at = np.unique(np.concatenate([ours, theirs]))
    cumulated = np.concatenate([[0.0], np.cumsum(weights)]) / weights.sum()
    steps = cumulated[np.searchsorted(ours, at, side="right")]
    distance = float(np.abs(steps - np.searchsorted(theirs, at, side="right") / len(theirs)).max())
    medians = f"{float(np.median(ours)):.3g} in the calibration and {float(np.median(theirs)):.3g} here"
    sentence = f"lower scores: among the tracks that score no higher than {middle:.3g}, the median is {medians}"
    return Comparison("lower scores", distance, _smirnov(distance, effective, len(theirs)), sentence)


def _smirnov(distance: float, n: float, m: float) -> float:
    """The asymptotic p-value of a distance between two samples' distribution functions."""
    import scipy.special

    return float(scipy.special.kolmogorov(distance * np.sqrt(n * m / (n + m))))
