"""Reading what files declare costs at most 2 ms of processor time a file that has no manifest; with tags and hash, 3%.

    python benchmarks/provenance.py [--rounds N] [--quick]

The share is the time of provenance, tags and SHA-256, divided by the time of decoding, log-mel and the default model.
It is measured on 12 windows of each of four tracks of three minutes. `--quick` measures only this.

Provenance alone is measured in two more ways. One is the call in this process. The other is the processor time of whole
scans with and without `--no-provenance`, in turns. Their files are short and their model costs nothing, so that little
else is measured. Both scans read the tags, so the difference does not contain them.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
from material import free_model, tracks, write
from paired import PROGRAM, Claim, conclude, cpu, in_turns, median, parser

from sonicscan.audio.images import images_of
from sonicscan.audio.tags import read_tags
from sonicscan.audio.windows import WindowPlan
from sonicscan.cli.demo import melody
from sonicscan.files import sha256_of
from sonicscan.model.batching import CPU_BATCH
from sonicscan.model.bundled import chosen_model
from sonicscan.model.loading import load_model
from sonicscan.model.sessions import Device
from sonicscan.provenance.reading import read_provenance
from sonicscan.spec import INPUT_NAME, OUTPUT_NAMES

FILES = 400
SUFFIXES = (".mp3", ".wav", ".flac", ".ogg")
TARGET_MS = 2.0


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--quick", action="store_true", help="the share of a scan, and no whole scans")
    options = arguments.parse_args()
    share = share_of_a_scan(options)
    if options.quick:
        conclude([share], options)
    folder: Path = options.work / "short"
    folder.mkdir(parents=True, exist_ok=True)
    for k in range(FILES):
        path = folder / f"{k:03}{SUFFIXES[k % len(SUFFIXES)]}"
        if not path.exists():
            if k < len(SUFFIXES):
                write(path, melody(5.0, 44100, k), 44100)
            else:
                os.link(folder / f"{k % len(SUFFIXES):03}{path.suffix}", path)
    names = [os.fsencode(folder / f"{k:03}{suffix}") for k, suffix in enumerate(SUFFIXES)]
    texts = {name: read_tags(name).texts for name in names}

    def call() -> float:
        return cpu(lambda: [read_provenance(name, texts[name]) for name in names * 50]) / (50 * len(names))

    alone = [times[0] for times in in_turns(call, rounds=options.rounds or 10)]
    common = [str(folder), "--model", str(free_model(options)), "--windows", "1", "--device", "cpu", "--quiet"]

    def scan(*more: str) -> Callable[[], float]:
        return lambda: _cpu_of([PROGRAM, *common, *more]) / FILES

    times = in_turns(scan(), scan("--no-provenance"), rounds=options.rounds or 10)
    more = [1e3 * (reading - without) for reading, without in times]
    spread = (
        f"{min(more):.2f} to {max(more):.2f} over {len(more)} pairs; a file takes {1e3 * times[0][1]:.1f} ms in all"
    )
    conclude(
        [
            share,
            Claim("the call alone", 1e3 * statistics.median(alone), TARGET_MS, at_most=True, unit="ms a file"),
            Claim(
                "scans with provenance less scans without",
                statistics.median(more),
                TARGET_MS,
                at_most=True,
                unit="ms a file",
                note=spread,
            ),
        ],
        options,
    )


def share_of_a_scan(options: argparse.Namespace) -> Claim:
    """The time of provenance, tags and hash of a track, divided by the time of its sound and its scores."""
    paths = [bytes(path) for path in tracks(options, [180.0] * len(SUFFIXES), SUFFIXES)]
    model = load_model(chosen_model(None), Device("cpu"), threads=1)
    images = np.zeros((CPU_BATCH, 3, 256, 256), dtype=np.float32)

    def scored() -> None:
        for path in paths:
            for first in range(0, len(images_of(path, model.spec.audio, WindowPlan())), CPU_BATCH):
                images[:] = first
                model.session.run([OUTPUT_NAMES[0]], {INPUT_NAME: images})

    def declared(path: bytes) -> None:
        read_provenance(path, read_tags(path).texts)
        sha256_of(Path(os.fsdecode(path)))

    def hashed() -> None:
        for path in paths:
            sha256_of(Path(os.fsdecode(path)))

    each = [lambda path=path: cpu(lambda: declared(path)) for path in paths]
    times = in_turns(lambda: cpu(scored), *each, lambda: cpu(hashed), rounds=options.rounds or 5)
    whole = median(times, 0)
    milliseconds = [1e3 * median(times, 1 + k) for k in range(len(paths))]
    by_format = ", ".join(f"{took:.1f} for {suffix}" for took, suffix in zip(milliseconds, SUFFIXES, strict=True))
    by_hash = 100 * median(times, 1 + len(paths)) / whole
    note = f"{by_format} of {1e3 * whole / len(paths):.0f} ms a track; SHA-256 alone {by_hash:.1f}%"
    share = 100 * sum(milliseconds) / 1e3 / whole
    return Claim("provenance, tags and hash, of a scan of 12 windows", share, 3.0, at_most=True, unit="%", note=note)


def _cpu_of(command: list[str]) -> float:
    """Processor time of a command and all processes that it waits for, seconds."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


if __name__ == "__main__":
    main()
