"""Turns the reading of a track into its report row, or into the next visit that an adaptive plan needs."""

from __future__ import annotations

from typing import Any

import numpy as np

from sonicscan.engine.events import Visit
from sonicscan.engine.outcome import Reading
from sonicscan.engine.wire import Job
from sonicscan.library.tracks import Track
from sonicscan.report.row import FileResult
from sonicscan.scoring import aggregate
from sonicscan.scoring.adaptive import next_part
from sonicscan.scoring.thresholds import Thresholds
from sonicscan.spec import ModelSpec


def next_visit(
    track: Track, reading: Reading, job: Job, spec: ModelSpec, thresholds: Thresholds | None
) -> Visit | None:
    """Returns the next visit of a track under an adaptive plan; None where `reading` is enough."""
    outcome = reading.outcome
    if not job.plan.adaptive or thresholds is None or outcome is None or not outcome.has_sound:
        return None
    margins = (
        aggregate.window_margins(np.stack(reading.logits), spec.temperature, spec.offset) if reading.logits else ()
    )
    own = thresholds.of(outcome.codec)
    part = next_part(margins, outcome.silent_windows, outcome.whole_windows, own, spec.shrink)
    return None if part is None else Visit(track, part, reading)


def track_result(track: Track, reading: Reading, spec: ModelSpec, thresholds: Thresholds | None) -> FileResult:
    """The report row of a track.

    Args:
        track: the file.
        reading: the results of its visits, at least one.
        spec: the model's contract, for the scores.
        thresholds: for the verdict.
    """
    outcome = reading.outcome
    if outcome is None:
        raise ValueError(f"{track.name} was never visited")
    scored: dict[str, Any] = {}
    if reading.logits:
        logits = np.stack(reading.logits)
        margins = aggregate.window_margins(logits, spec.temperature, spec.offset)
        score = aggregate.score_of(aggregate.track_margin(margins, spec.shrink))
        verdict = None if thresholds is None else thresholds.of(outcome.codec).verdict(score)
        classes = aggregate.class_scores(logits, spec, score)
        # The types that the report stores, so that verdicts computed again from the report are equal.
        starts = np.asarray(reading.starts_s, dtype=np.float32).tolist()
        stored = margins.astype(np.float32).tolist()
        judged = aggregate.judgement(score, starts, stored, spec, thresholds, outcome.codec, outcome.duration_s)
        scored = judged | {
            "score": score,
            "class_scores": classes,
            "attribution": aggregate.attribution_of(classes, spec, verdict),
            "window_starts_s": starts,
            "window_margins": stored,
        }
    return FileResult(
        path=track.name,
        path_raw=track.path_raw,
        status=outcome.status,
        error=outcome.error,
        windows=len(reading.logits),
        silent_windows=outcome.silent_windows,
        duration_s=outcome.duration_s,
        sample_rate=outcome.sample_rate,
        channels=outcome.channels,
        codec=outcome.codec,
        bandwidth_hz=outcome.bandwidth_hz,
        loudness_db=outcome.loudness_db,
        title=outcome.title,
        artist=outcome.artist,
        album=outcome.album,
        isrc=outcome.isrc,
        provenance=outcome.provenance,
        content_hash=outcome.content_hash,
        size=track.size,
        mtime_ns=track.mtime_ns,
        warnings=list(outcome.warnings),
        elapsed_ms=outcome.elapsed_ms,
        **scored,
    )
