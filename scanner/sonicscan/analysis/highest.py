"""Computes evidence for the highest-scoring tracks of a report, from the scanned library."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from sonicscan.analysis.catalogue import Catalogue, by_score, identity
from sonicscan.analysis.evidence import explain
from sonicscan.analysis.explained import Explained, explained
from sonicscan.audio.windows import WindowPlan
from sonicscan.engine.decoder import Decoder
from sonicscan.errors import AudioError, InputError, ModelError
from sonicscan.model.loading import Model, load_model
from sonicscan.model.sessions import Device
from sonicscan.report.row import FileResult

TRACK_SOUND_S = 15.0
_SAME_SCORE = 5e-3  # another machine's arithmetic moves a score by less


def explain_highest(
    catalogue: Catalogue, library: Path, n: int, model_path: Path
) -> tuple[dict[bytes, Explained], list[str]]:
    """Evidence for the `n` highest-scoring tracks.

    Args:
        catalogue: the report.
        library: the present path of the folder that was scanned.
        n: how many tracks.
        model_path: the model of the scan.

    Returns:
        evidence by the identity of its row, and sentences about tracks that could not be explained.

    Raises:
        ModelError: the model differs from the report's, so its evidence would explain other scores.
        InputError: `library` is not a folder, or holds none of these tracks.
    """
    if not library.is_dir():
        raise InputError(f"--library {library}: there is no such folder.")
    model = load_model(model_path, Device("cpu"))
    if model.digest != catalogue.metadata.model_digest:
        raise ModelError(
            f"{model_path} ({model.digest[:12]}) is not the model of {catalogue.name}, which is "
            f"{catalogue.metadata.model_name}; "
            "name that one with --model."
        )
    plan = WindowPlan.parse(catalogue.metadata.windows or str(WindowPlan()), adaptive=True)
    found: dict[bytes, Explained] = {}
    notes: list[str] = []
    highest = [row for row in by_score(catalogue.rows) if row.score is not None][:n]
    places = [_place(row, library) for row in highest]
    if places and not any(places):
        raise InputError(
            f"--library {library} holds none of the {len(places)} highest-scoring tracks of {catalogue.name}; "
            "name the folder that was scanned."
        )
    with Decoder(model.spec.audio) as decoder:
        for row, path in zip(highest, places, strict=True):
            try:
                if path is None:
                    raise InputError(f"it is not below {library}.")
                found[identity(row)] = _explain(row, path, catalogue, model, plan, decoder)
            except (AudioError, InputError) as error:
                notes.append(f"There is no evidence for {row.path}: {error}")
    return found, notes


def _explain(
    row: FileResult, path: Path, catalogue: Catalogue, model: Model, plan: WindowPlan, decoder: Decoder
) -> Explained:
    evidence = explain(os.fsencode(path), model, plan.first(row.windows + row.silent_windows), decoder)
    if row.score is None or abs(evidence.score - row.score) > _SAME_SCORE:
        raise InputError(f"its score is {evidence.score:.4f} now: the file has changed since the scan.")
    return explained(evidence, catalogue.thresholds, TRACK_SOUND_S, decoder)


def _place(row: FileResult, library: Path) -> Path | None:
    """The present path of a track; None if it is not below `library`."""
    return next((p for p in _places(row, library) if os.path.isfile(p)), None)  # noqa: PTH113 - any name is allowed


def _places(row: FileResult, library: Path) -> Iterator[Path]:
    """Possible paths of a track below `library`: the ends of its reported path, longest first."""
    parts = PurePosixPath(os.fsdecode(identity(row))).parts
    if ".." not in parts:
        for skipped in range(int(parts[0] == "/"), len(parts)):
            yield library.joinpath(*parts[skipped:])
