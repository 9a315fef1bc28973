"""The `Clip`: a track's path, labels and part, before it is decoded.

Labels. `human` is reserved for music by people. In a binary model the other class is `ai`. Any other label must be
mapped (`--map suno=ai`) or dropped (`--map codec=drop`), so that no label becomes AI by accident. `--map` also corrects
the label of a source. With `--classes source` a clip labelled `ai` belongs to the class of its source, and any other
label is a class name of its own. `codec` is music by people that went through a neural codec. `evaluate` reports it
separately, and training on it needs a `--map`.
"""

from __future__ import annotations

import dataclasses
import fnmatch
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Literal, TypeVar

from sonicscan.errors import InputError
from sonicscan.scoring.aggregate import UNKNOWN
from sonicscan.spec import HUMAN, digest_of

T = TypeVar("T")

AI = "ai"
CODEC = "codec"
DROP = "drop"

Part = Literal["train", "valid", "calibration", "test", "holdout", "unused"]
PARTS: tuple[Part, ...] = ("train", "valid", "calibration", "test", "holdout", "unused")
ClassMode = Literal["binary", "source"]


@dataclass(frozen=True, slots=True)
class Clip:
    """One labelled track.

    Attributes:
        path: the audio file.
        label: `human`, `ai`, `codec`, or a class name.
        source: the generator, or where human music comes from; never empty.
        group: clips of one song, prompt, album or creator share it; never in two parts of a split.
        artist: as `group`, where known; empty otherwise.
        part: the part of a split, or empty.
        extra: the manifest's other columns, which `audit` can look at.
    """

    path: str
    label: str
    source: str
    group: str
    artist: str = ""
    part: str = ""
    extra: Mapping[str, str] = field(default_factory=dict)

    @property
    def human(self) -> bool:
        """Whether the clip is music by people, as it was made."""
        return self.label == HUMAN


def pairs(options: Iterable[str], name: str) -> dict[str, str]:
    """`A=B` options as a dictionary.

    Raises:
        InputError: an option without `=`, or with nothing on one side of it.
    """
    found = {}
    for option in options:
        # The last one: names of sources may hold `=`, names of classes should not.
        key, _, value = option.rpartition("=")
        if not key or not value:
            raise InputError(f"--{name} takes FROM=TO, not {option!r}.")
        found[key] = value
    return found


def relabel(clips: Sequence[Clip], labels: Mapping[str, str]) -> list[Clip]:
    """Clips with other labels; those mapped to `drop` are left out.

    Args:
        clips: with their labels.
        labels: the new label of a source, or of a label. The label that a source gets is mapped too.

    Raises:
        InputError: a name that is neither a label nor a source of any clip.
    """
    own = {clip.label for clip in clips}
    sources = {name: label for name, label in labels.items() if name not in own}
    corrected = [dataclasses.replace(clip, label=sources.get(clip.source, clip.label)) for clip in clips]
    if strange := set(sources) - {clip.source for clip in clips} - {clip.label for clip in corrected}:
        raise InputError(f"--map names {min(strange)!r}, which is neither a label nor a source here ({_known(clips)}).")
    renamed = (dataclasses.replace(clip, label=labels.get(clip.label, clip.label)) for clip in corrected)
    return [clip for clip in renamed if clip.label != DROP]


def class_of(clip: Clip, mode: ClassMode, families: Mapping[str, str]) -> str:
    """The class that a clip belongs to; `families` renames sources by name or pattern (`chirp*` -> suno).

    Raises:
        InputError: the class of an AI clip is `human`.
    """
    if mode == "binary" or clip.label != AI:
        return clip.label
    found = of_source(clip.source, families, clip.source)
    if found == HUMAN:
        raise InputError(
            f"{clip.path} is labelled {AI}, and its class would be {HUMAN} (source {clip.source!r}); correct the label "
            f"with --map, or name another class with --family."
        )
    return found


def of_source(source: str, values: Mapping[str, T], default: T) -> T:
    """The value of a source in a mapping by names and patterns: that of its name, else of the first pattern."""
    if source in values:
        return values[source]
    return next((value for pattern, value in values.items() if fnmatch.fnmatchcase(source, pattern)), default)


def class_names(clips: Sequence[Clip], mode: ClassMode, families: Mapping[str, str]) -> tuple[str, ...]:
    """The classes of a model trained on `clips`: `human` first, the others by name.

    Raises:
        InputError: a label that a binary model does not know, a class name with another meaning, or fewer than two
            classes.
    """
    if mode == "binary":
        check_binary(clips)
    names = {class_of(clip, mode, families) for clip in clips}
    if UNKNOWN in names:
        raise InputError(
            f"a class cannot be called {UNKNOWN!r}, because reports say so of tracks of other generators; "
            f"give another name with --family {UNKNOWN}=NAME."
        )
    if HUMAN not in names or len(names) < 2:
        found = ", ".join(sorted(names)) or "nothing"
        raise InputError(f"training needs music by people and by AI, and there is only {found}.")
    return (HUMAN, *sorted(names - {HUMAN}))


def check_binary(clips: Sequence[Clip], apart: Iterable[str] = ()) -> None:
    """Raise `InputError` for a label other than `human`, `ai` and those of `apart`."""
    known = {HUMAN, AI, *apart}
    for clip in clips:
        if clip.label not in known:
            raise InputError(
                f"{clip.path} has the label {clip.label!r}, which is neither {HUMAN} nor {AI}; say what it is with "
                f"--map {clip.label}={AI}, --map {clip.label}={HUMAN} or --map {clip.label}={DROP}."
            )


def check_two_classes(clips: Sequence[Clip], what: str) -> None:
    """Raise `InputError` unless `clips` hold both music by people and other music."""
    if not any(clip.human for clip in clips) or all(clip.human for clip in clips):
        raise InputError(f"{what} needs music by people and by AI, and there is only {_known(clips)}.")


def independent_groups(clips: Sequence[Clip]) -> list[str]:
    """For each clip the name of its group, the same for clips that share a group or an artist.

    Clips that are joined through others have the same name too: the first of their groups' names, by the alphabet.
    """
    parent: dict[tuple[str, str], tuple[str, str]] = {}

    def root(key: tuple[str, str]) -> tuple[str, str]:
        parent.setdefault(key, key)
        while parent[key] != key:
            parent[key] = parent[parent[key]]
            key = parent[key]
        return key

    for clip in clips:
        first = root(("group", clip.group))
        if clip.artist:
            parent[root(("artist", clip.artist))] = first
    names: dict[tuple[str, str], str] = {}
    for clip in clips:
        key = root(("group", clip.group))
        names[key] = min(names.get(key, clip.group), clip.group)
    return [names[root(("group", clip.group))] for clip in clips]


def has_split(clips: Sequence[Clip]) -> bool:
    """Whether every clip has its part of a split; False if none has.

    Raises:
        InputError: some clips have a part and others have none.
    """
    without = [clip for clip in clips if not clip.part]
    if 0 < len(without) < len(clips):
        raise InputError(
            f"{len(without)} of {len(clips)} clips have no part in the split, the first one {without[0].path}; make "
            "one split of all the data with `sonicscan-train split`."
        )
    return not without


def check_groups(clips: Sequence[Clip], needed: int, what: str) -> None:
    """Raise `InputError` where a class has fewer than `needed` groups."""
    for label in sorted({clip.label for clip in clips}):
        groups = {clip.group for clip in clips if clip.label == label}
        if len(groups) < needed:
            raise InputError(
                f"all clips labelled {label} belong to {len(groups)} group{'s' * (len(groups) != 1)}; {what} needs at "
                f"least {needed}, because a group is never divided (see the manifest's column `group`)."
            )


def data_digest(clips: Iterable[Clip]) -> str:
    """SHA-256 of what was trained on: names, labels, sources, groups and parts, in any order."""
    return digest_of(sorted([PurePath(c.path).name, c.label, c.source, c.group, c.artist, c.part] for c in clips))


def _known(clips: Iterable[Clip]) -> str:
    counts = Counter(clip.label for clip in clips)
    return ", ".join(f"{label} ({n})" for label, n in sorted(counts.items())) or "nothing"
