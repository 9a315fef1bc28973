"""Finds the files of a library: folders, files and file lists become a stream of `Track`s.

Listing never waits for the end of the tree and keeps nothing but the folders still to be entered, so
that the first track is scored at once and a million files cost no memory. Whatever cannot be looked
into, a folder without permission for instance, is yielded too, so that it gets its row.
"""

from __future__ import annotations

import fnmatch
import hashlib
import os
import re
import stat
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import PurePath

from sonicscan.errors import InputError, RemoteError
from sonicscan.library import objects, remote
from sonicscan.library.remote import Url
from sonicscan.library.tracks import Track

# Names that are taken for sound inside a folder; a file that is named by itself is always taken.
_SUFFIXES = (
    "3ga aa3 aac ac3 adts aif aifc aiff alac amr ape asf au caf dff dsf dts eac3 f4a flac m4a m4b m4p m4r mka mp1 mp2 "
    "mp3 mp4 mpa mpc mpga oga ogg oma opus ra rf64 snd spx tak tta voc w64 wav wave weba webm wma wv"
)
AUDIO_SUFFIXES = frozenset(_SUFFIXES.split())


@dataclass(frozen=True)
class Selection:
    """Which files of the folders are wanted.

    Attributes:
        include: globs that a file must match one of; empty: the names that sound files have.
        exclude: globs that leave out a file, or a folder with all below it.
        follow_symlinks: whether linked folders are entered, each folder once, by the first way that
            leads to it. Linked files are always listed.
        shard: (i, n): only the i-th of n parts (1 <= i <= n), by digest of the path below its root.

    A glob with a slash is matched against the path below the folder that was named, one without
    against the name alone.
    """

    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    follow_symlinks: bool = False
    shard: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        if self.shard is not None and not 1 <= self.shard[0] <= self.shard[1]:
            raise InputError(f"--shard takes I/N with 1 <= I <= N, not {self.shard[0]}/{self.shard[1]}.")


def parse_shard(text: str) -> tuple[int, int]:
    """(i, n) from the command line's `--shard I/N`."""
    match = re.fullmatch(r"(\d+)/(\d+)", text)
    if not match:
        raise InputError(f"--shard takes I/N such as 1/8, not {text!r}.")
    return int(match[1]), int(match[2])


@dataclass
class Listing:
    """An iterable of the tracks below `roots`; counts what it passes over.

    Attributes:
        roots: files, folders and URLs, as given.
        selection: which files of the folders are wanted.
        others: files passed over because they are not named as sound.
        links: linked folders that were not entered.
    """

    roots: tuple[bytes, ...]
    selection: Selection
    others: int = field(default=0, init=False)
    links: int = field(default=0, init=False)

    def __iter__(self) -> Iterator[Track]:
        self.others = self.links = 0
        seen: set[bytes] | None = set() if len(self.roots) > 1 else None
        for root in self.roots:
            for path, below, entry in self._below(root):
                if not _in_shard(below, self.selection.shard):
                    continue
                if seen is not None:
                    if path in seen:
                        continue
                    seen.add(path)
                yield entry if isinstance(entry, Track) else _track(path, entry)

    def _below(self, root: bytes) -> Iterator[tuple[bytes, bytes, os.DirEntry[bytes] | Track | None]]:
        """(path, path below the root, directory entry) of every wanted file."""
        if remote.is_url(root):
            yield from self._below_url(Url(os.fsdecode(root)))
            return
        if not os.path.isdir(root):  # noqa: PTH112 - bytes, which pathlib does not take
            yield root, os.path.basename(root), None  # noqa: PTH119
            return
        prefix = b"" if root == b"." else root.rstrip(b"/") + b"/"
        wanted, left_out = self._filters()
        stack = [b""]  # folders still to be entered
        entered: set[tuple[int, int]] = set()
        while stack:
            below = stack.pop()
            here = prefix + below
            try:
                identity = _identity(here or b".") if self.selection.follow_symlinks else None
                with os.scandir(here or b".") as entries:
                    found = sorted(entries, key=lambda e: e.name, reverse=True)
            except OSError:
                yield here.rstrip(b"/") or b".", below, None
                continue
            if identity is not None:
                if identity in entered:
                    continue  # links can lead to a folder in more ways than there are files
                entered.add(identity)
            folders = []
            while found:
                entry = found.pop()  # it keeps what `stat` said of it: of a million, that would be half a gigabyte
                path = below + entry.name
                if left_out(path):
                    continue
                if _is_folder(entry):
                    if entry.is_symlink() and not self.selection.follow_symlinks:
                        self.links += 1
                    else:
                        folders.append(path + b"/")
                elif wanted(path):
                    yield prefix + path, path, entry
                else:
                    self.others += 1
            stack.extend(reversed(folders))

    def _below_url(self, url: Url) -> Iterator[tuple[bytes, bytes, Track]]:
        try:
            info = remote.info(url)
        except RemoteError:
            yield url.encoded(), os.fsencode(url.name), objects.unseen(url)
            return
        if info["type"] != "directory":
            yield url.encoded(), os.fsencode(url.name), objects.track_at(url, info)
            return
        wanted, left_out = self._filters()
        for below, track in objects.listed(url, left_out):
            if wanted(below):
                yield track.address or track.path, below, track
            else:
                self.others += 1

    def _filters(self) -> tuple[Callable[[bytes], bool], Callable[[bytes], bool]]:
        include, exclude = _matcher(self.selection.include), _matcher(self.selection.exclude)
        return (include if self.selection.include else _named_as_sound), exclude


def listing(paths: Iterable[str | bytes | os.PathLike[str]], selection: Selection | None = None) -> Listing:
    """The tracks of `paths`.

    Raises:
        InputError: a path that is not there.
        RemoteError: a URL that is not there, or cannot be asked for.
    """
    roots = []
    for path in paths:
        place = remote.located(path)
        if isinstance(place, Url):
            remote.info(place)
            roots.append(place.encoded())
            continue
        root = os.fsencode(place if remote.is_url(path) else path)
        if not os.path.lexists(root):
            raise InputError(f"there is no file or folder {os.fsdecode(root)!r}.")
        roots.append(_normal(root))
    return Listing(tuple(dict.fromkeys(roots)), selection or Selection())


def file_list(content: bytes, separator: bytes) -> list[bytes]:
    """The paths of a file list, one a line or NUL-separated; those that are not there stay in."""
    items = [item for item in content.split(separator) if item]
    if separator == b"\n" and all(item.endswith(b"\r") for item in items):  # written on Windows
        items = [item[:-1] for item in items if item != b"\r"]
    return [_normal(item) for item in items]


def _normal(path: bytes) -> bytes:
    """Without `./`, doubled and trailing slashes, so that one file has one name; URLs stay as they are."""
    place = remote.located(path)
    if isinstance(place, Url):
        return place.encoded()
    if remote.is_url(path):
        return os.fsencode(place)
    return os.fsencode(PurePath(os.fsdecode(path)))


def _named_as_sound(path: bytes) -> bool:
    _, dot, suffix = path.rpartition(b".")
    return bool(dot) and suffix.lower().decode("ascii", "replace") in AUDIO_SUFFIXES


def _matcher(globs: tuple[str, ...]) -> Callable[[bytes], bool]:
    names = [re.compile(fnmatch.translate(g)) for g in globs if "/" not in g]
    paths = [re.compile(fnmatch.translate(g.lstrip("/"))) for g in globs if "/" in g]

    def matches(path: bytes) -> bool:
        text = os.fsdecode(path)
        name = text.rpartition("/")[2]
        return any(p.match(name) for p in names) or any(p.match(text) for p in paths)

    return matches


def _in_shard(below: bytes, shard: tuple[int, int] | None) -> bool:
    if shard is None:
        return True
    index, count = shard
    return int.from_bytes(hashlib.sha256(below).digest()[:8], "big") % count == index - 1


def _is_folder(entry: os.DirEntry[bytes]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads to itself
        return False


def _identity(path: bytes) -> tuple[int, int]:
    status = os.stat(path)  # noqa: PTH116
    return status.st_dev, status.st_ino


def _track(path: bytes, entry: os.DirEntry[bytes] | None) -> Track:
    try:
        status = entry.stat() if entry is not None else os.stat(path)  # noqa: PTH116
    except OSError:
        return Track(path, -1, 0)
    return Track(path, status.st_size if stat.S_ISREG(status.st_mode) else -1, status.st_mtime_ns)
