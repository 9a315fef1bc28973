"""Puts single figures into words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sonicscan.analysis.groups import Group
from sonicscan.analysis.statistics import Estimate
from sonicscan.scoring.likelihood import verbal

ERRS_ON = (
    "Music by people can score high: electronic, heavily processed, low-bandwidth or restored recordings above all. "
    "AI music of generators outside the model's training data can score low."
)
LIMITS = (
    "A score is evidence, not proof. It says how much a track resembles the AI-generated music of the training.",
    ERRS_ON,
    '"Clear" means that the evidence was not enough to flag the track; it does not say that a person made it.',
    "A person should listen to the track, and ask, before anybody is accused.",
)

CERTIFIED_ELSEWHERE = "certified for other material"
WAY_OUT = (
    "Calibrate on tracks by people like these: scan them, then "
    "sonicscan-export recalibrate MODEL --report KNOWN_HUMAN.parquet --out OWN.onnx"
)


def percent(share: float) -> str:
    """A share as a percentage with about two significant digits."""
    value = 100 * share
    if value in (0.0, 100.0):
        return f"{value:.0f}%"
    if value < 0.01:
        return "under 0.01%"
    return f"{value:.2f}%" if value < 1 else f"{value:.1f}%"


def count(n: float) -> str:
    """A number of tracks; an expected one keeps a decimal while it is small."""
    return f"{n:,.0f}" if n >= 10 or n == int(n) else f"{n:.1f}"


def interval(estimate: Estimate, unit: str) -> str:
    """An estimate with its 95% interval; `unit` is `share` or `tracks`.

    If one end of the interval is a limit of the possible range, only the other end is given.
    """
    show = percent if unit == "share" else count
    high = estimate.high if unit == "share" else max(1.0, estimate.high)
    if estimate.low <= 0.0:
        return f"at most {show(high)} (97.5% confidence)"
    if unit == "share" and high >= 1.0:
        return f"at least {show(estimate.low)} (97.5% confidence)"
    return f"{show(estimate.value)} (95% interval {show(estimate.low)} to {show(high)})"


def headline(estimate: Estimate, unit: str) -> tuple[str, str]:
    """An estimate as a large figure, and its interval in small print."""
    text = interval(estimate, unit)
    figure, _, more = text.partition(" (")
    return figure, more.rstrip(")")


def p_value_in_words(p_value: float) -> str:
    """A track's p-value, and what it means."""
    return (
        f"{p_value:.4g}: about {percent(p_value)} of tracks by people that are like the calibration's score this high"
    )


def ratio(log10_lr: float) -> str:
    """A likelihood ratio as a number, at least 1: how many times one proposition is favoured over the other."""
    value = 10.0 ** abs(log10_lr)
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"


def ratio_in_words(log10_lr: float) -> str:
    """A likelihood ratio, and what it means."""
    kinds = ("an AI track", "a track by a person")
    more, less = kinds if log10_lr >= 0 else reversed(kinds)
    return f"this score is {ratio(log10_lr)} times as probable for {more} as for {less}: {verbal(log10_lr)}"


def group_in_words(group: Group) -> str:
    """A group's e-value, and what it certifies."""
    if group.e_value is None or group.error is None:
        return "no e-value"
    if group.error >= 1.0:
        return f"e-value {group.e_value:.3g}: no evidence against all of its tracks being by people"
    return f"e-value {group.e_value:.3g}: at most {percent(group.error)} of groups by people reach it"


def reserved(not_certified: str | None, differences: Sequence[str]) -> Iterator[str]:
    """What the certificate of a scan does not cover; no sentence if it covers the scan."""
    if not_certified is not None:
        yield f"Not certified: {not_certified}"
    if differences:
        yield f"The threshold is {CERTIFIED_ELSEWHERE}: {'; '.join(differences)}. {WAY_OUT}."
