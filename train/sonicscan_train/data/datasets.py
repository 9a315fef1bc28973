"""Data sets as lists of clips: manifests, a folder per class, SONICS, FMA, FakeMusicCaps.

Each loader only reads tables and names; nothing is decoded. `load` takes any number of data sets, each
as `PATH` or, if the folder does not show its layout, `KIND:PATH`.
"""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from sonicscan.audio.sources import open_source
from sonicscan.errors import AudioError, InputError
from sonicscan.library.discovery import listing
from sonicscan.library.selection import Selection
from sonicscan.spec import HUMAN
from sonicscan_train.data.clips import AI, Clip
from sonicscan_train.data.manifest import SUFFIXES, read_manifest, read_table

FAKEMUSICCAPS = ("MusicGen_medium", "musicldm", "audioldm2", "stable_audio_open", "mustango")
_FMA_SUBSETS = ("small", "medium", "large", "full")


def load(data: Sequence[str]) -> list[Clip]:
    """The clips of several data sets, one after the other.

    Args:
        data: `PATH` or `KIND:PATH` each; kinds are those of `LOADERS`.

    Raises:
        InputError: a data set is missing, has an unknown layout, or lacks a table or a column; or one file is in two
            data sets.
    """
    clips: list[Clip] = []
    for entry in data:
        kind, _, rest = entry.partition(":")
        known = kind in LOADERS and rest != ""
        path = Path(rest if known else entry)
        found = LOADERS[kind if known else detect(path)](path)
        if not found:
            raise InputError(f"the data set {entry} holds no audio.")
        clips += found
    seen: set[str] = set()
    for clip in clips:
        if clip.path in seen:
            raise InputError(f"{clip.path} is in the data twice.")
        seen.add(clip.path)
    return clips


def detect(path: Path) -> str:
    """The kind of data set that `path` is, a key of `LOADERS`."""
    if path.suffix.lower() in SUFFIXES:
        return "manifest"
    if not path.is_dir():
        raise InputError(f"there is no data set {path}.")
    if (path / "fake_songs.csv").is_file() or (path / "real_songs.csv").is_file():
        return "sonics"
    if any(path.glob("fma_*/tracks.csv")):
        return "fma"
    if any((path / name).is_dir() for name in FAKEMUSICCAPS):
        return "fakemusiccaps"
    if (path / "manifest.csv").is_file():
        return "manifest"
    return "folders"


def skip_unreadable(clips: Iterable[Clip], limit: str, warn: Callable[[str], None]) -> list[Clip]:
    """Leave out the clips that cannot be opened, naming each.

    Args:
        limit: `N` or `P%`: more than that is an error.
        warn: called with one line for each clip left out.

    Raises:
        InputError: more clips than `limit` cannot be opened, or `limit` is neither.
    """
    clips = list(clips)
    allowed = allowed_bad(limit, len(clips))
    kept = []
    bad = 0
    for clip in clips:
        try:
            open_source(clip.path.encode("utf-8", "surrogateescape")).close()
        except AudioError as error:
            bad += 1
            reason = "there is no such file" if error.status == "vanished" else str(error).rstrip(".")
            warn(f"left out: {clip.path}: {reason}")
            if bad > allowed:
                raise InputError(
                    f"more than {allowed} of {len(clips)} files are missing or cannot be read, the last one "
                    f"{clip.path} ({reason}); correct the data or raise --max-bad."
                ) from error
        else:
            kept.append(clip)
    return kept


def allowed_bad(text: str, total: int) -> int:
    """How many of `total` files `--max-bad N|P%` allows to be missing or unreadable."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)(%?)", text)
    if not match or (not match[2] and "." in match[1]):
        raise InputError(f"--max-bad takes a whole number or a percentage such as 5%, not {text!r}.")
    return int(float(match[1]) * total / 100) if match[2] else int(match[1])


def read_manifest_or_folder(path: Path) -> list[Clip]:
    """A manifest, or the folder that holds `manifest.csv`."""
    return read_manifest(path / "manifest.csv" if path.is_dir() else path)


def read_folders(root: Path) -> list[Clip]:
    """A folder per class, `human` and others; one folder below it, if there is one, is the source."""
    clips = []
    for path in _audio(root):
        label, *between = path.relative_to(root).parts[:-1] or [""]
        if not label:
            raise InputError(f"{path} lies in no class folder; expected {root}/human/ and others beside it.")
        source = between[0] if between else label
        clips.append(Clip(str(path), label, source, group=str(path.relative_to(root).with_suffix(""))))
    return clips


def read_sonics(root: Path) -> list[Clip]:
    """SONICS: `real_songs.csv`, `fake_songs.csv`, and audio in folders of the same names.

    Fakes of one prompt (`fake_00001_suno_0` and `_1`) share their id, and so their group; songs by people
    are grouped by artist through `Clip.artist`. The source of a fake is its algorithm, such as chirp-v3.
    """
    clips = []
    for kind in ("real", "fake"):
        table = root / f"{kind}_songs.csv"
        if not table.is_file():
            continue
        names = {path.stem: path for path in _audio(root / f"{kind}_songs")}
        for row in _rows_with(table, ("id", "filename")):
            path = names.get(row["filename"], root / f"{kind}_songs" / f"{row['filename']}.mp3")
            real = kind == "real"
            part = {"train": "train", "valid": "valid", "test": "test"}.get(row.get("split", ""), "")
            clips.append(
                Clip(
                    str(path),
                    HUMAN if real else AI,
                    source="sonics-real" if real else row.get("algorithm") or row.get("source") or AI,
                    group=f"sonics-{kind}-{row['id']}",
                    artist=f"sonics/{row['artist']}" if row.get("artist") else "",
                    part=part,
                )
            )
    if not clips:
        raise InputError(f"{root} holds neither real_songs.csv nor fake_songs.csv.")
    return clips


def read_fma(root: Path) -> list[Clip]:
    """FMA: `fma_metadata/tracks.csv` and `fma_small|medium|large|full/000/000002.mp3`; all by people.

    The source is the track's top genre, which distinguishes most studios and styles in the tables.
    """
    table = next(iter(sorted(root.glob("fma_*/tracks.csv"))), root / "tracks.csv")
    audio = next((root / f"fma_{s}" for s in reversed(_FMA_SUBSETS) if (root / f"fma_{s}").is_dir()), None)
    if not table.is_file() or audio is None:
        raise InputError(f"{root} is not FMA: expected fma_metadata/tracks.csv and a folder such as fma_medium.")
    subsets = _FMA_SUBSETS[: _FMA_SUBSETS.index(audio.name.removeprefix("fma_")) + 1]
    parts = {"training": "train", "validation": "valid", "test": "test"}
    clips = []
    for number, row in _fma_rows(table):
        if row["set", "subset"] not in subsets:
            continue
        clips.append(
            Clip(
                str(audio / f"{number // 1000:03d}" / f"{number:06d}.mp3"),
                HUMAN,
                source=f"fma-{row['track', 'genre_top'] or 'other'}",
                group=f"fma-{number}",
                artist=f"fma/{row['artist', 'id']}" if row["artist", "id"] else "",
                part=parts.get(row["set", "split"], ""),
            )
        )
    return clips


def _fma_rows(table: Path) -> Iterator[tuple[int, Mapping[tuple[str, str], str]]]:
    """Track number and row, by the two lines of column names."""
    wanted = [("set", "subset"), ("set", "split"), ("artist", "id"), ("track", "genre_top")]
    try:
        with table.open(newline="", encoding="utf-8") as file:
            lines = csv.reader(file)
            columns = list(zip(next(lines, []), next(lines, []), strict=False))
            missing = [name for name in wanted if name not in columns]
            if missing:
                raise InputError(f"{table} has no column {missing[0]}; is it FMA's tracks.csv?")
            for line in lines:
                if line and line[0].isdecimal():  # the third line names the index
                    yield int(line[0]), {name: line[columns.index(name)] for name in wanted}
    except (OSError, UnicodeDecodeError, csv.Error, IndexError) as error:
        raise InputError(f"{table} is damaged or cannot be read ({error}); copy FMA's tracks.csv again.") from error


def read_fakemusiccaps(root: Path) -> list[Clip]:
    """FakeMusicCaps: a folder per generator and, where it was downloaded, MusicCaps; `{ytid}.wav` in each."""
    names = [name for name in ("MusicCaps", *FAKEMUSICCAPS) if (root / name).is_dir()]
    if not names:
        raise InputError(f"{root} is not FakeMusicCaps: expected folders such as {FAKEMUSICCAPS[0]}.")
    return [
        Clip(str(path), HUMAN if name == "MusicCaps" else AI, source=name, group=f"musiccaps-{path.stem}")
        for name in names
        for path in _audio(root / name)
    ]


LOADERS: Mapping[str, Callable[[Path], list[Clip]]] = {
    "manifest": read_manifest_or_folder,
    "folders": read_folders,
    "sonics": read_sonics,
    "fma": read_fma,
    "fakemusiccaps": read_fakemusiccaps,
}


def _audio(root: Path) -> list[Path]:
    """The files below a folder that the scanner would find there, those of linked folders included."""
    if not root.is_dir():
        return []
    found = listing([root], Selection(follow_symlinks=True))
    return sorted(Path(os.fsdecode(track.path)) for track in found)


def _rows_with(table: Path, columns: Sequence[str]) -> list[dict[str, str]]:
    rows = read_table(table)
    for name in columns:
        if rows and name not in rows[0]:
            raise InputError(f"{table} has no column `{name}`; it has {', '.join(rows[0])}.")
    return rows
