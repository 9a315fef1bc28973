"""Scores each fold by the member that was not trained on it, and keeps the scores in a table for later runs."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import scipy.special

from sonicscan.arrays import Float64
from sonicscan.audio.facts import AudioFacts
from sonicscan.audio.windows import WindowPlan
from sonicscan.files import sha256_of
from sonicscan.model.loading import load_model
from sonicscan.spec import ModelSpec, digest_of
from sonicscan_train.data.clips import Clip
from sonicscan_train.data.manifest import read_table, write_table
from sonicscan_train.judge.scanner import scan_clips
from sonicscan_train.judge.scoring import Forward, TrackLogits, track_logits
from sonicscan_train.nets import checkpoint

_COLUMNS = ("path", "made_of", "codec", "sample_rate", "bandwidth_hz", "duration_s", "loudness_db", "logits")
_LEAST_SHARE = 1e-9  # of a class in a report's row, so that its logarithm is finite


def score_fold(
    member: Path,
    clips: Sequence[Clip],
    plan: WindowPlan,
    table: Path | None,
    forward_of: Callable[[Path], tuple[Forward, ModelSpec]],
    workers: int,
    skipped: Callable[[Clip, str], None],
    done: Callable[[], None] = lambda: None,
) -> list[TrackLogits]:
    """Raw logits of a fold's tracks, with 0 for `human`; taken from `table` where an earlier run left them there.

    The scanner reports the margin of each window, and the shares of the classes for the whole track. So the logits of
    an ONNX member have the windows' own margins and the track's shares.

    Args:
        member: a checkpoint, or an ONNX file, which the scanner runs.
        clips: of the fold.
        plan: which windows.
        table: a CSV file of this fold's logits; None keeps nothing.
        forward_of: loads a checkpoint.
        workers: processes that decode.
        skipped: called for a track without a score, also where the scores are taken from `table`.
        done: called after each track.
    """
    weights = sha256_of(member) if member.is_file() else checkpoint.weights_digest(member)
    made_of = digest_of([weights, str(plan), [clip.path for clip in clips]])
    known = _read_table(table, made_of, clips) if table is not None else None
    if known is not None:
        there = {track.clip.path for track in known}
        for clip in clips:
            if clip.path not in there:
                skipped(clip, f"it had none when {table} was made")
        return known
    tracks: list[TrackLogits] = []
    if member.is_dir():
        forward, spec = forward_of(member)
        for track in track_logits(forward, clips, spec.audio, plan, workers=workers, skipped=skipped, done=done):
            tracks.append(dataclasses.replace(track, logits=track.logits - track.logits[:, :1]))
    else:
        spec = load_model(member).spec
        for clip, row in scan_clips(member, clips, plan, workers, skipped, done):
            raw = _raw_logits(np.array(row.window_margins or []), row.class_scores or {}, spec)
            facts = AudioFacts(
                status="ok",
                error=None,
                duration_s=row.duration_s or 0.0,
                sample_rate=row.sample_rate or 0,
                channels=row.channels or 0,
                codec=row.codec or "",
                bandwidth_hz=row.bandwidth_hz,
                warnings=tuple(row.warnings),
                whole_windows=row.windows,
                loudness_db=row.loudness_db,
            )
            tracks.append(track_of(clip, raw, facts))
    order = {clip.path: i for i, clip in enumerate(clips)}
    tracks.sort(key=lambda track: order[track.clip.path])
    if table is not None:
        write_table(table, _COLUMNS, [_cells(track, made_of) for track in tracks])
    return tracks


def track_of(clip: Clip, others: Float64, facts: AudioFacts | None) -> TrackLogits:
    """A track of logits.

    Args:
        clip: the track.
        others: float64 [windows, classes - 1], logits of all classes but `human`, whose own is 0.
        facts: what decoding found out.
    """
    form = f"{facts.codec} {facts.sample_rate}" if facts is not None else ""
    return TrackLogits(clip, np.concatenate([np.zeros((len(others), 1)), others], axis=1), form, facts)


def _raw_logits(margins: Float64, scores: Mapping[str, float], spec: ModelSpec) -> Float64:
    """Logits [windows, classes - 1] with the windows' margins and the track's shares, before the model's own scale."""
    probabilities = np.maximum([scores[name] for name in spec.classes[1:]], _LEAST_SHARE)
    shares = spec.temperature * np.log(probabilities / probabilities.sum())
    raw = margins * spec.temperature + spec.offset
    logits: Float64 = raw[:, None] + (shares - scipy.special.logsumexp(shares))[None, :]
    return logits


def _cells(track: TrackLogits, made_of: str) -> list[object]:
    facts = track.facts
    about: tuple[object, ...] = ("", "", "", "", "")
    if facts is not None:
        loudness = "" if facts.loudness_db is None else facts.loudness_db
        about = (facts.codec, facts.sample_rate, facts.bandwidth_hz or "", facts.duration_s, loudness)
    return [track.clip.path, made_of, *about, json.dumps(track.logits[:, 1:].tolist())]


def _read_table(path: Path, made_of: str, clips: Sequence[Clip]) -> list[TrackLogits] | None:
    """What `score_fold` left there for the same member, windows and clips; None where there is no such thing."""
    if not path.exists():
        return None
    by_path = {clip.path: clip for clip in clips}
    tracks = []
    for row in read_table(path):
        clip = by_path.get(row["path"])
        if row.get("made_of") != made_of or clip is None:  # of another member or other clips, or by an earlier version
            return None
        facts = AudioFacts(
            status="ok",
            error=None,
            duration_s=float(row["duration_s"] or 0.0),
            sample_rate=int(row["sample_rate"] or 0),
            channels=0,
            codec=row["codec"],
            bandwidth_hz=float(row["bandwidth_hz"]) if row["bandwidth_hz"] else None,
            warnings=(),
            whole_windows=1,
            loudness_db=float(row["loudness_db"]) if row["loudness_db"] else None,
        )
        tracks.append(track_of(clip, np.array(json.loads(row["logits"])), facts))
    return tracks
