"""The opening statement about one track, in plain words, for the person concerned and for those who decide."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from sonicscan.analysis.evidence import Evidence
from sonicscan.analysis.words import ERRS_ON, percent, ratio
from sonicscan.errors import InputError
from sonicscan.scoring.likelihood import PROPOSITIONS, likelihood_scale, posterior, verbal
from sonicscan.scoring.thresholds import CONFIDENCE, Thresholds, p_value, why_not_certified
from sonicscan.spec import ModelSpec

CANNOT_KNOW = (
    "The program cannot determine who made a track, with which tools, or with whose consent. It only compares sounds.",
    ERRS_ON,
)
OBJECT = (
    "How to object: ask for this page, the model's name and the SHA-256 of the audio file. Have the analysis repeated "
    "by a person of your choice. Show how the track was made: project files, single tracks, recordings of sessions, "
    "earlier versions. A person has to listen and decide; a score alone decides nothing."
)


@dataclass(frozen=True)
class Strength:
    """How strong the evidence of a score is.

    Attributes:
        p_value: share of calibration tracks by people that score at least this high, this track counted; None without
            calibration.
        log10_lr: base-10 logarithm of the likelihood ratio; None without tracks of both classes.
        low, high: what the calibration supports at most; None without `log10_lr`.
        n_human, n_ai: calibration tracks.
        verbal: the ratio in the words of ENFSI's guideline.
        posterior: probability of AI for the prior that the user gave; None without one.
        prior: that prior.
        certified: whether the false-positive rate of the threshold is certified for these windows.
        not_certified: why not, in a sentence.
        unlike: properties of the track that no calibration track by a person has; the certificate may not hold for it.
    """

    p_value: float | None
    log10_lr: float | None
    low: float | None
    high: float | None
    n_human: int
    n_ai: int
    verbal: str | None
    posterior: float | None
    prior: float | None
    certified: bool
    not_certified: str | None
    unlike: tuple[str, ...] = ()


def strength(evidence: Evidence, limits: Thresholds | None, windows: str, prior: float | None = None) -> Strength:
    """How strong a score's evidence is.

    Args:
        evidence: of the track.
        limits: the thresholds of the verdict.
        windows: the window plan, as `WindowPlan` prints it.
        prior: share of AI among the tracks in question, in (0, 1), that the user assumes.
    """
    spec = evidence.spec
    calibration = spec.calibration
    limits = None if limits is None else limits.of(evidence.facts.codec)
    scale = None if spec.untrained else likelihood_scale(calibration)
    # Scores of other windows are on another scale, and no ratio was measured for them.
    ratio_ = scale.log10_lr(evidence.score) if scale is not None and windows == calibration.windows else None
    why = None if limits is None else why_not_certified(calibration, limits, windows)
    return Strength(
        p_value=None if spec.untrained else p_value(evidence.score, calibration, evidence.facts.codec),
        log10_lr=ratio_,
        low=None if ratio_ is None or scale is None else scale.low,
        high=None if ratio_ is None or scale is None else scale.high,
        n_human=calibration.n,
        n_ai=calibration.n_ai,
        verbal=None if ratio_ is None else verbal(ratio_),
        posterior=None if ratio_ is None or prior is None else posterior(ratio_, prior),
        prior=prior,
        certified=limits is not None and why is None and not spec.untrained,
        not_certified=why,
        unlike=_unlike(evidence),
    )


def check_prior(spec: ModelSpec, windows: str) -> None:
    """Raise `InputError` if a prior gives no probability: the model gives no likelihood ratio for these windows."""
    calibration = spec.calibration
    if spec.untrained:
        why = "the model is untrained"
    elif windows != calibration.windows:
        why = f"the model was calibrated with --windows {calibration.windows}, and not with {windows}"
    elif likelihood_scale(calibration) is None:
        why = "the model's calibration has too few tracks by people or by AI"
    else:
        return
    raise InputError(f"--prior: there is no likelihood ratio for a probability ({why}); leave out --prior.")


def _unlike(evidence: Evidence) -> tuple[str, ...]:
    """The properties of a track that no calibration track by a person has, in words."""
    facts, material = evidence.facts, evidence.spec.calibration.material
    if material is None:
        return ()
    found = []
    if material.codecs and facts.codec not in material.codecs:
        found.append(f"none of them is {facts.codec}")
    if material.sample_rates and str(facts.sample_rate) not in material.sample_rates:
        found.append(f"none of them has {facts.sample_rate:,} Hz")
    edges = material.bandwidth_hz
    if edges and facts.bandwidth_hz is not None and not edges[0] <= facts.bandwidth_hz <= edges[-1]:
        within = f"{edges[0] / 1000:.1f} to {edges[-1] / 1000:.1f} kHz"
        found.append(f"their bandwidth is {within}, and this track has {facts.bandwidth_hz / 1000:.1f} kHz")
    return tuple(found)


def statement(evidence: Evidence, limits: Thresholds | None, found: Strength) -> Iterator[str]:
    """What was measured, what the score means, how often the program errs, its limits, and how to object."""
    spec, n = evidence.spec, len(evidence.margins)
    limits = None if limits is None else limits.of(evidence.facts.codec)
    yield (
        f"The program measured how much {n} windows of {spec.audio.window_s:.0f} seconds of this track resemble the "
        "AI-generated music that the model was trained on. It used the sound alone."
    )
    if spec.untrained:
        yield "The model is untrained: its weights are random, and the score means nothing."
        return
    yield (
        f"The score is {evidence.score:.3f}. Scores go from 0 (like music by people) to 1 (like AI-generated music). "
        "The score is not the probability that the track is AI."
    )
    yield from _error_rate(evidence, limits, found)
    if found.log10_lr is not None:
        yield _likelihood(found)
    if found.posterior is not None and found.prior is not None:
        yield (
            f"The user assumes that {percent(found.prior)} of the tracks in question are AI; this is not a result. "
            f"If it is so, the probability that this track is AI is {percent(found.posterior)}."
        )
    yield from CANNOT_KNOW
    yield OBJECT


def _error_rate(evidence: Evidence, limits: Thresholds | None, found: Strength) -> Iterator[str]:
    if limits is None:
        yield "There is no threshold, so there is no verdict."
    else:
        verdict = {
            "flagged": "This track reaches it: it is flagged for a person to decide about.",
            "review": "This track does not reach it, but it reaches the lower threshold for a review by a person.",
            "clear": "This track does not reach it. That does not say that a person made it.",
        }[limits.verdict(evidence.score)]
        if found.certified and limits.max_fpr is not None:
            yield (
                f"The threshold for a flag is {limits.flagged:.3f}. With {CONFIDENCE:.0%} confidence it flags at most "
                f"{percent(limits.max_fpr)} of tracks by people that are like the {found.n_human:,} it was measured "
                f"on. {verdict}"
            )
            for own in limits.classes:
                yield f"This threshold also holds for {own.name} files alone, by {own.n:,} calibration tracks of them."
        else:
            yield f"The threshold for a flag is {limits.flagged:.3f}. {verdict} Not certified: {found.not_certified}"
    if found.unlike:
        yield (
            f"This track is unlike the calibration tracks: {'; '.join(found.unlike)}. So the figures on this page may "
            "not hold for it."
        )
    if found.p_value is not None:
        yield (
            f"About {percent(found.p_value)} of tracks by people that are like those {found.n_human:,} score at least "
            f"as high (p-value {found.p_value:.4g})."
        )


def _likelihood(found: Strength) -> str:
    value = found.log10_lr or 0.0
    more, less = PROPOSITIONS if value >= 0 else PROPOSITIONS[::-1]
    times = f"{ratio(value)} times as probable" if abs(value) >= math.log10(2.0) else "about as probable"
    text = f"Likelihood ratio: a score like this is {times} if {more}, as it is if {less}. In words: {found.verbal}."
    at_bound = found.low is not None and found.high is not None and not found.low < value < found.high
    limit = f" {found.n_human:,} calibration tracks by people and {found.n_ai:,} by AI support no stronger statement."
    return text + (limit if at_bound else "")
