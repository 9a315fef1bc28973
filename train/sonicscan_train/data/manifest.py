"""Manifests: CSV or Parquet tables with one row a track.

Columns `path` and `label` are required; `source` (or `generator`), `group`, `artist` and `split` are
known; all others are kept for `audit`. Paths are relative to the manifest. A split is written as a
manifest too, so that whatever reads a manifest reads a split. The columns path and group may hold names of files that
are not UTF-8, as the bytes that they are.
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from sonicscan.errors import InputError, ReportError
from sonicscan.files import replacing
from sonicscan_train.data.clips import PARTS, Clip

SUFFIXES = (".csv", ".parquet")
_SOURCE_NAMES = ("source", "generator")
_FILE_NAMES = ("path", "group")
# Names that data sets use for the parts of their official splits.
_PARTS = {part: part for part in PARTS} | {"training": "train", "validation": "valid", "val": "valid", "dev": "valid"}


def read_manifest(path: Path) -> list[Clip]:
    """The clips of a manifest, in its order. Without a group, a clip is a group of its own.

    Raises:
        InputError: not there, not CSV or Parquet, a required column missing, a row without path
            or label, or a split that is not one.
    """
    rows = read_table(path)
    if not rows:
        raise InputError(f"the manifest {path} has no rows.")
    missing = [name for name in ("path", "label") if name not in rows[0]]
    if missing:
        raise InputError(f"the manifest {path} has no column `{missing[0]}`; it has {', '.join(rows[0])}.")
    source_name = next((name for name in _SOURCE_NAMES if name in rows[0]), None)
    known = {"path", "label", "group", "artist", "split", *_SOURCE_NAMES}
    clips = []
    for number, row in enumerate(rows, start=2):
        name, label, part = row["path"], row["label"], row.get("split", "")
        if not name or not label:
            raise InputError(f"the manifest {path} has no {'path' if not name else 'label'} in row {number}.")
        if part and part.lower() not in _PARTS:
            known_parts = ", ".join(PARTS)
            raise InputError(f"the manifest {path} has the split {part!r} in row {number}; known are {known_parts}.")
        clips.append(
            Clip(
                path=str(path.parent / name),
                label=label,
                source=(row[source_name] if source_name else "") or label,
                group=row.get("group", "") or name,
                artist=row.get("artist", ""),
                part=_PARTS[part.lower()] if part else "",
                extra={key: value for key, value in row.items() if key not in known},
            )
        )
    return clips


def read_table(path: Path) -> list[dict[str, str]]:
    """Rows of a CSV or Parquet file, every cell as text (empty for null), stripped of blanks.

    Raises:
        InputError: not there, or not such a file.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise InputError(f"the manifest {path} must be a .csv or .parquet file.")
    if not path.is_file():
        raise InputError(f"there is no manifest {path}.")
    if path.suffix.lower() == ".parquet":
        return _read_parquet(path)
    try:
        with path.open(newline="", encoding="utf-8-sig", errors="surrogateescape") as file:
            rows = [{k: (v or "").strip() for k, v in row.items() if k} for row in csv.DictReader(file, strict=True)]
        for row in rows:
            for name, value in row.items():
                (name if name in _FILE_NAMES else name + value).encode()
        return rows
    except (UnicodeError, csv.Error) as error:
        raise InputError(f"the manifest {path} is not CSV in UTF-8 ({error}).") from error
    except OSError as error:
        raise InputError(f"the manifest {path} cannot be read: {error.strerror or error}.") from error


def _read_parquet(path: Path) -> list[dict[str, str]]:
    import pyarrow as pa

    from sonicscan.report.bounded import read_bounded

    try:
        table = read_bounded(path)
    except (OSError, pa.ArrowException, ReportError) as error:
        raise InputError(f"the manifest {path} is not a Parquet file that can be read ({error}).") from error
    return [{k: "" if v is None else str(v).strip() for k, v in row.items()} for row in table.to_pylist()]


def write_split(clips: Sequence[Clip], path: Path) -> None:
    """Write clips with their parts as a CSV manifest; it appears whole, by rename.

    Paths are written relative to the manifest, so that data and split can be moved together.

    Raises:
        InputError: the file cannot be written.
    """
    extra = sorted({key for clip in clips for key in clip.extra})
    header = ["path", "label", "source", "group", "artist", "split", *extra]
    write_table(path, header, (_cells(clip, path.parent, extra) for clip in clips))


def write_table(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a CSV file that appears whole, by rename.

    Raises:
        InputError: the file cannot be written.
    """
    try:
        with replacing(path) as file:
            text = io.TextIOWrapper(file, encoding="utf-8", errors="surrogateescape", newline="", write_through=True)
            writer = csv.writer(text)
            writer.writerow(header)
            writer.writerows(rows)
            text.detach()
    except OSError as error:
        raise InputError(f"the table {path} cannot be written: {error.strerror or error}.") from error


def _cells(clip: Clip, folder: Path, extra: Iterable[str]) -> list[str]:
    name = _relative(clip.path, folder)
    return [name, clip.label, clip.source, clip.group, clip.artist, clip.part, *(clip.extra.get(k, "") for k in extra)]


def _relative(path: str, folder: Path) -> str:
    """The path of a file from a folder; `..` after a symbolic link leads elsewhere, so links are then resolved."""
    plain = os.path.relpath(path, folder)
    if os.path.realpath(folder / plain) == os.path.realpath(path):
        return plain
    place = Path(path)
    return os.path.relpath(os.path.realpath(place.parent) + os.sep + place.name, os.path.realpath(folder))
