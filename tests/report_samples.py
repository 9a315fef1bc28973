"""Reports whose truth is known, for the tests of `sonicscan-report`.

As a program it writes the demonstration that the pictures in docs/report.md show:

python tests/report_samples.py FOLDER [TRACKS]
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
from scipy.special import expit
from synthesis import TINY_SPEC, music, write_model

from sonicscan.cli.demo import write_sound
from sonicscan.report.metadata import ReportMetadata, with_metadata
from sonicscan.report.row import FileResult
from sonicscan.report.schema import to_batch
from sonicscan.report.writers import write_report
from sonicscan.scoring.aggregate import judgement
from sonicscan.scoring.thresholds import Thresholds, caught_at_rates, certified_thresholds
from sonicscan.spec import Calibration, Caught, ModelSpec

DAY_NS = 86_400 * 1_000_000_000
NOON_2026 = 1_767_268_800 * 1_000_000_000  # 2026-01-01, 12:00 UTC
HOSTILE = "<img src=x onerror=document.title='owned'>.mp3"


def row(path: str, score: float | None = None, **fields: object) -> FileResult:
    """A report row with sensible values for whatever is not given."""
    status = "ok" if score is not None else "unreadable"
    given: dict[str, object] = {"status": status, "score": score, "size": 1000, "mtime_ns": NOON_2026, "warnings": []}
    return FileResult(path=path, **(given | fields))  # type: ignore[arg-type]


def sample_report(
    path: Path,
    rows: Iterable[FileResult],
    spec: ModelSpec | None = None,
    thresholds: object = None,
    digest: str = "d" * 64,
    **metadata: object,
) -> Path:
    """A Parquet report with the metadata that a scan writes; `metadata` replaces the text of some keys."""
    spec = spec or ModelSpec("tiny")
    made = ReportMetadata(
        tool_version="0",
        model="sample.onnx",
        model_digest=digest,
        model_spec=spec.to_json(),
        options={"windows": "12"},
        thresholds=thresholds if isinstance(thresholds, Thresholds) else None,
        started="2026-01-02T03:04:05+00:00",
        finished="2026-01-02T05:06:07+00:00",
    )
    if thresholds is not None and not isinstance(thresholds, Thresholds):
        metadata["thresholds"] = thresholds
    given = {key: value if isinstance(value, str) else json.dumps(value) for key, value in metadata.items()}
    write_report(with_metadata(pa.Table.from_batches([to_batch(rows)]), made.keys() | given), path)
    return path


@dataclass(frozen=True)
class World:
    """A model and a catalogue drawn from known distributions of track margins.

    Margins are normal with spread 1.5: around -4 for people's tracks, around `ai` for AI tracks.
    """

    n_human_calibration: int = 1000
    n_ai_measured: int = 500
    ai: float = 3.0
    max_fpr: float = 0.01

    def model(self, rng: np.random.Generator) -> ModelSpec:
        """A model calibrated, and its true-positive rate measured, on fresh draws."""
        calibration = Calibration.of(expit(rng.normal(-4.0, 1.5, self.n_human_calibration)).tolist(), "a simulation")
        limit = certified_thresholds(calibration, self.max_fpr).flagged
        caught = float(np.mean(expit(rng.normal(self.ai, 1.5, self.n_ai_measured)) >= limit))
        measured = (Caught(self.max_fpr, caught, self.n_ai_measured),)
        return ModelSpec("simulated", calibration=calibration, caught=measured, license_note="none: it is a simulation")

    def margins(self, rng: np.random.Generator, n_human: int, n_ai: int) -> np.ndarray:
        """Track margins of a catalogue: people's first, then AI."""
        return np.concatenate([rng.normal(-4.0, 1.5, n_human), rng.normal(self.ai, 1.5, n_ai)])


def catalogue_rows(
    margins: np.ndarray, spec: ModelSpec, thresholds: Thresholds | None, seed: int = 0
) -> list[FileResult]:
    """Rows of scored tracks as a scan would write them, in folders of artists and albums."""
    rng = np.random.default_rng(seed)
    rows = []
    for i, margin in enumerate(margins):
        windows = (margin + rng.normal(0.0, 0.8, 12)).tolist()
        starts = np.linspace(0.0, 200.0, 12).tolist()
        score = float(expit(margin))
        artist = int(rng.integers(0, 40))
        rows.append(
            row(
                f"/music/{'ABCDEFGH'[artist % 8]}/Artist {artist:02d}/Album {i % 7}/{i:06d} Song.mp3",
                score,
                windows=12,
                window_starts_s=starts,
                window_margins=windows,
                duration_s=float(rng.uniform(120, 320)),
                sample_rate=44100,
                channels=2,
                codec="mp3",
                bandwidth_hz=16000.0,
                artist=f"Artist {artist:02d}",
                title=f"Song {i:06d}",
                class_scores={"human": 1 - score, "ai": score},
                **judgement(score, starts, windows, spec, thresholds),
            )
        )
    return rows


def demo_rows(n: int, spec: ModelSpec, thresholds: Thresholds) -> list[FileResult]:
    """`n` rows: 4% AI, a few files that failed, and one with a hostile name and tags."""
    rng = np.random.default_rng(1)
    failures = [
        ("empty", "the file has no bytes."),
        ("truncated", "it claims 180.0 s and holds 0.4 s."),
        ("unreadable", "no sound could be decoded."),
    ]
    failed = [row(f"/music/H/broken/{i}.mp3", None, status=s, error=e) for i, (s, e) in enumerate(failures * 4)]
    n_ai = round(0.04 * n)
    scored = catalogue_rows(World().margins(rng, n - n_ai - len(failed), n_ai), spec, thresholds)
    scored[0] = replace(
        scored[0], path=f"/music/A/{HOSTILE}", artist="<script>alert(1)</script>", title="=1+1 & <b>bold</b>"
    )
    return sorted([*scored, *failed], key=lambda r: r.path)


def standin() -> ModelSpec:
    """A stand-in for a model, calibrated on 400 tracks by people and 300 by AI that were drawn at random."""
    rng = np.random.default_rng(0)
    people, ai = rng.beta(2, 4, 400).tolist(), rng.beta(4, 2, 300).tolist()
    known = Calibration.of(people, "400 synthetic tracks", ai_scores=ai)
    return replace(
        TINY_SPEC, calibration=known, caught=caught_at_rates(known), license_note="none: a stand-in for a model"
    )


def main(folder: Path, n: int) -> None:
    """Write `demo.parquet`, an earlier `old.parquet` and `reviewed.csv`, and a song with a stand-in for a model."""
    folder.mkdir(parents=True, exist_ok=True)
    spec = World().model(np.random.default_rng(0))
    limits = certified_thresholds(spec.calibration, 0.01)
    rows = demo_rows(n, spec, limits)
    sample_report(folder / "demo.parquet", rows, spec, limits)
    sample_report(folder / "old.parquet", [r for i, r in enumerate(rows) if i % 9], spec, limits)
    found = [r.path for r in rows if r.verdict == "flagged"][:30]
    lines = [f"{path},,{'human' if i % 3 else 'ai'},Kim,2026-01-20," for i, path in enumerate(found)]
    (folder / "reviewed.csv").write_text("path,content_hash,decision,by,date,expires\n" + "\n".join(lines) + "\n")
    write_sound(folder / "song.wav", music(60.0, seed=4))
    write_model(folder / "standin.onnx", standin(), gain=25.0, bias=-8.5)
    print(json.dumps({"tracks": len(rows), "folder": str(folder)}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 20_000)
