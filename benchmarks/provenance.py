"""Reading what files declare costs at most 2 ms of processor time a file that has no manifest.

    python benchmarks/provenance.py [--rounds N]

It is measured in two ways: the call alone, in this process; and whole scans with and without `--no-provenance`, in
turns, by the processor time of all their processes. Files are short and the model costs nothing, so that little else is
measured. Both scans read the tags, so these do not count.
"""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
from collections.abc import Callable
from pathlib import Path

from material import free_model, write
from paired import PROGRAM, Claim, conclude, cpu, in_turns, parser

from sonicscan.audio.tags import read_tags
from sonicscan.cli.demo import melody
from sonicscan.provenance.reading import read_provenance

FILES = 400
SUFFIXES = (".mp3", ".wav", ".flac", ".ogg")
TARGET_MS = 2.0


def main() -> None:
    options = parser(__doc__).parse_args()
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


def _cpu_of(command: list[str]) -> float:
    """Processor time of a command and all processes that it waits for, seconds."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


if __name__ == "__main__":
    main()
