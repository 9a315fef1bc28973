"""The errors of few windows and the savings of adaptive ones, on real tracks of two to three minutes.

    python benchmarks/adaptive_windows.py --corpus FOLDER [--a-source N] [--model FILE]

FOLDER holds excerpts and a manifest.csv with path, label (human, ai) and source. Tracks are excerpts of one source,
drawn at random and joined: N of each source that has two minutes. They are scored three times: all windows, the
default, and adaptive. Joined excerpts are harder than continuous music: their windows differ more.

Agreement is of verdicts; its error is that of the stopping rule, so the rate that the rule states is
printed beside it. Without a corpus the tracks are synthesised, and the figures say only that everything works.
"""

from __future__ import annotations

import itertools
import json
import math
import subprocess
import time
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from material import add_folders, joined_excerpts, tracks
from paired import PROGRAM, Claim, conclude, parser

from sonicscan.scoring.adaptive import ERROR_RATE

PLANS = ("all", "12", "adaptive")
Rows = dict[str, dict[str, Any]]


def scan(folder: Path, windows: str, out: Path, model: Path | None) -> tuple[Rows, float]:
    """Rows by file name, and seconds."""
    command = [PROGRAM, str(folder), "--windows", windows, "--out", str(out), "--fresh", "-q"]
    began = time.perf_counter()
    subprocess.run([*command, *(["--model", str(model)] if model else [])], check=True)
    took = time.perf_counter() - began
    columns = ["path", "score", "verdict", "windows", "silent_windows", "duration_s"]
    return {Path(row["path"]).name: row for row in pq.ParquetFile(out).read(columns).to_pylist()}, took


def auc(rows: Rows, labels: dict[str, str]) -> float:
    """Probability that a track by AI scores higher than one by a person."""
    scores = {label: [rows[name]["score"] for name in labels if labels[name] == label] for label in ("human", "ai")}
    pairs = list(itertools.product(scores["ai"], scores["human"]))
    return sum(float(a > h) + 0.5 * (a == h) for a, h in pairs) / len(pairs) if pairs else math.nan


def agreement(some: Rows, whole: Rows) -> float:
    return float(sum(some[name]["verdict"] == row["verdict"] for name, row in whole.items())) / len(whole)


def main() -> None:
    arguments = parser(__doc__)
    add_folders(arguments, "corpus")
    arguments.add_argument("--a-source", type=int, default=8, help="tracks of each source")
    arguments.add_argument("--model", type=Path, help="ONNX model; else the bundled one")
    options = arguments.parse_args()
    labels: dict[str, str] = {}
    if options.corpus is not None:
        folder = options.work / f"excerpts-{options.a_source}"
        labels = joined_excerpts(options.corpus, folder, options.a_source)
    else:
        folder = tracks(options, [180.0] * 6, [".mp3", ".ogg"])[0].parent
    found = {plan: scan(folder, plan, options.work / f"windows-{plan}.parquet", options.model) for plan in PLANS}
    whole, whole_s = found["all"]
    n = {plan: sum(row["windows"] for row in rows.values()) for plan, (rows, _) in found.items()}
    print(f"{len(whole)} tracks, {n['all'] / len(whole):.1f} windows each; verdicts by all windows:", end=" ")
    verdicts = [row["verdict"] for row in whole.values()]
    print(json.dumps({name: verdicts.count(name) for name in sorted(set(verdicts))}))
    for plan, (rows, took) in found.items():
        print(
            f"  {plan:8} {n[plan] / len(rows):5.1f} windows a track, {took:6.1f} s ({whole_s / took:.2f} x as fast), "
            f"AUC {auc(rows, labels):.4f}, {agreement(rows, whole):.2%} of verdicts as with all"
        )
    long = [name for name, row in whole.items() if row["duration_s"] > 179]
    saved = sum(whole[x]["windows"] for x in long) / sum(found["adaptive"][0][x]["windows"] for x in long)
    equal = agreement({x: found["adaptive"][0][x] for x in long}, {x: whole[x] for x in long})
    default = f"the default of 12 has {agreement(found['12'][0], whole):.2%}"
    claims = [
        Claim(f"windows: all / adaptive, on {len(long)} tracks of three minutes", saved, 3.0),
        Claim(
            "equal verdicts of adaptive windows on them",
            100 * equal,
            99.5,
            unit="%",
            note=f"the rule allows {ERROR_RATE:.1%} of wrong ones; {default}",
        ),
        Claim(
            "AUC lost by the default of 12 windows",
            auc(whole, labels) - auc(found["12"][0], labels) if labels else 0.0,
            0.01,
            at_most=True,
            unit="",
        ),
    ]
    conclude(claims, options)


if __name__ == "__main__":
    main()
