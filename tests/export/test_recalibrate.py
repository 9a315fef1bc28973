"""Recalibration from a report: what certifies a rate, and what must not."""

from __future__ import annotations

import dataclasses
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from click.testing import CliRunner, Result
from synthesis import TINY_SPEC, calibrated, write_model
from tag_files import SUNO, comment, with_id3

from sonicscan.api import scan
from sonicscan.cli.report import main as reports
from sonicscan.cli.scan import main as scanner
from sonicscan.errors import Status
from sonicscan.model.bundled import bundled_models
from sonicscan.model.loading import load_model
from sonicscan.model.sessions import Device
from sonicscan.report.metadata import ReportMetadata, with_metadata
from sonicscan.report.row import FileResult
from sonicscan.report.schema import to_batch
from sonicscan.report.writers import write_report
from sonicscan.scoring.thresholds import certified_thresholds
from sonicscan.spec import Caught, ModelSpec
from sonicscan_export import onnxfile
from sonicscan_export.cli import main


def recalibrate(model: Path, known: Path, out: Path, *options: str) -> Result:
    return CliRunner().invoke(main, ["recalibrate", str(model), "--report", str(known), "--out", str(out), *options])


def spec_of(path: Path) -> ModelSpec:
    return onnxfile.read_spec(onnxfile.read(path), path)


def sample_report(
    path: Path,
    model: Path,
    scores: list[float],
    statuses: dict[int, Status] | None = None,
    artists: int = 0,
    windows: str = "12",
    codecs: list[str] | None = None,
) -> Path:
    """A report as a scan with `model` would have written it; with as many artists as said, in turn."""
    rows = [
        FileResult(
            path=f"{k:04}.wav",
            status=(statuses or {}).get(k, "ok"),
            score=None if k in (statuses or {}) else score,
            artist=f"Artist {k % artists}" if artists else None,
            codec=codecs[k] if codecs else "mp3",
            loudness_db=-10.0 - k % 7,
            sample_rate=44100,
            size=1,
            mtime_ns=1,
            warnings=[],
        )
        for k, score in enumerate(scores)
    ]
    metadata = ReportMetadata(model_digest=onnxfile.digest(model), options={"windows": windows})
    write_report(with_metadata(pa.Table.from_batches([to_batch(rows)]), metadata), path)
    return path


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_model(tmp_path / "model.onnx", calibrated())


SCORES = np.random.default_rng(0).uniform(0.3, 0.9, 320).tolist()


def test_tracks_that_the_calibration_has_already_count_once(tmp_path: Path) -> None:
    """A library that grows is scanned whole, and its new tracks are to be added."""
    scores = np.random.default_rng(0).uniform(0.3, 0.9, 400).tolist()
    model = write_model(tmp_path / "m.onnx", TINY_SPEC)
    first = sample_report(tmp_path / "first.parquet", model, scores[:200])
    assert recalibrate(model, first, tmp_path / "one.onnx", "--max-fpr", "0.02").exit_code == 0
    one = tmp_path / "one.onnx"
    grown = sample_report(tmp_path / "grown.parquet", one, scores)
    result = recalibrate(one, grown, tmp_path / "two.onnx", "--add")
    assert result.exit_code == 0
    assert "200 of 400 tracks are in the model's calibration already" in result.stderr
    assert spec_of(tmp_path / "two.onnx").calibration.scores == tuple(sorted(scores))
    again = sample_report(tmp_path / "again.parquet", one, scores[:200])
    result = recalibrate(one, again, tmp_path / "three.onnx", "--add", "--max-fpr", "0.02")
    assert result.exit_code == 2 and "has all tracks of" in result.stderr
    # Ten artists count already, five are new.
    artists = sample_report(tmp_path / "artists.parquet", one, [*scores[:10], *scores[380:]], artists=15)
    result = recalibrate(one, artists, tmp_path / "four.onnx", "--add", "--max-fpr", "0.02")
    assert spec_of(tmp_path / "four.onnx").calibration.n == 205
    assert "and so does each artist" in result.stderr


@pytest.mark.parametrize("options", [(), ("--add",)])
def test_what_was_measured_is_kept_only_if_it_holds_after_recalibration(
    options: tuple[str, ...], tmp_path: Path
) -> None:
    """The share of AI in a library would otherwise get an interval that is far too narrow."""
    old = calibrated()
    calibration = dataclasses.replace(old.calibration, ai_scores=tuple(np.linspace(0.2, 0.99, 700)), n_ai=700)
    caught = (Caught(0.01, 0.6, 2500, 108.0), Caught(0.02, 0.6, 2500, 99.0), Caught(0.05, 0.7, 2500, 82.0))
    metrics = {"auc": 0.9, "summary": "at the 1% false-positive rate it flags 28% of unseen AI", "own_thresholds": {}}
    model = write_model(
        tmp_path / "m.onnx", dataclasses.replace(old, calibration=calibration, caught=caught, metrics=metrics)
    )
    known = sample_report(tmp_path / "known.parquet", model, SCORES)
    assert recalibrate(model, known, tmp_path / "mine.onnx", *options).exit_code == 0
    mine = spec_of(tmp_path / "mine.onnx")
    assert mine.metrics == {"auc": 0.9}  # a case file would quote what holds for other thresholds
    entries = mine.caught
    assert [entry.n for entry in entries] == [700] * 4
    assert [entry.independent_n for entry in entries] == [108.0, 99.0, 82.0, 82.0]


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


def test_one_track_of_each_artist_counts(model: Path, tmp_path: Path) -> None:
    known = sample_report(tmp_path / "known.parquet", model, SCORES * 2, artists=320)
    result = recalibrate(model, known, tmp_path / "new.onnx")
    assert result.exit_code == 0, result.output
    assert "320 of 640 tracks count, one of each artist" in result.stderr
    spec = spec_of(tmp_path / "new.onnx")
    assert spec.calibration.n == 320 and spec.calibration.material is not None
    assert spec.calibration.material.codecs == {"mp3": 320}
    few = sample_report(tmp_path / "few.parquet", model, SCORES, artists=20)
    assert recalibrate(model, few, tmp_path / "new.onnx", "--group-by", "none").exit_code == 0
    assert spec_of(tmp_path / "new.onnx").calibration.n == 320
    (tmp_path / "new.onnx").unlink()
    words = "with one track of each artist, has 20 tracks, and a false-positive rate of 0.01 takes 299"
    refused(recalibrate(model, few, tmp_path / "new.onnx"), words, tmp_path)


def scanned(library: Path, model: Path, out: Path) -> Path:
    words = [str(library), "--model", str(model), "--out", str(out), "--device", "cpu", "-q", "--hash"]
    done = CliRunner().invoke(scanner, words)
    assert done.exit_code == 0, done.output
    return out


@pytest.mark.parametrize("group_by", ["artist", "none"])
def test_copies_of_a_track_certify_as_much_as_one(
    tiny_model: Path, small_library: Path, tmp_path: Path, group_by: str
) -> None:
    library = shutil.copytree(small_library, tmp_path / "library")
    for k in range(25):
        shutil.copy(library / "a" / "1.wav", library / f"copy {k}.wav")
    known = scanned(library, tiny_model, tmp_path / "known.parquet")
    words = "with its copies counted once, has 6 tracks, and a false-positive rate of 0.1 takes 29"
    options = ("--group-by", group_by, "--max-fpr")
    refused(recalibrate(tiny_model, known, tmp_path / "new.onnx", *options, "0.1"), words, tmp_path)
    result = recalibrate(tiny_model, known, tmp_path / "new.onnx", *options, "0.4")
    assert result.exit_code == 0, result.output
    assert "25 of 31 tracks are copies of others" in result.stderr
    found = spec_of(tmp_path / "new.onnx").calibration
    assert found.n == 6 and found.material is not None and sum(found.material.codecs.values()) == 6


def test_a_track_that_declares_itself_generated_is_none_by_a_person(
    tiny_model: Path, small_library: Path, tmp_path: Path
) -> None:
    library = shutil.copytree(small_library, tmp_path / "library")
    song = library / "a" / "3.mp3"
    song.write_bytes(with_id3(song.read_bytes(), comment(SUNO)))
    known = scanned(library, tiny_model, tmp_path / "known.parquet")
    words = r"1 of 6 tracks of .* declare themselves generated, such as .*a/3.mp3 \(.*Suno.*--exclude those files"
    refused(recalibrate(tiny_model, known, tmp_path / "new.onnx", "--max-fpr", "0.5"), words, tmp_path)


def test_the_model_s_own_tracks_can_be_kept(model: Path, tmp_path: Path) -> None:
    known = sample_report(tmp_path / "known.parquet", model, SCORES[:50])
    out = tmp_path / "new.onnx"
    result = recalibrate(model, known, out, "--add")
    assert result.exit_code == 0, result.output
    before, after = spec_of(model).calibration, spec_of(out).calibration
    assert after.n == before.n + 50 and after.scores == tuple(sorted([*before.scores, *SCORES[:50]]))
    assert "and 400 tracks of the model's own" in after.data
    whole = sample_report(tmp_path / "all.parquet", model, SCORES, windows="all")
    out.unlink()
    refused(
        recalibrate(model, whole, out, "--add"), "calibrated with --windows 12 and .* was scanned with all", tmp_path
    )


def test_codec_classes_with_enough_tracks_get_certificates_of_their_own(model: Path, tmp_path: Path) -> None:
    """Of the report's tracks, and with --add of both."""
    codecs = ["mp3"] * 300 + ["flac"] * 20 + ["pcm_16"] * 20
    known = sample_report(tmp_path / "known.parquet", model, [*SCORES, *SCORES[:20]], codecs=codecs)
    out, more = tmp_path / "new.onnx", tmp_path / "more.onnx"
    assert recalibrate(model, known, out).exit_code == 0
    found = spec_of(out).calibration
    assert [(c.kind, c.name, c.n) for c in found.categories] == [("codec", "mp3", 300), ("codec", "lossless", 40)]
    assert [own.name for own in certified_thresholds(found, 0.01).classes] == ["mp3"]
    assert found.material is not None and len(found.material.loudness_db) > 30
    others = [score + 1e-4 for score in SCORES]
    again = sample_report(tmp_path / "again.parquet", out, [*others, *others[:20]], codecs=codecs)
    assert recalibrate(out, again, more, "--add").exit_code == 0
    assert [(c.name, c.n) for c in spec_of(more).calibration.categories] == [("mp3", 600), ("lossless", 80)]
    # Tracks of one class alone, or few of a class, join the classes that the model has.
    one = sample_report(tmp_path / "one.parquet", out, others[:300])
    more.unlink()
    assert recalibrate(out, one, more, "--add").exit_code == 0
    assert [(c.name, c.n) for c in spec_of(more).calibration.categories] == [("mp3", 600), ("lossless", 40)]
    few = sample_report(tmp_path / "few.parquet", out, others[:300], codecs=["flac"] * 3 + ["opus"] * 2 + ["mp3"] * 295)
    more.unlink()
    assert recalibrate(out, few, more, "--add").exit_code == 0
    assert [(c.name, c.n) for c in spec_of(more).calibration.categories] == [("mp3", 595), ("lossless", 43)]


def test_the_plan_of_the_scan_is_the_certificate_s(model: Path, tmp_path: Path) -> None:
    known = sample_report(tmp_path / "known.parquet", model, SCORES, windows="all")
    assert recalibrate(model, known, tmp_path / "new.onnx").exit_code == 0
    assert spec_of(tmp_path / "new.onnx").calibration.windows == "all"
    adaptive = sample_report(tmp_path / "adaptive.parquet", model, SCORES, windows="adaptive")
    (tmp_path / "new.onnx").unlink()
    refused(recalibrate(model, adaptive, tmp_path / "new.onnx"), "with --windows adaptive, and a certificate", tmp_path)


def test_a_report_that_was_chosen_by_score_is_refused_or_doubted(model: Path, tmp_path: Path) -> None:
    known = sample_report(tmp_path / "known.parquet", model, [*SCORES, *[0.1] * 320])
    part = tmp_path / "part.parquet"
    taken = CliRunner().invoke(reports, ["convert", str(known), "--min-score", "0.3", "--out", str(part)])
    assert taken.exit_code == 0
    words = "part.parquet has only the tracks that --min-score 0.3 selected, and thresholds from such tracks are wrong"
    refused(recalibrate(model, part, tmp_path / "new.onnx"), words, tmp_path)
    taken = CliRunner().invoke(reports, ["convert", str(known), "--path", "0*", "--out", str(part)])
    assert taken.exit_code == 0
    assert "is a part of a scan, chosen by --path" in recalibrate(model, part, tmp_path / "a.onnx").stderr
    high = sample_report(tmp_path / "high.parquet", model, [s for s in SCORES * 2 if s > 0.45])
    assert "chosen by their score, its thresholds are wrong" in recalibrate(model, high, tmp_path / "b.onnx").stderr


def test_a_bundled_model_is_recalibrated_by_its_name_and_without_the_training_extras(tmp_path: Path) -> None:
    """In a process that cannot import torch or onnx."""
    name, path = next(iter(bundled_models().items()))
    known = sample_report(tmp_path / "known.parquet", path, SCORES)
    code = (
        "import sys\nsys.modules['torch'] = sys.modules['onnx'] = None\nfrom sonicscan_export.cli import main\nmain()"
    )
    words = ["recalibrate", name, "--report", str(known), "--out", str(tmp_path / "own.onnx")]
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert load_model(tmp_path / "own.onnx", Device("cpu")).spec.calibration.n == 320
