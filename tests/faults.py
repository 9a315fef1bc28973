"""Real scans in processes of their own, and what is done to them, for the tests of faults."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from synthesis import music

from sonicscan.cli.demo import write_sound

PROGRAM = Path(sys.executable).with_name("sonicscan")
Row = dict[str, Any]


def make_library(folder: Path, n: int, seconds: float = 6.0) -> Path:
    """`n` tracks in four formats."""
    folder.mkdir()
    for k in range(n):
        suffix = ("wav", "flac", "mp3", "ogg")[k % 4]
        write_sound(folder / f"{k:04}.{suffix}", music(seconds, 16000, 1, seed=k), 16000)
    return folder


def start(*arguments: object, temporary: Path | None = None) -> subprocess.Popen[bytes]:
    """The program, running."""
    environment = os.environ | ({"TMPDIR": str(temporary)} if temporary else {})
    return subprocess.Popen(
        [str(PROGRAM), *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment
    )


def finish(process: subprocess.Popen[bytes], timeout: float = 120) -> tuple[int, str]:
    """Exit code and standard error."""
    _, said = process.communicate(timeout=timeout)
    return process.returncode, said.decode()


def run(*arguments: object, timeout: float = 120) -> tuple[int, str]:
    return finish(start(*arguments), timeout)


def rows_of(report: Path) -> dict[str, Row]:
    return {row["path"]: row for row in pq.read_table(report).to_pylist()}


def but_for_time(rows: dict[str, Row]) -> dict[str, Row]:
    return {path: {**row, "elapsed_ms": None} for path, row in rows.items()}


def journal_rows(journal: Path) -> dict[str, Row]:
    """What another process would read of a journal that a dead scan left."""
    rows: dict[str, Row] = {}
    with contextlib.suppress(FileNotFoundError, pa.ArrowInvalid, pa.ArrowException, OSError):
        reader = pa.ipc.open_stream(pa.BufferReader(journal.read_bytes()))
        for batch in reader:
            rows |= {row["path"]: row for row in batch.to_pylist()}
    return rows


def processes() -> dict[int, tuple[int, str]]:
    """Parent and state of every process."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            state, parent = (folder / "stat").read_text().rpartition(")")[2].split()[:2]
            found[int(folder.name)] = int(parent), state
    return found


def children(parent: int) -> list[int]:
    return [pid for pid, (its_parent, state) in processes().items() if its_parent == parent and state != "Z"]


def alive(pids: list[int]) -> list[int]:
    """Those that still run; zombies do not count."""
    now = processes()
    return [pid for pid in pids if pid in now and now[pid][1] != "Z"]


def wait_for(condition: object, seconds: float = 60) -> None:
    """Until `condition()` is true."""
    end = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.01)


def torment_workers(
    process: subprocess.Popen[bytes], journal: Path, chance: random.Random, stops: int
) -> tuple[int, int]:
    """Kill random workers of a scan, and stop up to `stops` of them, until it ends; returns how many.

    Between two blows the scan gets a row or two done: killed faster than they start, no workers would
    ever get to a file.
    """
    killed = stopped = 0
    while process.poll() is None:
        size, end = _size(journal), time.monotonic() + 5
        while process.poll() is None and _size(journal) < size + 3000 and time.monotonic() < end:
            time.sleep(0.005)
        time.sleep(chance.uniform(0.0, 0.05))
        workers = children(process.pid)
        if not workers:
            continue
        with contextlib.suppress(ProcessLookupError):
            if stopped < stops and chance.random() < 0.3:
                os.kill(chance.choice(workers), signal.SIGSTOP)
                stopped += 1
            else:
                os.kill(chance.choice(workers), signal.SIGKILL)
                killed += 1
    return killed, stopped


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except FileNotFoundError:
        return 0


def random_moments(chance: random.Random, n: int) -> list[tuple[int, float]]:
    """Journal growth in bytes and seconds after it: soon after the start, or in the midst of things."""
    return [(chance.choice((0, chance.randrange(1, 60_000))), chance.uniform(0.0, 1.0)) for _ in range(n)]


def kill_and_repeat(arguments: list[object], out: Path, moments: list[tuple[int, float]]) -> tuple[int, int]:
    """Kill a scan at each of these moments and start it again, then let it end.

    Every row that a killed scan left in its journal must be in the report unchanged, with its time: no track is scored
    twice. Returns how many scans were killed, and how many rows the last run took over.
    """
    journal = out.with_name(out.name + ".journal")
    killed, kept = 0, dict[str, Row]()
    for growth, seconds in moments:
        before = _size(journal)
        process = start(*arguments)
        while growth and process.poll() is None and _size(journal) < before + growth:
            time.sleep(0.001)
        time.sleep(seconds)
        workers = children(process.pid)
        process.kill()
        finish(process)
        killed += process.returncode == -signal.SIGKILL
        wait_for(lambda pids=workers: not alive(pids), 10)
        now = journal_rows(journal) if journal.exists() else rows_of(out) if out.exists() else {}
        assert kept.items() <= now.items(), "a row was lost, or scored again"
        kept = now
    code, said = run(*arguments)
    assert code == 0, said
    assert kept.items() <= rows_of(out).items(), "a row was lost, or scored again"
    return killed, len(kept)


@contextlib.contextmanager
def small_disk(folder: Path, kilobytes: int) -> Iterator[Path]:
    """A file system of that size; skips the test where none may be mounted."""
    folder.mkdir()
    mount = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "none", folder], capture_output=True, check=False
    )
    if mount.returncode:
        pytest.skip("mounting a small disk takes root")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def answers(port: int) -> bool:
    """Whether something listens on a port of this machine."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False
