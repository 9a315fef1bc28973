"""Quality of scores: AUC and what is caught at a false-positive rate, with intervals over groups.

Excerpts of one creator, song or source are not independent: the bootstrap draws whole groups, of each class
apart, so one creator with 44 excerpts counts as one draw.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sonicscan_train.bundled.corpus import Excerpt, Int16
from sonicscan_train.bundled.melcache import STEP_DB
from sonicscan_train.bundled.score import Scored

Float64 = npt.NDArray[np.float64]
Bool = npt.NDArray[np.bool_]

RESAMPLES = 1000


def auc(ai: Bool, scores: Float64) -> float:
    """Probability that a random AI track scores above a random one by people; ties count half."""
    n_ai, n_human = int(ai.sum()), int((~ai).sum())
    if not n_ai or not n_human:
        return float("nan")
    return float((rankdata(scores)[ai].sum() - n_ai * (n_ai + 1) / 2) / (n_ai * n_human))


def caught_at(ai: Bool, scores: Float64, rate: float) -> float:
    """Share of AI tracks above the score that at most `rate` of these people's tracks exceed."""
    human = np.sort(scores[~ai])[::-1]
    return float((scores[ai] > human[int(rate * len(human))]).mean())


def interval(scored: Scored, measure: Callable[[Bool, Float64], float], seed: int) -> list[float]:
    """95% percentile bootstrap over (source, group), drawn within each class."""
    rng = np.random.default_rng(seed)
    members: dict[tuple[bool, str, str], list[int]] = defaultdict(list)
    for i, e in enumerate(scored.excerpts):
        members[e.is_ai, e.source, e.group].append(i)
    sides = [[np.array(rows) for key, rows in members.items() if key[0] == side] for side in (False, True)]
    ai, values = scored.ai, []
    for _ in range(RESAMPLES):
        drawn = np.concatenate([side[k] for side in sides for k in rng.integers(len(side), size=len(side))])
        values.append(measure(ai[drawn], scored.scores[drawn]))
    low, high = np.nanpercentile(values, [2.5, 97.5])
    return [float(low), float(high)]


MEASURES: dict[str, Callable[[Bool, Float64], float]] = {
    "auc": auc,
    "tpr_at_1pct_fpr": lambda ai, scores: caught_at(ai, scores, 0.01),
    "tpr_at_5pct_fpr": lambda ai, scores: caught_at(ai, scores, 0.05),
}


def headline(scored: Scored, seed: int = 0) -> dict[str, Any]:
    """Each measure with its 95% interval."""
    return {
        name: {"value": measure(scored.ai, scored.scores), "ci95": interval(scored, measure, seed)}
        for name, measure in MEASURES.items()
    }


def by_source(scored: Scored, threshold: float) -> list[dict[str, Any]]:
    """One row a source: AUC against all people's tracks (AI sources), share flagged, median score."""
    human = scored.where(~scored.ai)
    rows: list[dict[str, Any]] = []
    for label, source in sorted({(e.label, e.source) for e in scored.excerpts}):
        part = scored.where([(e.label, e.source) == (label, source) for e in scored.excerpts])
        row: dict[str, Any] = {"label": label, "source": source, "excerpts": len(part.scores)}
        row["groups"] = len({e.group for e in part.excerpts})
        row["flagged"] = float((part.scores >= threshold).mean())
        row["median_score"] = float(np.median(part.scores))
        if label != "human":
            together = Scored(human.excerpts + part.excerpts, np.concatenate([human.scores, part.scores]))
            row["auc"] = auc(together.ai, together.scores)
        rows.append(row)
    return rows


def statistics(decibels: Int16) -> Float64:
    """Mean and deviation over time of 64 bands of whole excerpts, less the excerpt's level: [n, 128]."""
    features = []
    for image in decibels:
        bands = (image.astype(np.float64) * STEP_DB).reshape(64, -1, image.shape[1]).mean(axis=1)
        bands = np.maximum(bands - bands.max(), -80.0)
        features.append(np.concatenate([bands.mean(axis=1), bands.std(axis=1)]))
    return np.array(features)


def trivial_baseline(
    train: Int16, train_excerpts: list[Excerpt], judge: Int16, judge_excerpts: list[Excerpt]
) -> Scored:
    """Logistic regression on log-mel statistics, on the same split: what there is without learning to listen."""
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, class_weight="balanced", max_iter=2000))
    model.fit(statistics(train), [e.is_ai for e in train_excerpts])
    return Scored(judge_excerpts, model.predict_proba(statistics(judge))[:, 1])
