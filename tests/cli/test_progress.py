"""What a person sees: a bar on a terminal, lines elsewhere, totals at the end."""

from __future__ import annotations

import os
import pty
import re
import subprocess
from pathlib import Path

from faults import PROGRAM
from synthesis import music

from sonicscan.cli.demo import write_sound
from sonicscan.cli.progress import Tally
from sonicscan.report.row import FileResult


def on_a_terminal(*arguments: str | Path) -> tuple[int, str]:
    """Run the program with stderr on a pseudo-terminal; its exit code and what it drew."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen([PROGRAM, *arguments], stderr=theirs, stdout=subprocess.DEVNULL)
    os.close(theirs)
    drawn = b""
    while True:
        try:
            part = os.read(ours, 65536)
        except OSError:  # how Linux says that the other side has closed
            break
        if not part:
            break
        drawn += part
    os.close(ours)
    return process.wait(timeout=60), drawn.decode()


def test_a_bar_on_a_terminal_with_all_its_figures(calibrated_model: Path, tmp_path: Path) -> None:
    library = tmp_path / "library"
    library.mkdir()
    for k in range(5):
        write_sound(library / f"{k}.wav", music(6.0, seed=k))
    (library / "broken.mp3").write_text("no music")
    code, drawn = on_a_terminal(
        library, "--model", calibrated_model, "--out", tmp_path / "r.parquet", "--threshold", "0"
    )
    text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", drawn)
    assert code == 3
    assert re.search(r"6/6\s+tracks · \d+\.\d/s · \d+x real time · 5 flagged · 1 errors", text)
    assert "verdict  flagged 5" in text
    assert re.search(r"status   ok 5, unsupported 1", text)
    assert re.search(r"the bottleneck was (model|decoding)", text)


def test_no_bar_where_nobody_looks(small_library: Path, tiny_model: Path, tmp_path: Path) -> None:
    out = tmp_path / "r.parquet"
    done = subprocess.run(
        [PROGRAM, small_library, "--model", tiny_model, "--out", out], capture_output=True, check=True
    )
    assert done.stdout == b""
    assert b"\x1b" not in done.stderr
    assert b"\r" not in done.stderr
    assert b"status   ok 6" in done.stderr


def test_tally_counts_fresh_and_carried_rows() -> None:
    tally = Tally()
    result = FileResult(path="a", status="ok", verdict="flagged", duration_s=3.0, size=1, mtime_ns=1, warnings=[])
    tally.add(result, decided=True)
    tally.add(FileResult(path="b", status="truncated", size=1, mtime_ns=1, warnings=[]), decided=False)
    tally.add_carried(["ok", "empty"], ["review", None], ["review"])
    assert (tally.tracks, tally.fresh, tally.carried, tally.failed, tally.audio_s) == (4, 2, 2, 2, 3.0)
    assert tally.verdicts == {"flagged": 1, "review": 1} == tally.decided
    assert tally.lines() == ["verdict  flagged 1, review 1", "status   ok 2, truncated 1, empty 1"]
