"""Puts a summary, a listening sample and a model's card into sentences, for the terminal and for the page."""

from __future__ import annotations

from collections.abc import Iterator

from sonicscan.analysis.catalogue import Catalogue
from sonicscan.analysis.listening import ListenedEstimates
from sonicscan.analysis.summary import Summary
from sonicscan.analysis.words import count, interval, percent, reserved
from sonicscan.scoring.thresholds import tracks_needed
from sonicscan.spec import ModelSpec


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
