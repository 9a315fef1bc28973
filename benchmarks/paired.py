"""What all benchmarks share: two things measured in turns, claims with targets, and results for the table.

The figures of a machine change with its load. So a claim is a ratio of two things that were measured in turns in one
run, and the median of the ratios counts. Every benchmark prints its figures beside their targets. It exits with 1 if a
figure misses its target. With `--json FILE` it writes the figures for `bench.py`.
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import importlib.metadata
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sonicscan.machine import usable_cpus

PROGRAM = str(Path(sys.executable).with_name("sonicscan"))
_TOOLS = ("numpy", "scipy", "soundfile", "soxr", "librosa", "torch", "timm")


@dataclass(frozen=True)
class Claim:
    """One figure and what it must reach.

    Attributes:
        what: the figure, in words.
        figure: what was measured.
        target: what it must be at least, or at most.
        at_most: which of the two.
        unit: behind both.
        note: what else was measured beside it.
    """

    what: str
    figure: float
    target: float
    at_most: bool = False
    unit: str = "x"
    note: str = ""

    @property
    def met(self) -> bool:
        return self.figure <= self.target if self.at_most else self.figure >= self.target

    def __str__(self) -> str:
        side = "at most" if self.at_most else "at least"
        word = "PASS" if self.met else "FAIL"
        note = f"; {self.note}" if self.note else ""
        return f"{word}  {self.figure:.4g} {self.unit} ({side} {self.target:g})  {self.what}{note}"


def scanned(paths: Iterable[Path], out: Path, columns: Sequence[str], *options: str | Path) -> list[dict[str, Any]]:
    """These columns of the rows of a scan, whose report is `out`."""
    import pyarrow.parquet as pq  # here, since many benchmarks need no report

    subprocess.run([PROGRAM, *paths, "--out", out, "--fresh", "-q", *options], check=True)
    rows: list[dict[str, Any]] = pq.ParquetFile(out).read(list(columns)).to_pylist()
    return rows


def wall(function: Callable[[], object]) -> float:
    """Seconds that a call takes."""
    began = time.perf_counter()
    function()
    return time.perf_counter() - began


def cpu(function: Callable[[], object]) -> float:
    """Seconds of this process' processor time that a call takes, all its threads together."""
    began = time.process_time()
    function()
    return time.process_time() - began


def in_turns(*measured: Callable[[], float], rounds: int, warm_up: int = 1) -> list[tuple[float, ...]]:
    """Seconds of each, round by round; every other round in reverse order, so that drift favours none."""
    times = []
    for k in range(warm_up + rounds):
        order = range(len(measured)) if k % 2 == 0 else range(len(measured) - 1, -1, -1)
        found = {i: measured[i]() for i in order}
        if k >= warm_up:
            times.append(tuple(found[i] for i in range(len(measured))))
    return times


def ratio(times: Sequence[tuple[float, ...]], over: int, under: int) -> float:
    """Median over rounds of one time divided by another."""
    return statistics.median(t[over] / t[under] for t in times)


def median(times: Sequence[tuple[float, ...]], which: int) -> float:
    return statistics.median(t[which] for t in times)


def parser(document: str | None) -> argparse.ArgumentParser:
    """A parser with the options that every benchmark has."""
    made = argparse.ArgumentParser(description=document, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--rounds", type=int, help="how many times each thing is measured")
    made.add_argument("--work", type=Path, default=Path("bench-data"), help="where to keep what is made")
    made.add_argument("--json", type=Path, help="where to leave the results")
    return made


def machine() -> str:
    """Date, processor, load and versions, in one line."""
    today = datetime.datetime.now(datetime.UTC).date()
    found = []
    for name in ("onnxruntime-gpu", "onnxruntime", *_TOOLS):
        try:
            found.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    load = f"load {os.getloadavg()[0]:.1f} at the start"
    return (
        f"{today}, {processor()}, {usable_cpus()} CPUs, {load}; Python {platform.python_version()}, {', '.join(found)}"
    )


def processor() -> str:
    """The processor's name, from the system if it has one."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def conclude(claims: Sequence[Claim], options: argparse.Namespace) -> None:
    """Print the claims, leave them as JSON, and end the program."""
    for claim in claims:
        print(claim)
    if options.json is not None:
        results = {"machine": machine(), "claims": [dataclasses.asdict(claim) for claim in claims]}
        options.json.write_text(json.dumps(results, indent=1), encoding="utf-8")
    raise SystemExit(0 if all(claim.met for claim in claims) else 1)
