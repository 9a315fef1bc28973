"""The errors of few windows and the savings of adaptive ones, on real tracks of two to three minutes.

    python benchmarks/adaptive_windows.py --corpus FOLDER [--a-source N] [--model FILE]

FOLDER holds excerpts and a manifest.csv with path, label (human, ai) and source. Tracks are excerpts of one source,
drawn at random and joined: N of each source that has two minutes. They are scored three times: all windows, the
default, and adaptive. Joined excerpts are harder than continuous music: their windows differ more.

Agreement is of verdicts; its error is that of the stopping rule, so the rate that the rule states is printed beside it.
What other rates would give is calculated from the margins of the scan of all windows. Without a corpus the tracks are
synthesised, and the figures say only that everything works.
"""

from __future__ import annotations

import itertools
import json
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from material import add_folders, joined_excerpts, tracks
from paired import Claim, conclude, parser, scanned

from sonicscan.audio.windows import FIRST_ROUND, spread_order
from sonicscan.report.metadata import ReportMetadata
from sonicscan.scoring import aggregate
from sonicscan.scoring.adaptive import ERROR_RATE, next_part
from sonicscan.scoring.thresholds import Thresholds

RATES = (0.04, 0.03, 0.02, ERROR_RATE, 0.005)
PLANS = ("all", "12", "adaptive")
Rows = dict[str, dict[str, Any]]


def scan(folder: Path, windows: str, out: Path, model: Path | None) -> tuple[Rows, float]:
    """Rows by file name, and seconds."""
    columns = ["path", "score", "verdict", "windows", "silent_windows", "duration_s", "window_margins"]
    began = time.perf_counter()
    named: list[str | Path] = ["--model", model] if model else []
    rows = scanned([folder], out, columns, "--windows", windows, *named)
    took = time.perf_counter() - began
    return {Path(row["path"]).name: row for row in rows}, took


def auc(rows: Rows, labels: dict[str, str]) -> float:
    """Probability that a track by AI scores higher than one by a person."""
    scores = {label: [rows[name]["score"] for name in labels if labels[name] == label] for label in ("human", "ai")}
    pairs = list(itertools.product(scores["ai"], scores["human"]))
    return sum(float(a > h) + 0.5 * (a == h) for a, h in pairs) / len(pairs) if pairs else math.nan


def windows_taken(
    margins: np.ndarray, thresholds: Thresholds, shrink: float = 0.0, error_rate: float = ERROR_RATE
) -> int:
    """How many windows adaptive takes of a track with these margins."""
    order, end = spread_order(len(margins)), min(FIRST_ROUND, len(margins))
    while (part := next_part(margins[order[:end]], 0, len(margins), thresholds, shrink, error_rate)) is not None:
        end = part[1]
    return end


def at_rate(rows: Sequence[dict[str, Any]], report: ReportMetadata, error_rate: float) -> tuple[float, float]:
    """Windows: all / adaptive, and the share of equal verdicts, if the rule allowed this error rate."""
    thresholds, spec = report.thresholds, report.spec("the report")
    assert thresholds is not None and spec is not None
    taken = total = equal = 0
    for row in rows:
        margins = np.array(row["window_margins"])
        n = windows_taken(margins, thresholds, spec.shrink, error_rate)
        margin = aggregate.track_margin(margins[spread_order(len(margins))[:n]], spec.shrink)
        equal += thresholds.verdict(aggregate.score_of(margin)) == row["verdict"]
        taken, total = taken + n, total + len(margins)
    return total / taken, equal / len(rows)


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
    with pq.ParquetFile(options.work / "windows-all.parquet") as file:
        report = ReportMetadata.of(file.schema_arrow, "the report")
    loud = [row for row in whole.values() if row["duration_s"] > 179 and not row["silent_windows"]]
    for rate in RATES if loud and report.thresholds is not None else ():
        fewer, same = at_rate(loud, report, rate)
        print(
            f"  at an error rate of {rate:.1%}: {fewer:.2f} x fewer windows, {same:.2%} of {len(loud)} verdicts equal"
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
