"""`audit`: checks a data set, before training, for shortcuts that a detector could learn instead of the music.

It answers three questions. Does a trivial feature of the files alone separate the classes? Is the same sound in two
classes or two parts? Is a group or an artist in two parts of the split?
"""

from __future__ import annotations

import dataclasses
import fnmatch
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from sonicscan.errors import InputError
from sonicscan_train.data.baselines import ALL, Baseline, baselines
from sonicscan_train.data.clips import Clip, check_binary, check_two_classes, independent_groups
from sonicscan_train.data.datasets import allowed_bad
from sonicscan_train.data.features import CATEGORICAL, NUMERIC, Features, measure_all

AUC_LIMIT = 0.65
_SHOWN = 5  # examples named in a finding


@dataclass(frozen=True)
class Balance:
    """How many clips, groups and clips of each label a source or part has."""

    name: str
    clips: int
    groups: int
    labels: Mapping[str, int]


@dataclass(frozen=True)
class Audit:
    """What an audit found.

    Attributes:
        clips: how many files were measured.
        skipped: files that could not be measured, with the reason.
        limit: the AUC over which a feature separates the classes.
        measured: baselines on features measured of the files, best first, all together last.
        declared: baselines on columns of the manifest that were asked for. They describe the original files, which a
            model does not receive, so they never fail the audit. But differences between originals may have left
            traces.
        sources, parts, labels: balance.
        findings: sentences, each a reason not to train on the unchanged data; empty if the audit passes.
        notes: sentences that do not fail it.
    """

    clips: int
    skipped: Mapping[str, str]
    limit: float
    measured: tuple[Baseline, ...]
    declared: tuple[Baseline, ...]
    labels: tuple[Balance, ...]
    sources: tuple[Balance, ...]
    parts: tuple[Balance, ...]
    findings: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def passed(self) -> bool:
        """Whether nothing was found."""
        return not self.findings

    def to_dict(self) -> dict[str, object]:
        """As JSON values."""
        return {**dataclasses.asdict(self), "passed": self.passed}


def audit(
    clips: Sequence[Clip],
    *,
    limit: float = AUC_LIMIT,
    columns: Sequence[str] = (),
    workers: int = 1,
    max_bad: str = "1%",
    done: Callable[[], None] = lambda: None,
) -> Audit:
    """Audit labelled clips; those labelled neither `human` nor `ai` must have been mapped.

    Args:
        limit: AUC over which a trivial feature fails the data.
        columns: names or patterns (`orig_*`) of manifest columns to look at as well.
        workers: processes that measure.
        max_bad: `N` or `P%` of files that may be missing or unreadable.
        done: called after each file.

    Raises:
        InputError: one class only, unknown labels, a column that is not there, too many unreadable files.
    """
    if not 0.5 <= limit < 1.0:
        raise InputError(f"the limit of the AUC lies between 0.5 and 1, not {limit:g}.")
    check_binary(clips)
    check_two_classes(clips, "an audit")
    names = _columns(clips, columns)
    kept: list[Clip] = []
    features: list[Features] = []
    skipped: dict[str, str] = {}
    for clip, result in zip(clips, measure_all([c.path for c in clips], workers, done), strict=True):
        if isinstance(result, Features):
            kept.append(clip)
            features.append(result)
        else:
            skipped[clip.path] = result
    if len(skipped) > allowed_bad(max_bad, len(clips)):
        path, reason = next(iter(skipped.items()))
        raise InputError(f"{len(skipped)} of {len(clips)} files cannot be read, the first one {path} ({reason}).")
    check_two_classes(kept, "an audit")
    truth = np.array([not clip.human for clip in kept])
    groups = independent_groups(kept)
    measured = baselines(
        {name: [getattr(f, name) for f in features] for name in (*NUMERIC, *CATEGORICAL)}, truth, groups
    )
    declared = baselines({n: [c.extra.get(n, "") for c in kept] for n in names}, truth, groups) if names else []
    findings = [
        f"{b.feature} alone tells AI from people with AUC {b.auc:.2f}, over the limit of {limit:g}"
        for b in measured
        if b.feature != ALL and b.separates(limit)
    ]
    findings += _divided(kept) + _same_sound(kept, features)
    return Audit(
        clips=len(kept),
        skipped=skipped,
        limit=limit,
        measured=tuple(measured),
        declared=tuple(declared),
        labels=_balance(kept, "label"),
        sources=_balance(kept, "source"),
        parts=_balance(kept, "part"),
        findings=tuple(findings),
        notes=tuple(_notes(kept, measured, declared, limit)),
    )


def _columns(clips: Sequence[Clip], patterns: Sequence[str]) -> list[str]:
    known = sorted({name for clip in clips for name in clip.extra})
    found: list[str] = []
    for pattern in patterns:
        matching = fnmatch.filter(known, pattern)
        if not matching:
            raise InputError(f"the data has no column {pattern!r} to audit; it has {', '.join(known) or 'no others'}.")
        found += [name for name in matching if name not in found]
    return found


def _divided(clips: Sequence[Clip]) -> list[str]:
    """Groups and artists that are in two parts of the split."""
    findings = []
    for field in ("group", "artist"):
        parts: dict[str, set[str]] = defaultdict(set)
        for clip in clips:
            name = getattr(clip, field)
            if name and clip.part not in ("", "unused"):
                parts[name].add(clip.part)
        torn = sorted(name for name, found in parts.items() if len(found) > 1)
        if torn:
            names = f"{field} is" if len(torn) == 1 else f"{field}s are"
            findings.append(f"{len(torn)} {names} in two parts of the split: {_some(torn)}")
    return findings


def _same_sound(clips: Sequence[Clip], features: Sequence[Features]) -> list[str]:
    """The same decoded sound with two labels, or in two parts."""
    members: dict[str, list[Clip]] = defaultdict(list)
    for clip, found in zip(clips, features, strict=True):
        if found.audio_hash:
            members[found.audio_hash].append(clip)
    findings = []
    for field, what in (("label", "two classes"), ("part", "two parts of the split")):
        torn = [same for same in members.values() if len({getattr(c, field) for c in same if c.part != "unused"}) > 1]
        if torn:
            examples = sorted(" = ".join(clip.path for clip in same) for same in torn)
            sounds = "sound is" if len(torn) == 1 else "sounds are"
            findings.append(f"{len(torn)} {sounds} in {what}: {_some(examples)}")
    return findings


def _notes(
    clips: Sequence[Clip], measured: Sequence[Baseline], declared: Sequence[Baseline], limit: float
) -> list[str]:
    notes = []
    together = next((b for b in measured if b.feature == ALL), None)
    if together and together.separates(limit):
        notes.append(f"all measured features together reach AUC {together.auc:.2f}")
    notes += [
        f"the column {b.feature} alone reaches AUC {b.auc:.2f}: processing of the original files may have left traces"
        for b in declared
        if b.feature != ALL and b.separates(limit)
    ]
    labels = Counter(clip.label for clip in clips)
    if max(labels.values()) > 3 * min(labels.values()):
        notes.append(f"the classes are unequal: {', '.join(f'{n} {label}' for label, n in labels.most_common())}")
    for label in sorted(labels):
        source, n = Counter(clip.source for clip in clips if clip.label == label).most_common(1)[0]
        if n > labels[label] / 2 and labels[label] > 1:
            notes.append(f"{source} makes up {n / labels[label]:.0%} of all clips labelled {label}")
    return notes


def _balance(clips: Sequence[Clip], field: str) -> tuple[Balance, ...]:
    members: dict[str, list[Clip]] = defaultdict(list)
    for clip in clips:
        members[getattr(clip, field)].append(clip)
    rows = [
        Balance(name or "(none)", len(found), len({c.group for c in found}), dict(Counter(c.label for c in found)))
        for name, found in members.items()
    ]
    return tuple(sorted(rows, key=lambda row: (-row.clips, row.name)))


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (" ..." if len(names) > _SHOWN else "")
