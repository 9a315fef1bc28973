"""Figures in words, the same on a terminal and on the page."""

from __future__ import annotations

from collections.abc import Iterator

from sonicscan.analysis.catalogue import Catalogue
from sonicscan.analysis.statistics import Estimate
from sonicscan.analysis.summary import Summary
from sonicscan.spec import ModelSpec

LIMITS = (
    "A score is evidence, not proof: it says how much a track resembles AI-generated music that the model learnt from.",
    "Music by people can score high (electronic, heavily processed, low-bandwidth or restored recordings above all), "
    "and AI music of generators that the model never heard can score low.",
    '"Clear" means that the evidence was not enough to flag the track; it does not say that a person made it.',
    "A person should listen, and ask, before anybody is accused of anything.",
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
    """An estimate with its 95% interval; `unit` is `share` or `tracks`."""
    show = percent if unit == "share" else count
    return f"{show(estimate.value)} (95% interval {show(estimate.low)} to {show(estimate.high)})"


def findings(summary: Summary) -> Iterator[str]:
    """What the figures say about the catalogue, a sentence or two each."""
    flagged = summary.verdicts["flagged"]
    if summary.untrained:
        yield "The model is untrained: its weights are random, its scores mean nothing, and there are no verdicts."
        return
    if summary.flagged_from is None:
        yield "The scan gave no verdicts: the model is not calibrated, and no threshold was asked for."
    elif summary.max_fpr is not None:
        yield (
            f"A track is flagged from a score of {summary.flagged_from:.4f}: with 95% confidence at most "
            f"{percent(summary.max_fpr)} of tracks by people, if like those of the calibration, score that high."
        )
    else:
        yield (
            f"A track is flagged from a score of {summary.flagged_from:.4f}, which the scan was asked for; "
            "no false-positive rate is certified there."
        )
    if summary.ai_share is not None and summary.rates is not None and summary.rates.tpr is not None:
        yield (
            f"Estimated share of AI: {interval(summary.ai_share, 'share')} of the assessed tracks. It corrects "
            f"for the model's misses and false alarms (it catches {percent(summary.rates.tpr)} of AI, measured on "
            f"{summary.rates.n_ai:,} tracks, and flags {percent(summary.rates.fpr)} of people's, "
            f"{summary.rates.n_human:,} tracks), and holds if this catalogue is like those."
        )
    else:
        yield f"The share of AI cannot be estimated: {summary.ai_share_why_not}."
    if summary.false_flags is not None and flagged:
        if summary.ai_share is not None:
            expected = interval(summary.false_flags, "tracks")
            yield f"Of the {flagged:,} flagged tracks, {expected} are expected to be by people."
        else:
            yield (
                f"If every track were by people, {interval(summary.false_flags, 'tracks')} of the {flagged:,} flags "
                "would be expected by chance alone."
            )
    found = summary.discoveries
    if found is not None and found.tracks:
        yield (
            f"To keep false alarms to {percent(found.fdr)} of what is flagged, on average, flag the "
            f"{found.tracks:,} highest tracks (score {found.score:.4f} and over; Benjamini-Hochberg)."
        )
    elif found is not None:
        yield (
            f"No set of tracks can be flagged with false alarms kept to {percent(found.fdr)} of it"
            + (
                f": with this few calibration tracks at least {found.smallest_batch:,} tracks would have to score "
                "higher than all of them."
                if found.smallest_batch > 1
                else "."
            )
        )


def card(catalogue: Catalogue) -> dict[str, str]:
    """The model's card, label and text; only what the report knows."""
    spec, meta = catalogue.spec, catalogue.metadata
    facts: dict[str, str | None] = {
        "model": meta.model,
        "SHA-256": meta.model_digest,
        "scanned with": f"sonicscan {meta.tool_version}" if meta.tool_version else None,
        "windows a track": meta.windows,
    }
    if spec is None:
        return {label: text for label, text in facts.items() if text}
    audio, calibration = spec.audio, spec.calibration
    facts |= {
        "architecture": spec.architecture,
        "weights": "random: untrained" if spec.untrained else "trained",
        "classes": ", ".join(spec.classes),
        "hears": f"mono at {audio.sample_rate:,} Hz, {audio.fmin:,.0f} to {audio.fmax:,.0f} Hz, "
        f"in windows of {audio.window_s:.1f} s",
        "calibration": f"{calibration.n:,} tracks by people{': ' if calibration.data else ''}{calibration.data}"
        if calibration.n
        else "none",
        "measured": _measured(spec),
        "catches": _catches(spec),
        "licence": spec.license_note,
        "model card": spec.card,
    }
    return {label: text for label, text in facts.items() if text}


def _measured(spec: ModelSpec) -> str:
    """The model's own sentence about its quality, or the plain numbers among its metrics."""
    summary = spec.metrics.get("summary")
    if isinstance(summary, str):
        return summary
    return ", ".join(f"{name} {value:.4g}" for name, value in spec.metrics.items() if isinstance(value, int | float))


def _catches(spec: ModelSpec) -> str:
    return "; ".join(
        f"{percent(entry.share)} of {entry.n:,} AI tracks at a false-positive rate of {percent(entry.max_fpr)}"
        for entry in spec.caught
    )
