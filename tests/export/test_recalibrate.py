"""Recalibration from a report: what certifies a rate, and what must not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from click.testing import CliRunner, Result
from synthesis import TINY_SPEC, calibrated, write_model

from sonicscan.api import scan
from sonicscan.cli.scan import main as scanner
from sonicscan.errors import Status
from sonicscan.report.metadata import ReportMetadata, with_metadata
from sonicscan.report.row import FileResult
from sonicscan.report.schema import to_batch
from sonicscan.report.writers import write_report
from sonicscan.scoring.thresholds import certified_thresholds
from sonicscan.spec import ModelSpec
from sonicscan_export import onnxfile
from sonicscan_export.cli import main


def recalibrate(model: Path, known: Path, out: Path, *options: str) -> Result:
    return CliRunner().invoke(main, ["recalibrate", str(model), "--report", str(known), "--out", str(out), *options])


def spec_of(path: Path) -> ModelSpec:
    return onnxfile.read_spec(onnxfile.read(path), path)


def sample_report(path: Path, model: Path, scores: list[float], statuses: dict[int, Status] | None = None) -> Path:
    """A report as a scan with `model` would have written it."""
    rows = [
        FileResult(
            path=f"{k:04}.wav",
            status=(statuses or {}).get(k, "ok"),
            score=None if k in (statuses or {}) else score,
            size=1,
            mtime_ns=1,
            warnings=[],
        )
        for k, score in enumerate(scores)
    ]
    metadata = ReportMetadata(model_digest=onnxfile.digest(model), options={"windows": "12"})
    write_report(with_metadata(pa.Table.from_batches([to_batch(rows)]), metadata), path)
    return path


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_model(tmp_path / "model.onnx", calibrated())


SCORES = np.random.default_rng(0).uniform(0.3, 0.9, 320).tolist()


def test_thresholds_come_from_the_report(model: Path, tmp_path: Path) -> None:
    known = sample_report(tmp_path / "known.parquet", model, SCORES)
    out = tmp_path / "new.onnx"
    result = recalibrate(model, known, out)
    assert result.exit_code == 0, result.output
    assert "320 tracks by people certify false-positive rates from 1.0% on" in result.stderr
    before, after = spec_of(model), spec_of(out)
    assert after.calibration.n == 320
    assert list(after.calibration.scores) == sorted(SCORES)
    assert after.calibration.data == "320 tracks of known.parquet, 12 windows each"
    assert after.provenance["recalibrated"]["model_digest"] == onnxfile.digest(model)
    assert certified_thresholds(after.calibration, 0.01).flagged > max(before.calibration.scores)
    # The graph is the same, so scores are.
    assert onnxfile.read(out).graph == onnxfile.read(model).graph


def test_a_scan_certifies_its_own_rate(tiny_model: Path, small_library: Path, tmp_path: Path) -> None:
    """From scan to scan: six tracks are enough for 40%, and the new model then flags none of them."""
    known = tmp_path / "known.parquet"
    scanned = CliRunner().invoke(
        scanner, [str(small_library), "--model", str(tiny_model), "--out", str(known), "--device", "cpu", "-q"]
    )
    assert scanned.exit_code == 0, scanned.output
    out = tmp_path / "mine.onnx"
    result = recalibrate(tiny_model, known, out, "--max-fpr", "0.4")
    assert result.exit_code == 0, result.output
    rows = list(scan(small_library, model=out, device="cpu", max_fpr=0.4))
    assert len(rows) == 6
    assert all(row.verdict in ("clear", "review") for row in rows)
    assert min(row.p_value or 0.0 for row in rows) == pytest.approx(2 / 7)


@pytest.mark.parametrize(
    ("scores", "statuses", "options", "words"),
    [
        (SCORES[:100], {}, [], "100 tracks, and a false-positive rate of 0.01 takes 299"),
        (SCORES, {5: "truncated", 9: "silent"}, [], r"2 of 320 rows of .* are not ok, such as 0005.wav \(truncated\)"),
        (SCORES, {}, ["--max-fpr", "0.001"], "takes 2995"),
        ([*SCORES, float("nan")], {}, [], "rows without a score; it is damaged"),
        ([], {}, [], "0 tracks"),
    ],
)
def test_reports_that_certify_nothing_are_refused(
    model: Path, tmp_path: Path, scores: list[float], statuses: dict[int, Status], options: list[str], words: str
) -> None:
    known = sample_report(tmp_path / "known.parquet", model, scores, statuses)
    refused(recalibrate(model, known, tmp_path / "new.onnx", *options), words, tmp_path)


def test_another_models_report_is_refused(model: Path, tmp_path: Path) -> None:
    other = write_model(tmp_path / "other.onnx", calibrated(), gain=21.0)
    known = sample_report(tmp_path / "known.parquet", other, SCORES)
    refused(recalibrate(model, known, tmp_path / "new.onnx"), "was not made with .*model.onnx", tmp_path)


def test_an_untrained_model_is_not_calibrated(tmp_path: Path) -> None:
    spec = ModelSpec(TINY_SPEC.architecture, untrained=True)
    model = write_model(tmp_path / "model.onnx", spec)
    known = sample_report(tmp_path / "known.parquet", model, SCORES)
    refused(recalibrate(model, known, tmp_path / "new.onnx"), "is untrained", tmp_path)


def test_what_is_no_report_is_refused(model: Path, tmp_path: Path) -> None:
    known = tmp_path / "known.parquet"
    known.write_text("nothing")
    refused(recalibrate(model, known, tmp_path / "new.onnx"), "cannot be read", tmp_path)


def refused(result: Result, words: str, folder: Path) -> None:
    import re

    assert result.exit_code == 2, result.output
    assert re.search(words, result.stderr)
    assert len(result.stderr.strip().splitlines()) == 1
    assert not (folder / "new.onnx").exists()
