"""Decomposes a track's score over windows, time and frequency, from the model's class maps.

Every backbone ends in global average pooling and one linear layer. So the logit of a class is the mean of its class map
over the cells of an 8 x 8 grid. The contribution of a cell to the margin is exact and needs no gradients.

With two classes the margin is linear in the logits, and the cells add up to it exactly. With several
generator families it is not linear: margin = logsumexp(families) - human. For q = softmax(families),
logsumexp(z) = sum(q z) + H(q). So the cells of the map weighted by q, plus the entropy H(q), add up to the margin
exactly. H(q) is 0 if one family has all of the probability, and log(families) at most. Neither H(q) nor the model's
offset belongs to a cell.

The track's margin is a weighted sum of its windows' margins. All windows that are not trimmed have the same weight; the
weights add up to the model's pooling factor n / (n + shrink).

All figures are log-odds, after the model's temperature; "exactly" means up to float32's rounding.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Generator, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy.special

from sonicscan.arrays import Float32, Float64
from sonicscan.audio.facts import AudioFacts
from sonicscan.audio.images import WindowImage, window_image
from sonicscan.audio.melspec import log_mel, mel_edges_hz
from sonicscan.audio.windows import WindowPlan
from sonicscan.engine.decoder import Decoder, decoding
from sonicscan.engine.outcome import Outcome
from sonicscan.errors import AudioError, ModelError
from sonicscan.model.loading import Model
from sonicscan.provenance.record import Provenance
from sonicscan.scoring.aggregate import TRIM, pooling_factor, score_of, track_margin, window_margins
from sonicscan.spec import MAP_SIZE, OUTPUT_NAMES, AudioSpec, ModelSpec

_BATCH = 8


@dataclass(frozen=True)
class Evidence:
    """The decomposition of a track's score.

    Attributes:
        path: the track.
        spec: the model's contract.
        facts: facts from decoding.
        starts_s: float64 [n], starts of the windows that are not silent, seconds.
        margins: float64 [n], their margins, from the logits.
        cells: float64 [n, 8, 8]: what each cell adds to its window's margin; mel rows upwards from the
            lowest, then time.
        spread: float64 [n]: the part of the margin that belongs to no cell: the entropy H(q), less the model's offset.
            Zeros for a binary model without an offset.
        weights: float64 [n]: each window's weight in the track's margin; 0 where it was trimmed.
        silent_windows: windows left out because they are silent.
        strongest: the window with the highest margin among those that count.
        decibels: float32 [n_mels, n_frames], that window's log-mel in dB re full scale.
        provenance: what the file declares about its own origin; None where that could not be read.
    """

    path: bytes
    spec: ModelSpec
    facts: AudioFacts
    starts_s: Float64
    margins: Float64
    cells: Float64
    spread: Float64
    weights: Float64
    silent_windows: int
    strongest: int
    decibels: Float32
    provenance: Provenance | None = None

    @property
    def margin(self) -> float:
        """The track's margin: the pooled mean of its windows'."""
        return track_margin(self.margins, self.spec.shrink)

    @property
    def score(self) -> float:
        """sigmoid(margin)."""
        return score_of(self.margin)

    @property
    def track_cells(self) -> Float64:
        """float64 [8, 8]: what each cell adds to the track's margin, over the windows that count."""
        mean: Float64 = np.tensordot(self.weights, self.cells, axes=1)
        return mean

    @property
    def track_spread(self) -> float:
        """The part of the track's margin that belongs to no cell; 0 for a binary model without an offset."""
        return float(self.weights @ self.spread)

    @property
    def remainder(self) -> float:
        """The track's margin minus the sum of its parts: the rounding error of float32."""
        return self.margin - float(self.track_cells.sum()) - self.track_spread


def explain(path: bytes, model: Model, plan: WindowPlan, decoder: Decoder | None = None) -> Evidence:
    """Decompose the score of a sound file.

    Args:
        path: the file.
        model: a loaded model with class maps.
        plan: which windows; the plan of a scan gives the score of that scan.
        decoder: what decodes; None for a process of its own.

    Raises:
        AudioError: no sound could be read, or all windows are silent.
        ModelError: the class maps do not average to the logits, so they explain nothing.
    """
    with decoding(model.spec.audio, decoder) as own, contextlib.closing(own.windows(path, plan)) as windows:
        return _explain(path, model, plan, own, windows)


def _explain(
    path: bytes,
    model: Model,
    plan: WindowPlan,
    decoder: Decoder,
    windows: Generator[tuple[float, Float32], None, Outcome],
) -> Evidence:
    spec = model.spec
    heard: list[int] = []
    starts: list[float] = []
    results: list[tuple[Float64, Float64, Float64]] = []
    n = 0
    reader = _Reader(windows, spec.audio)
    while batch := list(itertools.islice(reader, _BATCH)):
        images = [window.image for window in batch if window.image is not None]
        if images:
            logits, maps = _run(model, np.stack(images))
            margins = window_margins(logits, spec.temperature, spec.offset)
            results.append((margins, *decompose(maps, spec.temperature, spec.offset)))
        heard += [n + i for i, window in enumerate(batch) if window.image is not None]
        starts += [window.start_s for window in batch if window.image is not None]
        n += len(batch)
    if not results or reader.facts is None:
        why = "every window is silent" if n else "under one second of sound"
        raise AudioError("silent" if n else "too_short", f"there is nothing to explain, {why}.")
    margins, cells, spread = (np.concatenate(parts) for parts in zip(*results, strict=True))
    weights = window_weights(margins, spec.shrink)
    strongest = int(np.where(weights > 0, margins, -np.inf).argmax())
    # Read again rather than kept: a long track has thousands of windows.
    with contextlib.closing(decoder.windows(path, plan)) as again:
        _, shown = next(itertools.islice(again, heard[strongest], None))
    return Evidence(
        path=path,
        spec=spec,
        facts=reader.facts,
        starts_s=np.asarray(starts),
        margins=margins,
        cells=cells,
        spread=spread,
        weights=weights,
        silent_windows=n - len(heard),
        strongest=strongest,
        decibels=log_mel(spec.audio).decibels(shown),
        provenance=reader.provenance,
    )


class _Reader:
    """The windows of a file, and its facts once they are all read."""

    def __init__(self, windows: Generator[tuple[float, Float32], None, Outcome], audio: AudioSpec) -> None:
        self._windows = windows
        self._image_of = log_mel(audio)
        self.facts: AudioFacts | None = None
        self.provenance: Provenance | None = None

    def __iter__(self) -> Iterator[WindowImage]:
        return self

    def __next__(self) -> WindowImage:
        try:
            start_s, samples = next(self._windows)
            return window_image(start_s, samples, self._image_of, silent=not samples.any())
        except StopIteration as end:
            # An exhausted generator returns no value.
            if self.facts is None:
                self.facts, self.provenance = end.value.facts, end.value.provenance
            raise


def _run(model: Model, images: Float32) -> tuple[Float32, Float32]:
    """Logits [n, classes] and class maps [n, classes, 8, 8] of log-mel images [n, n_mels, n_frames]."""
    repeated = np.repeat(images[:, None], 3, axis=1)
    logits, maps = model.outputs(OUTPUT_NAMES, repeated)
    for name, values in zip(OUTPUT_NAMES, (logits, maps), strict=True):
        model.checked(name, values, len(images))
    gap = float(np.abs(maps.mean(axis=(2, 3)) - logits).max())
    # fp16 and int8 models pool before or after rounding, so the third digit may differ.
    if gap > 1e-2 * max(1.0, float(np.abs(maps).max())):
        raise ModelError(
            f"the class maps of {model.path} do not average to its logits (off by {gap:.2g}), so they explain nothing; "
            "export the model again."
        )
    return logits, maps


def decompose(maps: npt.ArrayLike, temperature: float, offset: float = 0.0) -> tuple[Float64, Float64]:
    """The contribution of each cell to the margin of each window, and the part that belongs to no cell.

    Args:
        maps: class maps [n, classes, 8, 8], class 0 human.
        temperature, offset: the model's.

    Returns:
        cells float64 [n, 8, 8] and spread float64 [n], in log-odds; their sum is the window's margin.
    """
    values = np.asarray(maps, dtype=np.float64)
    families = values[:, 1:]
    q = scipy.special.softmax(families.mean(axis=(2, 3)), axis=1)
    cells: Float64 = (np.einsum("nk,nkij->nij", q, families) - values[:, 0]) / (MAP_SIZE**2 * temperature)
    spread: Float64 = (scipy.special.entr(q).sum(axis=1) - offset) / temperature
    return cells, spread


def window_weights(margins: npt.ArrayLike, shrink: float = 0.0) -> Float64:
    """The weight of each window in the track's margin: 0 for trimmed windows, equal for all others."""
    values = np.asarray(margins, dtype=np.float64)
    cut = int(TRIM * len(values))
    order = np.argsort(values, kind="stable")
    weights = np.zeros(len(values))
    weights[order[cut : len(values) - cut]] = pooling_factor(len(values), shrink) / (len(values) - 2 * cut)
    return weights


def cell_edges(audio: AudioSpec) -> tuple[Float64, Float64]:
    """The edges of the cells: seconds into the window [9], and Hz [9] from the lowest row.

    A boundary between rows is the centre frequency between the filters on both sides of it.
    """
    times = np.linspace(0.0, audio.n_frames * audio.hop_length / audio.sample_rate, MAP_SIZE + 1)
    edges = mel_edges_hz(audio)
    rows = np.linspace(0, audio.n_mels, MAP_SIZE + 1).astype(int)
    return times, (edges[rows] + edges[rows + 1]) / 2
