"""The long versions of tests/test_faults.py and tests/test_journal.py.

make soak, or: pytest -s tests/soak/soak_faults.py     SONICSCAN_SOAK_FILES=N sets how many files (default 500)
"""

from __future__ import annotations

import os
import random
import time
from collections import Counter
from pathlib import Path

import pytest
from faults import (
    alive,
    but_for_time,
    children,
    finish,
    journal_rows,
    kill_and_repeat,
    make_library,
    random_moments,
    rows_of,
    run,
    start,
    torment_workers,
    wait_for,
)

from sonicscan.errors import ReportError
from sonicscan.files import write_whole
from sonicscan.report.row import FileResult
from sonicscan.report.schema import to_results
from sonicscan.scanning.journal import Journal

FILES = int(os.environ.get("SONICSCAN_SOAK_FILES", "500"))
KILLS = 25


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_library(tmp_path_factory.mktemp("faults") / "library", FILES)


@pytest.fixture(scope="module")
def undisturbed(library: Path, calibrated_model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    out = tmp_path_factory.mktemp("undisturbed") / "r.parquet"
    code, said = run(library, "--model", calibrated_model, "--out", out, "--workers", "2", timeout=600)
    assert code == 0, said
    return but_for_time(rows_of(out))  # type: ignore[return-value]


@pytest.mark.timeout(3600)
def test_workers_killed_and_stopped_all_through_a_scan(
    library: Path, calibrated_model: Path, undisturbed: dict[str, object], tmp_path: Path
) -> None:
    out, temporary = tmp_path / "r.parquet", tmp_path / "tmp"
    temporary.mkdir()
    shared = set(Path("/dev/shm").iterdir())
    process = start(
        library, "--model", calibrated_model, "--out", out, "--workers", 2, "--timeout", 3, temporary=temporary
    )
    wait_for(lambda: len(children(process.pid)) == 2)
    workers = children(process.pid)
    killed, stopped = torment_workers(process, tmp_path / "r.parquet.journal", random.Random(11), stops=10)
    code, said = finish(process)
    assert code in (0, 3), said
    rows = rows_of(out)
    statuses = Counter(row["status"] for row in rows.values())
    print(
        f"\nworkers: {killed} killed, {stopped} stopped; {len(rows)} rows of {FILES} files, "
        f"lost {FILES - len(rows)}, {dict(statuses)}"
    )
    assert rows.keys() == undisturbed.keys()
    assert set(statuses) <= {"ok", "crashed", "timeout"}
    assert FILES - statuses["ok"] <= (killed + stopped) // 2
    assert killed > 20
    for path, row in but_for_time(rows).items():
        assert row["status"] != "ok" or row == undisturbed[path]
    assert not alive(workers)
    assert not list(temporary.iterdir())
    assert set(Path("/dev/shm").iterdir()) == shared


@pytest.mark.timeout(3600)
def test_the_scanner_killed_at_many_moments(
    library: Path, calibrated_model: Path, undisturbed: dict[str, object], tmp_path: Path
) -> None:
    chance = random.Random(12)
    whole: list[int] = []
    killed = 0
    for part in range(5):  # five scans of five kills each, so that late moments come too
        out = tmp_path / f"{part}.parquet"
        arguments: list[object] = [library, "--model", calibrated_model, "--out", out, "--workers", 2]
        kills, kept = kill_and_repeat(arguments, out, random_moments(chance, KILLS // 5))
        killed += kills
        whole.append(kept)
        assert but_for_time(rows_of(out)) == undisturbed
    assert sum(whole) > FILES // 5
    print(f"\nscanner: {killed} killed of {KILLS}; rows that the last runs took over: {whole} of {FILES}, lost 0")
    assert not list(tmp_path.glob(".*"))
    assert not list(tmp_path.glob("*.journal"))


@pytest.mark.timeout(3600)
def test_killed_while_the_report_is_written_and_renamed(calibrated_model: Path, tmp_path: Path) -> None:
    """From the last row on, a hundredth of a second apart."""
    n, moments = 40, max(3, min(12, FILES // 40))
    library = make_library(tmp_path / "library", n)
    seen: Counter[str] = Counter()
    expected: dict[str, object] = {}
    for k in range(moments):
        folder = tmp_path / f"{k}"
        folder.mkdir()
        out, journal = folder / "r.parquet", folder / "r.parquet.journal"
        arguments: list[object] = [library, "--model", calibrated_model, "--out", out, "--workers", 2]
        process = start(*arguments)
        wait_for(lambda f=journal, p=process: _rows(f) >= n or p.poll() is not None, 300)
        time.sleep(0.01 * k)
        process.kill()
        finish(process)
        seen["report there" if out.exists() else "report not there"] += 1
        assert run(*arguments)[0] == 0
        rows = but_for_time(rows_of(out))
        expected = expected or rows  # type: ignore[assignment]
        assert rows == expected
        left = [path for path in folder.iterdir() if path != out]
        assert all(path.match(".r.parquet.*.part") for path in left)
        for path in left:  # the next write removes what is older than a minute
            os.utime(path, (0, 0))
        write_whole(out, "")
        assert list(folder.iterdir()) == [out]
    print(f"\nscanner: {moments} killed while the report was written: {dict(seen)}, each report whole after")


def _rows(journal: Path) -> int:
    return len(journal_rows(journal)) if journal.exists() else 0


def row(k: int) -> FileResult:
    return FileResult(path=f"{k}.mp3", status="ok", score=1 / (k + 1), size=k, mtime_ns=k, warnings=["short"] * (k % 2))


@pytest.mark.timeout(7200)
def test_the_journal_cut_and_flipped_at_every_byte(tmp_path: Path) -> None:
    path = tmp_path / "r.journal"
    batches = [[row(0)], [row(1), row(2)], [row(3)]]
    journal, sizes = Journal(path, "key"), [path.stat().st_size]
    for batch in batches:
        journal.append(batch)
        sizes.append(path.stat().st_size)
    journal.close()
    whole, expected = path.read_bytes(), [r for batch in batches for r in batch]
    refused = 0
    for at in range(len(whole)):
        for damaged, is_cut in ((whole[:at], True), (whole[:at] + bytes([whole[at] ^ 0x41]) + whole[at + 1 :], False)):
            path.write_bytes(damaged)
            try:
                journal = Journal(path, "key")
            except ReportError:
                assert at < sizes[0]
                assert not is_cut
                refused += 1
                continue
            rows = list(to_results(journal.rows()))
            journal.close()
            assert rows == expected[: len(rows)]
            good = max([k for k, size in enumerate(sizes) if size <= at], default=0)
            assert len(rows) >= sum(len(batch) for batch in batches[:good])
    print(
        f"\njournal: cut and flipped at each of {len(whole)} bytes; {refused} damaged beginnings refused, no row wrong"
    )
