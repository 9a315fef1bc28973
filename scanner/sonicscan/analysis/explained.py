"""Presents evidence for the page and the picture: sentences, panels, excerpts and figures."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sonicscan.analysis.evidence import Evidence
from sonicscan.analysis.excerpts import Excerpt, excerpts
from sonicscan.analysis.html import embedded, own_script, render
from sonicscan.analysis.pictures import ranges_of, svg_panels
from sonicscan.analysis.statement import statement, strength
from sonicscan.analysis.words import LIMITS
from sonicscan.engine.decoder import Decoder
from sonicscan.provenance.words import described
from sonicscan.scoring.aggregate import margin_of
from sonicscan.scoring.thresholds import Thresholds
from sonicscan.spec import DEFAULT_WINDOWS, MAP_SIZE
from sonicscan.text import printable

PAGE_SOUND_S = 120.0


@dataclass(frozen=True)
class Explained:
    """What a page shows of one track.

    Attributes:
        name: file name, escaped for people.
        path: the whole path, likewise.
        sentences: the evidence and its meaning.
        panels: inline SVG by name.
        excerpts: parts of the sound, to play.
        excerpts_are: what they are, in words.
        excerpts_left_out: ranges that have no excerpt, since the page holds a limited amount of sound.
        windows: per window start, margin, sum of cells, spread over families and weight.
        figures: the numbers of the picture as JSON, so that the sum can be checked.
    """

    name: str
    path: str
    sentences: tuple[str, ...]
    panels: dict[str, str]
    excerpts: tuple[Excerpt, ...]
    excerpts_are: str
    excerpts_left_out: int
    windows: tuple[tuple[float, float, float, float, float], ...]
    figures: str


def explained(
    evidence: Evidence, limits: Thresholds | None, sound_s: float, decoder: Decoder | None = None
) -> Explained:
    """Everything a page shows of a track, with at most `sound_s` seconds of sound in it."""
    limits = None if limits is None else limits.of(evidence.facts.codec)
    ranges, what = ranges_of(evidence, limits), "flagged ranges"
    if not ranges:
        start = float(evidence.starts_s[evidence.strongest])
        end = min(start + evidence.spec.audio.window_s, max(evidence.facts.duration_s, start))
        ranges, what = [(start, end)], "the strongest window"
    heard = tuple(excerpts(evidence.path, ranges, sound_s, decoder))
    per_window = zip(
        evidence.starts_s,
        evidence.margins,
        evidence.cells.sum(axis=(1, 2)),
        evidence.spread,
        evidence.weights,
        strict=True,
    )
    return Explained(
        name=file_name(evidence),
        path=_text(evidence.path),
        sentences=tuple(sentences(evidence, limits)),
        panels=svg_panels(evidence, limits),
        excerpts=heard,
        excerpts_are=what,
        excerpts_left_out=len(ranges) - len(heard),
        windows=tuple((float(a), float(b), float(c), float(d), float(e)) for a, b, c, d, e in per_window),
        figures=embedded(figures(evidence)),
    )


def file_name(evidence: Evidence) -> str:
    """The track's file name, escaped for people."""
    return _text(os.path.basename(evidence.path))  # noqa: PTH119 - a Path holds no bytes


def _text(path: bytes) -> str:
    return printable(path.decode("utf-8", "backslashreplace"))


def figures(evidence: Evidence) -> dict[str, Any]:
    """All numbers of the decomposition: margin = sum of weights x (cells + spread), up to rounding."""
    return {
        "score": evidence.score,
        "margin": evidence.margin,
        "remainder": evidence.remainder,
        "starts_s": evidence.starts_s.tolist(),
        "margins": evidence.margins.tolist(),
        "weights": evidence.weights.tolist(),
        "spread": evidence.spread.tolist(),
        "cells": evidence.cells.tolist(),
    }


def sentences(evidence: Evidence, limits: Thresholds | None, not_certified: str | None = None) -> Iterator[str]:
    """The evidence and its meaning, in plain words.

    Args:
        evidence: of the track.
        limits: the thresholds of the verdict.
        not_certified: why the threshold certifies no rate, in a sentence, if that is to be said here.
    """
    spec = evidence.spec
    if spec.untrained:
        yield "The model is untrained: its weights are random, and neither score nor evidence means anything."
    elif limits is None:
        yield "There is no threshold (the model is not calibrated and none was asked for), so there is no verdict."
    else:
        verdict = limits.verdict(evidence.score)
        yield f"Verdict: {verdict} (flagged from {limits.flagged:.4f}, or {margin_of(limits.flagged):+.2f} log-odds)."
        if not_certified is not None:
            yield f"Not certified: {not_certified}"
    declared = described(evidence.provenance)
    if declared is not None:
        yield f"The file {declared}. That does not change the score."
    parts = f"{evidence.track_cells.sum():+.4f} from the cells"
    if evidence.track_spread:
        cause = "there being several families of generators" if spec.multiclass else "the model's calibration"
        parts += f" {evidence.track_spread:+.4f} from {cause} (part of no cell)"
    yield (f"Score {evidence.score:.4f}, which is a margin of {evidence.margin:+.4f} log-odds towards AI: {parts}.")
    cell_s = spec.audio.n_frames / MAP_SIZE * spec.audio.hop_length / spec.audio.sample_rate
    exactly = (
        "an exact decomposition of the score"
        if not spec.multiclass
        else "a decomposition of the score that adds up exactly; families are weighted by their share in each window"
    )
    yield (
        f"The map is {exactly}: each cell, {cell_s:.2f} s by {spec.audio.n_mels // MAP_SIZE} mel rows, shows the "
        "log-odds that it adds. It is not proof of a local cause: the network's values for a cell also depend on the "
        "sound around it."
    )


def explain_page(
    evidence: Evidence,
    limits: Thresholds | None,
    model: str,
    decoder: Decoder | None = None,
    *,
    windows: str = DEFAULT_WINDOWS,
    prior: float | None = None,
) -> str:
    """A page about one track, self-contained; it opens with a statement for the person concerned.

    Args:
        evidence: of the track.
        limits: the thresholds of the verdict.
        model: the model's name.
        decoder: for the excerpts.
        windows: the window plan, as `WindowPlan` prints it.
        prior: share of AI that the user assumes; None for none.
    """
    view = explained(evidence, limits, PAGE_SOUND_S, decoder)
    said = list(statement(evidence, limits, strength(evidence, limits, windows, prior)))
    theme = own_script("theme.js")
    return render(
        "explain.html.j2", (theme,), track=view, statement=said, model=model, limits=LIMITS, facts=evidence.facts
    )
