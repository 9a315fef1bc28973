"""An evaluation as Markdown for people, JSON for programs, and pictures."""

from __future__ import annotations

import dataclasses
import datetime
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

import sonicscan
from sonicscan.files import write_whole
from sonicscan.spec import ModelSpec
from sonicscan.text import printable
from sonicscan_train.data.clips import CODEC
from sonicscan_train.judge.evaluation import Row, Section
from sonicscan_train.judge.markdown import interval, share, table
from sonicscan_train.judge.scoring import ScoredTrack
from sonicscan_train.pictures import draw_confusion, draw_roc, draw_scores, draw_stress

_NAMES = {
    "precision": "precision",
    "recall": "recall (sensitivity)",
    "f1": "F1",
    "specificity": "specificity",
    "accuracy": "accuracy",
    "auc": "AUC",
    "tpr_at_1": "AI caught at 1% of people flagged",
    "tpr_at_5": "AI caught at 5% of people flagged",
    "ece": "calibration error (ECE)",
    "cllr": "cost of likelihood ratios (Cllr)",
}


def write_evaluation(
    model: Path,
    spec: ModelSpec,
    windows: str,
    sections: Sequence[Section],
    scores: Mapping[str, Sequence[ScoredTrack]],
    stress: Mapping[str, Mapping[str, Row]],
    out: Path,
) -> list[str]:
    """Write `evaluation.md`, `evaluation.json`, `roc.png`, `scores-PART.png`, and where they apply `confusion-PART.png`
    and `stress-PART.png`, into the folder `out`.

    Returns:
        the lines of a short summary.
    """
    head = {
        "model": model.name,
        "architecture": spec.architecture,
        "classes": list(spec.classes),
        "windows": windows,
        "temperature": spec.temperature,
        "calibration_tracks": spec.calibration.n,
        "tool_version": sonicscan.__version__,
        "made": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }
    parts = {section.name: dataclasses.asdict(section) for section in sections}
    write_whole(out / "evaluation.json", json.dumps({**head, "parts": parts, "stress": stress}, indent=1) + "\n")
    lines = [f"# Evaluation of {printable(model.name)}", ""]
    lines += [f"- {name.replace('_', ' ')}: {_text(value)}" for name, value in head.items()]
    for section in sections:
        lines += _section(section, stress.get(section.name))
    write_whole(out / "evaluation.md", "\n".join(lines) + "\n")
    curves = {}
    for name, tracks in scores.items():
        judged = [track for track in tracks if track.clip.label != CODEC]
        truth = np.array([not track.clip.human for track in judged])
        curves[name] = (truth, np.array([track.score for track in judged]))
        draw_scores(_by_source(tracks), out / f"scores-{name}.png")
    draw_roc(curves, out / "roc.png")
    for section in sections:
        if section.confusion:
            rows, columns, counts = section.confusion
            draw_confusion(rows, columns, np.array(counts), out / f"confusion-{section.name}.png")
        if section.name in stress:
            moved = {name: (row["auc"] or 0.0, row["moved"]) for name, row in stress[section.name].items()}
            draw_stress(moved, out / f"stress-{section.name}.png")
    return [
        f"{section.name}\tAUC {interval(section.tracks['auc'])}\tcaught at 5% of people flagged "
        f"{interval(section.tracks['tpr_at_5'])}\t{section.counts['people']} by people, {section.counts['ai']} by AI"
        for section in sections
    ]


def _section(section: Section, stress: Mapping[str, Row] | None) -> list[str]:
    counts = section.counts
    lines = [
        "",
        f"## Part {section.name}",
        "",
        f"{counts['people']} tracks by people, {counts['ai']} by AI, {counts['codec']} through neural codecs (not "
        f"counted); {counts['groups']} groups, {counts['windows']} windows. Intervals are 95%, by bootstrap over "
        f"{section.clusters}.",
    ]
    if section.note:
        lines += ["", f"Note: {section.note}."]
    lines += table(
        ("figure", "tracks", "windows"),
        ((_NAMES[name], interval(section.tracks[name]), interval(section.windows[name])) for name in _NAMES),
    )
    if section.certified:
        lines += ["", "### At the certified thresholds"]
        lines += table(
            ("certified rate", "threshold", "people flagged here", "AI caught here"),
            (
                (f"{row['rate']:.1%}", f"{row['threshold']:.4f}", f"{row['fpr']:.2%}", f"{row['tpr']:.1%}")
                for row in section.certified
            ),
        )
    lines += ["", "### By generator", *_sources(section.generators, auc=True)]
    lines += ["", "### By human source", *_sources(section.sources, auc=False)]
    if section.codec:
        lines += ["", "### Music by people through neural codecs", *_sources(section.codec, auc=True)]
    lines += ["", "### By format"]
    lines += table(
        ("format", "by people", "by AI", "AUC", "people at 0.5", "AI at 0.5"),
        (
            (r["format"], str(r["people"]), str(r["ai"]), _figure(r["auc"]), share(r["fpr"]), share(r["recall"]))
            for r in section.formats
        ),
    )
    lines += ["", "### Trivial baselines on the same tracks"]
    if section.baseline:
        lines += table(
            ("one feature alone", "AUC"),
            ((b.feature, f"{b.auc:.3f} ({b.low:.2f}-{b.high:.2f})") for b in section.baseline),
        )
    else:
        lines += ["", "There are too few groups to evaluate baselines on unseen ones."]
    if section.confusion:
        rows, columns, matrix = section.confusion
        lines += ["", "### What tracks are, and what they are called"]
        lines += table(("is", *columns), ((r, *map(str, line)) for r, line in zip(rows, matrix, strict=True)))
    if stress:
        lines += ["", "### Stress", "", f"On {next(iter(stress.values()))['tracks']} of these tracks."]
        lines += table(
            ("condition", "AUC", "AI at 0.5", "people at 0.5", "people's scores move", "AI's move", "change sides"),
            (
                (
                    name,
                    _figure(row["auc"]),
                    share(row["recall"]),
                    share(row["fpr"]),
                    f"{row['drift_people']:+.3f}",
                    f"{row['drift_ai']:+.3f}",
                    share(row["changed_sides"]),
                )
                for name, row in stress.items()
            ),
        )
    return lines


def _sources(rows: Sequence[Row], *, auc: bool) -> list[str]:
    names = ("source", "tracks", "groups", "mean score", "at 0.5", "at 5% of people flagged")
    return table(
        (*names, "AUC against people") if auc else names,
        (
            (
                row["source"],
                str(row["tracks"]),
                str(row["groups"]),
                f"{row['mean_score']:.3f}",
                share(row["over_half"]),
                share(row["at_5_fpr"]),
                *([_figure(row["auc"])] if auc else []),
            )
            for row in rows
        ),
    )


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _text(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(printable(str(item)) for item in value)
    return f"{value:.4g}" if isinstance(value, float) else printable(str(value))


def _by_source(tracks: Sequence[ScoredTrack]) -> dict[str, list[float]]:
    """Scores by source, people's first, the fifty largest."""
    found: dict[tuple[bool, str], list[float]] = defaultdict(list)
    for track in tracks:
        found[not track.clip.human, track.clip.source].append(track.score)
    largest = sorted(found, key=lambda key: -len(found[key]))[:50]
    return {f"{'' if machine else 'people: '}{source}": found[machine, source] for machine, source in sorted(largest)}
