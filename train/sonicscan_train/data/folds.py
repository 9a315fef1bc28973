"""Folds for cross-fitting: each clip is scored by a network that was trained without its fold.

What must not be divided stays in one fold: clips that share a group, a source, or a family of sources. A few large
generators are the exception: their unit is a creator's page (column `origin`), because scans find tracks by new users
of known generators. The plan is a TOML file, or one of those in `sonicscan_train/plans`:

    folds = 3
    by_origin = ["Suno", "Udio"]             # generators that are divided by origin
    families = [["MeLoDy", "MusicLM"]]       # sources that stay together
    [pinned]                                 # sources by their beginning, and the fold that they must be in
    "GTZAN" = 2
    [balanced]                               # sets of sources that are spread evenly too, as regular expressions
    "other songs" = "ACE-Step|YuE"
    [categories]                             # sets of sources that evaluations report, as names or patterns
    "released music" = ["GTZAN*"]
"""

from __future__ import annotations

import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath

from sonicscan.errors import InputError
from sonicscan_train.data.clips import AI, Clip
from sonicscan_train.data.manifest import read_table, write_table
from sonicscan_train.packaged import built, read_packaged

_HEAVY = 2.0  # weight of a generator that is divided by origin, in the balance of the folds


@dataclass(frozen=True)
class FoldPlan:
    """How clips are assigned to folds; the module's docstring shows the file."""

    folds: int = 3
    by_origin: tuple[str, ...] = ()
    families: tuple[tuple[str, ...], ...] = ()
    pinned: Mapping[str, int] = field(default_factory=dict)
    balanced: Mapping[str, str] = field(default_factory=dict)
    categories: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.folds < 2 or any(not 0 <= fold < self.folds for fold in self.pinned.values()):
            raise InputError(f"a plan needs 2 folds or more, and pinned folds from 0 to {self.folds - 1}.")
        for pattern in self.balanced.values():
            try:
                re.compile(pattern)
            except re.error as error:
                raise InputError(f"[balanced] of a plan has {pattern!r}, no regular expression: {error}.") from error


def read_plan(name: str) -> FoldPlan:
    """The plan in a TOML file; a name without `.toml` is that of a plan in the package.

    Raises:
        InputError: it cannot be read, or holds something else.
    """
    path, values = read_packaged(name, "plans", "plan")
    return built(FoldPlan, values, f"the plan {path.name}")


def deal(clips: Sequence[Clip], plan: FoldPlan) -> list[int]:
    """The fold of each clip; depends on nothing but the clips, their order and the plan.

    Raises:
        InputError: one unit is pinned to two folds.
    """
    units = _units(clips, plan)
    totals = Counter(key for clip in clips for key in _keys(clip, plan))
    loads: list[Counter[str]] = [Counter() for _ in range(plan.folds)]
    dealt: dict[str, int] = {}

    def put(unit: str, fold: int) -> None:
        dealt[unit] = fold
        for i in units[unit]:
            loads[fold].update(_keys(clips[i], plan))

    for unit, members in units.items():
        pins = {p for p in (_pinned(clips[i].source, plan) for i in members) if p is not None}
        if len(pins) > 1:
            raise InputError(f"{clips[members[0]].source} shares groups with sources pinned to folds {sorted(pins)}.")
        if pins:
            put(unit, pins.pop())
    for unit in sorted(units.keys() - dealt.keys(), key=lambda u: (-len(units[u]), u)):
        brought = Counter(key for i in units[unit] for key in _keys(clips[i], plan))

        def crowding(fold: int, brought: Counter[str] = brought) -> float:
            """The growth of the squared shares in the fold if this unit is added."""
            load = loads[fold]
            return sum(
                (_HEAVY if key in plan.by_origin else 1.0)
                * (((load[key] + n) / totals[key]) ** 2 - (load[key] / totals[key]) ** 2)
                for key, n in brought.items()
            )

        put(unit, min(range(plan.folds), key=lambda fold: (round(crowding(fold), 9), fold)))
    fold_of = {i: dealt[unit] for unit, members in units.items() for i in members}
    return [fold_of[i] for i in range(len(clips))]


def write_folds(clips: Sequence[Clip], folds: Sequence[int], root: Path, path: Path) -> None:
    """A CSV file with path, label, source, origin, group and fold.

    Paths are relative to `root`, but for those of a manifest with absolute paths to other folders.
    """

    def name(path: str) -> str:
        below = os.path.relpath(path, root)
        return below if _ends_with(path, below) else path

    rows = [
        [name(c.path), c.label, c.source, c.extra.get("origin", ""), c.group, fold]
        for c, fold in zip(clips, folds, strict=True)
    ]
    write_table(path, ["path", "label", "source", "origin", "group", "fold"], rows)


def read_folds(path: Path, clips: Sequence[Clip]) -> list[int]:
    """The fold of each clip, from a CSV file with the columns `path` and `fold`.

    A clip's entry is the one whose path is the end of the clip's path.

    Raises:
        InputError: the file cannot be read, or a clip has no fold in it.
    """
    try:
        entries = {PurePath(row["path"]).parts: int(row["fold"]) for row in read_table(path)}
    except (KeyError, ValueError) as error:
        raise InputError(f"{path} must have the columns path and fold, the fold a whole number ({error}).") from error
    lengths = sorted({len(parts) for parts in entries}, reverse=True)
    folds = []
    for clip in clips:
        parts = PurePath(clip.path).parts
        fold = next((entries[parts[-n:]] for n in lengths if parts[-n:] in entries), None)
        if fold is None:
            raise InputError(f"{clip.path} has no fold in {path}.")
        folds.append(fold)
    return folds


def _ends_with(path: str, end: str) -> bool:
    parts = PurePath(end).parts
    return PurePath(path).parts[-len(parts) :] == parts


def _units(clips: Sequence[Clip], plan: FoldPlan) -> dict[str, list[int]]:
    """Indices of the clips that stay together, by a name of theirs."""
    parent: dict[str, str] = {}

    def root(name: str) -> str:
        while parent.setdefault(name, name) != name:
            name = parent[name]
        return name

    def unit(clip: Clip) -> str:
        origin = clip.extra.get("origin", "")
        return f"{clip.source}|{origin}" if clip.source in plan.by_origin else clip.source

    first: dict[str, str] = {}
    for clip in clips:
        parent[root(unit(clip))] = root(first.setdefault(clip.group, unit(clip)))
        if clip.source in plan.by_origin:  # a creator's page with several generators is not divided
            parent[root(unit(clip))] = root(first.setdefault(f"origin {clip.extra.get('origin', '')}", unit(clip)))
    known = {clip.source for clip in clips}
    for family in plan.families:
        there = [source for source in family if source in known]
        for source in there[1:]:
            parent[root(source)] = root(there[0])
    members: defaultdict[str, list[int]] = defaultdict(list)
    for i, clip in enumerate(clips):
        members[root(unit(clip))].append(i)
    return dict(members)


def _keys(clip: Clip, plan: FoldPlan) -> Iterator[str]:
    """What a clip counts as in the balance of the folds."""
    yield clip.label
    if clip.source in plan.by_origin:
        yield clip.source
    elif clip.label == AI:
        yield from (name for name, pattern in plan.balanced.items() if re.search(pattern, clip.source))


def _pinned(source: str, plan: FoldPlan) -> int | None:
    return next((fold for beginning, fold in plan.pinned.items() if source.startswith(beginning)), None)
