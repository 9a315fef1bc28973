"""Finding files: whatever the tree and the names, each file once, and in exactly one shard."""

from __future__ import annotations

import gc
import itertools
import os
import socket
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sonicscan.errors import InputError
from sonicscan.library.discovery import Listing, listing
from sonicscan.library.selection import Selection, parse_shard
from sonicscan.library.tracks import Track

LAW = settings(derandomize=True, deadline=None, max_examples=150)


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


def found(root: Path, **selection: object) -> list[str]:
    """Paths below `root`, as listed."""
    tracks = list(listing([root], Selection(**selection)))  # type: ignore[arg-type]
    return [os.fsdecode(track.path).removeprefix(f"{root}/") for track in tracks]


def test_files_named_as_sound_in_order(tmp_path: Path) -> None:
    names = ["b/2.MP3", "b/1.flac", "a/x.m4a", "c.Opus", "c.txt", "cover.jpg", "noext", "a/.hidden.mp3", "a/._x.mp3"]
    touch(*(tmp_path / name for name in names))
    tracks = listing([tmp_path])
    paths = [os.fsdecode(t.path).removeprefix(f"{tmp_path}/") for t in tracks]
    assert paths == ["c.Opus", "a/.hidden.mp3", "a/x.m4a", "b/1.flac", "b/2.MP3"]
    assert (tracks.others, tracks.system_files) == (3, 1)
    assert [t.path for t in tracks] == [t.path for t in tracks]  # a listing can be walked again
    assert tracks.others == 3


def test_a_track_knows_size_and_time(tmp_path: Path) -> None:
    (tmp_path / "x.mp3").write_bytes(b"12345")
    os.utime(tmp_path / "x.mp3", ns=(1, 1_600_000_000_123_456_789))
    assert list(listing([tmp_path])) == [Track(os.fsencode(tmp_path / "x.mp3"), 5, 1_600_000_000_123_456_789)]


def test_a_file_named_by_itself_is_taken_whatever_its_name(tmp_path: Path) -> None:
    touch(tmp_path / "data.bin")
    assert [t.path for t in listing([tmp_path / "data.bin"])] == [os.fsencode(tmp_path / "data.bin")]


def test_a_file_reached_twice_is_listed_once(tmp_path: Path) -> None:
    touch(tmp_path / "a/1.mp3", tmp_path / "2.mp3")
    roots = [tmp_path / "a", tmp_path, f"{tmp_path}/a/", f"{tmp_path}//a/./1.mp3", tmp_path / "2.mp3"]
    assert sorted(t.path for t in listing(roots)) == [os.fsencode(tmp_path / n) for n in ("2.mp3", "a/1.mp3")]


def test_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path / "a/1.mp3")
    monkeypatch.chdir(tmp_path)
    assert [t.path for t in listing(["."])] == [t.path for t in listing(["./a"])] == [b"a/1.mp3"]


def test_a_path_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no file or folder"):
        listing([tmp_path / "gone"])


def test_links(tmp_path: Path) -> None:
    touch(tmp_path / "real/1.mp3", tmp_path / "elsewhere.wav")
    root = tmp_path / "root"
    root.mkdir()
    (root / "folder").symlink_to(tmp_path / "real")
    (root / "file.wav").symlink_to(tmp_path / "elsewhere.wav")
    (root / "broken.mp3").symlink_to("nowhere")
    (root / "self.mp3").symlink_to("self.mp3")
    tracks = listing([root])
    assert [Path(os.fsdecode(t.path)).name for t in tracks] == ["broken.mp3", "file.wav", "self.mp3"]
    assert [t.size for t in tracks] == [-1, 1, -1]
    assert tracks.links == 1
    assert found(root, follow_symlinks=True) == ["broken.mp3", "file.wav", "self.mp3", "folder/1.mp3"]
    assert [t.path for t in listing([root / "folder"])] == [os.fsencode(root / "folder/1.mp3")]  # named: entered


def test_loops_and_diamonds_of_links_end(tmp_path: Path) -> None:
    touch(tmp_path / "a/1.mp3")
    (tmp_path / "a/up").symlink_to("..")
    (tmp_path / "a/here").symlink_to(".")
    assert found(tmp_path, follow_symlinks=True) == ["a/1.mp3"]
    # Twenty-five folders, each with two links to the next: 2^25 ways to the last.
    for k in range(25):
        touch(tmp_path / f"chain/{k}/{k}.mp3")
        for link in ("l", "r"):
            (tmp_path / f"chain/{k}/{link}").symlink_to(f"../{k + 1}")
    (tmp_path / "chain/25").mkdir()
    assert sorted(Path(p).name for p in found(tmp_path / "chain", follow_symlinks=True)) == sorted(
        f"{k}.mp3" for k in range(25)
    )


@pytest.mark.parametrize(
    "name",
    [
        b"new\nline.mp3",
        b"tab\t.mp3",
        b"\xff\xfe\x80.mp3",
        b"-rf.mp3",
        b"\x1b[31m.mp3",
        "‮3pm.mp3".encode(),
        b"a" * 251 + b".mp3",
        b"'; $(touch x) `y` \".mp3",
        b"%s%n.mp3",
        b"\\xff.mp3",
    ],
)
def test_any_name(name: bytes, tmp_path: Path) -> None:
    path = os.fsencode(tmp_path) + b"/" + name
    with open(path, "wb"):  # noqa: PTH123 - bytes, which pathlib does not take
        pass
    (track,) = listing([tmp_path])
    assert track.path == path
    assert track.name.encode()
    if track.path_raw is None:
        assert track.name.encode() == path
    else:
        assert track.path_raw == path


@LAW
@given(st.binary(min_size=1, max_size=40).filter(lambda b: b"\0" not in b))
def test_a_name_is_its_bytes_or_comes_with_them(path: bytes) -> None:
    track = Track(path, 0, 0)
    assert (track.path_raw if track.path_raw is not None else track.name.encode()) == path


def test_what_is_neither_file_nor_folder_is_listed(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo.mp3")
    with socket.socket(socket.AF_UNIX) as unix:
        unix.bind(str(tmp_path / "s.wav"))
        tracks = list(listing([tmp_path]))
    assert [(Path(os.fsdecode(t.path)).name, t.size) for t in tracks] == [("fifo.mp3", -1), ("s.wav", -1)]


def test_a_tree_too_deep_for_a_path_ends_in_a_row(tmp_path: Path) -> None:
    """2,000 levels: below 4,096 bytes of path all is found, and the folder that is too far down has its row."""
    levels, name = 2000, "deep"
    here = os.open(tmp_path, os.O_RDONLY)
    for _ in range(levels):
        os.mkdir(name, dir_fd=here)
        below = os.open(name, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
        os.close(os.open("x.mp3", os.O_CREAT | os.O_WRONLY, dir_fd=here))
    os.close(here)
    tracks = list(listing([tmp_path]))
    assert sum(t.path.endswith(b"/x.mp3") for t in tracks) > 700
    (other,) = [t for t in tracks if not t.path.endswith(b"/x.mp3")]
    assert other.size == -1
    assert len(other.path) > 4000
    for follow in (False, True):
        assert len(list(listing([tmp_path], Selection(follow_symlinks=follow)))) == len(tracks)
    _remove_deep(tmp_path, name, levels)


def _remove_deep(root: Path, name: str, levels: int) -> None:
    """shutil.rmtree recurses; this climbs down and up by descriptor."""
    chain = [os.open(root, os.O_RDONLY)]
    for _ in range(200):
        chain.append(os.open(name, os.O_RDONLY, dir_fd=chain[-1]))
    for fd in chain:
        os.close(fd)
    # Halve the depth by moving subtrees to the top until each is shallow.
    top = os.open(root, os.O_RDONLY)
    count = 0
    while levels > 0:
        here, depth = os.dup(top), 0
        while depth < min(400, levels):
            below = os.open(name, os.O_RDONLY, dir_fd=here)
            os.close(here)
            here, depth = below, depth + 1
        levels -= depth
        if levels > 0:
            os.rename(name, "rest", src_dir_fd=here, dst_dir_fd=top)
        os.close(here)
        os.rename(name, f"part{count}", src_dir_fd=top, dst_dir_fd=top)
        count += 1
        if levels > 0:
            os.rename("rest", name, src_dir_fd=top, dst_dir_fd=top)
    os.close(top)


def test_a_folder_that_cannot_be_entered_has_its_row(tmp_path: Path) -> None:
    touch(tmp_path / "open/1.mp3", tmp_path / "shut/2.mp3")
    (tmp_path / "shut").chmod(0)
    try:
        if os.access(tmp_path / "shut", os.R_OK):
            pytest.skip("permissions do not bind this user")
        assert found(tmp_path) == ["open/1.mp3", "shut"]
    finally:
        (tmp_path / "shut").chmod(0o755)


def test_a_hundred_thousand_files_in_one_folder(tmp_path: Path) -> None:
    for k in range(100_000):
        os.close(os.open(f"{tmp_path}/{k:06d}.mp3", os.O_CREAT | os.O_WRONLY))
    tracks = [t.path for t in listing([tmp_path])]
    assert tracks == [os.fsencode(tmp_path / f"{k:06d}.mp3") for k in range(100_000)]


@LAW
@given(
    st.sets(st.binary(min_size=1, max_size=12).filter(lambda b: not set(b) & set(b"\0/.")), max_size=30),
    st.integers(1, 9),
)
def test_every_file_is_in_exactly_one_shard(names: set[bytes], n: int) -> None:
    roots = tuple(sorted(names))
    parts = [[t.path for t in Listing(roots, Selection(shard=(i, n)))] for i in range(1, n + 1)]
    assert sorted(path for part in parts for path in part) == list(roots)


def test_a_file_below_two_roots_is_in_exactly_one_shard(tmp_path: Path) -> None:
    for k in range(20):
        path = tmp_path / "albums" / f"{k}.mp3"
        path.parent.mkdir(exist_ok=True)
        path.touch()
    roots = (os.fsencode(tmp_path), os.fsencode(tmp_path / "albums"))
    parts = [[track.path for track in Listing(roots, Selection(shard=(i, 2)))] for i in (1, 2)]
    assert len(parts[0]) + len(parts[1]) == 20 == len({*parts[0], *parts[1]})


def test_a_shard_does_not_depend_on_where_the_library_lies(tmp_path: Path) -> None:
    for root in ("here", "elsewhere/and/deeper"):
        touch(*(tmp_path / root / f"{k % 7}/{k}.mp3" for k in range(60)))
    for i in (1, 2, 3):
        part = found(tmp_path / "here", shard=(i, 3))
        assert part == found(tmp_path / "elsewhere/and/deeper", shard=(i, 3))
        assert 5 < len(part) < 35


@pytest.mark.parametrize("text", ["", "1", "0/3", "4/3", "1/0", "-1/3", "a/b", "1/3/5", "1.0/3", "/"])
def test_nonsense_shards_are_refused(text: str) -> None:
    with pytest.raises(InputError, match="--shard takes I/N"):
        Selection(shard=parse_shard(text))


def test_listed_files_that_are_gone_stay_in(tmp_path: Path) -> None:
    tracks = list(Listing((os.fsencode(tmp_path / "gone.mp3"),), Selection()))
    assert tracks == [Track(os.fsencode(tmp_path / "gone.mp3"), -1, 0)]


def test_a_folder_takes_no_more_memory_as_its_files_are_listed(tmp_path: Path) -> None:
    for k in range(3000):
        (tmp_path / f"{k}.mp3").touch()
    tracks = iter(listing([tmp_path]))
    next(tracks)
    gc.collect()
    tracemalloc.start()
    try:
        for _ in itertools.islice(tracks, 2500):
            pass
        grown = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert grown < 50_000
