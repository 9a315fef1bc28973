"""The pool of workers and what bounds them: clock, budget, memory, and workers that a hostile file controls."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from faults import alive, children, wait_for
from synthesis import music

from sonicscan.audio.windows import WindowPlan
from sonicscan.cli.demo import write_sound
from sonicscan.engine.events import Abandoned, BatchDone, Done, Visit, Windows
from sonicscan.engine.limits import Budget, Clock
from sonicscan.engine.pool import WorkerPool
from sonicscan.engine.process import EarlyWorkers
from sonicscan.engine.wire import Job
from sonicscan.library.tracks import Track
from sonicscan.spec import AudioSpec

# A worker that starts well and answers each job with the nonsense in {answer}.
TAKEN_OVER = """#!{python}
import struct, sys, time
def read():
    head = sys.stdin.buffer.read(8)
    if len(head) < 8: sys.exit(0)
    size, _ = struct.unpack("<II", head)
    return sys.stdin.buffer.read(size)
def send(text, payload=b"", claimed=None):
    size = len(payload) if claimed is None else claimed
    sys.stdout.buffer.write(struct.pack("<II", len(text), size) + text + payload)
    sys.stdout.buffer.flush()
read()
send(b'{{"ready": true}}')
while True:
    read()
    {answer}
    time.sleep(30)
"""
NONSENSE = {
    "bytes": "sys.stdout.buffer.write(bytes(range(256)) * 40); sys.stdout.buffer.flush()",
    "a header of 4 GB": 'sys.stdout.buffer.write(b"\\xff" * 8); sys.stdout.buffer.flush()',
    "no JSON": 'send(b"{not json}")',
    "deep JSON": 'send(b"[" * 200000)',
    "a list": 'send(b"[1, 2]")',
    "no status": 'send(b"{}")',
    "a status of its own": """send(b'{"status": "human"}')""",
    "a list for a status": """send(b'{"status": ["ok"]}')""",
    "more images than starts": """send(b'{"starts_s": [0.0]}', b"", 800000000)""",
    "starts that are a number": """send(b'{"starts_s": 5}', b"1234")""",
    "a negative start": """send(b'{"starts_s": [-1.0]}', bytes(262144))""",
    "more windows than were asked for": """[send(b'{"starts_s": [0.0]}', bytes(262144)) for _ in range(20)]""",
    "an image of no numbers": """send(b'{"starts_s": [0.0]}', b"\\xff" * 262144)""",
    "an image that is too bright": """send(b'{"starts_s": [0.0]}', struct.pack("<f", 3e38) * 65536)""",
    "a rate that no column holds": """send(b'{"status": "ok", "sample_rate": 4294967296}')""",
    "a length that is no number": """send(b'{"status": "ok", "duration_s": NaN}')""",
    "an endless length": """send(b'{"status": "ok", "duration_s": Infinity}')""",
    "negative windows": """send(b'{"status": "ok", "silent_windows": -1}')""",
    "half a surrogate pair": """send(b'{"status": "ok", "title": "\\\\ud800"}')""",
    "a title of a megabyte": """send(b'{"status": "ok", "title": "' + b"x" * 1000000 + b'"}')""",
    "a digest of its own": """send(b'{"status": "ok", "content_hash": "human"}')""",
    "a warning that is a number": """send(b'{"status": "ok", "warnings": [1]}')""",
    "images that never come": """send(b'{"starts_s": [0.0]}', b"12", 262144); sys.stdout.close(); sys.exit(0)""",
}


@pytest.mark.parametrize("nonsense", NONSENSE)
def test_a_worker_that_talks_nonsense_costs_its_file_a_row(
    nonsense: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = tmp_path / "worker"
    worker.write_text(TAKEN_OVER.format(python=sys.executable, answer=NONSENSE[nonsense]))
    worker.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(worker))
    outcomes = []
    names = [bytes(tmp_path / name) for name in ("a.mp3", "b.mp3")]
    for name in names:
        Path(os.fsdecode(name)).touch()
    with WorkerPool(Job(AudioSpec(), WindowPlan(12)), 1, 60.0, 9) as pool:
        pool.start([Visit(Track(name, 0, 0)) for name in names])
        while (event := pool.events.get(timeout=60)) is not None:
            assert isinstance(event, Abandoned | Done | Windows)
            if isinstance(event, Windows):
                assert nonsense == "more windows than were asked for"
                pool.took(len(event.images))
            if isinstance(event, Done):
                outcomes.append((event.visit.track.path, event.outcome.status))
    assert outcomes == [(name, "crashed") for name in names]


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks processes up in /proc")
def test_early_workers_are_used_and_none_is_left(tmp_path: Path) -> None:
    sound = write_sound(tmp_path / "good.flac", music(12.0))
    before = set(children(os.getpid()))
    with EarlyWorkers(2) as start_worker:
        early = set(children(os.getpid())) - before
        assert len(early) == 2
        with WorkerPool(Job(AudioSpec(), WindowPlan(12)), 1, 60.0, 9, start_worker) as pool:
            pool.start([Visit(Track(bytes(sound), 0, 0))])
            events = iter(lambda: pool.events.get(timeout=60), None)
            done = next(event for event in events if isinstance(event, Done))
            assert done.outcome.status == "ok"
            assert set(children(os.getpid())) - before <= early
        taken, further, remote = start_worker(False), start_worker(False), start_worker(True)
        started = set(children(os.getpid())) - before
        assert len(started & early) == 1 and len(started - early) == 2  # `remote` and `further`
        for worker in (taken, further, remote):
            worker.end()
    with EarlyWorkers(3):
        early = set(children(os.getpid())) - before
        assert len(early) == 3
    assert not alive(list(early)) and set(children(os.getpid())) <= before


def test_every_track_comes_to_an_end_once(tmp_path: Path) -> None:
    good = write_sound(tmp_path / "good.flac", music(12.0))
    names = [bytes(good), b"/nowhere/x.mp3", bytes(tmp_path), bytes(good), b"/dev/null"]
    visits = [Visit(Track(name, 0, 0)) for name in names]
    done: list[Done] = []
    windows: dict[int, int] = {}
    with WorkerPool(Job(AudioSpec(), WindowPlan(12)), 2, 60.0, 3) as pool:
        pool.start(visits)
        lanes = 2
        while lanes:
            event = pool.events.get(timeout=60)
            match event:
                case Windows(ticket, starts_s, images):
                    assert images.shape == (len(starts_s), 256, 256)
                    windows[ticket] = windows.get(ticket, 0) + len(images)
                    pool.took(len(images))
                case Done():
                    done.append(event)
                case None:
                    lanes -= 1
                case other:
                    assert not isinstance(other, BatchDone)
    assert sorted(d.visit.track.path for d in done) == sorted(names)
    assert len({d.ticket for d in done}) == 5
    assert sorted(d.outcome.status for d in done) == ["ok", "ok", "unsupported", "unsupported", "vanished"]
    assert sorted(windows) == sorted(d.ticket for d in done if d.outcome.status == "ok")
    assert set(windows.values()) == {3}


def test_the_budget_lets_through_what_there_is_room_for() -> None:
    budget = Budget(10)
    assert budget.acquire(8)
    through: list[int] = []
    threads = [threading.Thread(target=lambda n=n: through.append(n) if budget.acquire(n) else None) for n in (5, 25)]
    for thread in threads:
        thread.start()
    time.sleep(0.1)
    assert through == []
    budget.release(8)
    wait_for(lambda: through)
    assert len(through) == 1  # one of them: 25 is more than there ever is, and waits for all
    budget.release(through[0])
    for thread in threads:
        thread.join(5)
    assert sorted(through) == [5, 25]


def test_a_closed_budget_lets_nobody_wait() -> None:
    budget = Budget(1)
    assert budget.acquire(1)
    answers: list[bool] = []
    thread = threading.Thread(target=lambda: answers.append(budget.acquire(1)))
    thread.start()
    budget.close()
    thread.join(5)
    assert answers == [False]


def test_the_clock_runs_only_while_the_worker_is_waited_for() -> None:
    clock = Clock()
    clock.wind(0.15)
    time.sleep(0.2)
    assert not clock.late()
    with clock:
        assert not clock.late()
        time.sleep(0.2)
        assert clock.late()
    assert clock.expired
    clock.wind(10)
    assert not clock.expired
    with clock:
        assert not clock.late()


@pytest.mark.skipif(sys.platform != "linux", reason="address-space limits are Linux's")
def test_a_worker_may_take_a_gigabyte_and_no_more() -> None:
    program = """
import numpy as np
from sonicscan.engine.worker import MEMORY_LIMIT, _limit_memory
_limit_memory()
half = np.empty(MEMORY_LIMIT // 2, np.uint8)
try:
    np.empty(MEMORY_LIMIT, np.uint8)
except MemoryError:
    print("refused")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "refused\n"
