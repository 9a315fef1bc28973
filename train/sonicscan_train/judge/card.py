"""The figures of a cross-fitted model as a card of one page, with a row for each source in a CSV file beside it."""

from __future__ import annotations

import dataclasses
import datetime
import string
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import sonicscan
from sonicscan.files import write_whole
from sonicscan.scoring.aggregate import UNKNOWN
from sonicscan.scoring.thresholds import certified_threshold, tracks_needed
from sonicscan.spec import AudioSpec, ModelSpec
from sonicscan_train.data.clips import CODEC
from sonicscan_train.data.manifest import write_table
from sonicscan_train.judge.calibration import one_clip_of_each_group
from sonicscan_train.judge.crossfit import CrossFit, RateRow
from sonicscan_train.judge.evaluation import Row, Section
from sonicscan_train.judge.markdown import interval, line, share, table
from sonicscan_train.judge.scoring import ScoredTrack
from sonicscan_train.metrics import auc

TEMPLATE = Path(__file__).with_name("card.md")
_SHOWN = 12
_LEAST = 5  # tracks or groups of a source in the card's tables
_TESTED_MEAN = """\
Each track was scored by the one member that was not trained on the track's fold. A song, a prompt, a creator's page,
a source or a family of generators lies in one fold. The bundled model is the mean of all members. That mean cannot
be tested on these tracks, because all but one of its members were trained on each of them. A mean varies less than
its members. So these figures should be no better than the bundled model's. This is expected, not measured. The
thresholds come from the same single-member scores, for the same reason."""
_TESTED_ONE = """\
These tracks were not in its training. A song, a prompt, a creator's page, a source or a family of generators was
left out as a whole. The thresholds come from the same tracks."""
_APPROXIMATE = """\
{fitted} fitted on these tracks too, so the certificate is an approximation. A recipe that was chosen by such figures
makes them a little too good; the training log says whether it was."""
_FAMILIES = """
## Families of generators

A report names a family only for a track that is flagged or up for review, and the name has no influence on the score.
The table has all left-out tracks. A track with a score of 0.5 or over gets the name of its likeliest family, or
`unknown` if that family's share is too low. That limit was fitted on these tracks. The last column counts music by
people too.
"""
_FAMILY_COLUMNS = (
    "family", "tracks", "score under 0.5", "named rightly", "`unknown`", "another name", "names that are right",
)  # fmt: skip
_MEASURES = {"auc": "AUC", "tpr_at_1": "AI caught at 1% of people flagged", "tpr_at_5": "AI caught at 5%"}


@dataclass(frozen=True)
class SourceRow:
    """The figures of one source.

    Attributes:
        label, source: of the tracks.
        tracks, groups: how many.
        auc: against all people's tracks; None for people's sources.
        reached: share of tracks (people: one of each group) at or over the threshold; None without a threshold.
        median_score: of the tracks.
    """

    label: str
    source: str
    tracks: int
    groups: int
    auc: float | None
    reached: float | None
    median_score: float


@dataclass(frozen=True)
class Findings:
    """All figures of a cross-fitted model.

    Attributes:
        section: the evaluation of all left-out tracks.
        rate: the certified false-positive rate that tables are made at.
        by_windows, by_category: rates at that threshold; empty where the rate is not certified.
        own_thresholds: by category, the threshold that its people's tracks certify alone.
        stress: rows by condition; empty where it was not run.
    """

    section: Section
    rate: float
    by_windows: Sequence[RateRow]
    by_category: Sequence[RateRow]
    own_thresholds: Mapping[str, RateRow]
    stress: Mapping[str, Row]

    def metrics(self, spec: ModelSpec) -> dict[str, object]:
        """What the contract says about quality; `summary` is the line that the scanner prints."""
        tracks = self.section.tracks
        return {
            "summary": self.summary(spec),
            "leave_out": {name: tracks[name] for name in _MEASURES},
            "own_thresholds": {name: dataclasses.asdict(row) for name, row in self.own_thresholds.items()},
        }

    def summary(self, spec: ModelSpec) -> str:
        """Sentences: AUC, the share of AI caught at the certified rate, and the purpose of the score; no final stop."""
        text = f"AUC {interval(self.section.tracks['auc'], 2)} on generators, creators and sources unseen in training"
        caught = next((row for row in self.section.certified if row["rate"] == self.rate), None)
        if caught is not None:
            text += (
                f". At the {100.0 * self.rate:g}% false-positive rate, certified on {spec.calibration.n} groups of "
                f"music by people, it flags {caught['tpr']:.0%} of unseen AI"
            )
        return f"{text}. The score is for ranking, not proof"


def source_rows(tracks: Sequence[ScoredTrack], threshold: float | None) -> list[SourceRow]:
    """A row for each label and source, by label and then by size."""
    members: defaultdict[tuple[str, str], list[ScoredTrack]] = defaultdict(list)
    for track in tracks:
        members[track.clip.label, track.clip.source].append(track)
    people = np.array([track.score for track in tracks if track.clip.human])
    rows = []
    for (label, source), found in members.items():
        scores = np.array([track.score for track in found])
        against = None
        if not found[0].clip.human:
            truth = np.concatenate([np.ones(len(scores), dtype=bool), np.zeros(len(people), dtype=bool)])
            against = auc(truth, np.concatenate([scores, people]))
        reached = None
        if threshold is not None:
            counted = _one_of_each_group(found) if found[0].clip.human else found
            reached = float(np.mean([track.score >= threshold for track in counted]))
        groups = len({track.clip.group for track in found})
        rows.append(SourceRow(label, source, len(found), groups, against, reached, float(np.median(scores))))
    return sorted(rows, key=lambda row: (row.label, -row.tracks, row.source))


def write_findings(
    findings: Findings, fit: CrossFit, tracks: Sequence[ScoredTrack], members: str, commands: str, out: Path
) -> None:
    """Write `by-source.csv` and `card.md` to `out`."""
    calibration = fit.spec.calibration
    enough = calibration.n >= tracks_needed(findings.rate)
    rows = source_rows(tracks, certified_threshold(calibration, findings.rate) if enough else None)
    header = [field.name for field in dataclasses.fields(SourceRow)]
    write_table(out / "by-source.csv", header, [dataclasses.astuple(row) for row in rows])
    values = _values(findings, fit, rows, members, commands)
    text = string.Template(TEMPLATE.read_text(encoding="utf-8")).substitute(values)
    write_whole(out / "card.md", text)


def _values(
    findings: Findings, fit: CrossFit, rows: Sequence[SourceRow], members: str, commands: str
) -> dict[str, str]:
    spec, section = fit.spec, findings.section
    ai = [row for row in rows if row.label not in ("human", CODEC)]
    ranked = sorted((row for row in ai if row.tracks >= _LEAST), key=lambda row: -(row.auc or 0.0))
    human = [row for row in rows if row.label == "human" and row.groups >= _LEAST]
    flagged = sorted(human, key=lambda row: (-(row.reached or 0.0), -row.median_score))[:_SHOWN]
    by_name = {row.name: row for row in findings.by_category}
    several = len(fit.scales) > 1
    scale = "The scale of each member" if several else "The scale of its scores"
    fitted = f"{scale} and the constant of the pooling were" if fit.shrink_fitted else f"{scale} was"
    by = ", each by its own member" if several else ""
    stressed = next(iter(findings.stress.values()))["tracks"] if findings.stress else 0
    return {
        "name": spec.architecture,
        "summary": f"{findings.summary(spec)}.",
        "version": sonicscan.__version__,
        "clusters": section.clusters,
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "members": members,
        "tested": f"{_TESTED_MEAN if several else _TESTED_ONE}\n{_APPROXIMATE.format(fitted=fitted)}",
        "input": _input(spec.audio),
        "windows": spec.calibration.windows,
        "scales": "; ".join(f"temperature {s.temperature:.3f}, offset {s.offset:+.3f}" for s in fit.scales),
        "shrink": f"{spec.shrink:.2f}",
        "license_note": spec.license_note or "not stated",
        "people": str(section.counts["people"]),
        "groups": str(spec.calibration.n),
        "ai": str(section.counts["ai"]),
        "generators": str(len(ai)),
        "codec": str(section.counts["codec"]),
        "measures": _lines((text, interval(section.tracks[name], 3)) for name, text in _MEASURES.items()),
        "certified": _lines(
            (f"{r['rate']:.1%}", f"{r['threshold']:.4f}", f"{r['fpr']:.2%}", f"{r['tpr']:.1%}")
            for r in section.certified
        ),
        "rate": f"{100.0 * findings.rate:g}%",
        "categories": _lines(
            (
                name,
                str(r.people),
                share(r.flagged),
                str(r.ai),
                share(r.caught),
                "" if r.auc is None else f"{r.auc:.3f}",
                *_own(findings.own_thresholds.get(name)),
            )
            for name, r in by_name.items()
        ),
        "short": _lines(
            (r.name, str(r.people), share(r.flagged), str(r.ai), share(r.caught)) for r in findings.by_windows
        ),
        "stress_note": (
            f"On {stressed} of the tracks{by}, as real files that the scanner opens. Parts are separated by median "
            "filters, not by a neural network."
            if stressed
            else "Not run."
        ),
        "stress": _lines(
            (
                name,
                f"{row['auc']:.3f}",
                share(row["recall"]),
                share(row["fpr"]),
                f"{row['drift_people']:+.3f}",
                f"{row['drift_ai']:+.3f}",
            )
            for name, row in findings.stress.items()
        ),
        "best": _lines(_generator(row) for row in ranked[:_SHOWN]),
        "worst": _lines(_generator(row) for row in ranked[_SHOWN:][-_SHOWN:]),
        "families": _families(section),
        "flagged": _lines(
            (row.source, str(row.groups), share(row.reached), f"{row.median_score:.3f}") for row in flagged
        ),
        "commands": commands,
    }


def _input(audio: AudioSpec) -> str:
    return (
        f"log-mel image, {audio.n_mels} x {audio.n_frames}, of {audio.window_s:.1g} s at {audio.sample_rate:,} Hz, "
        f"up to {audio.fmax / 1000.0:g} kHz"
    )


def _families(section: Section) -> str:
    """The card's part on how tracks of each family are named; empty for a model without families."""
    if section.confusion is None:
        return ""
    rows, columns, counts = section.confusion
    cells = []
    for name, found in zip(rows[1:], counts[1:], strict=True):
        called = dict(zip(columns, found, strict=True))
        tracks, under, own, unknown = sum(found), found[0], called.get(name, 0), called[UNKNOWN]
        parts = (under, own, unknown, tracks - under - own - unknown)
        shares = [share(part / tracks) if tracks else "" for part in parts]
        named = sum(row[columns.index(name)] for row in counts) if name in columns else 0
        cells.append((name, str(tracks), *shares, f"{share(own / named)} of {named}" if named else ""))
    return _FAMILIES + "\n".join(table(_FAMILY_COLUMNS, cells)) + "\n"


def _one_of_each_group(tracks: Sequence[ScoredTrack]) -> list[ScoredTrack]:
    by_path = {track.clip.path: track for track in tracks}
    return [by_path[clip.path] for clip in one_clip_of_each_group([track.clip for track in tracks], 0)]


def _generator(row: SourceRow) -> tuple[str, str, str, str]:
    return row.source, str(row.tracks), f"{row.auc or 0.0:.3f}", share(row.reached)


def _own(row: RateRow | None) -> tuple[str, str]:
    return ("too few groups", "") if row is None else (f"{row.threshold:.4f}", share(row.caught))


def _lines(rows: Iterable[Sequence[str]]) -> str:
    return "\n".join(map(line, rows))
