"""A worker's result for a file, and the combined results of several visits to one track."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from sonicscan.arrays import Float32
from sonicscan.audio.facts import AudioFacts
from sonicscan.errors import AudioError, Status
from sonicscan.provenance.record import Provenance

_WITH_SOUND: frozenset[Status] = frozenset({"ok", "truncated", "silent"})


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """The last message of a worker about a file. Columns of the report have the same names.

    Attributes:
        whole_windows: number of consecutive windows that fit into the track; 0 where no sound was read.
        silent_windows: silent windows of this visit; these are never scored.
        elapsed_ms: milliseconds that the worker took, without its waiting time for the model.
    """

    status: Status
    error: str | None = None
    duration_s: float | None = None
    sample_rate: int | None = None
    channels: int | None = None
    codec: str | None = None
    bandwidth_hz: float | None = None
    loudness_db: float | None = None
    warnings: tuple[str, ...] = ()
    whole_windows: int = 0
    silent_windows: int = 0
    content_hash: str | None = None
    title: str | None = None
    artist: str | None = None
    album: str | None = None
    isrc: str | None = None
    provenance: Provenance | None = None
    elapsed_ms: float = 0.0

    @property
    def has_sound(self) -> bool:
        """Whether sound was read, so that the windows are used."""
        return self.status in _WITH_SOUND

    @classmethod
    def of_facts(cls, facts: AudioFacts, scored: int, silent: int) -> Outcome:
        """Builds the outcome of a decoded file: `scored` windows have an image, `silent` windows have none."""
        found = cls(**{field.name: getattr(facts, field.name) for field in dataclasses.fields(facts)})
        found = dataclasses.replace(found, silent_windows=silent)
        if facts.status in ("ok", "truncated") and not scored:
            return dataclasses.replace(found, status="silent", error="every window that was looked at is silent.")
        return found

    @property
    def facts(self) -> AudioFacts:
        """The facts that decoding found.

        Raises:
            AudioError: the worker did not report them, though sound was read.
        """
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(AudioFacts)}
        if any(values[name] is None for name in ("duration_s", "sample_rate", "channels", "codec")):
            raise AudioError("crashed", "the worker that decoded it did not report its facts.")
        return AudioFacts(**values)

    def to_header(self) -> dict[str, Any]:
        """The outcome as JSON values; `from_header` reads it back."""
        return dataclasses.asdict(self)

    @classmethod
    def from_header(cls, header: object) -> Outcome:
        """Read an outcome from JSON values.

        Raises:
            ValueError: a field has another type or lies out of its range, the status is unknown, or one is missing.
        """
        outcome = msgspec.convert(header, cls)
        for field in dataclasses.fields(outcome):
            _check(field.name, getattr(outcome, field.name))
        return outcome


# The largest plausible values that also fit the report's columns; none is negative.
_LARGEST: Mapping[str, float] = {
    "duration_s": 1e9,
    "sample_rate": 2**31 - 1,
    "channels": 2**15 - 1,
    "bandwidth_hz": 1e9,
    "whole_windows": 2**31 - 1,
    "silent_windows": 2**31 - 1,
    "elapsed_ms": 1e12,
}
_LOUDEST_DB = 1000.0  # of either sign
_LONGEST_TEXT = 4000
_MOST_WARNINGS = 50


def _check(name: str, value: object) -> None:
    """Raises `ValueError` for a number out of range, or for text that a report cannot hold. A hostile file may control
    the worker."""
    texts = value if isinstance(value, tuple) else (value,)
    for text in texts:
        if isinstance(text, str) and (len(text) > _LONGEST_TEXT or not _is_unicode(text)):
            raise ValueError(f"{name} is no text that a report holds")
    if len(texts) > _MOST_WARNINGS:
        raise ValueError(f"{name} has too many entries")
    if name in _LARGEST and isinstance(value, int | float) and not 0 <= value <= _LARGEST[name]:
        raise ValueError(f"{name} is out of range")
    if name == "loudness_db" and isinstance(value, float) and not abs(value) <= _LOUDEST_DB:
        raise ValueError(f"{name} is out of range")
    if name == "content_hash" and isinstance(value, str) and not re.fullmatch("[0-9a-f]{64}", value):
        raise ValueError("content_hash is no digest")


def _is_unicode(text: str) -> bool:
    """Whether UTF-8 can encode the text: JSON also allows halves of surrogate pairs."""
    return not any("\ud800" <= character <= "\udfff" for character in text)


@dataclass(frozen=True)
class Reading:
    """The combined results of all visits to one track so far.

    Attributes:
        outcome: status, facts and tags; None before the first visit.
        starts_s: starts of the scored windows, ascending.
        logits: of the same windows, float32 [classes] each.
    """

    outcome: Outcome | None = None
    starts_s: Sequence[float] = ()
    logits: Sequence[Float32] = ()

    @property
    def windows(self) -> int:
        """Number of windows that were read, silent ones included."""
        return len(self.logits) + (0 if self.outcome is None else self.outcome.silent_windows)

    def and_then(self, outcome: Outcome, starts_s: Sequence[float], logits: Sequence[Float32]) -> Reading:
        """Adds a further visit. If that visit failed, its outcome replaces all earlier results."""
        before = self.outcome
        if before is None:
            return Reading(outcome, starts_s, logits)
        if not outcome.has_sound:
            return Reading(outcome)
        # The facts are those of the first visit that found sound; tags and the hash may come from a later visit.
        facts, other = (outcome, before) if before.status == "silent" else (before, outcome)
        unknown = {
            field.name: getattr(other, field.name)
            for field in dataclasses.fields(facts)
            if field.name != "error" and getattr(facts, field.name) is None
        }
        both = sorted(
            zip([*self.starts_s, *starts_s], [*self.logits, *logits], strict=True), key=lambda window: window[0]
        )
        total = dataclasses.replace(
            facts,
            **unknown,
            silent_windows=before.silent_windows + outcome.silent_windows,
            elapsed_ms=before.elapsed_ms + outcome.elapsed_ms,
        )
        return Reading(total, [start for start, _ in both], [logit for _, logit in both])
