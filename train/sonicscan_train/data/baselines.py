"""Trivial detectors: a small decision tree on one feature, evaluated on groups that it was not trained on. If such a
tree separates AI from people, a network trained on the data can learn the same shortcut. Its figures then do not
measure music.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sonicscan.arrays import Float64
from sonicscan.errors import InputError
from sonicscan_train.metrics import auc

FOLDS = 5
ALL = "all of them together"


@dataclass(frozen=True)
class Baseline:
    """What one feature alone achieves.

    Attributes:
        feature: its name.
        auc: area under the ROC curve of the tree's out-of-fold probabilities, averaged over folds; 0.5 is chance.
        low, high: 95% interval of the AUC, from its spread over folds.
        accuracy: balanced accuracy, the mean of recall and specificity at probability 0.5.
    """

    feature: str
    auc: float
    low: float
    high: float
    accuracy: float

    def separates(self, limit: float) -> bool:
        """Whether the feature separates the classes: over the limit, and not by chance."""
        return self.auc > limit and self.low > 0.5


def baselines(
    columns: Mapping[str, Sequence[float] | Sequence[str]], truth: npt.NDArray[np.bool_], groups: Sequence[str]
) -> list[Baseline]:
    """Every column alone, and all of them together, best first.

    Args:
        columns: numbers or words, one a track, by name.
        truth: [n], True for AI.
        groups: never divided between training and evaluation.

    Raises:
        InputError: a class with fewer than two groups.
    """
    matrices = {name: _matrix(values) for name, values in columns.items()}
    folds = _folds(truth, groups)
    found = [_judged(name, matrix, truth, folds, depth=3) for name, matrix in matrices.items()]
    found.sort(key=lambda baseline: -baseline.auc)
    if len(matrices) > 1:
        found.append(_judged(ALL, np.hstack(list(matrices.values())), truth, folds, depth=6))
    return found


def _matrix(values: Sequence[float] | Sequence[str]) -> Float64:
    """Numbers as one column; words as one column for each of the fifty most frequent."""
    try:
        numbers = np.asarray([float(v) if v != "" else np.nan for v in values], dtype=np.float64)
    except ValueError:
        words, counts = np.unique(np.asarray(values, dtype=str), return_counts=True)
        frequent = words[np.argsort(-counts, kind="stable")[:50]]
        flags: Float64 = (np.asarray(values, dtype=str)[:, None] == frequent).astype(np.float64)
        return flags
    # The trees compute in float32.
    column: Float64 = np.clip(np.nan_to_num(numbers, nan=-1e9), -1e30, 1e30)[:, None]
    return column


def _folds(
    truth: npt.NDArray[np.bool_], groups: Sequence[str]
) -> list[tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]]:
    from sklearn.model_selection import StratifiedGroupKFold

    names = np.asarray(groups, dtype=str)
    fewest = min(len(np.unique(names[truth])), len(np.unique(names[~truth])))
    if fewest < 2:
        raise InputError(
            "a class has fewer than two groups, so no baseline can be evaluated on unseen groups "
            "(see the manifest's column `group`)."
        )
    splitter = StratifiedGroupKFold(min(FOLDS, fewest), shuffle=True, random_state=0)
    with warnings.catch_warnings():
        # With few groups a fold may hold fewer of a class than there are folds; such folds are left out below.
        warnings.filterwarnings("ignore", message="The least populated class", category=UserWarning)
        pairs = list(splitter.split(names, truth, names))
    return [(fit, judge) for fit, judge in pairs if len(set(truth[judge])) == 2 and len(set(truth[fit])) == 2]


def _judged(
    name: str,
    matrix: Float64,
    truth: npt.NDArray[np.bool_],
    folds: list[tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]],
    depth: int,
) -> Baseline:
    from sklearn.tree import DecisionTreeClassifier

    areas, right = [], []
    for fit, judge in folds:
        tree = DecisionTreeClassifier(
            max_depth=depth, min_samples_leaf=max(2, len(fit) // 100), class_weight="balanced", random_state=0
        )
        tree.fit(matrix[fit], truth[fit])
        scores = tree.predict_proba(matrix[judge])[:, 1]
        areas.append(auc(truth[judge], scores))
        called = scores >= 0.5
        right.append((np.mean(called[truth[judge]]) + np.mean(~called[~truth[judge]])) / 2)
    if not areas:
        return Baseline(name, 0.5, 0.0, 1.0, 0.5)
    mean = float(np.mean(areas))
    # The normal interval of a mean over folds; with one fold it is undefined.
    spread = 1.96 * float(np.std(areas, ddof=1)) / np.sqrt(len(areas)) if len(areas) > 1 else 0.5
    return Baseline(name, mean, max(0.0, mean - spread), min(1.0, mean + spread), float(np.mean(right)))
