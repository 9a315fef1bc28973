"""The program as people run it: real processes, real files, stdout that holds data and nothing else."""

from __future__ import annotations

import csv
import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from faults import PROGRAM
from synthesis import calibrated, music, write_model

from sonicscan.cli.demo import write_sound
from sonicscan.files import sha256_of
from sonicscan.model.bundled import DEFAULT, bundled_models
from sonicscan.report.metadata import metadata_of
from sonicscan.report.readers import read_report
from sonicscan.report.schema import SCHEMA
from sonicscan.spec import ModelSpec

MakeModel = Callable[..., Path]
Done = subprocess.CompletedProcess[bytes]
CARDS = {"sonic-small-v2": "model-card.md", "sonic-lambda-v2": "lambda-card.md"}


def sonicscan(*arguments: str | Path | bytes, cwd: Path | None = None, stdin: bytes = b"") -> Done:
    """Run the program in a process of its own."""
    command: Sequence[str | Path | bytes] = [PROGRAM, *arguments]
    return subprocess.run(command, capture_output=True, cwd=cwd, input=stdin, check=False, timeout=120)


def rows(path: Path) -> dict[str, dict[str, Any]]:
    return {row["path"]: row for row in pq.read_table(path).to_pylist()}


@pytest.fixture(scope="session")
def troubled_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one file of each kind of failure, and three good files."""
    root = tmp_path_factory.mktemp("troubled")
    good = music(8.0)
    write_sound(root / "good.wav", good)
    write_sound(root / "x.mp3", good)
    (root / "._x.mp3").write_bytes(b"\0\5\26\7\0\2\0\0Mac OS X        " + bytes(100))
    (root / "empty.mp3").touch()
    (root / "text.mp3").write_text("this is not music\n" * 100)
    whole = write_sound(root / "half.mp3", music(20.0, seed=3)).read_bytes()
    (root / "half.mp3").write_bytes(whole[: len(whole) // 2])
    write_sound(root / "clip.wav", good[: round(0.3 * 44100)])
    write_sound(root / "silence.flac", np.zeros((44100 * 6, 2), dtype=np.float32))
    (root / "two\nlines.wav").write_bytes((root / "good.wav").read_bytes())
    Path(os.fsdecode(os.fsencode(root) + b"/caf\xe9.wav")).write_bytes((root / "good.wav").read_bytes())
    os.mkfifo(root / "pipe.mp3")
    (root / "self.mp3").symlink_to("self.mp3")
    (root / "up").symlink_to(root)
    (root / "gone.mp3").symlink_to("nowhere.mp3")
    (root / "cover.jpg").write_bytes(b"\xff\xd8\xff")
    return root


EXPECTED = {
    "caf\\xe9.wav": "ok",
    "clip.wav": "too_short",
    "empty.mp3": "empty",
    "gone.mp3": "vanished",
    "good.wav": "ok",
    "half.mp3": "truncated",
    "pipe.mp3": "unsupported",
    "self.mp3": "unreadable",
    "silence.flac": "silent",
    "text.mp3": "unsupported",
    "two\nlines.wav": "ok",
    "x.mp3": "ok",
}


def test_every_file_has_its_row_and_good_ones_are_scored(
    troubled_library: Path, calibrated_model: Path, tmp_path: Path
) -> None:
    out = tmp_path / "r.parquet"
    done = sonicscan(".", "--model", calibrated_model, "--out", out, cwd=troubled_library)
    assert done.returncode == 3
    assert done.stdout == b""
    assert {path: row["status"] for path, row in rows(out).items()} == EXPECTED
    for path, row in rows(out).items():
        scored = EXPECTED[path] in ("ok", "truncated")
        assert (row["score"] is not None) == (row["verdict"] is not None) == scored, path
        assert (row["error"] is None) == (row["status"] == "ok"), path
    raw = {path: row["path_raw"] for path, row in rows(out).items() if row["path_raw"] is not None}
    assert raw == {"caf\\xe9.wav": b"caf\xe9.wav"}
    # Nothing that libmpg123 or FFmpeg prints gets through: every line on stderr is ours.
    assert all(line.startswith(b"sonicscan: ") for line in done.stderr.splitlines()), done.stderr


def test_unreadable_files_and_folders_have_rows(calibrated_model: Path, tmp_path: Path) -> None:
    # Root may read everything, unless it gives those two capabilities up.
    gone = "-dac_override,-dac_read_search"
    powerless = ["setpriv", f"--inh-caps={gone}", f"--bounding-set={gone}"] if os.geteuid() == 0 else []
    (tmp_path / "closed").mkdir()
    write_sound(tmp_path / "open.wav", music(6.0))
    write_sound(tmp_path / "secret.wav", music(6.0)).chmod(0o000)
    (tmp_path / "closed").chmod(0o000)
    try:
        command = [*powerless, PROGRAM, tmp_path, "--model", calibrated_model, "--out", "-"]
        done = subprocess.run(command, capture_output=True, check=False)
    finally:
        (tmp_path / "closed").chmod(0o755)
    found = {Path(r["path"]).name: r["status"] for r in map(json.loads, done.stdout.splitlines())}
    assert found == {"open.wav": "ok", "secret.wav": "permission_denied", "closed": "permission_denied"}
    assert done.returncode == 3


def test_stdout_is_a_table_of_one_line_a_track(small_library: Path, calibrated_model: Path) -> None:
    done = sonicscan(small_library, "--model", calibrated_model)
    assert done.returncode == 0
    lines = [line.split("\t") for line in done.stdout.decode().splitlines()]
    assert len(lines) == 6
    assert all(len(line) == 4 and 0 <= float(line[0]) <= 1 and line[2] == "ok" for line in lines)
    assert {Path(line[3]).name for line in lines} == {p.name for p in small_library.rglob("*.*")}


def test_stdout_json_lines(small_library: Path, calibrated_model: Path) -> None:
    done = sonicscan(small_library, "--model", calibrated_model, "--out", "-", "-q")
    assert done.stderr == b""
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(found) == 6
    assert all(list(row) == SCHEMA.names for row in found)


def test_names_cannot_break_lines_or_colour_a_terminal(tiny_model: Path, tmp_path: Path) -> None:
    name = "a\tb\nc\x1b[31m\u202e.wav"
    write_sound(tmp_path / "plain.wav", music(5.5)).rename(tmp_path / name)
    done = sonicscan(".", "--model", tiny_model, "-v", cwd=tmp_path)
    line = done.stdout.decode()
    assert line.count("\n") == 1
    assert line.count("\t") == 3
    assert line.rstrip("\n").split("\t")[3] == r"a\tb\nc\x1b[31m\u202e.wav"
    assert b"\x1b" not in done.stderr


def test_csv_and_jsonl_say_the_same_as_parquet(small_library: Path, calibrated_model: Path, tmp_path: Path) -> None:
    for name in ("r.parquet", "r.csv", "r.jsonl"):
        assert sonicscan(small_library, "--model", calibrated_model, "--out", tmp_path / name).returncode == 0
    parquet = pq.read_table(tmp_path / "r.parquet").to_pylist()
    lines = [json.loads(line) for line in (tmp_path / "r.jsonl").read_text().splitlines()]
    with (tmp_path / "r.csv").open(newline="", encoding="utf-8-sig") as file:
        cells = list(csv.DictReader(file))
    assert [r["path"] for r in parquet] == [r["path"] for r in lines] == [r["path"] for r in cells]
    assert [r["path"] for r in parquet] == sorted(r["path"] for r in parquet)
    assert [r["score"] for r in parquet] == [r["score"] for r in lines] == [float(r["score"]) for r in cells]
    assert [json.loads(r["window_margins"]) for r in cells] == [r["window_margins"] for r in lines]


def test_the_same_scores_whatever_the_workers_and_the_batch(
    small_library: Path, calibrated_model: Path, tmp_path: Path
) -> None:
    reports = []
    for k, options in enumerate([["--workers", "1", "--batch-size", "8"], ["--workers", "3", "--batch-size", "1"]]):
        out = tmp_path / f"{k}.parquet"
        assert sonicscan(small_library, "--model", calibrated_model, "--out", out, *options).returncode == 0
        reports.append(rows(out))
    for path, row in reports[0].items():
        np.testing.assert_allclose(row["window_margins"], reports[1][path]["window_margins"], atol=1e-4)
        assert row["window_starts_s"] == reports[1][path]["window_starts_s"]


def test_since_scores_no_unchanged_file_again(calibrated_model: Path, tmp_path: Path) -> None:
    library = tmp_path / "library"
    library.mkdir()
    for k in range(3):
        write_sound(library / f"{k}.wav", music(6.0, seed=k))
    first, second = tmp_path / "1.parquet", tmp_path / "2.parquet"
    assert sonicscan(library, "--model", calibrated_model, "--out", first).returncode == 0
    again = sonicscan(library, "--model", calibrated_model, "--out", second, "--since", first)
    assert again.returncode == 0
    assert b"carried  3 rows" in again.stderr
    assert b" windows, " not in again.stderr  # none was scored
    assert rows(first) == rows(second)

    write_sound(library / "1.wav", music(7.0, seed=9))
    (library / "2.wav").unlink()
    write_sound(library / "3.wav", music(6.0, seed=4))
    third = tmp_path / "3.parquet"
    assert (
        b"carried  1 rows" in sonicscan(library, "--model", calibrated_model, "--out", third, "--since", second).stderr
    )
    assert [Path(p).name for p in rows(third)] == ["0.wav", "1.wav", "3.wav"]


def test_since_knows_a_library_under_another_name(calibrated_model: Path, tmp_path: Path) -> None:
    library = tmp_path / "library"
    library.mkdir()
    write_sound(library / "a.wav", music(6.0))
    Path(os.fsdecode(os.fsencode(library) + b"/caf\xe9.wav")).write_bytes((library / "a.wav").read_bytes())
    first, second, third = (tmp_path / f"{k}.parquet" for k in range(3))
    sonicscan("library", "--model", calibrated_model, "--out", first, cwd=tmp_path)
    done = sonicscan(library, "--model", calibrated_model, "--out", second, "--since", first)
    assert b"carried  2 rows" in done.stderr
    assert set(rows(second)) == {f"{library}/a.wav", f"{library}/caf\\xe9.wav"}
    assert rows(second)[f"{library}/caf\\xe9.wav"]["path_raw"] == os.fsencode(library) + b"/caf\xe9.wav"
    library.rename(tmp_path / "elsewhere")
    done = sonicscan(tmp_path / "elsewhere", "--model", calibrated_model, "--out", third, "--since", first)
    assert b"carried  " not in done.stderr and b"no row of" in done.stderr
    assert b"name the folder that was scanned then" in done.stderr


def test_since_says_which_column_the_earlier_rows_lack(calibrated_model: Path, tmp_path: Path) -> None:
    write_sound(tmp_path / "x.wav", music(6.0))
    first, second = tmp_path / "1.parquet", tmp_path / "2.parquet"
    assert sonicscan(tmp_path / "x.wav", "--model", calibrated_model, "--out", first).returncode == 0
    done = sonicscan(tmp_path / "x.wav", "--model", calibrated_model, "--out", second, "--since", first, "--hash")
    assert done.returncode == 0, done.stderr
    assert b"they have no content_hash, which this scan asks for" in done.stderr
    assert b"have changed" not in done.stderr


def test_since_makes_verdicts_anew_for_another_rate(calibrated_model: Path, tmp_path: Path) -> None:
    library = tmp_path / "library"
    library.mkdir()
    write_sound(library / "a.wav", music(6.0))
    first, second = tmp_path / "1.parquet", tmp_path / "2.parquet"
    sonicscan(library, "--model", calibrated_model, "--out", first, "--threshold", "0")
    done = sonicscan(library, "--model", calibrated_model, "--out", second, "--since", first, "--threshold", "1")
    assert b"carried  1 rows" in done.stderr
    before, after = next(iter(rows(first).values())), next(iter(rows(second).values()))
    assert (before["verdict"], after["verdict"]) == ("flagged", "clear")
    assert before["flagged_s"] == pytest.approx(6.0, abs=0.01)
    assert after["flagged_s"] == 0
    assert before["window_margins"] == after["window_margins"]


def test_since_another_model_scores_all_anew(
    small_library: Path, calibrated_model: Path, make_model: MakeModel, tmp_path: Path
) -> None:
    first, second = tmp_path / "1.parquet", tmp_path / "2.parquet"
    sonicscan(small_library, "--model", calibrated_model, "--out", first)
    done = sonicscan(small_library, "--model", make_model(calibrated(), gain=5.0), "--out", second, "--since", first)
    assert b"with another model: every file is scored again" in done.stderr
    assert b"carried" not in done.stderr


def test_an_interrupted_scan_goes_on_with_the_same_command(calibrated_model: Path, tmp_path: Path) -> None:
    library = tmp_path / "library"
    library.mkdir()
    for k in range(30):
        write_sound(library / f"{k:02}.flac", music(20.0, seed=k))
    out, journal = tmp_path / "r.parquet", tmp_path / "r.parquet.journal"
    arguments = [library, "--model", calibrated_model, "--out", out, "--windows", "all", "--workers", "1"]
    first = tmp_path / "first.parquet"  # its rows are carried over, and are not in the journal
    assert sonicscan(library / "00.flac", *arguments[1:4], first, *arguments[5:]).returncode == 0
    process = subprocess.Popen([PROGRAM, *arguments, "--since", first], stderr=subprocess.PIPE)
    while not journal.exists() or journal.stat().st_size < 8000:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=30)
    assert process.returncode == 130
    told = re.search(rb"interrupted: (\d+) rows are in ", stderr)
    assert told
    assert not out.exists()
    done = sonicscan(*arguments)
    assert done.returncode == 0
    assert b"with %s rows of an interrupted scan" % told[1] in done.stderr
    assert not journal.exists()
    assert len(rows(out)) == 30
    assert {row["status"] for row in rows(out).values()} == {"ok"}

    whole = tmp_path / "whole.parquet"
    assert sonicscan(*arguments[:4], whole, *arguments[5:]).returncode == 0
    assert timeless(rows(out)) == timeless(rows(whole))


def timeless(found: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Rows without the time that they took."""
    return {path: {**row, "elapsed_ms": None} for path, row in found.items()}


def test_a_journal_of_another_model_is_neither_mixed_in_nor_thrown_away(
    small_library: Path, calibrated_model: Path, make_model: MakeModel, tmp_path: Path
) -> None:
    from sonicscan.scanning.journal import Journal

    out = tmp_path / "r.parquet"
    Journal(tmp_path / "r.parquet.journal", "another key").close()
    before = (tmp_path / "r.parquet.journal").read_bytes()
    arguments = [small_library, "--model", calibrated_model, "--out", out]
    refused = sonicscan(*arguments)
    assert refused.returncode == 2
    assert b"another model" in refused.stderr
    assert (tmp_path / "r.parquet.journal").read_bytes() == before
    assert sonicscan(*arguments, "--fresh").returncode == 0
    assert len(rows(out)) == 6


def test_fail_on(small_library: Path, calibrated_model: Path) -> None:
    common = [small_library, "--model", calibrated_model, "-q"]
    assert sonicscan(*common, "--threshold", "0", "--fail-on", "flagged").returncode == 1
    assert sonicscan(*common, "--threshold", "1", "--fail-on", "flagged").returncode == 0
    assert sonicscan(*common, "--threshold", "0", "--fail-on", "flagged", "--fail-on", "generated").returncode == 1


def test_fail_on_respects_reviewed_tracks_and_counts_them(calibrated_model: Path, tmp_path: Path) -> None:
    library = tmp_path / "library"
    library.mkdir()
    for k in range(2):
        write_sound(library / f"{k}.wav", music(5.5, seed=k))
        os.utime(library / f"{k}.wav", (1.7e9, 1.7e9))
    header, reviewed = "path,decision,by,date\n", tmp_path / "reviewed.csv"
    common = [library, "--model", calibrated_model, "--threshold", "0", "--fail-on", "flagged", "--reviewed", reviewed]
    reviewed.write_text(f"{header}{library}/0.wav,human,ann,2026-01-31\n")
    done = sonicscan(*common)
    assert done.returncode == 1
    assert b"findings with a decision in --reviewed: 1" in done.stderr
    reviewed.write_text(f"{reviewed.read_text()}{library}/1.wav,ai,ann,2026-01-31\n")
    assert sonicscan(*common, "--out", tmp_path / "r.parquet").returncode == 0
    again = sonicscan(*common, "--out", tmp_path / "s.parquet", "--since", tmp_path / "r.parquet")
    assert again.returncode == 0
    assert b"findings with a decision in --reviewed: 2" in again.stderr


def test_max_errors(troubled_library: Path, calibrated_model: Path) -> None:
    common = [troubled_library, "--model", calibrated_model, "-q"]
    failed = sum(status not in ("ok", "silent", "too_short") for status in EXPECTED.values())
    assert sonicscan(*common, "--max-errors", str(failed)).returncode == 0
    done = sonicscan(*common, "--max-errors", str(failed - 1))
    assert done.returncode == 3
    said = f"{failed} of {len(EXPECTED)} tracks failed, and --max-errors allows {failed - 1}; -v names them."
    assert said in done.stderr.decode()
    assert sonicscan(*common, "--max-errors", "60%").returncode == 0
    assert sonicscan(*common, "--max-errors", "5%").returncode == 3
    # Failed tracks take precedence over flagged ones, because the report is incomplete.
    assert sonicscan(*common, "--fail-on", "flagged", "--threshold", "0").returncode == 3


def test_an_uncalibrated_model_gives_no_verdicts_and_says_so(
    small_library: Path, tiny_model: Path, tmp_path: Path
) -> None:
    out = tmp_path / "r.parquet"
    done = sonicscan(small_library, "--model", tiny_model, "--out", out)
    assert done.returncode == 0
    assert b"the model has no calibration" in done.stderr
    assert {(row["verdict"], row["p_value"]) for row in rows(out).values()} == {(None, None)}
    assert all(row["score"] is not None for row in rows(out).values())


def test_an_untrained_model_gives_no_verdicts_even_with_a_threshold(
    small_library: Path, make_model: MakeModel, tmp_path: Path
) -> None:
    out = tmp_path / "r.parquet"
    model = make_model(calibrated(ModelSpec("tiny", untrained=True)))
    done = sonicscan(small_library, "--model", model, "--out", out, "--threshold", "0.1")
    assert b"untrained: its scores mean nothing" in done.stderr
    assert {(row["verdict"], row["p_value"]) for row in rows(out).values()} == {(None, None)}


def test_a_rate_that_cannot_be_certified_is_refused_with_the_number_needed(
    small_library: Path, calibrated_model: Path, tmp_path: Path
) -> None:
    out = tmp_path / "r.parquet"
    done = sonicscan(small_library, "--model", calibrated_model, "--out", out, "--max-fpr", "0.001")
    assert done.returncode == 2
    assert b"needs 2995 calibration tracks and the model has 400" in done.stderr
    assert not out.exists()


def test_file_lists(small_library: Path, calibrated_model: Path, tmp_path: Path) -> None:
    names = sorted(small_library.rglob("*.wav"))
    (tmp_path / "list").write_text("".join(f"{name}\n" for name in names) + "/not/there.mp3\n")
    done = sonicscan("--files-from", tmp_path / "list", "--model", calibrated_model, "--out", "-")
    found = {row["path"]: row["status"] for row in map(json.loads, done.stdout.splitlines())}
    assert found == {**{str(name): "ok" for name in names}, "/not/there.mp3": "vanished"}
    assert done.returncode == 3
    piped = b"\0".join(os.fsencode(name) for name in names)
    done = sonicscan("--files-from", "-", "-0", "--model", calibrated_model, stdin=piped)
    assert len(done.stdout.splitlines()) == len(names)


def test_a_time_in_the_year_2300_costs_no_other_file_its_row(calibrated_model: Path, tmp_path: Path) -> None:
    (tmp_path / "library").mkdir()
    for name in ("a.wav", "b.wav"):
        write_sound(tmp_path / "library" / name, music(5.5))
    os.utime(tmp_path / "library/a.wav", (1.0413792e10, 1.0413792e10))
    common = [tmp_path / "library", "--model", calibrated_model, "--since", tmp_path / "1.parquet"]
    assert sonicscan(*common[:3], "--out", tmp_path / "1.parquet").returncode == 0
    assert b"carried  2 rows" in sonicscan(*common, "--out", tmp_path / "2.parquet").stderr
    found = {Path(path).name: row for path, row in rows(tmp_path / "2.parquet").items()}
    assert found["a.wav"]["mtime_ns"] == (1 << 63) - 1
    assert (found["a.wav"]["warnings"], found["b.wav"]["warnings"]) == (["out_of_range"], [])


def test_a_limited_address_space_is_enough(small_library: Path, calibrated_model: Path) -> None:
    command = f"ulimit -v 800000 && {PROGRAM} {small_library} --model {calibrated_model} -q"
    done = subprocess.run(["bash", "-c", command], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert [line.split(b"\t")[2] for line in done.stdout.splitlines()] == [b"ok"] * 6


def test_a_folder_named_like_a_bundled_model_does_not_hide_it(small_library: Path, tmp_path: Path) -> None:
    (tmp_path / DEFAULT).mkdir()
    done = sonicscan(small_library / "b/5.wav", "--model", DEFAULT, cwd=tmp_path)
    assert done.returncode == 0, done.stderr


def test_a_csv_report_opens_in_a_spreadsheet(calibrated_model: Path, tmp_path: Path) -> None:
    """Excel reads a file without a byte-order mark in the system's own encoding."""
    write_sound(tmp_path / "größer.wav", music(5.5))
    assert sonicscan(".", "--model", calibrated_model, "--out", "r.csv", cwd=tmp_path).returncode == 0
    assert (tmp_path / "r.csv").read_bytes().startswith(b"\xef\xbb\xbfpath,")
    assert "größer.wav" in (tmp_path / "r.csv").read_text(encoding="utf-8-sig")


def test_shards_divide_the_library(small_library: Path, calibrated_model: Path) -> None:
    parts = [
        sonicscan(small_library, "--model", calibrated_model, "--shard", f"{k}/3", "-q").stdout.splitlines()
        for k in (1, 2, 3)
    ]
    paths = [line.split(b"\t")[3] for part in parts for line in part]
    assert len(paths) == len(set(paths)) == 6


def test_hash(calibrated_model: Path, tmp_path: Path) -> None:
    import hashlib

    path = write_sound(tmp_path / "a.wav", music(5.0))
    done = sonicscan(path, "--model", calibrated_model, "--hash", "--out", "-")
    assert json.loads(done.stdout)["content_hash"] == hashlib.sha256(path.read_bytes()).hexdigest()


def test_head_ends_a_scan_quietly(small_library: Path, calibrated_model: Path) -> None:
    command = f"{PROGRAM} {small_library} --model {calibrated_model} -q | head -n 1"
    done = subprocess.run(["bash", "-c", f"set -o pipefail; {command}"], capture_output=True, check=False)
    assert len(done.stdout.splitlines()) == 1
    assert done.stderr == b""


@pytest.mark.parametrize(
    ("out", "journal", "extra"),
    [
        ("r.parquet", "r.parquet", ()),
        ("r.parquet", "folder/../r.parquet", ("--fresh",)),
        ("r.csv", "r.csv", ("--fresh",)),
        ("link.parquet", "r.parquet", ("--fresh",)),
        ("link.parquet", "r.parquet", ()),
        ("folder/", "folder/_SUCCESS", ("--fresh",)),
        ("folder/", "linked/part-000000.parquet", ("--fresh",)),
        ("folder/", "folder/a.journal", ("--fresh",)),
    ],
)
def test_a_journal_is_never_the_report(
    out: str, journal: str, extra: Sequence[str], tiny_model: Path, tmp_path: Path
) -> None:
    write_sound(tmp_path / "a.wav", music(5.0))
    (tmp_path / "folder").mkdir()
    (tmp_path / "link.parquet").symlink_to("r.parquet")
    (tmp_path / "linked").symlink_to("folder")
    scan = ("a.wav", "--model", tiny_model, "--out", out)
    if extra:  # an earlier report stays as it is
        assert sonicscan(*scan, cwd=tmp_path).returncode == 0
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    done = sonicscan(*scan, "--journal", journal, *extra, cwd=tmp_path)
    assert done.returncode == 2 and f"--journal {Path(journal)} is" in done.stderr.decode()
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "name a file or folder"),
        (["nowhere"], "there is no file or folder 'nowhere'"),
        ([".", "--out", ""], "--out is empty"),
        ([".", "--since", ""], "the name is empty"),
        ([".", "--exclude", "../x"], "cannot hold `..`"),
        ([".", "--out", "r.txt"], "must end in .parquet, .csv, .jsonl"),
        ([".", "--out", "no/such/folder/r.parquet"], "there is no folder no/such/folder"),
        ([".", "--windows", "some"], "--windows takes a whole number, `all` or `adaptive`"),
        ([".", "--windows", "0"], "must be 1 to 10000 or `all`, not 0"),
        ([".", "--max-fpr", "2"], "lies between 0 and 1"),
        ([".", "--threshold", "-0.5"], "between 0 and 1"),
        ([".", "--threshold", "0.5", "--max-fpr", "0.01"], "mutually exclusive"),
        ([".", "--shard", "4/3"], "1 <= I <= N"),
        ([".", "--shard", "x"], "--shard takes I/N"),
        ([".", "--device", "tpu"], "--device takes"),
        ([".", "--since", "r.parquet"], "need a report file"),
        ([".", "--out", "r.parquet", "--since", "nowhere.parquet"], "nowhere.parquet cannot be read"),
        ([".", "--fail-on", "flagged"], "--fail-on needs verdicts"),
        ([".", "--max-errors", "many"], "neither a number of tracks nor a percentage"),
        ([".", "--files-from", "nowhere.txt"], "nowhere.txt cannot be read"),
        ([".", "--model", "nowhere.onnx"], "nowhere.onnx cannot be read"),
        ([".", "--timeout", "0"], "more than 0 seconds"),
        ([".", "--reviewed", "r.csv", "--fail-on", "flagged"], "r.csv cannot be read"),
    ],
)
def test_bad_usage_is_one_sentence_and_exit_2(
    arguments: list[str], words: str, tiny_model: Path, tmp_path: Path
) -> None:
    model = [] if "--model" in arguments else ["--model", str(tiny_model)]
    done = sonicscan(*arguments, *model, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stdout == b""
    errors = [line for line in done.stderr.decode().splitlines() if line.startswith("Error: ")]
    assert len(errors) == 1
    assert words in errors[0]
    assert "Traceback" not in done.stderr.decode()
    assert not list(tmp_path.iterdir())


def test_a_broken_model_is_exit_2_and_no_report(small_library: Path, tmp_path: Path) -> None:
    model = write_model(tmp_path / "nan.onnx", bias=float("nan"))
    done = sonicscan(small_library, "--model", model, "--out", tmp_path / "r.parquet")
    assert done.returncode == 2
    assert b"not numbers" in done.stderr
    assert not (tmp_path / "r.parquet").exists()


def test_bundled_models_are_found_by_name_and_say_what_they_are_worth(small_library: Path, tmp_path: Path) -> None:
    default = sonicscan(small_library, "--out", tmp_path / "default.parquet")
    assert default.returncode == 0, default.stderr
    assert DEFAULT in bundled_models()
    for name, path in bundled_models().items():
        out = tmp_path / f"{name}.parquet"
        done = sonicscan(small_library, "--model", name, "--out", out)
        assert done.returncode == 0, done.stderr
        (line,) = [line for line in done.stderr.decode().splitlines() if "using the bundled model" in line]
        for fact in (path.name, "AUC", "certified", CARDS[name]):
            assert fact in line
        assert metadata_of(read_report(out).schema)["model_digest"] == sha256_of(path)
    scores = [read_report(tmp_path / f"{name}.parquet").column("score").to_pylist() for name in ("default", DEFAULT)]
    assert scores[0] == scores[1]
    missing = sonicscan(small_library, "--model", "sonicnet_xxl")
    assert missing.returncode == 2
    assert b"sonicnet_xxl" in missing.stderr
