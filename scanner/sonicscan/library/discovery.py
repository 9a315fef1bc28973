"""Finds the files of a library: folders, files and file lists become a stream of `Track`s.

Listing yields tracks while it walks the tree, and stores only the folders still to be entered. So the first track is
scored at once, and a million files need no memory. A folder that cannot be read is yielded too, so that it gets a row.
Remote folders are listed at the same time as local ones, a few at a time. So a server that does not answer delays only
its own files.
"""

from __future__ import annotations

import functools
import os
import stat
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from sonicscan.calls import DEFAULT_TIMEOUT_S
from sonicscan.errors import InputError, RemoteError
from sonicscan.library import objects, remote
from sonicscan.library.beside import Beside
from sonicscan.library.lists import normal
from sonicscan.library.patterns import Matches, Patterns, Rule, ignore_file_of
from sonicscan.library.roots import prefix_of
from sonicscan.library.selection import Selection, in_shard
from sonicscan.library.tracks import Track, int64
from sonicscan.library.urls import Url, is_url, located

# Suffixes of sound files inside a folder; a file that is named itself is always scanned.
_SUFFIXES = (
    "3g2 3ga 3gp 3gpp 8svx aa3 aac aax ac3 adts aea aif aifc aiff alac amr ape asf au awb bwf caf dff dsf dts dtshd "
    "eac3 ec3 f4a flac iff ircam latm loas m4a m4b m4p m4r mac mka mp+ mp1 mp2 mp3 mp4 mpa mpc mpga mpp nist oga "
    "ogg ogx oma opus paf pvf qcp ra rf64 rm sd2 sf shn snd sph spx svx tak thd tta voc w64 wav wave weba webm wma "
    "wv xi xwma"
)
AUDIO_SUFFIXES = frozenset(_SUFFIXES.split())
# Files of operating systems: AppleDouble and NFS files may have a suffix of sound, and hold none.
_SYSTEM_PREFIXES, _SYSTEM_NAMES = ("._", ".nfs"), (".DS_Store", "Thumbs.db")

# Path, path below the root, and what is known of the file.
_Found = tuple[bytes, bytes, "os.DirEntry[bytes] | Track | None"]


@dataclass
class Listing:
    """An iterable of the tracks below `roots`; counts the files that it skips.

    Attributes:
        roots: files, folders and URLs, as given.
        selection: which files of the folders are wanted.
        timeout_s: how long a server may take for each answer.
        others: files left out because they do not have the suffix of a sound file.
        links: linked folders that were not entered.
        system_files: files left out because an operating system made them, such as `._*` and `.DS_Store`.
        left_out: what each pattern of --exclude and of the ignore files left out.
        notes: sentences about ignore files that are not used.
    """

    roots: tuple[bytes, ...]
    selection: Selection
    timeout_s: float = DEFAULT_TIMEOUT_S
    others: int = field(default=0, init=False)
    links: int = field(default=0, init=False)
    system_files: int = field(default=0, init=False)
    left_out: Matches = field(default_factory=Matches, init=False)
    notes: list[str] = field(default_factory=list, init=False)
    _taken: Matches = field(default_factory=Matches, init=False)

    def __iter__(self) -> Iterator[Track]:
        self.others = self.links = self.system_files = 0
        self.left_out, self._taken, self.notes = Matches(), Matches(), []
        seen: set[bytes] | None = set() if len(self.roots) > 1 else None
        for path, below, entry in self._all():
            # Before the shard: below another root the same file would be in another shard.
            if seen is not None:
                if path in seen:
                    continue
                seen.add(path)
            # URLs are listed in any order, so the first root that lists a file may be another one in another shard.
            if in_shard(entry.path if isinstance(entry, Track) else below, self.selection.shard):
                yield entry if isinstance(entry, Track) else _track(path, entry)

    @property
    def unmatched(self) -> list[Rule]:
        """The patterns of --include and --exclude that have matched nothing so far."""
        given = [(rule, self._taken) for rule in self.selection.included]
        given += [(rule, self.left_out) for rule in self.selection.excluded if rule.origin == "--exclude"]
        return [rule for rule, matches in given if not matches.of(rule) and not rule.text.startswith("!")]

    def _all(self) -> Iterator[_Found]:
        """Yields the tracks below all roots: local roots in their order, with tracks of remote roots in between."""
        remote_roots = [root for root in self.roots if is_url(root)]
        if not remote_roots:
            for root in self.roots:
                yield from self._below(root)
            return
        with Beside([functools.partial(self._below, root) for root in remote_roots]) as beside:
            for root in self.roots:
                if not is_url(root):
                    for found in self._below(root):
                        yield found
                        yield from beside.arrived()
            yield from beside.rest()

    def _below(self, root: bytes) -> Iterator[_Found]:
        """(path, path below the root, directory entry) of every wanted file."""
        if is_url(root):
            yield from self._below_url(Url(os.fsdecode(root)))
            return
        if not os.path.isdir(root):  # noqa: PTH112 - bytes, which pathlib does not take
            yield root, os.path.basename(root), None  # noqa: PTH119
            return
        prefix = prefix_of(root)
        wanted, left_out = self._filters(root)
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
                    continue  # links can give a folder more paths than there are files
                entered.add(identity)
            folders = []
            while found:
                entry = found.pop()  # it keeps its `stat` result: a million of them would take half a gigabyte
                path = below + entry.name
                if of_system(os.fsdecode(entry.name)):
                    self.system_files += 1
                    continue
                folder = _is_folder(entry)
                if left_out(path + b"/" if folder else path):
                    continue
                if folder:
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
            info = remote.info(url, self.timeout_s)
        except RemoteError:
            yield url.encoded(), os.fsencode(url.name), objects.unseen(url)
            return
        if info["type"] != "directory":
            yield url.encoded(), os.fsencode(url.name), objects.track_at(url, info)
            return
        wanted, left_out = self._filters(None)
        for below, track in objects.listed(url, left_out, self.timeout_s):
            if of_system(os.fsdecode(below.rpartition(b"/")[2])):
                self.system_files += 1
            elif wanted(below):
                yield track.address or track.path, below, track
            else:
                self.others += 1

    def _filters(self, root: bytes | None) -> tuple[Callable[[bytes], bool], Callable[[bytes], bool]]:
        """Which files below a root are wanted, and which files and folders are left out; None for a URL."""
        own: list[Rule] = []
        if root is not None and self.selection.ignore:
            try:
                own = ignore_file_of(root)
            except InputError as error:
                self.notes.append(str(error))
        excluded = [Patterns(rules, root or b".", self.left_out) for rules in (self.selection.excluded, own)]
        included = Patterns(self.selection.included, root or b".", self._taken)
        wanted = included.match if self.selection.include else _named_as_sound
        return wanted, lambda path: any(patterns.match(path) for patterns in excluded)


def of_system(name: str) -> bool:
    """Whether operating systems leave files of that name in folders; such a file is no sound and no report."""
    return name.startswith(_SYSTEM_PREFIXES) or name in _SYSTEM_NAMES


def listing(
    paths: Iterable[str | bytes | os.PathLike[str]],
    selection: Selection | None = None,
    timeout_s: float = DEFAULT_TIMEOUT_S,
) -> Listing:
    """The tracks of `paths`. A URL that is the only path is requested at once; otherwise it is requested in its turn.

    Args:
        paths: files, folders and URLs.
        selection: which files of the folders are wanted; None for all files with the suffix of a sound file.
        timeout_s: how long a server may take for each answer.

    Raises:
        InputError: a path that does not exist.
        RemoteError: a URL that does not exist, or cannot be requested.
    """
    roots = []
    given = list(paths)
    for path in given:
        place = located(path)
        if isinstance(place, Url):
            if len(given) == 1:
                remote.info(place, timeout_s)
            else:
                remote.filesystem(place)  # whether its package is installed
            roots.append(place.encoded())
            continue
        root = os.fsencode(place if is_url(path) else path)
        if not os.path.lexists(root):
            raise InputError(f"there is no file or folder {os.fsdecode(root)!r}.")
        roots.append(normal(root))
    return Listing(tuple(dict.fromkeys(roots)), selection or Selection(), timeout_s)


def _named_as_sound(path: bytes) -> bool:
    _, dot, suffix = path.rpartition(b".")
    return bool(dot) and suffix.lower().decode("ascii", "replace") in AUDIO_SUFFIXES


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
    return Track(path, status.st_size if stat.S_ISREG(status.st_mode) else -1, int64(status.st_mtime_ns))
