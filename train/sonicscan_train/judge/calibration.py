"""Computes probabilities, p-values and certified thresholds from scores of tracks outside the training data.

Three things are fitted, on tracks of groups that the model was not trained on:

- temperature and offset, which make the score a probability where people and AI are equally likely;
- the scores of music by people and of AI, one track of each group, from which the scanner makes thresholds, p-values
  and likelihood ratios;
- for models of several classes, the share under which the likeliest generator is called `unknown`.

One track of each group counts, because a certificate needs independent draws, and twenty tracks of one album
are hardly more information than one. Groups that share an artist count as one. With `all_tracks` every track counts,
for data whose groups are known to be small.
"""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence

import numpy as np
import numpy.typing as npt

from sonicscan.arrays import Float64
from sonicscan.errors import InputError
from sonicscan.scoring.aggregate import pooling_factor, trimmed_mean, window_margins
from sonicscan.scoring.logistic import fit_line
from sonicscan.scoring.thresholds import CAUGHT_RATES, certified_rates, tracks_needed
from sonicscan.spec import DEFAULT_WINDOWS, Calibration, Category, Caught, Material, ModelSpec, codec_categories
from sonicscan_train.data.clips import CODEC, Clip, independent_groups
from sonicscan_train.judge.scoring import TrackLogits, scored
from sonicscan_train.metrics import effective_number

RATES = (0.1, 0.05, 0.02, 0.01, 0.001)  # false-positive rates whose thresholds are shown
KNOWN_KEPT = 0.9  # share of tracks by known generators that keep their name
TEMPERATURES = (0.05, 20.0)  # what is searched; an uninformative model ends at the upper end


def calibrated(
    tracks: Sequence[TrackLogits],
    spec: ModelSpec,
    unknown: Sequence[TrackLogits] = (),
    *,
    data: str,
    windows: str = DEFAULT_WINDOWS,
    all_tracks: bool = False,
    seed: int = 0,
    kinds: Callable[[TrackLogits], Iterable[str]] = lambda track: (),
) -> ModelSpec:
    """The contract with its scale, its calibration, how much AI it catches and, for several classes, `unknown_below`.

    Args:
        tracks: of groups that the model was not trained on; `codec` ones are left out.
        spec: of the model.
        unknown: tracks of generators that are not among the classes.
        data: what the tracks are, in words.
        windows: the window plan of `tracks`.
        all_tracks: let every track by people count, not one of each group.
        seed: of the choice of that one.
        kinds: the kinds of music that a track by people belongs to; the certificate then holds in each of them.

    Raises:
        InputError: no tracks by people, or none by AI.
    """
    tracks = [track for track in tracks if track.clip.label != CODEC]
    human = [track for track in tracks if track.clip.human]
    if not human or len(human) == len(tracks):
        missing = "by people" if not human else "by AI"
        raise InputError(f"calibration needs tracks by people and by AI, and there is none {missing}.")
    temperature, offset = fit_scale(
        np.array([float(trimmed_mean(window_margins(track.logits, 1.0))) for track in tracks]),
        np.array([pooling_factor(len(track.logits), spec.shrink) for track in tracks]),
        np.array([not track.clip.human for track in tracks]),
    )
    spec = dataclasses.replace(spec, temperature=temperature, offset=offset)
    known = [track for track in tracks if not track.clip.human]
    counted, counted_ai = (of if all_tracks else one_of_each_group(of, seed) for of in (human, known))
    calibration = calibration_of(counted, counted_ai, spec, data=data, windows=windows, kinds=kinds)
    spec = dataclasses.replace(spec, calibration=calibration)
    spec = dataclasses.replace(spec, caught=caught_of(counted_ai, spec))
    if not spec.multiclass:
        return spec
    return dataclasses.replace(spec, unknown_below=fit_unknown(known, unknown, spec))


def calibration_of(
    people: Sequence[TrackLogits],
    ai: Sequence[TrackLogits],
    spec: ModelSpec,
    *,
    data: str,
    windows: str,
    kinds: Callable[[TrackLogits], Iterable[str]] = lambda track: (),
) -> Calibration:
    """The scores of independent tracks, and what those by people are like.

    Args:
        people: tracks by people.
        ai: AI tracks.
        spec: the model's contract; its calibration does not count.
        data, windows, kinds: as in `calibrated`.
    """
    facts = [track.facts for track in people if track.facts is not None]
    scores = [scored(track, spec).score for track in people]
    members: defaultdict[str, list[float]] = defaultdict(list)
    for track, score in zip(people, scores, strict=True):
        for kind in kinds(track):
            members[kind].append(score)
    of_kinds = (Category.of("material", name, members[name]) for name in sorted(members))
    codecs = [None if track.facts is None else track.facts.codec for track in people]
    return Calibration.of(
        scores,
        data,
        ai_scores=[scored(track, spec).score for track in ai],
        windows=windows,
        material=Material.of(
            [f.codec for f in facts],
            [f.sample_rate for f in facts],
            [f.bandwidth_hz for f in facts],
            [f.duration_s for f in facts],
            [f.loudness_db for f in facts],
        )
        if facts
        else None,
        categories=[*codec_categories(scores, codecs), *(found for found in of_kinds if found is not None)],
    )


def caught_of(ai: Sequence[TrackLogits], spec: ModelSpec) -> tuple[Caught, ...]:
    """The shares of AI tracks that reach the thresholds of the usual rates; empty without AI tracks.

    Tracks of one generator are alike, so their effective number is that of clusters. It is not measured if all tracks
    are of one generator, or of unknown ones.

    Args:
        ai: AI tracks, several of each generator or one.
        spec: the model's contract, with its calibration.
    """
    scores = np.array([scored(track, spec).score for track in ai])
    sources = [track.clip.source for track in ai]
    found = []
    for rate in certified_rates(spec.calibration, CAUGHT_RATES) if ai else ():
        if rate.threshold is not None:
            hits = scores >= rate.threshold
            effective = effective_number(hits, sources) if len(set(sources)) > 1 else None
            found.append(Caught(rate.max_fpr, float(np.mean(hits)), len(ai), effective))
    return tuple(found)


def fit_scale(means: Float64, factors: Float64, truth: npt.NDArray[np.bool_]) -> tuple[float, float]:
    """The temperature and offset with the lowest cross-entropy of the tracks' scores, with equal class weights.

    A track's margin, factor x (mean - offset) / temperature, is then its log-likelihood ratio. Equal weight, because
    the share of AI in the calibration set is unrelated to the share in a catalogue.

    Args:
        means: float64 [n], trimmed means of the windows' raw margins.
        factors: float64 [n], the tracks' pooling factors.
        truth: bool [n], True for AI.
    """
    slope, shift = fit_line(means, truth, (1.0 / TEMPERATURES[1], 1.0 / TEMPERATURES[0]), factors)
    return 1.0 / slope, -shift / slope


def one_of_each_group(tracks: Sequence[TrackLogits], seed: int) -> list[TrackLogits]:
    """One track of each group, as `one_clip_of_each_group` draws them."""
    by_path = {track.clip.path: track for track in tracks}
    return [by_path[clip.path] for clip in one_clip_of_each_group([t.clip for t in tracks], seed)]


def one_clip_of_each_group(clips: Sequence[Clip], seed: int) -> list[Clip]:
    """One clip of each group, drawn at random: any other choice would not be a fair draw of the group.

    Groups that share an artist are one group here.
    """
    groups: dict[str, list[Clip]] = defaultdict(list)
    for clip, group in zip(clips, independent_groups(clips), strict=True):
        groups[group].append(clip)
    rng = np.random.default_rng(seed)
    members = [sorted(groups[name], key=lambda c: c.path) for name in sorted(groups)]
    return [found[rng.integers(len(found))] for found in members]


def family_share(track: TrackLogits, spec: ModelSpec) -> float:
    """The likeliest generator's share of the probability that is not `human`, 0..1; compared with `unknown_below`."""
    shares = list(scored(track, spec).class_scores.values())[1:]
    total = sum(shares)
    return max(shares) / total if total else 0.0


def fit_unknown(known: Sequence[TrackLogits], unknown: Sequence[TrackLogits], spec: ModelSpec) -> float:
    """The share under which a generator is called `unknown`.

    With tracks of left-out generators: the share that calls the most tracks rightly, known and unknown generators
    weighing the same. Without: the one that lets 90% of the known ones keep their name.
    """
    kept = np.array([family_share(track, spec) for track in known])
    if not unknown:
        return float(np.quantile(kept, 1.0 - KNOWN_KEPT))
    strange = np.array([family_share(track, spec) for track in unknown])
    candidates = np.unique(np.concatenate([kept, strange]))
    right = [np.mean(kept >= c) + np.mean(strange < c) for c in candidates]
    return float(candidates[int(np.argmax(right))])


def require(spec: ModelSpec, rate: float) -> None:
    """Raise `InputError` where the calibration has too few tracks to certify `rate`."""
    needed = tracks_needed(rate)
    if spec.calibration.n < needed:
        raise InputError(
            f"a false-positive rate of {rate:g} needs {needed} independent tracks by people and there are "
            f"{spec.calibration.n}; add some, or split with a larger --calibration."
        )
