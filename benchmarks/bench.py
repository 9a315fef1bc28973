"""Runs the benchmarks one after the other and writes their figures into docs/performance.md.

    python benchmarks/bench.py [--library FOLDER] [--corpus FOLDER] [--write FILE] [NAME]...

NAMEs are those of the programs, all of them by default. Exits with 1 where a figure misses its target. The table is
only written when every benchmark ran, and takes the place of an earlier one of the same processor.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

from paired import Claim, machine, processor

from sonicscan.machine import usable_cpus

HERE = Path(__file__).parent
BEGIN, END = "<!-- bench: begin -->", "<!-- bench: end -->"
# Each command names the folders that it can use. Each runs in its own process: PyTorch is up to 1.6 times as fast in a
# process whose allocator already holds the memory of a larger network.
COMMANDS = {
    "startup": (),
    "preparing": ("library",),
    "listing": (),
    "memory": (),
    "writing": (),
    "provenance": (),
    "free_model": ("library",),
    "adaptive_windows": ("corpus",),
    "against_model": ("library",),
    "against_script --only lambda --only int8": ("library",),
    "against_script --only swin": ("library",),
    "against_script --only verdict": ("library",),
}


def run(command_line: str, options: argparse.Namespace) -> list[Claim]:
    """The claims of one benchmark; one that fails to run at all ends the program."""
    name, *arguments = command_line.split()
    results = options.work / f"{name}.json"
    results.unlink(missing_ok=True)
    command = [sys.executable, str(HERE / f"{name}.py"), *arguments]
    command += ["--work", str(options.work), "--json", str(results)]
    for folder in COMMANDS[command_line]:
        if (given := getattr(options, folder)) is not None:
            command += [f"--{folder}", str(given)]
    if options.rounds:
        command += ["--rounds", str(options.rounds)]
    subprocess.run(command, check=False)
    if not results.exists():
        raise SystemExit(f"{command_line} came to no result.")
    return [Claim(**claim) for claim in json.loads(results.read_text(encoding="utf-8"))["claims"]]


def table(found: dict[str, list[Claim]], began: str, took: float) -> str:
    rows = [f"{began}; {took / 60:.0f} minutes in all.", "", "| figure | measured | target | | command |"]
    rows.append("|---|---|---|---|---|")
    for command_line, claims in found.items():
        for claim in claims:
            side = "at most" if claim.at_most else "at least"
            note = f" ({claim.note})" if claim.note else ""
            figures = f"{claim.figure:.4g} {claim.unit} | {side} {claim.target:g} {claim.unit}"
            word = "pass" if claim.met else "**missed**"
            rows.append(f"| {claim.what}{note} | {figures} | {word} | `{command_line}` |")
    return "\n".join(rows)


def placed(text: str, title: str, filled: str, markers: tuple[str, str] = (BEGIN, END)) -> str:
    """`text` with the table under `title` between the markers, in place of an earlier one or behind all others."""
    begin, end = markers
    before, _, rest = text.partition(begin)
    tables, _, after = rest.partition(end)
    sections = dict(section.split("\n", 1) for section in tables.split("### ")[1:])
    sections[title] = f"\n{filled}\n\n"
    filled_in = "".join(f"### {title}\n{body}" for title, body in sections.items())
    return f"{before}{begin}\n{filled_in}{end}{after}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    programs = dict.fromkeys(command_line.split()[0] for command_line in COMMANDS)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(programs))
    parser.add_argument("--work", type=Path, default=Path("bench-data"), help="where to keep what is made")
    parser.add_argument("--library", type=Path, help="a folder of music; else a synthesised one")
    parser.add_argument("--corpus", type=Path, help="excerpts with a manifest.csv; else synthesised tracks")
    parser.add_argument("--rounds", type=int, help="instead of each benchmark's own number")
    parser.add_argument("--write", type=Path, help="a Markdown file with the table's markers")
    options = parser.parse_args()
    if unknown := set(options.names) - set(programs):
        parser.error(f"there is no benchmark {', '.join(sorted(unknown))}; there are {', '.join(programs)}.")
    options.work.mkdir(parents=True, exist_ok=True)
    began, clock = machine(), time.perf_counter()
    found = {}
    for command_line in COMMANDS:
        if not options.names or command_line.split()[0] in options.names:
            print(f"\n{command_line}", flush=True)
            found[command_line] = run(command_line, options)
    missed = [claim for claims in found.values() for claim in claims if not claim.met]
    print(f"\n{len(missed)} of {sum(map(len, found.values()))} figures miss their targets.")
    if options.write is not None and not options.names:
        text = options.write.read_text(encoding="utf-8")
        title, filled = f"{processor()}, {usable_cpus()} CPUs", table(found, began, time.perf_counter() - clock)
        options.write.write_text(placed(text, title, filled), encoding="utf-8")
        print(f"The table is in {options.write}.")
    raise SystemExit(1 if missed else 0)


if __name__ == "__main__":
    main()
