"""The calibration of a model: its scores of tracks by people and of AI tracks."""

from __future__ import annotations

import itertools
import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from sonicscan.errors import ModelError

MAX_STORED_SCORES = 2000
MAX_LOWER_SCORES = 200
MAX_TRACKS = 10**9  # that a calibration claims; with far more, sums and rates do not fit a float
QUANTILES = 41  # of a material's values: every 2.5%
MAX_CATEGORIES = 50
MIN_CATEGORY_TRACKS = 29  # fewer certify no rate up to 10%
MAX_COUNTED = 100  # codecs or sample rates in a `Material`
DEFAULT_WINDOWS = "12"  # the window plan of calibrations that do not name theirs
UNKNOWN_WINDOWS = "unknown"
_LOSSLESS = (
    *("pcm_", "flac", "alac", "float", "double", "wavpack", "ape", "tta", "tak", "dsd_"),
    *("shorten", "wmalossless", "truehd", "mlp", "mp4als"),
)
_COMPANDED = ("pcm_alaw", "pcm_mulaw", "pcm_vidc")  # 8 bits of logarithms, whose names begin like the lossless ones
WINDOW_PLANS = re.compile(r"[1-9][0-9]{0,4}|all|adaptive|" + UNKNOWN_WINDOWS)


@dataclass(frozen=True)
class Material:
    """Properties of the human calibration tracks. A scan compares its library with them.

    Attributes:
        codecs: number of tracks by codec, as the report's column `codec` names it.
        sample_rates: number of tracks by sample rate in Hz, as text.
        bandwidth_hz, duration_s, loudness_db: quantiles of the tracks' values, at even steps from the lowest value to
            the highest. Empty if they were not measured.
    """

    codecs: Mapping[str, int] = field(default_factory=dict)
    sample_rates: Mapping[str, int] = field(default_factory=dict)
    bandwidth_hz: tuple[float, ...] = ()
    duration_s: tuple[float, ...] = ()
    loudness_db: tuple[float, ...] = ()

    @classmethod
    def of(
        cls,
        codecs: Iterable[str | None],
        sample_rates: Iterable[int | None],
        bandwidth_hz: Iterable[float | None] = (),
        duration_s: Iterable[float | None] = (),
        loudness_db: Iterable[float | None] = (),
    ) -> Material:
        """Summarise tracks, from one value for each track; None for a value that was not measured."""
        return cls(
            _counts(codec for codec in codecs if codec),
            _counts(str(rate) for rate in sample_rates if rate),
            *(_quantiles(values) for values in (bandwidth_hz, duration_s, loudness_db)),
        )

    def __post_init__(self) -> None:
        for name in ("codecs", "sample_rates"):
            counts = getattr(self, name)
            if len(counts) > MAX_COUNTED or any(not 0 <= count <= MAX_TRACKS for count in counts.values()):
                raise ModelError(
                    f"the model's calibration has material.{name} with more than {MAX_COUNTED} entries, "
                    f"or with a count outside 0 to {MAX_TRACKS:,}."
                )
        for name in ("bandwidth_hz", "duration_s", "loudness_db"):
            _check_ascending(f"material.{name}", getattr(self, name), MAX_LOWER_SCORES, -math.inf, math.inf)


@dataclass(frozen=True)
class Caught:
    """How much AI a model flags at a certified false-positive rate.

    Attributes:
        max_fpr: the rate, 0..1.
        share: share of the AI tracks that reach the threshold for this rate, 0..1.
        n: number of AI tracks that the share was measured on.
        effective_n: number of independent tracks that would tell the share as exactly; None for `n`. Tracks of one
            generator are alike, so it is smaller than `n`.
    """

    max_fpr: float
    share: float
    n: int
    effective_n: float | None = None

    @property
    def independent_n(self) -> float:
        """`effective_n`, or `n` where it was not measured."""
        return self.n if self.effective_n is None else self.effective_n

    def __post_init__(self) -> None:
        shares = 0.0 < self.max_fpr < 1.0 and 0.0 <= self.share <= 1.0
        if not (shares and 0 < self.n <= MAX_TRACKS and 0.0 < self.independent_n <= self.n):
            raise ModelError(
                f"the model's contract has caught={self.max_fpr!r:.20}, {self.share!r:.20}, {self.n!r:.20}, "
                f"{self.effective_n!r:.20}; a rate, a share, a number of tracks and a smaller one are needed."
            )


def codec_class(codec: str | None) -> str | None:
    """The class of a report's codec: `lossless` for all lossless codecs, else the codec itself; None if unknown."""
    if not codec:
        return None
    return "lossless" if codec.startswith(_LOSSLESS) and not codec.startswith(_COMPANDED) else codec


@dataclass(frozen=True)
class Category:
    """The human calibration tracks of one category, which certify a rate by themselves (Mondrian categories: Vovk,
    Gammerman and Shafer 2005, "Algorithmic Learning in a Random World", section 4.5).

    Attributes:
        kind: `codec`: a codec class, which a scan determines. `material`: a kind of music, such as released music,
            which a scan cannot determine.
        name: of the category, such as `mp3`.
        scores: the highest `min(n, MAX_STORED_SCORES)` scores of its tracks, ascending, 0..1.
        n: number of its tracks.

    Raises:
        ModelError: numbers that contradict each other, or scores that are not ascending within 0..1.
    """

    kind: Literal["codec", "material"]
    name: str
    scores: tuple[float, ...]
    n: int

    def __post_init__(self) -> None:
        if not self.n > 0 or len(self.scores) != min(self.n, MAX_STORED_SCORES):
            raise ModelError(
                f"the category {self.name!r:.40} of the model's calibration claims {self.n!r:.20} tracks and holds "
                f"{len(self.scores)} scores; it must hold all of them up to {MAX_STORED_SCORES}."
            )
        _check_ascending(f"category {self.name!r:.40}", self.scores, MAX_STORED_SCORES, 0.0, 1.0)

    @classmethod
    def of(cls, kind: Literal["codec", "material"], name: str, scores: Sequence[float]) -> Category | None:
        """The category of some tracks; None if they are too few to certify any rate up to 10%."""
        if len(scores) < MIN_CATEGORY_TRACKS:
            return None
        return cls(kind, name, tuple(sorted(scores)[-MAX_STORED_SCORES:]), len(scores))


def codec_categories(scores: Sequence[float], codecs: Sequence[str | None]) -> tuple[Category, ...]:
    """The categories of tracks by codec class; none if all tracks are of one class."""
    members: dict[str, list[float]] = {}
    for score, codec in zip(scores, codecs, strict=True):
        if (name := codec_class(codec)) is not None:
            members.setdefault(name, []).append(score)
    if len(members) < 2:
        return ()
    largest = sorted(members, key=lambda name: (-len(members[name]), name))[: MAX_CATEGORIES // 2]
    found = (Category.of("codec", name, members[name]) for name in largest)
    return tuple(category for category in found if category is not None)


@dataclass(frozen=True)
class Calibration:
    """Scores of known tracks, from which thresholds, p-values and likelihood ratios come.

    Attributes:
        scores: the highest `min(n, MAX_STORED_SCORES)` scores of tracks known to be by people, ascending, 0..1.
        n: number of all scored tracks by people.
        data: description of the tracks.
        lower: at most `MAX_LOWER_SCORES` of the scores that `scores` leaves out, at evenly spaced ranks, ascending.
            Empty if `scores` holds all, and in version 1.
        ai_scores: scores of AI tracks, ascending; if there are more than `MAX_STORED_SCORES`, those at evenly spaced
            ranks.
        n_ai: number of all scored AI tracks.
        windows: the window plan of all these scores, as `WindowPlan` prints it; `unknown` if it was not recorded.
        material: properties of the tracks by people; None if unknown.
        categories: the tracks by people by codec class, and by kind of music; empty if there are no categories.

    Raises:
        ModelError: numbers that contradict each other, or scores that are not ascending within 0..1.
    """

    scores: tuple[float, ...] = ()
    n: int = 0
    data: str = ""
    lower: tuple[float, ...] = ()
    ai_scores: tuple[float, ...] = ()
    n_ai: int = 0
    windows: str = DEFAULT_WINDOWS
    material: Material | None = field(default=None, hash=False)  # it holds counts, which cannot be hashed
    categories: tuple[Category, ...] = ()

    def __post_init__(self) -> None:
        for name, held, n in (("scores", self.scores, self.n), ("ai_scores", self.ai_scores, self.n_ai)):
            if not 0 <= n <= MAX_TRACKS or len(held) != min(n, MAX_STORED_SCORES):
                raise ModelError(
                    f"the model's calibration claims {n!r:.20} tracks and holds {len(held)} {name}; "
                    f"it must hold all of them up to {MAX_STORED_SCORES}, and claim at most {MAX_TRACKS:,}."
                )
            _check_ascending(name, held, MAX_STORED_SCORES, 0.0, 1.0)
        _check_ascending("lower", self.lower, MAX_LOWER_SCORES, 0.0, self.scores[0] if self.scores else 0.0)
        if self.lower and self.n == len(self.scores):
            raise ModelError("the model's calibration has lower scores although it holds all scores.")
        if not WINDOW_PLANS.fullmatch(self.windows):
            raise ModelError(f"the model's calibration has windows={self.windows!r:.40}, which is not a window plan.")
        if len(self.categories) > MAX_CATEGORIES or any(category.n > self.n for category in self.categories):
            raise ModelError(
                f"the model's calibration has more than {MAX_CATEGORIES} categories, or one of more tracks than it has."
            )

    @classmethod
    def of(
        cls,
        scores: Sequence[float],
        data: str = "",
        *,
        ai_scores: Sequence[float] = (),
        windows: str = DEFAULT_WINDOWS,
        material: Material | None = None,
        categories: Sequence[Category] = (),
    ) -> Calibration:
        """Calibration from the scores of all known tracks, in any order.

        Args:
            scores: of tracks by people.
            data: what they are, in words.
            ai_scores: of AI tracks.
            windows: the window plan of the scores.
            material: what the tracks by people are like.
            categories: of the tracks by people.
        """
        ordered = sorted(scores)
        rest = ordered[:-MAX_STORED_SCORES]
        return cls(
            scores=tuple(ordered[-MAX_STORED_SCORES:]),
            n=len(ordered),
            data=data,
            lower=spaced(rest, MAX_LOWER_SCORES),
            ai_scores=spaced(sorted(ai_scores), MAX_STORED_SCORES),
            n_ai=len(ai_scores),
            windows=windows,
            material=material,
            categories=tuple(categories),
        )

    def weighted_scores(self) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
        """Scores that represent all tracks by people, ascending, and the number of tracks that each represents.

        None if only the highest scores are known.
        """
        rest = self.n - len(self.scores)
        if rest and not self.lower:
            return None
        weight = (rest / len(self.lower),) * len(self.lower) if rest else ()
        return self.lower + self.scores, weight + (1.0,) * len(self.scores)


def _counts(values: Iterable[str]) -> dict[str, int]:
    """Number of occurrences of each value, the most frequent first; at most `MAX_COUNTED` values."""
    return dict(Counter(values).most_common(MAX_COUNTED))


def _quantiles(values: Iterable[float | None]) -> tuple[float, ...]:
    """At most `QUANTILES` order statistics, evenly spaced from the lowest to the highest."""
    ordered = sorted(value for value in values if value is not None and math.isfinite(value))
    n = min(QUANTILES, len(ordered))
    return tuple(ordered[round(i * (len(ordered) - 1) / max(1, n - 1))] for i in range(n))


def spaced(ordered: Sequence[float], n: int) -> tuple[float, ...]:
    """`n` values at evenly spaced ranks, the middle of each n-th part; all values if there are at most `n`."""
    if len(ordered) <= n:
        return tuple(ordered)
    return tuple(ordered[int((i + 0.5) * len(ordered) / n)] for i in range(n))


def _check_ascending(name: str, values: Sequence[float], most: int, low: float, high: float) -> None:
    if len(values) > most:
        raise ModelError(f"the model's calibration holds {len(values)} values of {name}; at most {most} are read.")
    if any(not low <= value <= high for value in values):
        raise ModelError(f"the model's calibration holds {name} outside {low:g} to {high:g}.")
    if any(a > b for a, b in itertools.pairwise(values)):
        raise ModelError(f"the model's calibration has {name} that are not in ascending order.")
