"""Calibration on a user's own music: from a scan of tracks known to be by people. It needs neither torch nor onnx."""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import pyarrow as pa

import sonicscan
from sonicscan.errors import InputError, ReportError
from sonicscan.files import write_whole
from sonicscan.model.loading import Model, load_model
from sonicscan.model.protobuf import with_metadata
from sonicscan.model.sessions import Device
from sonicscan.report.metadata import ReportMetadata
from sonicscan.report.readers import read_report
from sonicscan.scoring.thresholds import CONFIDENCE, caught_at_rates, tracks_needed
from sonicscan.spec import METADATA_KEY, UNKNOWN_WINDOWS, Calibration, Category, Material, ModelSpec, codec_categories
from sonicscan.text import printable

GroupBy = Literal["artist", "album", "none"]
GROUP_BY: tuple[GroupBy, ...] = get_args(GroupBy)
_CHOSEN_BY_SCORE = 0.8  # rank of a library's lowest score among the calibration scores, above which a warning is given


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
        group_by: of each artist or album one track counts, drawn at random; tracks without such a tag all count.
        add: keep the scores of the model's own calibration beside the report's.

    Raises:
        ModelError, ReportError: a file that cannot be read.
        InputError: another model's report, an untrained model, rows that are not `ok`, too few tracks, or with `add`
            another window plan than the calibration's.
    """
    model = load_model(model_path, Device("cpu"))
    spec = model.spec
    if spec.untrained:
        raise InputError(f"{model_path} is untrained: its scores mean nothing, and there is nothing to calibrate.")
    table = read_report(report_path)
    metadata = ReportMetadata.of(table.schema, report_path)
    _check_rows(table, metadata, model, report_path)
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
    chosen = one_of_each(table, group_by)
    scores = [float(table.column("score")[i].as_py()) for i in chosen]
    own = spec.calibration if add else Calibration()
    counted = f", with one track of each {group_by}," if len(scores) < table.num_rows else ""
    check_enough(len(scores) + own.n, max_fpr, f"{report_path}{counted} has")
    calibration = _calibration(table.take(pa.array(chosen)), scores, own, spec.calibration, windows, report_path.name)
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
        caught=caught_at_rates(calibration),
        provenance=provenance,
        tool_version=sonicscan.__version__,
    )
    content = with_metadata(model_path.read_bytes(), METADATA_KEY, spec.to_json())
    return Recalibrated(content, spec, tuple(_notes(table, chosen, scores, group_by, model, metadata)))


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
            f"{who} {n} tracks, and a false-positive rate of {max_fpr:.3g} takes {needed} "
            f"to be certain of at {CONFIDENCE:.0%}; add tracks, or ask for a higher --max-fpr."
        )


def one_of_each(table: pa.Table, group_by: GroupBy, seed: int = 0) -> list[int]:
    """Row numbers of one track of each group, and of all tracks without a tag; ascending.

    A certificate needs independent draws, and twenty tracks of one artist are hardly more information than one.
    """
    names = ("artist", "album")[: GROUP_BY.index(group_by) + 1] if group_by != "none" else ()
    columns = [table.column(name).to_pylist() for name in names]
    paths = table.column("path").to_pylist()
    groups: dict[object, list[int]] = defaultdict(list)
    for i in sorted(range(len(paths)), key=lambda i: (paths[i], i)):
        tags = tuple(column[i] for column in columns)
        groups[tags if tags and tags[-1] else i].append(i)
    rng = np.random.default_rng(seed)
    return sorted(members[int(rng.integers(len(members)))] for members in groups.values())


def _check_rows(table: pa.Table, metadata: ReportMetadata, model: Model, report: Path) -> None:
    if metadata.model_digest != model.digest:
        raise InputError(
            f"{report} was not made with {model.path} but with a model of digest "
            f"{(metadata.model_digest or 'unknown')[:12]}; scan the tracks with this model."
        )
    statuses = table.column("status").to_pylist()
    bad = [i for i, status in enumerate(statuses) if status != "ok"]
    if bad:
        path = printable(table.column("path")[bad[0]].as_py())
        raise InputError(
            f"{len(bad)} of {len(statuses)} rows of {report} are not ok, such as {path} ({statuses[bad[0]]}); "
            "repair or --exclude those files and scan again with --since."
        )
    if any(score is None or not math.isfinite(score) for score in table.column("score").to_pylist()):
        raise ReportError(f"{report} has ok rows without a score; it is damaged.")


def _calibration(
    table: pa.Table, scores: Sequence[float], own: Calibration, old: Calibration, windows: str, name: str
) -> Calibration:
    """Of the report's tracks, with those of `own`; AI scores of other windows are on another scale and go."""
    known = own.weighted_scores()
    if known is None or any(weight != 1.0 for weight in known[1]):
        raise InputError("--add: the model holds only the highest scores of its calibration; leave out --add.")
    what = f"{len(scores)} tracks of {name}, {windows} windows each"
    columns = ("codec", "sample_rate", "bandwidth_hz", "duration_s", "loudness_db")
    material = Material.of(*(table.column(column).to_pylist() for column in columns))
    return Calibration.of(
        [*known[0], *scores],
        f"{what}, and {own.n} tracks of the model's own ({own.data})" if own.n else what,
        ai_scores=old.ai_scores if old.windows == windows else (),
        windows=windows,
        categories=_joined(codec_categories(scores, table.column("codec").to_pylist()), own.categories),
        # What the model's own tracks are like is known in counts and quantiles only, which cannot be joined.
        material=None if own.n else material,
    )


def _joined(new: Sequence[Category], own: Sequence[Category]) -> list[Category]:
    """The categories of new tracks and of the model's own tracks; a category of both has the tracks of both."""
    members: dict[tuple[Literal["codec", "material"], str], list[float]] = defaultdict(list)
    for category in (*new, *own):
        members[category.kind, category.name] += category.scores
    found = (Category.of(kind, name, scores) for (kind, name), scores in members.items())
    return [category for category in found if category is not None]


def _notes(
    table: pa.Table,
    chosen: Sequence[int],
    scores: Sequence[float],
    group_by: GroupBy,
    model: Model,
    metadata: ReportMetadata,
) -> list[str]:
    notes = []
    if len(chosen) < table.num_rows:
        notes.append(
            f"{len(chosen)} of {table.num_rows} tracks count, one of each {group_by}. --group-by none counts all, "
            "which certifies too much if tracks of one artist are similar."
        )
    known = model.spec.calibration.weighted_scores()
    if known is not None and known[0] and scores:
        under = sum(w for s, w in zip(*known, strict=True) if s < min(scores))
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
