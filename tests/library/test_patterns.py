"""--include, --exclude and ignore files: patterns as in .gitignore, counted, from files that can be trusted."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from sonicscan.errors import InputError
from sonicscan.library.discovery import Listing, listing
from sonicscan.library.patterns import IGNORE_FILE
from sonicscan.library.selection import Selection

NAMES = ["1.mp3", "b.flac", "live/2.mp3", "live/old/3.mp3", "live/raw.dat", "x/Backup/4.mp3", "Backup/5.mp3", "#6.mp3"]
ALL = {name for name in NAMES if not name.endswith(".dat")}
OTHER_USER = 12345


@pytest.fixture
def library(tmp_path: Path) -> Path:
    for name in NAMES:
        path = tmp_path / "library" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    return tmp_path / "library"


def listed(root: Path, **selection: object) -> tuple[set[str], Listing]:
    """The paths below `root`, and the listing that gave them."""
    tracks = listing([root], Selection(**selection))  # type: ignore[arg-type]
    return {os.fsdecode(track.path).removeprefix(f"{root}/") for track in tracks}, tracks


@pytest.mark.parametrize(
    ("exclude", "gone"),
    [
        ("Backup/", {"x/Backup/4.mp3", "Backup/5.mp3"}),
        ("Backup", {"x/Backup/4.mp3", "Backup/5.mp3"}),
        ("./Backup", {"Backup/5.mp3"}),
        ("/Backup", {"Backup/5.mp3"}),
        ("**/Backup", {"x/Backup/4.mp3", "Backup/5.mp3"}),
        ("x/**", {"x/Backup/4.mp3"}),
        ("live/*.mp3", {"live/2.mp3"}),
        ("live/**/*.mp3", {"live/2.mp3", "live/old/3.mp3"}),
        ("live/old", {"live/old/3.mp3"}),
        ("[12].mp3", {"1.mp3", "live/2.mp3"}),
        ("#6.mp3", {"#6.mp3"}),
        ("1.mp3/", set()),
    ],
)
def test_exclude_is_what_gitignore_says(exclude: str, gone: set[str], library: Path) -> None:
    found, tracks = listed(library, exclude=(exclude,))
    assert found == ALL - gone
    assert [rule.text for rule in tracks.unmatched] == ([] if gone else [exclude])
    git = shutil.which("git")
    if git and exclude != "./Backup" and not exclude.startswith("#"):  # these two are forms of the command line
        subprocess.run([git, "init", "-q", library], check=True)
        (library / ".gitignore").write_text(exclude + "\n")
        ignored = subprocess.run(
            [git, "-c", "safe.directory=*", "ls-files", "-oi", "--exclude-standard"],
            cwd=library, capture_output=True, check=True, text=True,
        ).stdout.split("\n")  # fmt: skip
        assert {name for name in ignored if name in ALL} == gone


def test_an_absolute_pattern_below_the_library_is_found(library: Path) -> None:
    assert listed(library, exclude=(f"{library}/live",))[0] == {n for n in ALL if not n.startswith("live")}
    found, tracks = listed(library, exclude=("/elsewhere/live",))
    assert found == ALL
    assert [rule.text for rule in tracks.unmatched] == ["/elsewhere/live"]


@pytest.mark.parametrize(
    ("pattern", "words"),
    [
        ("../x", "cannot hold `..`"),
        (" ", "empty"),
        ("\\", "not a pattern as in"),
        ("[Deluxe-Edition]/", "not a pattern"),
    ],
)
def test_patterns_that_make_no_sense_are_refused(pattern: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        Selection(exclude=(pattern,))


def test_include(library: Path) -> None:
    assert listed(library, include=("*.dat", "1.*"))[0] == {"1.mp3", "live/raw.dat"}
    assert listed(library, include=("live/",))[0] == {"live/2.mp3", "live/old/3.mp3", "live/raw.dat"}
    assert listed(library, include=("*.mp3",), exclude=("old",))[0] == {n for n in ALL if "mp3" in n and "old" not in n}
    assert listed(library, include=("*.mp3", "!1.mp3"))[0] == {n for n in ALL if n.endswith("mp3") and n != "1.mp3"}
    assert [rule.text for rule in listed(library, include=("*.xyz",))[1].unmatched] == ["*.xyz"]


def test_the_ignore_file_of_a_library_leaves_out_and_is_counted(library: Path) -> None:
    (library / IGNORE_FILE).write_text("# what we do not want\n\nlive/\n*.flac\n!b.flac\n")
    found, tracks = listed(library)
    assert found == {name for name in ALL if not name.startswith("live")}
    (rule,) = tracks.left_out.rules
    assert (rule.text, rule.origin) == ("live/", str(library / IGNORE_FILE))
    assert (tracks.left_out.files[rule], tracks.left_out.folders[rule]) == (0, 1)
    assert listed(library, ignore=False)[0] == ALL
    (library / "live" / IGNORE_FILE).write_text("*\n")  # only at the root
    (library / IGNORE_FILE).unlink()
    assert listed(library)[0] == ALL


def test_an_ignore_file_that_others_may_write_is_not_used_and_named(library: Path) -> None:
    (library / IGNORE_FILE).write_text("*\n")
    (library / IGNORE_FILE).chmod(0o666)
    found, tracks = listed(library)
    assert found == ALL
    assert "other users may write it" in tracks.notes[0]
    assert str(library / IGNORE_FILE) in tracks.notes[0]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
@pytest.mark.parametrize("linked", [False, True])
def test_a_strangers_ignore_file_is_not_used_and_named(linked: bool, library: Path, tmp_path: Path) -> None:
    """A link of a stranger to a file of the user counts as the stranger's."""
    path = library / IGNORE_FILE
    if linked:
        (tmp_path / "notes.txt").write_text("*\n")
        path.symlink_to(tmp_path / "notes.txt")
    else:
        path.write_text("*\n")
    os.chown(path, OTHER_USER, OTHER_USER, follow_symlinks=False)
    found, tracks = listed(library)
    assert found == ALL
    assert "belongs to another user" in tracks.notes[0]


def test_what_is_no_regular_file_is_no_ignore_file(library: Path) -> None:
    os.mkfifo(library / IGNORE_FILE)
    found, tracks = listed(library)
    assert found == ALL
    assert "not a regular file" in tracks.notes[0]


def test_ignore_files_that_are_named_are_used_whoever_owns_them(library: Path, tmp_path: Path) -> None:
    (tmp_path / "more").write_bytes("\ufeff*.mp3\r\n".encode())
    (tmp_path / "more").chmod(0o666)
    assert listed(library, ignore_files=(tmp_path / "more",))[0] == {"b.flac"}
    with pytest.raises(InputError, match="cannot be read"):
        listed(library, ignore_files=(tmp_path / "gone",))


def test_files_of_operating_systems_are_passed_over_and_counted(library: Path) -> None:
    for name in ("._1.mp3", ".DS_Store", "Thumbs.db", ".nfs000001.mp3", "live/._2.mp3"):
        (library / name).write_bytes(b"x")
    found, tracks = listed(library, include=("*",))
    assert found == set(NAMES)
    assert tracks.system_files == 5
    assert [track.path for track in listing([library / "._1.mp3"])] == [os.fsencode(library / "._1.mp3")]
