"""Evaluates a model: figures with intervals, by part, generator, human source and format. Tracks labelled `codec`
(music by people that went through a neural codec) count neither as AI nor as people's. They have a separate table.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.special

from sonicscan.arrays import Float64
from sonicscan.errors import InputError
from sonicscan.scoring.aggregate import UNKNOWN, attribution_of
from sonicscan.scoring.thresholds import certified_threshold, tracks_needed
from sonicscan.spec import ModelSpec
from sonicscan_train.data.baselines import Baseline, baselines
from sonicscan_train.data.clips import CODEC, class_of, independent_groups
from sonicscan_train.data.features import CATEGORICAL, NUMERIC, Features
from sonicscan_train.judge.calibration import RATES
from sonicscan_train.judge.scoring import ScoredTrack
from sonicscan_train.metrics import auc, finite, group_weights, quality_with_intervals, roc

Row = dict[str, Any]


GENERATORS = 20  # with this many or more, intervals are over generators


@dataclass(frozen=True)
class Section:
    """The evaluation of one part of the data.

    Attributes:
        name: of the part.
        note: a limit of the figures, in a sentence; may be empty.
        tracks, windows: figures with 95% intervals over `clusters`.
        counts: tracks by people, by AI, `codec`, groups, windows.
        certified: measured rates at the certified thresholds.
        generators, sources, formats, codec: rows of their tables.
        baseline: trivial baselines on the same tracks, best first; empty where there are too few groups.
        clusters: what the bootstrap draws, in words.
        confusion: names of the classes, of what they can be called, and counts, `codec` tracks included; None for a
            binary model.
    """

    name: str
    note: str
    tracks: Mapping[str, Mapping[str, float | None]]
    windows: Mapping[str, Mapping[str, float | None]]
    counts: Mapping[str, int]
    certified: tuple[Row, ...]
    generators: tuple[Row, ...]
    sources: tuple[Row, ...]
    formats: tuple[Row, ...]
    codec: tuple[Row, ...]
    baseline: tuple[Baseline, ...]
    clusters: str
    confusion: tuple[list[str], list[str], list[list[int]]] | None


def evaluate(
    name: str,
    tracks: Sequence[ScoredTrack],
    spec: ModelSpec,
    *,
    note: str = "",
    features: Mapping[str, Features] | None = None,
    families: Mapping[str, str] | None = None,
    bootstraps: int = 1000,
) -> Section:
    """Evaluate a model on scored tracks.

    Args:
        tracks: with their labels; `codec` ones are reported separately.
        spec: the model's contract.
        features: measured of the tracks' files, by path, for the trivial baselines.
        families: sources renamed as classes, as in training.
        bootstraps: draws of the intervals.

    Raises:
        InputError: no track by people, or none by AI.
    """
    judged = [track for track in tracks if track.clip.label != CODEC]
    truth = np.array([not track.clip.human for track in judged], dtype=bool)
    if len(set(truth.tolist())) < 2:
        missing = "by AI" if not truth.any() else "by people"
        raise InputError(f"the part {name} has no track {missing} with a score.")
    scores = np.array([track.score for track in judged])
    groups = independent_groups([track.clip for track in judged])
    repeats = [len(track.window_margins) for track in judged]
    window_scores = scipy.special.expit(np.concatenate([track.window_margins for track in judged]))
    by_generator = len({track.clip.source for track in judged if not track.clip.human}) >= GENERATORS
    # Tracks of one generator are alike, and the figures are about unseen ones.
    drawn = [
        f"generator {track.clip.source}" if by_generator and not track.clip.human else group
        for track, group in zip(judged, groups, strict=True)
    ]
    window_drawn = [cluster for cluster, n in zip(drawn, repeats, strict=True) for _ in range(n)]
    five = _threshold_at(truth, scores, 0.05)
    codec = [track for track in tracks if track.clip.label == CODEC]
    human = scores[~truth]
    return Section(
        name=name,
        note=note,
        tracks=quality_with_intervals(truth, scores, drawn, bootstraps),
        windows=quality_with_intervals(np.repeat(truth, repeats), window_scores, window_drawn, bootstraps),
        counts={
            "people": int((~truth).sum()),
            "ai": int(truth.sum()),
            "codec": len(codec),
            "groups": len(set(groups)),
            "windows": sum(repeats),
        },
        certified=_certified(truth, scores, groups, spec),
        generators=_by_source([t for t in judged if not t.clip.human], human, five),
        sources=_by_source([t for t in judged if t.clip.human], None, five),
        formats=_by_format(judged),
        codec=_by_source(codec, human, five),
        baseline=_baseline(judged, truth, groups, features or {}),
        clusters="groups of people's music and generators" if by_generator else "groups",
        confusion=_confusion(tracks, spec, families or {}),
    )


def _threshold_at(truth: npt.NDArray[np.bool_], scores: Float64, fpr: float) -> float:
    """The lowest score that flags at most `fpr` of these tracks by people."""
    false, _, thresholds = roc(truth, scores)
    return float(thresholds[np.flatnonzero(false <= fpr + 1e-12)[-1]])


def _certified(
    truth: npt.NDArray[np.bool_], scores: Float64, groups: Sequence[str], spec: ModelSpec
) -> tuple[Row, ...]:
    """What the certified thresholds flag; groups of people's tracks count equally, as in the calibration."""
    weights = group_weights(np.asarray(groups)[~truth].tolist())
    rows: list[Row] = []
    for rate in RATES:
        if spec.calibration.n < tracks_needed(rate):
            continue
        threshold = certified_threshold(spec.calibration, rate)
        flagged = scores >= threshold
        rows.append(
            {
                "rate": rate,
                "threshold": threshold,
                "fpr": float(np.average(flagged[~truth], weights=weights)),
                "tpr": float(np.mean(flagged[truth])),
            }
        )
    return tuple(rows)


def _by_source(tracks: Sequence[ScoredTrack], human: Float64 | None, five: float) -> tuple[Row, ...]:
    """A row for each source, largest first; with `human` scores also the AUC against them."""
    members: dict[str, list[ScoredTrack]] = defaultdict(list)
    for track in tracks:
        members[track.clip.source].append(track)
    rows = []
    for source, found in sorted(members.items(), key=lambda item: (-len(item[1]), item[0])):
        scores = np.array([track.score for track in found])
        row: Row = {
            "source": source,
            "tracks": len(found),
            "groups": len({track.clip.group for track in found}),
            "mean_score": float(scores.mean()),
            "over_half": float(np.mean(scores >= 0.5)),
            "at_5_fpr": float(np.mean(scores >= five)),
        }
        if human is not None:
            both = np.concatenate([np.ones(len(scores), bool), np.zeros(len(human), bool)])
            row["auc"] = finite(auc(both, np.concatenate([scores, human])))
        rows.append(row)
    return tuple(rows)


def _by_format(tracks: Sequence[ScoredTrack]) -> tuple[Row, ...]:
    members: dict[str, list[ScoredTrack]] = defaultdict(list)
    for track in tracks:
        members[track.format].append(track)
    rows = []
    for form, found in sorted(members.items(), key=lambda item: (-len(item[1]), item[0])):
        truth = np.array([not track.clip.human for track in found])
        scores = np.array([track.score for track in found])
        over = scores >= 0.5
        rows.append(
            {
                "format": form,
                "people": int((~truth).sum()),
                "ai": int(truth.sum()),
                "auc": finite(auc(truth, scores)),
                "fpr": float(np.mean(over[~truth])) if not truth.all() else None,
                "recall": float(np.mean(over[truth])) if truth.any() else None,
            }
        )
    return tuple(rows)


def _baseline(
    tracks: Sequence[ScoredTrack],
    truth: npt.NDArray[np.bool_],
    groups: Sequence[str],
    features: Mapping[str, Features],
) -> tuple[Baseline, ...]:
    measured = [i for i, track in enumerate(tracks) if track.clip.path in features]
    found = [features[tracks[i].clip.path] for i in measured]
    columns = {name: [getattr(f, name) for f in found] for name in (*NUMERIC, *CATEGORICAL)}
    try:
        return tuple(baselines(columns, truth[measured], [groups[i] for i in measured]))
    except InputError:  # too few groups to evaluate on unseen ones: there is no baseline
        return ()


def _confusion(
    tracks: Sequence[ScoredTrack], spec: ModelSpec, families: Mapping[str, str]
) -> tuple[list[str], list[str], list[list[int]]] | None:
    """Counts tracks by true class and by predicted class; generators without a class in the model have rows too."""
    if not spec.multiclass:
        return None
    calls = []
    for track in tracks:
        is_ = class_of(track.clip, "source", families)
        called = attribution_of(track.class_scores, spec, None) if track.score >= 0.5 else spec.classes[0]
        calls.append((is_, str(called)))
    strangers = sorted({is_ for is_, _ in calls} - set(spec.classes))
    rows = [*spec.classes, *strangers]
    columns = [*spec.classes, UNKNOWN]
    counts = [[sum(call == (row, column) for call in calls) for column in columns] for row in rows]
    return rows, columns, counts


def stress_row(clean: Sequence[ScoredTrack], stressed: Sequence[ScoredTrack]) -> Row:
    """Figures of tracks under a condition, and the change of their scores; the two lists are in the same order.

    Raises:
        InputError: no track by people or by AI is left.
    """
    truth = np.array([not track.clip.human for track in stressed], dtype=bool)
    if len(set(truth.tolist())) < 2:
        raise InputError("the stress test needs tracks by people and by AI that can be scored.")
    before = np.array([track.score for track in clean])
    after = np.array([track.score for track in stressed])
    moved = after - before
    flagged = after >= 0.5
    return {
        "tracks": len(stressed),
        "auc": finite(auc(truth, after)),
        "auc_clean": finite(auc(truth, before)),
        "recall": float(np.mean(flagged[truth])),
        "fpr": float(np.mean(flagged[~truth])),
        "drift_people": float(moved[~truth].mean()),
        "drift_ai": float(moved[truth].mean()),
        "moved": float(np.abs(moved).mean()),
        "changed_sides": float(np.mean((before >= 0.5) != flagged)),
    }
