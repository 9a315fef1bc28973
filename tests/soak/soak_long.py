"""A long scan: memory, open descriptors and throughput stay as they are.

make soak, or: pytest -s tests/soak/soak_long.py     SONICSCAN_SOAK=N sets how many files (default 42000)
"""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
import pytest
from faults import children, finish, make_library, rows_of, start

FILES = int(os.environ.get("SONICSCAN_SOAK", "42000"))
DIFFERENT = 40
SECONDS = 60.0  # of sound in each


def _pages(pid: int, line: str) -> int:
    return int(Path(f"/proc/{pid}/status").read_text().split(line)[1].split()[0])


@pytest.mark.timeout(6 * 3600)
def test_memory_descriptors_and_throughput_are_flat(calibrated_model: Path, tmp_path: Path) -> None:
    originals = sorted(make_library(tmp_path / "originals", DIFFERENT, SECONDS).iterdir())
    library = tmp_path / "library"
    library.mkdir()
    for k in range(FILES):
        (library / f"{k:06}{originals[k % DIFFERENT].suffix}").hardlink_to(originals[k % DIFFERENT])
    out, journal = tmp_path / "r.parquet", tmp_path / "r.parquet.journal"
    began = time.monotonic()
    process = start(library, "--model", calibrated_model, "--out", out, "--workers", 2, "-q")
    samples: list[
        tuple[float, int, int, int, int]
    ] = []  # seconds, scanner's and workers' kB, descriptors, journal bytes
    while process.poll() is None:
        try:
            workers = children(process.pid)
            samples.append(
                (
                    time.monotonic() - began,
                    _pages(process.pid, "VmRSS:"),
                    max(_pages(pid, "VmRSS:") for pid in workers),
                    sum(len(list(Path(f"/proc/{pid}/fd").iterdir())) for pid in (process.pid, *workers)),
                    journal.stat().st_size,
                )
            )
        except (OSError, IndexError, ValueError):
            pass  # between two states
        time.sleep(max(0.05, min(1.0, FILES / 20000)))
    code, said = finish(process)
    assert code == 0, said
    took = time.monotonic() - began
    assert len(rows_of(out)) == FILES
    # The first fifth is warm-up; the last samples, in which the report is written, are the end.
    seconds, parent, worker, descriptors, written = np.array(samples).T
    steady = (written > written.max() * 0.2) & (written < written.max() * 0.999)
    thirds = np.array_split(np.flatnonzero(steady), 3)
    growth = {
        name: float(np.median(values[thirds[-1]]) / np.median(values[thirds[0]]) - 1)
        for name, values in (("scanner", parent), ("workers", worker))
    }
    rates = [float((written[t[-1]] - written[t[0]]) / (seconds[t[-1]] - seconds[t[0]])) for t in thirds]
    change = rates[-1] / rates[0] - 1
    print(
        f"\nsoak: {FILES} files in {took:.0f} s, rows lost 0; memory grew by {growth['scanner']:+.1%} (scanner), "
        f"{growth['workers']:+.1%} (workers) from the first third to the last; throughput {change:+.1%}; "
        f"descriptors {int(np.median(descriptors[thirds[0]]))} then {int(np.median(descriptors[thirds[-1]]))}"
    )
    assert max(growth.values()) < 0.05
    assert np.median(descriptors[thirds[-1]]) == np.median(descriptors[thirds[0]])
    if FILES >= 20000:  # in shorter runs, other work of the machine has too much influence
        assert abs(change) < 0.10
