"""The journal: whatever rows go in come out, up to the last whole batch, for one scan at a time."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sonicscan.errors import STATUSES, ReportError
from sonicscan.report.row import FileResult
from sonicscan.report.schema import to_results
from sonicscan.scanning.journal import Journal

LAW = settings(derandomize=True, deadline=None, max_examples=80)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
FLOAT32 = st.floats(width=32, allow_nan=False, allow_infinity=False)
FLOAT = st.floats(allow_nan=False, allow_infinity=False)
INT32 = st.integers(-(2**31), 2**31 - 1)
RANGES = st.lists(st.fixed_dictionaries({"start_s": FLOAT32, "end_s": FLOAT32}), max_size=4)
ROWS = st.builds(
    FileResult,
    path=TEXT,
    path_raw=st.none() | st.binary(max_size=30),
    status=st.sampled_from(STATUSES),
    error=st.none() | TEXT,
    score=st.none() | FLOAT,
    verdict=st.sampled_from([None, "flagged", "review", "clear"]),
    p_value=st.none() | FLOAT,
    class_scores=st.none() | st.dictionaries(TEXT, FLOAT32, max_size=4),
    attribution=st.none() | TEXT,
    windows=INT32,
    silent_windows=INT32,
    window_starts_s=st.none() | st.lists(FLOAT32, max_size=5),
    window_margins=st.none() | st.lists(FLOAT32, max_size=5),
    flagged_s=st.none() | FLOAT,
    flagged_ranges=st.none() | RANGES,
    duration_s=st.none() | FLOAT,
    sample_rate=st.none() | INT32,
    channels=st.none() | st.integers(-(2**15), 2**15 - 1),
    codec=st.none() | TEXT,
    bandwidth_hz=st.none() | FLOAT32,
    loudness_db=st.none() | FLOAT32,
    decision=st.none() | TEXT,
    title=st.none() | TEXT,
    artist=st.none() | TEXT,
    album=st.none() | TEXT,
    isrc=st.none() | TEXT,
    content_hash=st.none() | TEXT,
    size=st.integers(-(2**63), 2**63 - 1),
    mtime_ns=st.integers(-(2**63), 2**63 - 1),
    warnings=st.lists(TEXT, max_size=3),
    elapsed_ms=st.none() | FLOAT32,
)


def row(k: int) -> FileResult:
    return FileResult(path=f"{k}.mp3", status="ok", score=1 / (k + 1), size=k, mtime_ns=k, warnings=["short"] * (k % 2))


def rows_of(journal: Journal) -> list[FileResult]:
    return list(to_results(journal.rows()))


def filled(path: Path, batches: list[list[FileResult]], key: str = "key") -> list[int]:
    """A closed journal of these batches; the file's size after each."""
    journal, sizes = Journal(path, key), []
    sizes.append(path.stat().st_size)
    for batch in batches:
        journal.append(batch)
        sizes.append(path.stat().st_size)
    journal.close()
    return sizes


@LAW
@given(st.lists(st.lists(ROWS, min_size=1, max_size=4), max_size=4))
def test_any_rows_come_out_as_they_went_in(
    tmp_path_factory: pytest.TempPathFactory, batches: list[list[FileResult]]
) -> None:
    path = tmp_path_factory.mktemp("journal") / "r.journal"
    filled(path, batches)
    again = Journal(path, "key")
    expected = [r for batch in batches for r in batch]
    assert len(again) == len(expected)
    assert rows_of(again) == expected
    again.append([row(1)])
    assert rows_of(again) == [*expected, row(1)]
    again.close()


def around(sizes: list[int], stride: int) -> list[int]:
    """Offsets all through a file, a stride apart, and all that lie close to its seams."""
    seams = {size + k for size in sizes for k in range(-4, 5)}
    return sorted(k for k in seams | set(range(0, sizes[-1], stride)) if 0 <= k < sizes[-1])


def test_cut_anywhere_it_is_read_up_to_the_last_good_batch(tmp_path: Path) -> None:
    path = tmp_path / "r.journal"
    batches = [[row(0)], [row(1), row(2)], [row(3)]]
    sizes = filled(path, batches)
    whole = path.read_bytes()
    for length in [*around(sizes, 211), len(whole)]:
        path.write_bytes(whole[:length])
        journal = Journal(path, "key")
        good = max([k for k, size in enumerate(sizes) if size <= length], default=0)
        expected = [r for batch in batches[:good] for r in batch]
        assert rows_of(journal) == expected, length
        journal.append([row(9)])
        assert rows_of(journal) == [*expected, row(9)], length
        journal.close()


@pytest.mark.parametrize(("flip", "stride"), [(0x01, 199), (0x80, 211), (0xFF, 223)])
def test_with_a_byte_flipped_no_row_is_wrong(flip: int, stride: int, tmp_path: Path) -> None:
    path = tmp_path / "r.journal"
    batches = [[row(0)], [row(1), row(2)], [row(3)]]
    sizes = filled(path, batches)
    whole = path.read_bytes()
    expected = [r for batch in batches for r in batch]
    kept, offsets = 0, around(sizes, stride)
    for at in offsets:
        path.write_bytes(whole[:at] + bytes([whole[at] ^ flip]) + whole[at + 1 :])
        try:
            journal = Journal(path, "key")
        except ReportError as error:
            assert at < sizes[0], at  # only a damaged beginning: it may be anything, and is not thrown away
            assert "journal" in str(error)
            continue
        rows = rows_of(journal)
        journal.close()
        assert rows == expected[: len(rows)], at
        good = (
            [r for batch in batches[: sum(size <= at for size in sizes) - 1] for r in batch] if at >= sizes[0] else []
        )
        assert len(rows) >= len(good), at
        kept += len(rows)
    assert kept > len(offsets)  # most flips cost the batches behind them, not those before


def test_another_key_is_never_mixed_in_nor_thrown_away_unasked(tmp_path: Path) -> None:
    path = tmp_path / "r.journal"
    filled(path, [[row(0)]], key="one")
    before = path.read_bytes()
    with pytest.raises(ReportError, match="another model, windows or version"):
        Journal(path, "two")
    assert path.read_bytes() == before
    fresh = Journal(path, "two", fresh=True)
    assert rows_of(fresh) == []
    fresh.close()


@pytest.mark.parametrize("content", [b"my thesis", b"\0" * 100, b"\xff\xff\xff\xff\xff\xff\xff\x7f" * 9, b"ARROW1\0\0"])
def test_a_file_that_is_no_journal_is_left_alone(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "r.journal"
    path.write_bytes(content)
    with pytest.raises(ReportError, match="not a journal"):
        Journal(path, "key")
    assert path.read_bytes() == content


def test_an_arrow_file_of_another_schema_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "r.journal"
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, pa.schema([("a", pa.int8())])) as writer:
        writer.write_table(pa.table({"a": pa.array([1], pa.int8())}))
    with pytest.raises(ReportError, match="left by a scan with another"):
        Journal(path, "key")


@pytest.mark.parametrize("content", [b"PAR1 a report", b"path,decision\n", b"RIFF", b"\0\0\0\x18ftypM4A "])
def test_a_fresh_scan_never_discards_a_file_that_is_no_journal(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "mine"
    path.write_bytes(content)
    with pytest.raises(ReportError, match="--fresh does not discard it"):
        Journal(path, "key", fresh=True)
    assert path.read_bytes() == content


@pytest.mark.parametrize("keep", [slice(0, 2), slice(0, 40), slice(0, 0)])
def test_a_fresh_scan_discards_a_damaged_journal(keep: slice, tmp_path: Path) -> None:
    path = tmp_path / "r.journal"
    whole = planted(path)
    for damaged in (whole[keep], bytes(100) + whole[100:]):
        path.write_bytes(damaged)
        journal = Journal(path, "key", fresh=True)
        assert rows_of(journal) == []
        journal.close()


def test_a_second_scan_is_refused_at_once(tmp_path: Path) -> None:
    path = tmp_path / "r.journal"
    journal = Journal(path, "key")
    code = (
        f"from sonicscan.scanning.journal import Journal; from pathlib import Path; Journal(Path({str(path)!r}), 'key')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=False)
    assert "another scan is writing" in done.stderr
    with pytest.raises(ReportError, match="another scan is writing"):
        Journal(path, "key", fresh=True)
    journal.append([row(0)])
    assert rows_of(journal) == [row(0)]
    journal.close()
    Journal(path, "key").close()  # closed is free


def test_rows_survive_the_death_of_the_process(tmp_path: Path) -> None:
    path = tmp_path / "r.journal"
    code = f"""
import os, sys
sys.path.insert(0, {str(Path(__file__).parents[1])!r})
from pathlib import Path
from sonicscan.scanning.journal import Journal
from sonicscan.report.row import FileResult
journal = Journal(Path({str(path)!r}), "key")
for k in range(20):
    journal.append([FileResult(path=f"{{k}}.mp3", status="ok", size=k, mtime_ns=k, warnings=[])])
os.kill(os.getpid(), 9)
"""
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == -9
    journal = Journal(path, "key")
    assert [r.path for r in rows_of(journal)] == [f"{k}.mp3" for k in range(20)]
    journal.close()


@pytest.mark.parametrize("replaced", [False, True])
def test_a_journal_that_is_taken_away_ends_the_scan(replaced: bool, tmp_path: Path) -> None:
    path = tmp_path / "r.journal"
    journal = Journal(path, "key")
    journal.append([row(0)])
    path.unlink()
    if replaced:
        path.write_bytes(b"something else")
    with pytest.raises(ReportError, match="removed or replaced"):
        journal.sync()
    journal.close()


def test_removed_when_the_report_is_written(tmp_path: Path) -> None:
    path = tmp_path / "r.journal"
    journal = Journal(path, "key")
    journal.append([row(0)])
    journal.remove()
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_there_or_not_a_folder(tmp_path: Path) -> None:
    for path in (tmp_path / "gone/r.journal", Path("/dev/null/r.journal")):
        with pytest.raises(ReportError, match="cannot be written"):
            Journal(path, "key")
    (tmp_path / "r.journal").mkdir()
    with pytest.raises(ReportError, match="cannot be written"):
        Journal(tmp_path / "r.journal", "key")


def test_synced_about_once_a_second(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    real = os.fsync
    monkeypatch.setattr(os, "fsync", lambda fd: (synced.append(fd), real(fd))[1])
    journal = Journal(tmp_path / "r.journal", "key")
    began = time.monotonic()
    while time.monotonic() - began < 2.5:
        journal.append([row(0)])
        time.sleep(0.01)
    assert 1 <= len(synced) <= 3
    journal.close()


def planted(path: Path) -> bytes:
    """The bytes of a journal with a row."""
    filled(path, [[row(7)]])
    return path.read_bytes()


@pytest.mark.parametrize("fresh", [False, True])
@pytest.mark.parametrize("kind", ["link", "dangling link", "fifo", "hard link"])
def test_what_another_user_can_plant_is_refused_and_left_as_it_is(kind: str, fresh: bool, tmp_path: Path) -> None:
    victim, path = tmp_path / "victim", tmp_path / "r.journal"
    if kind != "dangling link":
        victim.write_bytes(b"precious")
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "hard link":
        os.link(victim, path)
    else:
        path.symlink_to(victim)
    with pytest.raises(ReportError, match=r"is (a symbolic link|not a regular file|.*hard link).*--journal") as refused:
        Journal(path, "key", fresh)
    assert "--fresh" not in str(refused.value)
    assert not victim.exists() if kind == "dangling link" else victim.read_bytes() == b"precious"


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can make others' files")
@pytest.mark.parametrize("fresh", [False, True])
def test_a_journal_of_another_user_gives_no_rows(fresh: bool, tmp_path: Path) -> None:
    path = tmp_path / "r.journal"
    before = planted(path)
    os.chown(path, 12345, 12345)
    with pytest.raises(ReportError, match="a file of another user"):
        Journal(path, "key", fresh)
    assert path.read_bytes() == before


def test_rows_do_not_count_where_others_can_write(tmp_path: Path) -> None:
    path = tmp_path / "r.journal"
    before = planted(path)
    path.chmod(0o620)
    with pytest.raises(ReportError, match="other users can write to the journal"):
        Journal(path, "key")
    assert path.read_bytes() == before
    Journal(path, "key", fresh=True).close()  # it is this user's file


def test_only_this_user_can_read_a_new_journal(tmp_path: Path) -> None:
    filled(tmp_path / "r.journal", [[row(0)]])
    assert (tmp_path / "r.journal").stat().st_mode & 0o777 == 0o600


def test_rows_of_another_journal_or_in_another_order_do_not_count(tmp_path: Path) -> None:
    path, other = tmp_path / "r.journal", tmp_path / "other.journal"
    sizes = filled(path, [[row(0)], [row(1)]])
    mine = path.read_bytes()
    first = filled(other, [[row(7)]])
    forged = other.read_bytes()[first[0] :]
    one, two = mine[sizes[0] : sizes[1]], mine[sizes[1] :]
    for tail, expected in ((one + forged, [row(0)]), (forged, []), (two + one, []), (one + one, [row(0)])):
        path.write_bytes(mine[: sizes[0]] + tail)
        journal = Journal(path, "key")
        assert rows_of(journal) == expected
        journal.append([row(5)])
        assert rows_of(journal) == [*expected, row(5)]
        journal.close()


@pytest.mark.parametrize("batches", [1, 2, 1001])
def test_rows_stay_when_the_journal_is_cleared(batches: int, tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal", "key")
    for k in range(batches):
        journal.append([row(k)])
    table = journal.rows()
    journal.clear()
    assert list(to_results(table)) == [row(k) for k in range(batches)]
    journal.remove()
