"""Calibration on a user's own music: from a scan of tracks known to be by people. It needs neither torch nor onnx."""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np

import sonicscan
from sonicscan.analysis.copies import distinct
from sonicscan.errors import InputError, ReportError
from sonicscan.files import write_whole
from sonicscan.model.loading import Model, load_model
from sonicscan.model.protobuf import with_metadata
from sonicscan.model.sessions import Device
from sonicscan.provenance.words import described
from sonicscan.report.metadata import ReportMetadata
from sonicscan.report.readers import read_report
from sonicscan.report.row import FileResult
from sonicscan.report.schema import to_results
from sonicscan.scoring.thresholds import CONFIDENCE, caught_at_rates, tracks_needed
from sonicscan.spec import (
    METADATA_KEY,
    UNKNOWN_WINDOWS,
    Calibration,
    Category,
    Material,
    ModelSpec,
    codec_categories,
    codec_class,
)
from sonicscan.text import printable

GroupBy = Literal["artist", "album", "none"]
GROUP_BY: tuple[GroupBy, ...] = get_args(GroupBy)
_CHOSEN_BY_SCORE = 0.8  # rank of a library's lowest score among the calibration scores, above which a warning is given
_OF_THRESHOLDS = ("summary", "own_thresholds")  # metrics that hold for the thresholds of the calibration before


@dataclass(frozen=True)
class Recalibrated:
    """A model under a new calibration.

    Attributes:
        content: the ONNX file.
        spec: its contract.
        notes: messages that the user should read.
    """

    content: bytes
    spec: ModelSpec
    notes: tuple[str, ...]


def from_report(
    model_path: Path, report_path: Path, max_fpr: float, *, group_by: GroupBy = "artist", add: bool = False
) -> Recalibrated:
    """A model with the calibration that a report of known-human tracks gives.

    Args:
        model_path: the model that made the report.
        report_path: a Parquet report of tracks that are all known to be by people.
        max_fpr: the false-positive rate that the tracks must be enough for.
        group_by: one track of each artist or album counts, drawn at random. All tracks without such a tag count. Of
            several copies one counts, with any `group_by`.
        add: keep the scores of the model's own calibration beside the report's.

    Raises:
        ModelError, ReportError: a file that cannot be read.
        InputError: the report is of another model, or the model is untrained. Rows were selected by score, are not
            `ok`, or declare that a generator made the file. There are too few tracks. With `add`: the window plan
            differs from that of the calibration.
    """
    model = load_model(model_path, Device("cpu"))
    spec = model.spec
    if spec.untrained:
        raise InputError(f"{model_path} is untrained: its scores mean nothing, and there is nothing to calibrate.")
    table = read_report(report_path)
    metadata = ReportMetadata.of(table.schema, report_path)
    rows = list(to_results(table))
    _check_rows(rows, metadata, model, report_path)
    windows = metadata.windows or UNKNOWN_WINDOWS
    if windows in ("adaptive", UNKNOWN_WINDOWS):
        raise InputError(
            f"{report_path} was scanned with --windows {windows}, "
            "and a certificate holds for a fixed number of windows; scan the tracks again with --windows 12 or all."
        )
    if add and windows != spec.calibration.windows:
        raise InputError(
            f"--add: the model was calibrated with --windows {spec.calibration.windows} and {report_path} was scanned "
            f"with {windows}; scan again with --windows {spec.calibration.windows}, or leave out --add."
        )
    single = distinct(rows)
    own = spec.calibration if add else Calibration()
    counted_scores = frozenset(own.scores) - {0.0, 1.0}  # many tracks can have the scores at the ends
    known = [row for row in single if row.score in counted_scores]
    chosen = one_of_each(single, group_by, counted_scores)
    scores = [float(row.score) for row in chosen if row.score is not None]
    if known and not chosen:
        raise InputError(f"--add: the calibration of {model_path} has all tracks of {report_path} already; add others.")
    once = ["its copies counted once"] * (len(single) < len(rows))
    once += [f"one track of each {group_by}"] * (len(chosen) + len(known) < len(single))
    counted = f", with {' and '.join(once)}," if once else ""
    check_enough(len(scores) + own.n, max_fpr, f"{report_path}{counted} has")
    calibration = _calibration(chosen, scores, own, spec.calibration, windows, report_path.name)
    provenance = {
        **spec.provenance,
        "recalibrated": {
            "report": report_path.name,
            "tracks": len(scores),
            "group_by": group_by,
            "added": add,
            "windows": windows,
            "model_digest": model.digest,
        },
    }
    spec = dataclasses.replace(
        spec,
        calibration=calibration,
        caught=caught_at_rates(calibration, spec.caught),
        metrics={name: value for name, value in spec.metrics.items() if name not in _OF_THRESHOLDS},
        provenance=provenance,
        tool_version=sonicscan.__version__,
    )
    content = with_metadata(model_path.read_bytes(), METADATA_KEY, spec.to_json())
    return Recalibrated(content, spec, tuple(_notes(rows, single, known, chosen, group_by, model, metadata)))


def write(made: Recalibrated, path: Path) -> str:
    """Write the model; returns the SHA-256 of the file, in hex.

    Raises:
        InputError: it cannot be written.
    """
    try:
        write_whole(path, made.content)
    except OSError as error:
        raise InputError(f"{path} could not be written: {error.strerror or error}.") from error
    return hashlib.sha256(made.content).hexdigest()


def check_enough(n: int, max_fpr: float, who: str) -> None:
    """Raise `InputError` unless `n` tracks certify a false-positive rate of `max_fpr`."""
    needed = tracks_needed(max_fpr)
    if n < needed:
        raise InputError(
            f"{who} {n} track{'' if n == 1 else 's'}, and a false-positive rate of {max_fpr:.3g} takes {needed} "
            f"to be certain of at {CONFIDENCE:.0%}; add tracks, or ask for a higher --max-fpr."
        )


def one_of_each(
    rows: Sequence[FileResult], group_by: GroupBy, counted: Collection[float], seed: int = 0
) -> list[FileResult]:
    """One track of each group, and all tracks without a tag; in the order of `rows`.

    A certificate needs independent draws, and twenty tracks of one artist are hardly more information than one. So a
    group of which a track counts already, by its score in `counted`, is left out.
    """
    names = ("artist", "album")[: GROUP_BY.index(group_by) + 1] if group_by != "none" else ()
    groups: dict[object, list[int]] = defaultdict(list)
    for i in sorted(range(len(rows)), key=lambda i: (rows[i].path, i)):
        tags = tuple(getattr(rows[i], name) for name in names)
        groups[tags if tags and tags[-1] else i].append(i)
    rng = np.random.default_rng(seed)
    drawn = [
        members[int(rng.integers(len(members)))]
        for members in groups.values()
        if not any(rows[i].score in counted for i in members)
    ]
    return [rows[i] for i in sorted(drawn)]


def _check_rows(rows: Sequence[FileResult], metadata: ReportMetadata, model: Model, report: Path) -> None:
    if metadata.model_digest != model.digest:
        raise InputError(
            f"{report} was not made with {model.path} but with a model of digest "
            f"{(metadata.model_digest or 'unknown')[:12]}; scan the tracks with this model."
        )
    if metadata.selected:
        raise InputError(
            f"{report} has {metadata.chosen}, and thresholds from such "
            "tracks are wrong; use the report of the whole scan."
        )
    bad = [row for row in rows if row.status != "ok"]
    if bad:
        raise InputError(
            f"{len(bad)} of {len(rows)} rows of {report} are not ok, such as {printable(bad[0].path)} "
            f"({bad[0].status}); repair or --exclude those files and scan again with --since."
        )
    if any(row.score is None or not math.isfinite(row.score) for row in rows):
        raise ReportError(f"{report} has ok rows without a score; it is damaged.")
    # They are refused, not left out. The report then holds tracks that the user did not expect. Other AI tracks in it
    # may declare nothing, and these would be certified as tracks by people.
    declared = [row for row in rows if row.provenance is not None and row.provenance.declares_generation]
    if declared:
        raise InputError(
            f"{len(declared)} of {len(rows)} tracks of {report} declare themselves generated, such as "
            f"{printable(declared[0].path)} ({described(declared[0].provenance)}). Every track must be known to be by "
            "people: check where the tracks come from, --exclude those files, and scan again with --since."
        )


def _calibration(
    rows: Sequence[FileResult], scores: Sequence[float], own: Calibration, old: Calibration, windows: str, name: str
) -> Calibration:
    """Of the report's tracks, with those of `own`; AI scores of other windows are on another scale and go."""
    known = own.weighted_scores()
    if known is None or any(weight != 1.0 for weight in known[1]):
        raise InputError("--add: the model holds only the highest scores of its calibration; leave out --add.")
    what = f"{len(scores)} tracks of {name}, {windows} windows each"
    columns = ("codec", "sample_rate", "bandwidth_hz", "duration_s", "loudness_db")
    material = Material.of(*([getattr(row, column) for row in rows] for column in columns))
    return Calibration.of(
        [*known[0], *scores],
        f"{what}, and {own.n} tracks of the model's own ({own.data})" if own.n else what,
        ai_scores=old.ai_scores if old.windows == windows else (),
        windows=windows,
        categories=_categories(scores, [row.codec for row in rows], own.categories),
        # What the model's own tracks are like is known in counts and quantiles only, which cannot be joined.
        material=None if own.n else material,
    )


def _categories(scores: Sequence[float], codecs: Sequence[str | None], own: Sequence[Category]) -> list[Category]:
    """The categories of new tracks and of the model's own tracks.

    Every new track of a class is in its category, also where the new tracks alone would make no category of it.
    """
    members: dict[tuple[Literal["codec", "material"], str], list[float]]
    members = {(category.kind, category.name): list(category.scores) for category in own}
    for category in codec_categories(scores, codecs):
        members.setdefault((category.kind, category.name), [])
    for score, codec in zip(scores, codecs, strict=True):
        name = codec_class(codec)
        if name is not None and ("codec", name) in members:
            members["codec", name].append(score)
    found = (Category.of(kind, name, scores) for (kind, name), scores in members.items())
    return [category for category in found if category is not None]


def _notes(
    rows: Sequence[FileResult],
    single: Sequence[FileResult],
    known: Sequence[FileResult],
    chosen: Sequence[FileResult],
    group_by: GroupBy,
    model: Model,
    metadata: ReportMetadata,
) -> list[str]:
    notes = []
    if len(single) < len(rows):
        notes.append(f"{len(rows) - len(single)} of {len(rows)} tracks are copies of others; copies count once.")
    if known:
        notes.append(
            f"{len(known)} of {len(single)} tracks are in the model's calibration already, by their scores; they count "
            f"once{'' if group_by == 'none' else f', and so does each {group_by}'}."
        )
    elif len(chosen) < len(single):
        notes.append(
            f"{len(chosen)} of {len(single)} tracks count, one of each {group_by}. --group-by none counts all, "
            "which certifies too much if tracks of one artist are similar."
        )
    scores = [row.score for row in chosen if row.score is not None]
    old = model.spec.calibration.weighted_scores()
    if old is not None and old[0] and scores:
        under = sum(w for s, w in zip(*old, strict=True) if s < min(scores))
        if under >= _CHOSEN_BY_SCORE * model.spec.calibration.n:
            notes.append(
                f"every track scores higher than {under / model.spec.calibration.n:.0%} of the calibration's. If the "
                "report holds only tracks chosen by their score, its thresholds are wrong; use the whole report."
            )
    if metadata.filtered:
        notes.append(
            f"the report is a part of a scan, chosen by {metadata.filtered}: unless that is independent of "
            "scores, its thresholds are wrong; use the whole report."
        )
    return notes
