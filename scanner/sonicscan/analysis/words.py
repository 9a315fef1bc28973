"""Puts figures into words, for the terminal and for the page."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sonicscan.analysis.catalogue import Catalogue
from sonicscan.analysis.groups import Group
from sonicscan.analysis.listening import ListenedEstimates
from sonicscan.analysis.statistics import Estimate
from sonicscan.analysis.summary import Summary
from sonicscan.scoring.likelihood import verbal
from sonicscan.scoring.thresholds import tracks_needed
from sonicscan.spec import ModelSpec

LIMITS = (
    "A score is evidence, not proof. It says how much a track resembles the AI-generated music of the training.",
    "Music by people can score high: electronic, heavily processed, low-bandwidth or restored recordings above all. "
    "AI music of generators outside the model's training data can score low.",
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


def findings(summary: Summary) -> Iterator[str]:
    """The figures about the catalogue, in one or two sentences each."""
    flagged = summary.verdicts["flagged"]
    yield from summary.partial
    if summary.untrained:
        yield "The model is untrained: its weights are random, its scores mean nothing, and there are no verdicts."
        return
    if summary.flagged_from is None:
        yield "The scan gave no verdicts: the model is not calibrated, and no threshold was asked for."
    elif summary.not_certified is not None:
        yield f"A track is flagged from a score of {summary.flagged_from:.4f}. Not certified: {summary.not_certified}"
    elif summary.max_fpr is not None:
        yield (
            f"A track is flagged from a score of {summary.flagged_from:.4f}. With 95% confidence, at most "
            f"{percent(summary.max_fpr)} of tracks by people that are like the calibration's score that high."
        )
    yield from reserved(None, summary.differences)
    yield from _by_codec(summary)
    if summary.copies:
        copies = "1 track is a copy" if summary.copies == 1 else f"{summary.copies:,} tracks are copies"
        yield f"{copies} of another track. Copies count once in the estimates."
    if summary.ai_share is not None and summary.rates is not None and summary.rates.tpr is not None:
        yield (
            f"Estimated share of AI: {interval(summary.ai_share, 'share')} of the assessed tracks. The estimate "
            f"corrects for misses and false alarms. The model catches {percent(summary.rates.tpr)} of AI, measured on "
            f"{summary.rates.n_ai:,} tracks, and flags {percent(summary.rates.fpr)} of tracks by people, measured on "
            f"{summary.rates.n_human:,}. The estimate holds if this catalogue is like those tracks."
        )
    else:
        yield f"The share of AI cannot be estimated: {summary.ai_share_why_not}."
    if summary.false_flags is not None and flagged:
        expected = interval(summary.false_flags, "tracks")
        once = summary.flagged_once
        what = "flagged tracks" if once == flagged else "flagged tracks without their copies"
        yield f"Of the {once:,} {what}, {expected} are expected to be by people."
    elif summary.chance_flags is not None and flagged and not summary.differences and summary.not_certified is None:
        yield f"If every track were by people, about {count(summary.chance_flags)} would be flagged by chance alone."
    found = summary.discoveries
    if found is not None and summary.differences:
        yield "These tracks differ from the calibration's, so no false-discovery rate can be stated for them."
    elif found is not None and found.tracks:
        yield (
            f"For a false-discovery rate of {percent(found.fdr)}, flag the {found.tracks:,} highest tracks "
            f"(score {found.score:.4f} and over; Benjamini-Hochberg)."
        )
    elif found is not None:
        yield (
            f"No set of tracks can be flagged at a false-discovery rate of {percent(found.fdr)}"
            + (
                f". With so few calibration tracks, at least {found.smallest_batch:,} tracks would have to score "
                "higher than all of them."
                if found.smallest_batch > 1
                else "."
            )
        )


def _by_codec(summary: Summary) -> Iterator[str]:
    """Which codec classes have a certificate of their own, and which have not."""
    if summary.max_fpr is None or not summary.codecs:
        return
    own = [found for found in summary.codecs if found.flagged_from is not None]
    if own:
        told = "; ".join(
            f"{found.name} from {found.flagged_from:.4f} ({found.tracks:,} tracks here, {found.calibration_tracks:,} "
            "in the calibration)"
            for found in own
        )
        yield f"The rate is also certified for these codecs by themselves: {told}."
    if left := [found for found in summary.codecs if found.flagged_from is None]:
        told = "; ".join(
            f"{found.name} ({found.tracks:,} tracks here, {found.calibration_tracks:,} in the calibration)"
            for found in left
        )
        yield (
            f"The rate is not certified by itself for {told}: that needs {tracks_needed(summary.max_fpr):,} "
            "calibration tracks of the codec. The threshold of all tracks applies, whose rate is certified for all "
            "codecs together."
        )


def listened(found: ListenedEstimates) -> Iterator[str]:
    """The estimates from a listening sample, one sentence each."""
    yield f"Share of AI: {interval(found.ai_share, 'share')}, or {interval(found.ai_tracks, 'tracks')} tracks."
    if found.ai_share_with_scores is not None:
        yield f"Share of AI, with the scores of all tracks used too: {interval(found.ai_share_with_scores, 'share')}."
    if found.false_positive_rate is not None:
        yield f"False-positive rate (flagged, of the tracks by people): {interval(found.false_positive_rate, 'share')}."
    if found.false_discovery_rate is not None:
        yield f"False-discovery rate (by people, of the flagged): {interval(found.false_discovery_rate, 'share')}."
    if found.miss_rate is not None:
        yield f"Miss rate (not flagged, of the AI tracks): {interval(found.miss_rate, 'share')}."
    else:
        yield "The miss rate cannot be estimated, because there may be no AI tracks."
    if found.undecided:
        yield (
            f"{found.undecided:,} drawn tracks have no decision, or `unsure`. The figures assume that these tracks "
            "resemble the decided ones."
        )
    if found.unmatched:
        yield f"{len(found.unmatched):,} drawn tracks are not in this report, such as {found.unmatched[0]}."


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
        "input": f"mono at {audio.sample_rate:,} Hz, {audio.fmin:,.0f} to {audio.fmax:,.0f} Hz, "
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
    """The sentence about quality in the model's contract, or the numbers among its metrics."""
    summary = spec.metrics.get("summary")
    if isinstance(summary, str):
        return summary
    return ", ".join(f"{name} {value:.4g}" for name, value in spec.metrics.items() if isinstance(value, int | float))


def _catches(spec: ModelSpec) -> str:
    return "; ".join(
        f"{percent(entry.share)} of {entry.n:,} AI tracks at a false-positive rate of {percent(entry.max_fpr)}"
        for entry in spec.caught
    )
