"""The speed of a scan against an obvious script (obvious_script.py) with the same weights.

    python benchmarks/against_script.py [--library FOLDER] [--only lambda|int8|swin|verdict]... [--rounds N]

Both sides score all windows of the same files, with the model already loaded. Swin is slow and scores every fourth
file. The weights are random, because speed does not depend on them; margins must still be equal. Verdicts are of eight
tracks of three minutes, so that the start of the processes counts an eighth. With the threshold that is set, adaptive
windows are at least a third of all windows, as with real tracks and a real model (adaptive_windows.py).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import obvious_script
import torch
from adaptive_windows import windows_taken
from material import add_folders, exported, library, quiet_decoders, sound_files, tracks
from paired import Claim, conclude, in_turns, median, parser, ratio, wall

from sonicscan.audio.windows import ADAPTIVE_WINDOWS, ALL_WINDOWS, WindowPlan
from sonicscan.library.discovery import listing
from sonicscan.machine import usable_cpus
from sonicscan.model.sessions import Device
from sonicscan.report.row import FileResult
from sonicscan.scanning.scan import Scan, ScanOptions
from sonicscan.scoring import aggregate
from sonicscan.scoring.thresholds import Thresholds
from sonicscan.spec import AudioSpec
from sonicscan_export.precision import Precision

PARTS = ("lambda", "int8", "swin", "verdict")
ALL, ADAPTIVE = ALL_WINDOWS, ADAPTIVE_WINDOWS


def scanner(
    model: Path, paths: Sequence[Path], plan: WindowPlan, threshold: float = 0.5
) -> Callable[[], list[FileResult]]:
    """A scan whose model is loaded."""
    scan = Scan(ScanOptions(model=model, windows=plan, threshold=threshold, device=Device("cpu")))
    return lambda: list(scan.score(listing(paths)))


def script(network: Any, paths: Sequence[Path], margins: dict[str, np.ndarray]) -> None:
    for path in paths:
        margins[str(path)] = aggregate.window_margins(obvious_script.logits_of(path, network, AudioSpec()), 1.0)


def margin_gap(rows: Sequence[FileResult], margins: dict[str, np.ndarray]) -> float:
    """The largest difference of a track margin, over the windows that both have (silent ones have no score).

    Of margins beyond 1 it is a share: random weights take odd sound, such as a bass alone, to hundreds.
    """
    gaps = [0.0]
    for row in rows:
        if row.window_margins:
            theirs = margins[row.path]
            at = [round(start / AudioSpec().window_s) for start in row.window_starts_s or []]
            both = [(k, m) for k, m in zip(at, row.window_margins, strict=True) if k < len(theirs)]
            ours = aggregate.track_margin([m for _, m in both])
            wanted = aggregate.track_margin(theirs[[k for k, _ in both]])
            gaps.append(abs(ours - wanted) / max(1.0, abs(wanted)))
    return max(gaps)


def honest_threshold(rows: Sequence[FileResult]) -> float:
    """The score at which adaptive windows are the fewest that are still a third of all."""
    margins = [np.array(row.window_margins) for row in rows]
    center, spread = np.mean([m.mean() for m in margins]), np.mean([m.std() for m in margins])
    scores = [aggregate.score_of(center + spread * k) for k in np.linspace(0, 3, 61)]
    taken = {
        score: sum(windows_taken(m, Thresholds(score)) for m in margins) / sum(map(len, margins)) for score in scores
    }
    return min((share, score) for score, share in taken.items() if share >= 1 / 3)[1]


def main() -> None:
    arguments = parser(__doc__)
    add_folders(arguments, "library")
    arguments.add_argument("--only", action="append", choices=PARTS, help="only this part; can be repeated")
    options = arguments.parse_args()
    parts = options.only or PARTS
    torch.set_num_threads(usable_cpus())
    files = sound_files(library(options))
    claims: list[Claim] = []

    def compare(
        what: str, backbone: str, precisions: dict[Precision, float], paths: Sequence[Path], rounds: int
    ) -> None:
        margins: dict[str, np.ndarray] = {}
        models = {precision: exported(options, backbone, precision) for precision in precisions}
        network = next(iter(models.values()))[0]
        scans = {precision: scanner(path, paths, ALL) for precision, (_, path) in models.items()}
        timed = [lambda: wall(lambda: script(network, paths, margins))]
        timed += [functools.partial(wall, scan) for scan in scans.values()]
        times = in_turns(*timed, rounds=options.rounds or rounds, warm_up=0)
        n = sum(map(len, margins.values()))
        for k, (precision, target) in enumerate(precisions.items(), 1):
            note = f"{n / median(times, 0):.1f} and {n / median(times, k):.1f} windows/s"
            claims.append(
                Claim(
                    f"speed with {what} {precision}, all windows: sonicscan / script",
                    ratio(times, 0, k),
                    target,
                    note=note,
                )
            )
            if precision == "fp32":
                gap = margin_gap(scans[precision](), margins)
                claims.append(Claim(f"{what} fp32: track margins differ by", gap, 1e-3, at_most=True, unit=""))

    with quiet_decoders():
        wanted: dict[str, tuple[Precision, float]] = {"lambda": ("fp32", 3.2), "int8": ("int8", 5.0)}
        lambdas = dict(wanted[part] for part in ("lambda", "int8") if part in parts)
        if lambdas:
            compare("Lambda", "lambda", lambdas, files, 3)
        if "swin" in parts:
            compare("Swin", "swin", {"fp32": 3.0, "int8": 4.0}, files[::4], 3)
        if "verdict" in parts:
            paths = tracks(options, [180.0] * 8, [".mp3", ".ogg"])
            network, model = exported(options, "lambda", "int8")
            threshold = honest_threshold(scanner(model, paths, ALL)())
            scan = scanner(model, paths, ADAPTIVE, threshold)
            times = in_turns(
                lambda: wall(lambda: script(network, paths, {})), lambda: wall(scan), rounds=options.rounds or 3
            )
            rows = scan()
            taken = sum(row.windows for row in rows) / len(rows)
            note = f"{median(times, 1) / len(paths):.2f} s a track, {taken:.1f} windows of 36"
            what = "speed of a verdict on three minutes: sonicscan with Lambda int8, adaptive windows / script"
            claims.append(Claim(what, ratio(times, 0, 1), 12, note=note))
    conclude(claims, options)


if __name__ == "__main__":
    main()
