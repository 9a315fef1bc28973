"""Estimates about a whole report from decisions on a random sample; they do not depend on the model.

`draw` takes a stratified random sample: the strata are the verdicts, and each track of a stratum has the same chance.
`estimate` turns decisions on it into the share of AI, the false-positive rate and the miss rate of the scan's flags.
The only randomness is that of the draw, so the intervals assume nothing about the model or calibration:

    tracks of AI among the N - n of a stratum that were not drawn ~ BetaBinomial(N - n, k + 1/2, n - k + 1/2)

for k of its n drawn tracks being AI (Jeffreys' prior; Brown, Cai and DasGupta 2001, "Interval estimation for a binomial
proportion"). A second estimate of the share also uses the scores of all tracks (`statistics.prediction_powered`).
"""

from __future__ import annotations

import datetime as dt
import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from sonicscan.analysis.catalogue import identity
from sonicscan.analysis.reviewed import Reviewed
from sonicscan.analysis.statistics import Estimate, prediction_powered
from sonicscan.arrays import Float64
from sonicscan.errors import InputError
from sonicscan.report.row import FileResult

NO_VERDICT = "no verdict"
ORDER = ("flagged", "review", "clear", NO_VERDICT)
LEAST = 20  # tracks drawn of each stratum, where it has as many
_DRAWS = 8_000
_LOW, _HIGH = 0.025, 0.975
_End = Literal["low", "high"]
_ENDS: tuple[_End, ...] = get_args(_End)
_EVERY = slice(None)


@dataclass(frozen=True)
class Drawn:
    """A track of the sample.

    Attributes:
        row: the track.
        stratum: its verdict, or `no verdict`.
    """

    row: FileResult
    stratum: str


@dataclass(frozen=True)
class Stratum:
    """Counts of the tracks with one verdict.

    Attributes:
        name: the verdict, or `no verdict`.
        tracks: how many there are.
        drawn: how many of them are in the sample.
        decided: how many of the drawn ones people decided about, as `ai` or `human`.
        ai: how many of those are AI.
    """

    name: str
    tracks: int
    drawn: int
    decided: int
    ai: int


@dataclass(frozen=True)
class Counted:
    """The estimates that the counts of a sample give; they are those of `ListenedEstimates` with the same names."""

    ai_share: Estimate
    ai_tracks: Estimate
    false_positive_rate: Estimate | None
    false_discovery_rate: Estimate | None
    miss_rate: Estimate | None


@dataclass(frozen=True)
class ListenedEstimates:
    """The estimates from a sample of a report; `--json` prints their `dataclasses.asdict`.

    Attributes:
        strata: the counts behind the estimates.
        ai_share: share of AI among all tracks with a score.
        ai_tracks: the same as a number of tracks.
        false_positive_rate: share of the tracks by people that are flagged; None without tracks by people, or for
            selected rows.
        false_discovery_rate: share of the flagged tracks that are by people; None without flagged tracks.
        miss_rate: share of the AI tracks that are not flagged; None if there may be no AI track, or for selected rows.
        ai_share_with_scores: the share of AI by prediction-powered inference; None with fewer than two decisions in a
            stratum that has more tracks than that.
        undecided: drawn tracks of the report without a decision, or `unsure`; the estimates assume that they resemble
            the decided ones.
        unmatched: drawn tracks that the report does not contain.
    """

    strata: tuple[Stratum, ...]
    ai_share: Estimate
    ai_tracks: Estimate
    false_positive_rate: Estimate | None
    false_discovery_rate: Estimate | None
    miss_rate: Estimate | None
    ai_share_with_scores: Estimate | None
    undecided: int
    unmatched: tuple[str, ...]


def stratum_of(row: FileResult) -> str:
    """A track's stratum."""
    return row.verdict or NO_VERDICT


def draw(rows: Sequence[FileResult], n: int, seed: int = 0) -> list[Drawn]:
    """A stratified random sample. Its order is random, so that it does not reveal the verdicts.

    Each stratum gets `LEAST` tracks, or all of its tracks. The rest is divided in proportion to the square root of the
    strata's sizes, so that the rare flagged tracks are well represented.

    Args:
        rows: of a report; those without a score cannot be drawn.
        n: tracks to draw; all where there are fewer.
        seed: of the draw; another seed gives another sample.

    Raises:
        InputError: no track has a score, or `n` is less than the number of strata.
    """
    strata: dict[str, list[FileResult]] = {name: [] for name in ORDER}
    for row in sorted((row for row in rows if row.score is not None), key=identity):
        strata[stratum_of(row)].append(row)
    found = {name: members for name, members in strata.items() if members}
    if not found:
        raise InputError("no track of the report has a score, so there is nothing to listen to.")
    if n < len(found):
        raise InputError(f"a sample needs a track of each of {', '.join(found)}: --n must be at least {len(found)}.")
    rng = np.random.default_rng(seed)
    sizes = _allocated({name: len(members) for name, members in found.items()}, n)
    drawn = [
        Drawn(members[i], name)
        for name, members in found.items()
        for i in rng.choice(len(members), sizes[name], replace=False)
    ]
    return [drawn[i] for i in rng.permutation(len(drawn))]


def _allocated(sizes: Mapping[str, int], n: int) -> dict[str, int]:
    """The number of tracks of each stratum in a sample of n."""
    given = {name: min(size, LEAST, n // len(sizes)) for name, size in sizes.items()}
    while (left := min(n, sum(sizes.values())) - sum(given.values())) > 0:
        open_ = {name: np.sqrt(size) for name, size in sizes.items() if given[name] < size}
        share = left / sum(open_.values())
        for name in sorted(open_, key=lambda name: -open_[name]):
            more = min(sizes[name] - given[name], max(1, int(share * open_[name])), left)
            given[name] += more
            left -= more
    return given


def estimate(
    rows: Sequence[FileResult],
    strata_of: Mapping[str, str],
    reviewed: Reviewed,
    today: dt.date | None = None,
    selected: bool = False,
) -> ListenedEstimates:
    """Estimate figures about all tracks with a score from decisions on a sample.

    Args:
        rows: of the report.
        strata_of: the sample: the path of each drawn track, and its stratum.
        reviewed: decisions; those on other tracks are left out, since these were not drawn at random.
        today: the day on which decisions must be valid.
        selected: the rows were selected by score, verdict or decision. They do not have all tracks by people or by AI,
            so the false-positive rate and the miss rate are left out.

    Raises:
        InputError: no drawn track of a stratum has a decision, or a track's verdict has changed since the draw.
    """
    today = today or dt.date.today()
    scored = [row for row in rows if row.score is not None]
    drawn = {identity(row): strata_of[row.path] for row in scored if row.path in strata_of}
    if not drawn:
        raise InputError("the sample names no track of this report; draw one with sonicscan-report sample.")
    if any(drawn.get(identity(row), stratum_of(row)) != stratum_of(row) for row in scored):
        raise InputError("a track has another verdict than when the sample was drawn; draw a sample of this report.")
    truth: dict[bytes, bool] = {}
    for row in scored:
        decision = reviewed.covers(row, today)
        if identity(row) in drawn and decision is not None and decision.decision in ("ai", "human"):
            truth[identity(row)] = decision.decision == "ai"
    strata, values = [], []
    for name in ORDER:
        members = [row for row in scored if stratum_of(row) == name]
        chosen = [row for row in members if identity(row) in drawn]
        decided = [truth[identity(row)] for row in chosen if identity(row) in truth]
        if members and not decided:
            raise InputError(f"no decision on a drawn track that is `{name}`; decide at least one of them, or more.")
        if members:
            strata.append(Stratum(name, len(members), len(chosen), len(decided), sum(decided)))
            values.append((members, [identity(row) in truth for row in members]))
    found = counted(strata)
    return ListenedEstimates(
        strata=tuple(strata),
        ai_share=found.ai_share,
        ai_tracks=found.ai_tracks,
        false_positive_rate=None if selected else found.false_positive_rate,
        false_discovery_rate=found.false_discovery_rate,
        miss_rate=None if selected else found.miss_rate,
        ai_share_with_scores=prediction_powered([_predicted(members, known, truth) for members, known in values]),
        undecided=len(drawn) - len(truth),
        unmatched=tuple(sorted(strata_of.keys() - {row.path for row in scored})),
    )


def counted(strata: Sequence[Stratum]) -> Counted:
    """The estimates from the counts of each stratum, at least one decided track in each."""
    point = np.array([s.tracks * s.ai / s.decided for s in strata])
    total = sum(s.tracks for s in strata)
    n_tracks = np.array([s.tracks for s in strata])
    flagged = np.array([s.name == "flagged" for s in strata])
    ai = _Ends(*(np.stack([_ai_tracks(stratum, end) for stratum in strata]) for end in _ENDS))
    people = _Ends(n_tracks[:, None] - ai.high, n_tracks[:, None] - ai.low)
    point_people, n_flagged = n_tracks - point, int(n_tracks[flagged].sum())
    return Counted(
        ai_share=_interval(point.sum() / total, ai.sums(), total),
        ai_tracks=_interval(point.sum(), ai.sums()),
        false_positive_rate=_ratio(
            point_people[flagged].sum(), point_people.sum(), people.sums(flagged), people.sums(~flagged)
        ),
        false_discovery_rate=_interval(point_people[flagged].sum() / n_flagged, people.sums(flagged), n_flagged)
        if n_flagged
        else None,
        miss_rate=_ratio(point[~flagged].sum(), point.sum(), ai.sums(~flagged), ai.sums(flagged)),
    )


@dataclass(frozen=True)
class _Ends:
    """Random draws of a number, from which the low and the high end of its interval are taken."""

    low: Float64
    high: Float64

    def sums(self, strata: npt.NDArray[np.bool_] | slice = _EVERY) -> _Ends:
        """The sum over some strata, of draws [strata, draws]."""
        return _Ends(self.low[strata].sum(axis=0), self.high[strata].sum(axis=0))


@functools.lru_cache(maxsize=64)
def _ai_tracks(stratum: Stratum, end: _End) -> Float64:
    """Random draws of the number of AI tracks in a stratum: the decided ones plus the rest.

    If all decided tracks are by people, Jeffreys' distribution is above 0, and the sum over several large strata would
    be too high. So the low end is then 0. If all decided tracks are AI, the high end is all tracks (Brown, Cai and
    DasGupta 2001, "Interval Estimation for a Binomial Proportion", 4.1.2).
    """
    rng = np.random.default_rng(len(stratum.name))
    rate = rng.beta(stratum.ai + 0.5, stratum.decided - stratum.ai + 0.5, _DRAWS)
    if end == "low" and not stratum.ai:
        rate[:] = 0.0
    elif end == "high" and stratum.ai == stratum.decided:
        rate[:] = 1.0
    found: Float64 = stratum.ai + rng.binomial(stratum.tracks - stratum.decided, rate).astype(np.float64)
    found.setflags(write=False)  # it is kept for the next call
    return found


def _interval(value: float, draws: _Ends, of: float = 1.0) -> Estimate:
    low, high = np.quantile(draws.low, _LOW) / of, np.quantile(draws.high, _HIGH) / of
    return Estimate(float(value), min(float(value), float(low)), max(float(value), float(high)))


def _ratio(part: float, whole: float, parts: _Ends, rest: _Ends) -> Estimate | None:
    """A share of an uncertain number, parts / (parts + rest); None where that number may be 0."""
    if not whole or np.quantile(parts.low + rest.low, _LOW) < 1.0:
        return None
    low, high = (a / np.maximum(a + b, 1.0) for a, b in ((parts.low, rest.high), (parts.high, rest.low)))
    return _interval(part / whole, _Ends(low, high))


def _predicted(
    members: Sequence[FileResult], known: Sequence[bool], truth: Mapping[bytes, bool]
) -> tuple[Float64, Float64, Float64]:
    """The scores of a stratum's tracks, those of its decided tracks, and their labels (1 for AI)."""
    scores = np.array([row.score for row in members], dtype=np.float64)
    labels = np.array([truth[identity(row)] for row, there in zip(members, known, strict=True) if there], np.float64)
    return scores, scores[np.asarray(known)], labels
