"""Writes the audit page: one report in one file that works offline."""

from __future__ import annotations

import datetime as dt
import os
import urllib.parse
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sonicscan.analysis.catalogue import Catalogue, by_score, identity
from sonicscan.analysis.declarations import declaration_sentences
from sonicscan.analysis.diff import Difference
from sonicscan.analysis.explained import Explained
from sonicscan.analysis.groups import Group, common_folder
from sonicscan.analysis.html import embedded, own_script, plotly_script, render, table_script, table_style
from sonicscan.analysis.reviewed import Reviewed
from sonicscan.analysis.sentences import card, findings
from sonicscan.analysis.summary import Summary, summarise
from sonicscan.analysis.suppliers import Declared
from sonicscan.analysis.words import LIMITS, group_in_words, headline, p_value_in_words, ratio_in_words
from sonicscan.provenance.words import described
from sonicscan.report.row import FileResult
from sonicscan.scoring.aggregate import margin_of
from sonicscan.scoring.thresholds import VERDICTS
from sonicscan.spec import digest_of
from sonicscan.text import printable

MAX_ROWS = 50_000  # more rows make a browser slow; the report has all of them
MAX_STRIP = 40  # bars of a strip
LISTED_CHANGES = 500
_BINS = 50
_CHART_GROUPS = 15


def audit_page(
    catalogue: Catalogue,
    out: Path,
    *,
    fdr: float = 0.05,
    depth: int = 1,
    reviewed: Reviewed | None = None,
    earlier: Difference | None = None,
    evidence: Mapping[bytes, Explained] | None = None,
    notes: Sequence[str] = (),
    today: dt.date | None = None,
    declared: Declared | None = None,
) -> str:
    """The page as text.

    Args:
        catalogue: the report.
        out: the path of the page; links are relative to it.
        fdr: false-discovery rate for what could be flagged.
        depth: how many folder levels form groups.
        reviewed: decisions to respect.
        earlier: what differs from an earlier report.
        evidence: evidence by the identity of its row.
        notes: problems, in sentences.
        today: the day on which decisions must be valid.
        declared: what suppliers declared.
    """
    today = today or dt.date.today()
    summary = summarise(catalogue, fdr, reviewed, depth, today, declared)
    ranked = by_score(catalogue.rows)
    pages = list((evidence or {}).items())
    places = {key: f"evidence-{i}" for i, (key, _) in enumerate(pages)}
    root = common_folder(catalogue.rows)
    listed = _listed(ranked)
    artists = {group.name: group for group in summary.artists}
    data = {
        # The key under which the browser stores decisions: each scan has its own.
        "key": digest_of([catalogue.name, catalogue.metadata.model_digest, catalogue.metadata.finished])[:16],
        "root": printable(root),
        "limit": _finite(margin_of(summary.flagged_from)) if summary.flagged_from is not None else None,
        "scale": _strip_scale(catalogue.rows),
        "charts": _charts(catalogue, summary),
        "rows": [
            [
                *_row(
                    row, root, reviewed or Reviewed(), today, places.get(identity(row)), artists.get(row.artist or "")
                ),
                row.path if printable(row.path) != row.path else None,
                _playable(row, out),
                [[round(r["start_s"], 1), round(r["end_s"], 1)] for r in row.flagged_ranges or ()],
                _e_value(artists.get(row.artist or "")),
            ]
            for row in listed
        ],
    }
    scripts = (
        plotly_script(),
        table_script(),
        own_script("theme.js"),
        own_script("decisions.js"),
        own_script("audit.js"),
    )
    return render(
        "audit.html.j2",
        scripts,
        media="data: file: 'self'",  # the tracks themselves, where they lie beside the page or on this machine
        library_style=table_style(),
        summary=summary,
        root=printable(root.rstrip("/") or root) or "files in several places",
        findings=list(findings(summary)),
        declarations=list(declaration_sentences(summary.declarations)) if summary.declarations is not None else [],
        cards=_cards(summary),
        card=card(catalogue),
        limits=LIMITS,
        notes=list(notes),
        data=embedded(data),
        left_out=len(ranked) - len(listed),
        tracks=[(places[key], view) for key, view in pages],
        difference=earlier,
        listed_changes=LISTED_CHANGES,
        printable=printable,
    )


def _listed(ranked: Sequence[FileResult]) -> list[FileResult]:
    """The rows of the table: all, or those with the highest scores and all without a score."""
    if len(ranked) <= MAX_ROWS:
        return list(ranked)
    unjudged = [row for row in ranked if row.score is None][:MAX_ROWS]
    return [*ranked[: MAX_ROWS - len(unjudged)], *unjudged]


def _row(
    row: FileResult, root: str, reviewed: Reviewed, today: dt.date, place: str | None, artist: Group | None
) -> list[Any]:
    """One row of the table; `audit.js` names the fields."""
    decision = reviewed.valid(row, today)
    decided = f"{decision.decision}, {printable(decision.by)}, {decision.date}" if decision else row.decision
    return [
        None if row.score is None else round(row.score, 6),
        row.verdict or "",
        row.status,
        printable(row.path.removeprefix(root)),
        printable(row.artist or ""),
        printable(row.title or ""),
        None if row.duration_s is None else round(row.duration_s, 1),
        strip(row.window_margins or ()),
        printable(decided or ""),
        place,
        _details(row, artist),
    ]


def _details(row: FileResult, artist: Group | None) -> dict[str, str]:
    """Further details of a track as label and text, without empty ones."""
    ranges = ", ".join(f"{r['start_s']:.1f} to {r['end_s']:.1f} s" for r in row.flagged_ranges or ())
    facts = {
        "error": row.error,
        "origin": described(row.provenance),
        "flagged": ranges,
        "p-value": None if row.p_value is None else p_value_in_words(row.p_value),
        "likelihood ratio": None if row.log10_lr is None else ratio_in_words(row.log10_lr),
        "the artist's tracks": None if artist is None or artist.e_value is None else group_in_words(artist),
        "likeliest generator": row.attribution,
        "windows": f"{row.windows}, and {row.silent_windows} silent" if row.silent_windows else None,
        "album": row.album,
        "ISRC": row.isrc,
        "sound": _sound(row),
        "warnings": ", ".join(row.warnings),
        "SHA-256": row.content_hash,
    }
    return {label: printable(text) for label, text in facts.items() if text}


def _e_value(artist: Group | None) -> float | None:
    return None if artist is None or artist.e_value is None else round(artist.e_value, 2)


def _sound(row: FileResult) -> str:
    parts = [
        row.codec,
        None if row.sample_rate is None else f"{row.sample_rate} Hz",
        None if row.channels is None else f"{row.channels} ch",
        None if row.bandwidth_hz is None else f"up to {row.bandwidth_hz / 1000:.1f} kHz",
        None if row.loudness_db is None else f"{row.loudness_db:.1f} dBFS",
    ]
    return ", ".join(part for part in parts if part)


def strip(margins: Sequence[float]) -> list[float]:
    """Window margins for a strip of at most 40 bars; each bar of a longer track is the mean of its windows."""
    if len(margins) > MAX_STRIP:
        margins = [float(part.mean()) for part in np.array_split(np.asarray(margins), MAX_STRIP)]
    return [round(margin, 1) for margin in margins]


def _strip_scale(rows: Iterable[FileResult]) -> float:
    """The margin at the full height of a strip: the 98th percentile of tracks, which ignores outliers."""
    largest = [max(map(abs, row.window_margins)) for row in rows if row.window_margins]
    return max(1.0, round(float(np.quantile(largest, 0.98)), 1)) if largest else 1.0


def _cards(summary: Summary) -> list[tuple[str, str, str, str]]:
    """Headline figures: kind, figure, what it counts, more about it."""
    verdicts, reviewed = summary.verdicts, summary.reviewed
    flagged_more = "" if reviewed is None else f"{reviewed.open_flagged:,} of them still to be decided"
    review_more = "" if reviewed is None else f"{reviewed.open_review:,} of them still to be decided"
    cards = [
        ("", f"{summary.tracks:,}", "files found", f"{summary.assessed:,} assessed, {summary.hours:,.1f} h of sound")
    ]
    if any(verdicts.values()):
        cards += [
            ("flagged", f"{verdicts['flagged']:,}", "flagged", flagged_more),
            ("review", f"{verdicts['review']:,}", "up for review", review_more),
            ("clear", f"{verdicts['clear']:,}", "clear", "not enough evidence to flag"),
        ]
    if summary.ai_share is not None:
        figure, more = headline(summary.ai_share, "share")
        cards.append(("", figure, "estimated share of AI", more))
    if summary.false_flags is not None and verdicts["flagged"]:
        figure, more = headline(summary.false_flags, "tracks")
        cards.append(("", figure, "flags expected to be false", more))
    cards.append(("failed", f"{summary.tracks - summary.assessed:,}", "not assessed", "reasons below, by status"))
    return cards


def _charts(catalogue: Catalogue, summary: Summary) -> dict[str, Any]:
    """Data of the charts: a histogram of scores by verdict, and shares by folder and artist."""
    histogram = {}
    for verdict in (*VERDICTS, None):
        scores = [row.score for row in catalogue.rows if row.score is not None and row.verdict == verdict]
        if scores:
            histogram[verdict or "no verdict"] = np.histogram(scores, _BINS, (0.0, 1.0))[0].tolist()
    limits = catalogue.thresholds
    return {
        "histogram": histogram,
        "flagged": None if limits is None else limits.flagged,
        "review": None if limits is None else limits.review,
        "folders": _bars(summary.folders),
        "artists": _bars(summary.artists) if len(summary.artists) > 1 else None,
    }


def _bars(groups: Iterable[Group]) -> dict[str, Any] | None:
    shown = [group for group in groups if group.share is not None][:_CHART_GROUPS]
    if not shown:
        return None
    shares = [group.share for group in shown if group.share is not None]
    return {
        "names": [printable(group.name) for group in shown],
        "share": [round(share.value, 5) for share in shares],
        "more": [round(share.high - share.value, 5) for share in shares],
        "less": [round(share.value - share.low, 5) for share in shares],
        "text": [f"{group.flagged:,} of {group.assessed:,}" for group in shown],
    }


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None


def _playable(row: FileResult, out: Path) -> str | None:
    """A link to a flagged track that can be played, because the reported file is on this machine."""
    if row.verdict not in ("flagged", "review") or "://" in row.path or row.path_raw is not None:
        return None
    # `Path.is_file` raises an error for a name that no system allows.
    return _link(Path(row.path), out) if os.path.isfile(row.path) else None  # noqa: PTH113


def _link(target: Path, page: Path) -> str:
    """A relative link from the page to a file beside it."""
    relative = os.path.relpath(target.resolve(), page.resolve().parent)
    return urllib.parse.quote(Path(relative).as_posix().encode("utf-8", "surrogateescape"))
