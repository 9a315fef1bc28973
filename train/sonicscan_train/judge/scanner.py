"""Scores tracks with the scanner's library call, on the original files."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import sonicscan
from sonicscan.audio.windows import WindowPlan
from sonicscan.report.row import FileResult
from sonicscan_train.data.clips import Clip


def scan_clips(
    model: Path,
    clips: Sequence[Clip],
    plan: WindowPlan,
    workers: int,
    skipped: Callable[[Clip, str], None],
    done: Callable[[], None] = lambda: None,
) -> Iterator[tuple[Clip, FileResult]]:
    """Rows of the clips that have a score, in any order.

    Args:
        model: an ONNX file.
        clips: the tracks.
        plan: which windows.
        workers: processes that decode.
        skipped: called for a track without a score, with the reason.
        done: called after each track.
    """
    waiting = {clip.path: clip for clip in clips}
    # Thresholds are applied by the caller, from the scores; the scanner must not refuse a model without calibration.
    windows = None if plan.reads_all else plan.count
    for row in sonicscan.scan(list(waiting), model=model, windows=windows, threshold=0.5, workers=workers):
        clip = waiting.pop(row.path if row.path_raw is None else os.fsdecode(row.path_raw))
        done()
        if row.score is None or not row.window_margins:
            skipped(clip, row.error or row.status)
        else:
            yield clip, row
