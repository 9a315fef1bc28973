"""Splits clips into training and evaluation parts, without a group or an artist in two parts.

Clips that share a group or an artist, directly or through others, form a component. Components are assigned whole,
largest first. Each goes to the part that lacks most of its labels and sources.

Whole generators and whole human sources can be left out as `holdout`: figures on them are the closest to those of a
real scan. Clips that share a group with the holdout are `unused`. They cannot be trained on (their song is in the
holdout), and cannot be tested on (their source is in training).
"""

from __future__ import annotations

import dataclasses
import random
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from sonicscan.errors import InputError
from sonicscan_train.data.clips import PARTS, Clip, Part, check_groups, check_two_classes, independent_groups

# From evaluation to training: a component that official splits divide goes to the first of its parts.
_STRICTEST: tuple[Part, ...] = ("holdout", "test", "calibration", "valid", "unused", "train")


@dataclass(frozen=True)
class SplitPlan:
    """How clips are assigned to parts.

    Attributes:
        train, valid, test, calibration: shares of each label and source; they add up to 1.
        holdout_sources: generators and human sources that are left out whole.
        official: keep the parts that the data sets come with, where they do.
        seed: of the order in which equal components are assigned.
    """

    train: float = 0.6
    valid: float = 0.2
    test: float = 0.2
    calibration: float = 0.0
    holdout_sources: tuple[str, ...] = ()
    official: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        if abs(sum(self.shares.values()) - 1.0) > 1e-6 or any(not 0.0 <= s < 1.0 for s in self.shares.values()):
            raise InputError(f"the shares of a split must add up to 1, and {self.shares} do not.")

    @property
    def shares(self) -> dict[Part, float]:
        """Share of each part that is assigned."""
        return {"train": self.train, "valid": self.valid, "calibration": self.calibration, "test": self.test}


def split(clips: Sequence[Clip], plan: SplitPlan) -> list[Clip]:
    """Clips in their order, each with its part.

    Depends on nothing but its arguments, not even on the order of clips.

    Raises:
        InputError: a source to be left out that no clip has, one class only, or a class with fewer
            groups than there are parts.
    """
    check_two_classes(clips, "a split")
    strange = set(plan.holdout_sources) - {clip.source for clip in clips}
    if strange:
        raise InputError(f"--holdout-sources names {min(strange)!r}, which is no source of these clips.")
    joined: defaultdict[str, list[int]] = defaultdict(list)
    for i, group in enumerate(independent_groups(clips)):
        joined[group].append(i)
    members = list(joined.values())
    parts: dict[int, Part] = {}
    for component in members:
        if any(clips[i].source in plan.holdout_sources for i in component):
            for i in component:
                parts[i] = "holdout" if clips[i].source in plan.holdout_sources else "unused"
    free = [component for component in members if component[0] not in parts]
    if plan.official:
        for component in free:
            found = {clips[i].part for i in component}
            strictest = next((part for part in _STRICTEST if part in found), None)
            if strictest:
                parts.update(dict.fromkeys(component, strictest))
    free = [component for component in free if component[0] not in parts]
    if free:
        needed = sum(share > 0 for share in plan.shares.values())
        check_groups([clips[i] for component in free for i in component], needed, "a split")
    _deal(clips, free, plan, parts)
    return [dataclasses.replace(clip, part=parts[i]) for i, clip in enumerate(clips)]


def _deal(clips: Sequence[Clip], free: list[list[int]], plan: SplitPlan, parts: dict[int, Part]) -> None:
    """Assign components so that each part gets its share of every label and source."""
    stratum = {i: (clips[i].label, clips[i].source) for component in free for i in component}
    totals: Counter[object] = Counter(stratum.values())
    totals.update(label for label, _ in stratum.values())
    lacking: dict[Part, dict[object, float]] = {
        part: {key: n * share for key, n in totals.items()} for part, share in plan.shares.items() if share > 0
    }
    ordered = sorted(free, key=lambda component: min(clips[i].path for i in component))
    random.Random(plan.seed).shuffle(ordered)
    ordered.sort(key=len, reverse=True)
    for component in ordered:
        brought: Counter[object] = Counter()
        for i in component:
            brought[stratum[i]] += 1
            brought[stratum[i][0]] += 1

        def gain(part: Part, brought: Counter[object] = brought) -> tuple[float, float]:
            # Shares of what is there, so that a rare source counts as much as a common one.
            return sum(n * lacking[part][key] / totals[key] for key, n in brought.items()), plan.shares[part]

        best = max(lacking, key=gain)
        for key, n in brought.items():
            lacking[best][key] -= n
        parts.update(dict.fromkeys(component, best))


def split_by_files(clips: Sequence[Clip], seed: int = 42) -> list[Clip]:
    """The seed's split: 60/20/20 over files, stratified by label, whatever group they belong to.

    As its notebook does it: files sorted by name, people first, scikit-learn's `train_test_split`
    twice. Only for comparing with its figures: siblings of one prompt land on both sides.

    Raises:
        InputError: one class only, or too few files of a class.
    """
    from sklearn.model_selection import train_test_split

    check_two_classes(clips, "a split")
    order = sorted(range(len(clips)), key=lambda i: (not clips[i].human, clips[i].path))
    labels = [int(not clips[i].human) for i in order]
    if min(labels.count(0), labels.count(1)) < 5:
        raise InputError("a split over files needs at least five clips of each class.")
    rest, test, rest_labels, _ = train_test_split(order, labels, test_size=0.2, random_state=seed, stratify=labels)
    train, valid = train_test_split(rest, test_size=0.25, random_state=seed, stratify=rest_labels)
    named: dict[Part, list[int]] = {"train": train, "valid": valid, "test": test}
    parts = {i: part for part, members in named.items() for i in members}
    return [dataclasses.replace(clip, part=parts[i]) for i, clip in enumerate(clips)]


def summary(clips: Sequence[Clip]) -> list[tuple[str, int, int, int, int]]:
    """For each part: name, clips, groups, clips by people, sources."""
    rows: list[tuple[str, int, int, int, int]] = []
    for part in PARTS:
        here = [clip for clip in clips if clip.part == part]
        if here:
            people = sum(clip.human for clip in here)
            rows.append((part, len(here), len({c.group for c in here}), people, len({c.source for c in here})))
    return rows
