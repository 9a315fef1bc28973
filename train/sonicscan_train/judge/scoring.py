"""Scores whole tracks, with the scanner's windows and arithmetic, for models in torch or ONNX.

A checkpoint runs in torch on `read_windows` and `log_mel`; an ONNX model runs in the scanner. Both end in
`ScoredTrack`, made by the same functions of `sonicscan.scoring.aggregate`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from sonicscan.arrays import Float32, Float64
from sonicscan.audio.facts import AudioFacts
from sonicscan.audio.images import read_images
from sonicscan.audio.windows import ALL_WINDOWS, WindowPlan
from sonicscan.errors import AudioError, ModelError
from sonicscan.scoring.aggregate import class_scores, score_of, track_margin, window_margins
from sonicscan.spec import AudioSpec, ModelSpec
from sonicscan_train.data.clips import Clip
from sonicscan_train.nets.backbones import as_input

Forward = Callable[[torch.Tensor], torch.Tensor]

SCORING_BATCH = 32


@dataclass(frozen=True, slots=True)
class TrackLogits:
    """The model's logits for the windows of a track that are not silent.

    Attributes:
        clip: the track.
        logits: float64 [windows, classes], at least one window.
        format: codec and sample rate, such as `mp3 44100`.
        facts: what decoding found out; None where the file was not read to its end.
    """

    clip: Clip
    logits: Float64
    format: str
    facts: AudioFacts | None = None


@dataclass(frozen=True, slots=True)
class ScoredTrack:
    """A track with its score.

    Attributes:
        clip: the track.
        score: 0..1, as the scanner's report has it.
        margin: its log-odds.
        window_margins: of the windows that are not silent.
        class_scores: probability of each class.
        format: codec and sample rate.
    """

    clip: Clip
    score: float
    margin: float
    window_margins: tuple[float, ...]
    class_scores: dict[str, float]
    format: str


def track_logits(
    forward: Forward,
    clips: Sequence[Clip],
    audio: AudioSpec,
    plan: WindowPlan | None,
    *,
    workers: int = 0,
    skipped: Callable[[Clip, str], None] = lambda clip, why: None,
    done: Callable[[], None] = lambda: None,
) -> Iterator[TrackLogits]:
    """Run a model over tracks, in their order.

    Args:
        forward: images float32 [batch, 3, n_mels, n_frames] on the CPU -> logits [batch, classes].
        clips: the tracks.
        audio: the model's preprocessing.
        plan: which windows; None for the first one alone, as the seed has it.
        workers: processes that decode.
        skipped: called for a track without a score, with the reason.
        done: called after each track.

    Raises:
        ModelError: a logit that is not finite.
    """
    loader: DataLoader[_Decoded] = DataLoader(
        _Tracks([clip.path for clip in clips], audio, plan),
        batch_size=None,
        num_workers=workers,
        worker_init_fn=one_thread,
    )
    waiting: list[tuple[Clip, _Decoded]] = []
    held = 0
    for clip, decoded in zip(clips, loader, strict=True):
        if decoded.error:
            skipped(clip, decoded.error)
            done()
            continue
        waiting.append((clip, decoded))
        held += len(decoded.images)
        if held >= SCORING_BATCH:
            yield from _run(forward, waiting, done)
            waiting, held = [], 0
    yield from _run(forward, waiting, done)


@dataclass(frozen=True, slots=True)
class _Decoded:
    images: torch.Tensor  # float32 [windows, n_mels, n_frames]
    format: str
    error: str
    facts: AudioFacts | None = None


class _Tracks(Dataset["_Decoded"]):
    """The images of a track by its index."""

    def __init__(self, paths: Sequence[str], audio: AudioSpec, plan: WindowPlan | None) -> None:
        self._paths, self._audio, self._plan = list(paths), audio, plan

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, index: int) -> _Decoded:
        name = self._paths[index].encode("utf-8", "surrogateescape")
        images: list[Float32] = []
        form, facts = "", None
        try:
            windows = read_images(name, self._audio, self._plan or ALL_WINDOWS)
            try:
                while not (images and self._plan is None):
                    window = next(windows)
                    if window.image is not None:
                        images.append(window.image)
                windows.close()
            except StopIteration as end:
                facts = end.value
                form = f"{facts.codec} {facts.sample_rate}"
                if facts.status == "too_short":
                    return _Decoded(torch.empty(0), form, facts.error)
        except AudioError as error:
            return _Decoded(torch.empty(0), "", str(error))
        if not images:
            return _Decoded(torch.empty(0), form, "every window is silent.")
        return _Decoded(torch.from_numpy(np.stack(images)), form, "", facts)


def _run(forward: Forward, waiting: Sequence[tuple[Clip, _Decoded]], done: Callable[[], None]) -> Iterator[TrackLogits]:
    if not waiting:
        return
    images = torch.cat([decoded.images for _, decoded in waiting])
    parts = []
    for start in range(0, len(images), SCORING_BATCH):
        with torch.inference_mode():
            parts.append(forward(as_input(images[start : start + SCORING_BATCH])).double().cpu().numpy())
    logits = np.concatenate(parts)
    if not np.isfinite(logits).all():
        raise ModelError("the model gives logits that are not finite; a lower --lr may help.")
    first = 0
    for clip, decoded in waiting:
        n = len(decoded.images)
        yield TrackLogits(clip, logits[first : first + n], decoded.format, decoded.facts)
        first += n
        done()


def scored(track: TrackLogits, spec: ModelSpec) -> ScoredTrack:
    """The score of a track, exactly as the scanner makes it."""
    margins = window_margins(track.logits, spec.temperature, spec.offset)
    margin = track_margin(margins, spec.shrink)
    score = score_of(margin)
    shares = class_scores(track.logits, spec, score)
    return ScoredTrack(track.clip, score, margin, tuple(float(m) for m in margins), shares, track.format)


def one_thread(worker: int) -> None:
    """Limits a loader process to one thread, because there is one such process for each core."""
    torch.set_num_threads(1)
