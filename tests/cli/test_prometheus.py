"""`--metrics-file`: what Prometheus' own parser reads is what the scan did."""

from __future__ import annotations

import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest
from faults import PROGRAM, wait_for
from prometheus_client.parser import text_string_to_metric_families
from synthesis import music

from sonicscan.cli.demo import write_sound
from sonicscan.cli.progress import Tally
from sonicscan.cli.prometheus import MetricsFile
from sonicscan.engine.local import EngineStats
from sonicscan.report.row import FileResult

Figures = dict[str, float]


def figures(path: Path) -> Figures:
    """Every sample by its name, or by its name and label."""
    found = {}
    for family in text_string_to_metric_families(path.read_text(encoding="utf-8")):
        assert family.documentation and family.type in ("counter", "gauge")
        for sample in family.samples:
            label = next(iter(sample.labels.values()), "")
            found[sample.name.removeprefix("sonicscan_") + (f":{label}" if label else "")] = sample.value
    return found


def scan(*arguments: str | Path) -> int:
    return subprocess.run([PROGRAM, *arguments], capture_output=True, check=False, timeout=120).returncode


def test_the_figures_are_those_of_the_scan(small_library: Path, calibrated_model: Path, tmp_path: Path) -> None:
    file, began = tmp_path / "scan.prom", time.time()
    (tmp_path / "empty.mp3").touch()
    options = ("--model", calibrated_model, "--threshold", "0", "--metrics-file", file)
    report = tmp_path / "r.parquet"
    assert scan(small_library, tmp_path / "empty.mp3", *options, "--out", report) == 3
    found = figures(file)
    assert found["files_total:ok"] == 6 and found["files_total:empty"] == 1 and found["files_total:timeout"] == 0
    assert found["verdicts_total:flagged"] == 6
    assert found["windows_total"] > 6 and found["audio_seconds_total"] == pytest.approx(67.5, abs=0.5)
    assert found["exit_code"] == 3 and found["running"] == 0
    assert began < found["started_timestamp_seconds"] < found["finished_timestamp_seconds"] < time.time()
    took = found["finished_timestamp_seconds"] - found["started_timestamp_seconds"]
    assert found["files_per_second"] == pytest.approx(7 / took, rel=0.01)
    assert found["windows_per_second"] == pytest.approx(found["windows_total"] / took, rel=0.01)
    assert not list(tmp_path.glob("*.part"))

    assert scan(small_library, *options, "--since", report, "--out", report, "--fail-on", "flagged") == 1
    found = figures(file)
    assert found["carried_files_total"] == 6 and found["files_total:ok"] == 6 and found["exit_code"] == 1


def test_errors_and_interruptions_are_told(small_library: Path, tiny_model: Path, tmp_path: Path) -> None:
    file = tmp_path / "scan.prom"
    assert scan(small_library, "--model", tmp_path / "none.onnx", "--metrics-file", file) == 2
    assert figures(file)["exit_code"] == 2
    root = tmp_path / "library"
    root.mkdir()
    for k in range(20):
        write_sound(root / f"{k}.wav", music(30.0, seed=k))
    command = [PROGRAM, root, "--model", tiny_model, "--metrics-file", file, "--workers", "1", "--windows", "all"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        process.stdout.readline()
        found = figures(file)
        assert found["running"] == 1 and "exit_code" not in found and "finished_timestamp_seconds" not in found
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
    assert process.returncode == 130 and figures(file)["exit_code"] == 130


@pytest.mark.parametrize(
    "wrong",
    [("gone_mount",), (".", "--reviewed", "none.csv"), (".", "--files-from", "none.txt"), (".", "--shard", "3/2")],
)
def test_a_scan_that_cannot_begin_replaces_the_figures_of_an_earlier_one(
    wrong: tuple[str, ...], small_library: Path, tiny_model: Path, tmp_path: Path
) -> None:
    file = tmp_path / "scan.prom"
    options = ("--model", tiny_model, "--metrics-file", file)
    with MetricsFile(file):
        pass
    assert figures(file)["exit_code"] == 0
    command = [PROGRAM, *wrong, *options]
    assert subprocess.run(command, capture_output=True, check=False, cwd=small_library).returncode == 2
    assert figures(file)["exit_code"] == 2 and figures(file)["running"] == 0


def test_carried_files_are_counted_while_a_scan_runs(small_library: Path, tiny_model: Path, tmp_path: Path) -> None:
    file, report = tmp_path / "scan.prom", tmp_path / "r.parquet"
    assert scan(small_library, "--model", tiny_model, "--out", report) == 0
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/x.wav"
        options = ["--model", tiny_model, "--since", report, "--metrics-file", file, "--out", tmp_path / "new.parquet"]
        process = subprocess.Popen([PROGRAM, small_library, url, *options], stderr=subprocess.PIPE, text=True)
        wait_for(lambda: file.exists() and figures(file)["carried_files_total"] == 6)
        assert figures(file)["running"] == 1 and figures(file)["files_total:ok"] == 0
        process.send_signal(signal.SIGINT)
        said = process.communicate(timeout=60)[1]
    assert process.returncode == 130 and "interrupted: 0 rows are in" in said, said


def test_a_file_that_cannot_be_written_is_refused_at_the_start(
    small_library: Path, tiny_model: Path, tmp_path: Path
) -> None:
    command = [PROGRAM, small_library, "--model", tiny_model, "--metrics-file", tmp_path / "no" / "x.prom"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "cannot be written: No such file" in done.stderr and not done.stdout


def test_a_second_scan_leaves_the_file_of_a_running_one_alone(
    small_library: Path, tiny_model: Path, tmp_path: Path
) -> None:
    file = tmp_path / "scan.prom"
    command = [PROGRAM, small_library, "--model", tiny_model, "--metrics-file", file]
    with MetricsFile(file, every_s=0.001):
        time.sleep(0.05)  # replaced several times meanwhile
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert figures(file)["running"] == 1 and "exit_code" not in figures(file)
    assert done.returncode == 2 and "another running scan writes --metrics-file" in done.stderr and not done.stdout
    assert figures(file)["exit_code"] == 0
    assert subprocess.run(command, capture_output=True, check=False).returncode == 0


def test_it_is_whole_at_every_moment_and_follows_the_figures(tmp_path: Path) -> None:
    file, tally, stats = tmp_path / "x.prom", Tally(), EngineStats()
    with MetricsFile(file, every_s=0.001) as metrics:
        metrics.watch(tally, stats)
        seen = []
        for k in range(500):
            tally.add(FileResult(path="x", status="ok", size=0, mtime_ns=0, warnings=[]), decided=False)
            stats.windows += 1
            found = figures(file)
            assert found["running"] == 1 and 0 <= found["files_total:ok"] <= k + 1
            seen.append(found["files_total:ok"])
        assert seen == sorted(seen) and len(set(seen)) > 3
    assert figures(file)["files_total:ok"] == 500 and figures(file)["exit_code"] == 0


def test_a_disk_that_fails_later_does_not_end_the_scan(tmp_path: Path) -> None:
    folder = tmp_path / "mounted"
    folder.mkdir()
    with MetricsFile(folder / "x.prom", every_s=0.001):
        (folder / "x.prom").unlink()
        folder.rename(tmp_path / "gone")
        time.sleep(0.05)  # writes fail meanwhile
        (tmp_path / "gone").rename(folder)
        wait_for((folder / "x.prom").exists)  # later writes succeed
