"""Cross-fitting: each track is scored by the one member of a model that was not trained on the track's fold.

So all tracks can be used for calibration, and none was used to train its member. The members' margins are put on one
scale first: each member has its own temperature and offset, fitted on its own fold. The released model is the mean of
all members. Every track of the folds was in the training of some members, so the mean cannot be calibrated on these
tracks. The calibration therefore holds scores of single members. A mean varies less than its members, so its
false-positive rate is expected to be lower, not higher.
"""

from __future__ import annotations

import dataclasses
import fnmatch
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sonicscan.audio.windows import WindowPlan
from sonicscan.errors import InputError
from sonicscan.scoring.aggregate import attribution_of, pooling_factor, trimmed_mean, window_margins
from sonicscan.scoring.thresholds import certified_threshold, tracks_needed
from sonicscan.spec import Calibration, ModelSpec
from sonicscan_train.data.clips import CODEC, class_of
from sonicscan_train.judge.calibration import calibrated, caught_of, fit_scale, fit_unknown, one_of_each_group
from sonicscan_train.judge.members import Scale
from sonicscan_train.judge.scoring import TrackLogits, scored
from sonicscan_train.metrics import auc

TAILS = (0.01, 0.02, 0.05)  # upper shares of people's tracks at which the margins of few and many windows are compared
MOST_SHRINK = 20.0
_ROUNDS = 20  # of a scale's fit with several classes


@dataclass(frozen=True)
class CrossFit:
    """What cross-fitting found.

    Attributes:
        spec: contract of the mean of the members, whose scale is in the members.
        scales: of the members, by fold.
        tracks: all scored tracks, on one scale.
        shrink_fitted: whether the constant of the pooling was fitted on them.
    """

    spec: ModelSpec
    scales: tuple[Scale, ...]
    tracks: tuple[TrackLogits, ...]
    shrink_fitted: bool = False


@dataclass(frozen=True)
class RateRow:
    """The figures of some tracks at a threshold.

    Attributes:
        name: which tracks.
        people, ai: tracks by people (one of each group) and by AI.
        flagged: share of the people's tracks that reach the threshold; None without any.
        caught: share of the AI tracks that reach it; None without any.
        threshold: the score.
        auc: of the AI tracks against all tracks by people. If the row has no AI tracks: of all AI tracks against the
            row's tracks by people. None where it was not asked for.
    """

    name: str
    people: int
    ai: int
    flagged: float | None
    caught: float | None
    threshold: float
    auc: float | None = None


def cross_fitted(
    by_fold: Sequence[Sequence[TrackLogits]],
    spec: ModelSpec,
    *,
    plan: WindowPlan,
    data: str,
    shrink: float | None,
    categories: Mapping[str, Sequence[str]] | None = None,
    families: Mapping[str, str] | None = None,
) -> CrossFit:
    """Put the members on one scale, fit the shrink constant, and calibrate on all folds.

    Args:
        by_fold: raw logits, with 0 for `human`; tracks of fold k scored by member k.
        spec: architecture, classes and AudioSpec of the model.
        plan: the windows' plan.
        data: what the tracks are, in words.
        shrink: the constant of the pooling; None fits it on the tracks by people.
        categories: kinds of music (name: patterns of sources), in each of which the rate is certified too.
        families: sources renamed as classes, as in training; models of several classes need it for `unknown_below`.

    Raises:
        InputError: a fold without people's or without AI tracks.
    """
    shrink_fitted = shrink is None
    if shrink is None:
        tracks, _ = _on_one_scale(by_fold, 0.0)
        shrink = fit_shrink([t for t in tracks if t.clip.human])
    tracks, scales = _on_one_scale(by_fold, shrink)
    spec = dataclasses.replace(spec, temperature=1.0, offset=0.0, shrink=shrink)

    def kinds(track: TrackLogits) -> list[str]:
        return [name for name, patterns in (categories or {}).items() if _matches(track.clip.source, patterns)]

    spec = calibrated(tracks, spec, data=data, windows=str(plan), kinds=kinds)
    if spec.multiclass:
        spec = dataclasses.replace(spec, unknown_below=_fit_unknown(tracks, spec, families or {}))
    # The shares of all AI tracks, as on the card; the calibration has one AI track of each group.
    spec = dataclasses.replace(spec, caught=caught_of([track for track in tracks if _is_ai(track)], spec))
    return CrossFit(spec, tuple(scales), tuple(tracks), shrink_fitted)


def _fit_unknown(tracks: Sequence[TrackLogits], spec: ModelSpec, families: Mapping[str, str]) -> float:
    """The share under which a family is called `unknown`: it keeps most names that are right and drops most wrong ones.

    Each generator was unseen by its member, unless it is divided by origin. Decoded music counts too, as a class of its
    own.
    """
    unlimited = dataclasses.replace(spec, unknown_below=None)
    right: list[TrackLogits] = []
    wrong: list[TrackLogits] = []
    for track in tracks:
        found = scored(track, spec)
        if track.clip.human or found.score < 0.5:
            continue
        likeliest = attribution_of(found.class_scores, unlimited, None)
        (right if likeliest == class_of(track.clip, "source", families) else wrong).append(track)
    return fit_unknown(right, wrong, spec) if right else 1.0


def fit_shrink(people: Sequence[TrackLogits]) -> float:
    """The constant c for which high margins of people's tracks are as high from half of the windows as from all.

    A mean of few windows varies more, so without shrinking short tracks are flagged more often. At each of `TAILS`, two
    quantiles are compared: q_half of the margins from about half of the windows, and q_all from all windows. They give
    c by q_half n_half / (n_half + c) = q_all n_all / (n_all + c). The result is the median over the tails, at least 0.
    Tracks of one window are left out. Without other tracks, or without a margin over 0 in the tails, c is 0.
    """
    several = [track for track in people if len(track.logits) > 1]
    if not several:
        return 0.0
    halves = [cut_short(track, len(track.logits) // 2) for track in several]
    n_all, n_half = (float(np.mean([len(t.logits) for t in tracks])) for tracks in (several, halves))
    found = []
    for tail in TAILS:
        high, higher = (
            float(np.quantile([trimmed_mean(window_margins(t.logits, 1.0)) for t in tracks], 1.0 - tail))
            for tracks in (several, halves)
        )
        if high > 0.0 and higher > 0.0:
            # q_half n_half (n_all + c) = q_all n_all (n_half + c)
            below = high * n_all - higher * n_half
            rise = (higher - high) * n_all * n_half
            found.append(MOST_SHRINK if below <= 0.0 else min(MOST_SHRINK, max(0.0, rise / below)))
    return float(np.median(found)) if found else 0.0


def cut_short(track: TrackLogits, n: int) -> TrackLogits:
    """Returns the track with `n` evenly spread windows, as a model of a short track."""
    count = len(track.logits)
    n = min(n, count)
    chosen = [count // 2] if n <= 1 else [round(i * (count - 1) / (n - 1)) for i in range(n)]
    return dataclasses.replace(track, logits=track.logits[chosen])


def by_window_count(fit: CrossFit, rate: float) -> list[RateRow]:
    """Whether the rate holds for short tracks: tracks cut to 1, 2, 3, 6 and 12 windows, as far as they have them."""
    threshold = certified_threshold(fit.spec.calibration, rate)
    most = max(len(track.logits) for track in fit.tracks)
    rows = []
    for n in (n for n in (1, 2, 3, 6, 12) if n <= most):
        short = [cut_short(track, n) for track in fit.tracks if len(track.logits) >= n]
        rows.append(rate_row(f"{n} window{'s' * (n > 1)}", short, fit.spec, threshold))
    return rows


def by_category(fit: CrossFit, categories: Mapping[str, Sequence[str]], rate: float) -> list[RateRow]:
    """The figures of categories of sources (name: patterns) at the model's certified threshold."""
    threshold = certified_threshold(fit.spec.calibration, rate)
    rows = []
    for name, patterns in categories.items():
        own = [t for t in fit.tracks if _matches(t.clip.source, patterns)]
        row = rate_row(name, own, fit.spec, threshold)
        rows.append(dataclasses.replace(row, auc=_auc_against_the_rest(fit, own)))
    return rows


def _auc_against_the_rest(fit: CrossFit, own: Sequence[TrackLogits]) -> float | None:
    """AUC of its AI tracks against all people, or of all AI tracks against its people; None where it has neither."""
    ai = [t for t in own if _is_ai(t)]
    people = [t for t in (fit.tracks if ai else own) if t.clip.human]
    ai = ai or [t for t in fit.tracks if _is_ai(t)]
    if not ai or not people:
        return None
    scores = np.array([scored(track, fit.spec).score for track in [*ai, *people]])
    return auc(np.arange(len(scores)) < len(ai), scores)


def _is_ai(track: TrackLogits) -> bool:
    return not track.clip.human and track.clip.label != CODEC


def own_threshold(fit: CrossFit, patterns: Sequence[str], rate: float) -> RateRow | None:
    """The threshold that the people's tracks of some sources certify by themselves; None with too few groups.

    The row's AI tracks are all AI tracks, as in a library with such music by people.
    """
    own = [t for t in fit.tracks if t.clip.human and _matches(t.clip.source, patterns)]
    scores = [scored(track, fit.spec).score for track in one_of_each_group(own, 0)]
    if len(scores) < tracks_needed(rate):
        return None
    threshold = certified_threshold(Calibration.of(scores), rate)
    ai = [t for t in fit.tracks if _is_ai(t)]
    return rate_row("", [*own, *ai], fit.spec, threshold)


def rate_row(name: str, tracks: Sequence[TrackLogits], spec: ModelSpec, threshold: float) -> RateRow:
    """Shares of tracks at or over a threshold; `codec` tracks count as AI where there are no others."""
    people = one_of_each_group([t for t in tracks if t.clip.human], 0)
    ai = [t for t in tracks if _is_ai(t)] or [t for t in tracks if not t.clip.human]

    def share(of: Sequence[TrackLogits]) -> float | None:
        return float(np.mean([scored(t, spec).score >= threshold for t in of])) if of else None

    return RateRow(name, len(people), len(ai), share(people), share(ai), threshold)


def _on_one_scale(by_fold: Sequence[Sequence[TrackLogits]], shrink: float) -> tuple[list[TrackLogits], list[Scale]]:
    tracks: list[TrackLogits] = []
    scales: list[Scale] = []
    for fold, own in enumerate(by_fold):
        plain = [track for track in own if track.clip.label != CODEC]
        truth = np.array([not track.clip.human for track in plain], dtype=bool)
        if not len(truth) or truth.all() or not truth.any():
            raise InputError(f"fold {fold} needs tracks by people and by AI.")
        scale = _scale_of(plain, truth, shrink)
        scales.append(scale)
        tracks += [scale.apply(track) for track in own]
    return tracks, scales


def _scale_of(tracks: Sequence[TrackLogits], truth: npt.NDArray[np.bool_], shrink: float) -> Scale:
    """The scale of a member.

    With several classes, the margin of scaled logits is not the scaled margin, because logsumexp(l / T) is not
    logsumexp(l) / T. So each round applies the temperature of the last one inside, until the fit no longer changes it.
    """
    factors = np.array([pooling_factor(len(track.logits), shrink) for track in tracks])
    temperature, offset = 1.0, 0.0
    for _ in range(_ROUNDS):
        means = [float(trimmed_mean(window_margins(track.logits / temperature, 1.0))) for track in tracks]
        before = temperature
        temperature, offset = fit_scale(before * np.array(means), factors, truth)
        if abs(temperature - before) < 1e-6 * before:
            break
    return Scale(temperature, offset)


def _matches(source: str, patterns: Sequence[str]) -> bool:
    return any(source == pattern or fnmatch.fnmatchcase(source, pattern) for pattern in patterns)
