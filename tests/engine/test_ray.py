"""The Ray engine on a real cluster of two nodes: the local engine's rows, whatever dies."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from c2pa_files import authority, signed
from faults import PROGRAM
from hypothesis import given
from hypothesis import strategies as st
from synthesis import music

from sonicscan.audio.windows import ALL_WINDOWS, FIRST_ROUND, WindowPlan
from sonicscan.cli.demo import write_sound
from sonicscan.engine.ray.cluster import share
from sonicscan.engine.ray.engine import RayEngine
from sonicscan.errors import InputError, ModelError
from sonicscan.library.discovery import Listing, listing
from sonicscan.report.metadata import metadata_of
from sonicscan.report.readers import read_report
from sonicscan.report.row import FileResult
from sonicscan.report.schema import to_batch, to_results
from sonicscan.scanning.scan import Scan, ScanOptions, ray_engine

# A header of 255 channels at 768 kHz, and as many bytes of them as a header can claim.
_FRAME = 255 * 4
VAST = (b"RIFF", 0xFFFFFFFF, b"WAVEfmt ", 16, 3, 255, 768000, 768000 * _FRAME % 2**32, _FRAME, 32, b"data", 0xFFFFFFF0)
# Ray Data warns of its own settings.
pytestmark = pytest.mark.filterwarnings("ignore:.*deprecated:DeprecationWarning")


class TwoNodes:
    """A cluster of two nodes of two CPUs; `kill` takes one away, `mend` brings another."""

    def __init__(self) -> None:
        import ray
        from ray.cluster_utils import Cluster

        self._size = {"num_cpus": 2, "object_store_memory": 150 << 20}
        self._cluster = Cluster(initialize_head=True, head_node_args=self._size)
        self._second = self._cluster.add_node(**self._size)
        self.address: str = self._cluster.address
        ray.init(self.address, log_to_driver=False, logging_level="ERROR")

    def kill(self) -> None:
        self._cluster.remove_node(self._second, allow_graceful=False)

    def mend(self) -> None:
        self._second = self._cluster.add_node(**self._size)
        self._cluster.wait_for_nodes()

    def close(self) -> None:
        import ray

        ray.shutdown()
        self._cluster.shutdown()


@pytest.fixture(scope="module")
def cluster() -> Iterator[TwoNodes]:
    os.environ.update(RAY_USAGE_STATS_ENABLED="0", RAY_worker_niceness="0", RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO="0")
    nodes = TwoNodes()
    yield nodes
    nodes.close()


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("library")
    for k in range(24):
        write_sound(root / f"{k:02d}.flac", music(11.0, seed=k))
    (root / "signed.mp3").write_bytes(signed("mp3"))
    (root / "empty.mp3").touch()
    (root / "text.mp3").write_text("this is not music\n" * 100)
    hostile = bytearray((root / "00.flac").read_bytes())
    hostile[2000:2600] = b"\xff" * 600
    (root / "damaged.flac").write_bytes(hostile)
    (root / "vast.wav").write_bytes(struct.pack("<4sI8sIHHIIHH4sI", *VAST) + bytes(4096))
    os.mkfifo(root / "pipe.mp3")
    (root / "gone.mp3").symlink_to("nowhere.mp3")
    (root / "caf\udce9.wav").write_bytes(write_sound(root / "x.wav", music(6.0)).read_bytes())
    return root


def ray_scan(options: ScanOptions, address: str, gpus_per_actor: float = 0.0) -> Scan:
    return Scan(options, ray_engine(options, address, gpus_per_actor))


def assert_equal(found: list[FileResult], expected: list[FileResult]) -> None:
    """The same rows; scores within 1e-4, times apart."""

    def plain(rows: list[FileResult]) -> dict[str, FileResult]:
        blank = {"elapsed_ms": None, "score": None, "p_value": None, "class_scores": None, "window_margins": None}
        by_path = {row.path: dataclasses.replace(row, **blank) for row in rows}  # type: ignore[arg-type]
        assert len(by_path) == len(rows)
        return by_path

    assert plain(found) == plain(expected)
    scores = [{row.path: row.score for row in rows} for rows in (found, expected)]
    assert scores[0] == pytest.approx(scores[1], abs=1e-4)
    margins = [{row.path: row.window_margins for row in rows} for rows in (found, expected)]
    for path, values in margins[1].items():
        assert margins[0][path] == pytest.approx(values, abs=1e-4)


def test_the_report_is_the_local_engines(
    cluster: TwoNodes, library: Path, calibrated_model: Path, tmp_path: Path
) -> None:
    """The program, from a folder above a relative path: report, exit code, metrics, and an empty stdout."""
    (tmp_path / "trust.pem").write_text(authority().pem)
    command = [PROGRAM, library.name, "--model", calibrated_model, "--windows", "3", "--hash"]
    command += ["--c2pa-trust", tmp_path / "trust.pem"]
    done = {}
    for engine in (("ray", "--ray-address", cluster.address), ("local",)):
        out = ("--out", tmp_path / f"{engine[0]}.parquet", "--metrics-file", tmp_path / f"{engine[0]}.prom")
        run = [*command, *out, "--engine", *engine]
        done[engine[0]] = subprocess.run(run, cwd=library.parent, capture_output=True, text=True, timeout=200)
    assert done["ray"].returncode == done["local"].returncode == 3, done["ray"].stderr
    assert done["ray"].stdout == "" and "Traceback" not in done["ray"].stderr and "Warning" not in done["ray"].stderr
    assert "on a Ray cluster, nodes: 2" in done["ray"].stderr
    tables = [read_report(tmp_path / f"{name}.parquet") for name in ("ray", "local")]
    rows = [list(to_results(table)) for table in tables]
    assert_equal(*rows)
    (declared,) = (row.provenance for row in rows[0] if row.path.endswith("signed.mp3"))
    assert declared is not None and (declared.claim, declared.signature) == ("generated", "trusted")
    keys = [metadata_of(table.schema)["key"] for table in tables]
    assert keys[0] == keys[1]
    assert not (tmp_path / "ray.parquet.journal").exists()
    lines = [set((tmp_path / f"{name}.prom").read_text().splitlines()) for name in ("ray", "local")]
    assert {line for line in lines[0] if "_total{" in line} == {line for line in lines[1] if "_total{" in line}


def test_adaptive_windows_are_the_local_engines(
    cluster: TwoNodes, library: Path, calibrated_model: Path, tmp_path: Path
) -> None:
    """A track on the threshold is visited again until all its windows are known, one far from it once."""
    on = write_sound(tmp_path / "on.flac", music(67.0, seed=1))
    tone = 0.3 * np.sin(2764.6 * np.arange(65 * 44100) / 44100)
    write_sound(tmp_path / "off.flac", tone[:, None].astype(np.float32))
    (tmp_path / "text.mp3").write_bytes((library / "text.mp3").read_bytes())
    every = ScanOptions(model=calibrated_model, windows=ALL_WINDOWS)
    threshold = next(iter(Scan(every).score(listing([on])))).score
    adaptive = dataclasses.replace(every, windows=WindowPlan.parse("adaptive", adaptive=True), threshold=threshold)
    expected = list(Scan(adaptive).score(listing([tmp_path])))
    assert sorted((Path(row.path).name, row.windows) for row in expected) == [
        ("off.flac", FIRST_ROUND),
        ("on.flac", 13),
        ("text.mp3", 0),
    ]
    assert_equal(list(ray_scan(adaptive, cluster.address).score(listing([tmp_path]))), expected)


def kill_actor(stage: str) -> None:
    """Kill a process whose title says that it works in `stage`; killing an idle one would test nothing."""

    def at_work(process: Path) -> bool:
        title = (process / "cmdline").read_bytes()
        return title.startswith(b"ray::") and f"({stage})).submit".encode() in title

    limit = time.monotonic() + 60
    while time.monotonic() < limit:
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if at_work(process):
                    os.kill(int(process.name), signal.SIGSTOP)  # so that it does not finish before it dies
                    if at_work(process):
                        os.kill(int(process.name), signal.SIGKILL)
                        return
                    os.kill(int(process.name), signal.SIGCONT)
    raise AssertionError(f"no process is at work in {stage}")


@pytest.fixture(scope="module")
def many(
    library: Path, calibrated_model: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Listing, list[FileResult]]:
    """A library that keeps both nodes busy, and its rows by the local engine."""
    root = tmp_path_factory.mktemp("many")
    for k in range(300):
        (root / f"{k}.flac").symlink_to(library / f"{k % 24:02d}.flac")
    (root / "empty.mp3").touch()
    tracks = listing([root])
    return tracks, list(Scan(ScanOptions(model=calibrated_model, windows=ALL_WINDOWS)).score(tracks))


@pytest.mark.slow
@pytest.mark.parametrize("victim", ["node", "Decoding", "Detecting"])
def test_what_dies_costs_no_row(
    victim: str, cluster: TwoNodes, many: tuple[Listing, list[FileResult]], calibrated_model: Path
) -> None:
    """Both nodes are full of actors, so the one that dies takes some with it."""
    tracks, expected = many
    scan = ray_scan(ScanOptions(model=calibrated_model, windows=ALL_WINDOWS), cluster.address)
    engine = scan.engine
    assert isinstance(engine, RayEngine)
    assert "nodes: 2, actors with the model: 2 on cpu, batch 4, decoding processes: 2" in engine.summary
    results = scan.score(tracks)
    found = [next(results) for _ in range(3)]
    assert engine.retries == 0
    if victim != "node":
        kill_actor(victim)
        found += results
        assert engine.retries > 0
        assert_equal(found, expected)
        return
    cluster.kill()
    try:
        found += results
        assert engine.retries > 0 and "nodes: 1," in engine.summary
    finally:
        cluster.mend()
    assert_equal(found, expected)


@pytest.mark.slow
def test_an_interrupted_scan_goes_on_with_either_engine(
    cluster: TwoNodes, library: Path, calibrated_model: Path, tmp_path: Path
) -> None:
    command = [PROGRAM, library, "--model", calibrated_model, "--out", tmp_path / "r.parquet", "--max-errors", "9"]
    ray = ["--engine", "ray", "--ray-address", cluster.address]
    with subprocess.Popen([*command, *ray], stderr=subprocess.PIPE, text=True) as process:
        limit = time.monotonic() + 100
        journal = tmp_path / "r.parquet.journal"
        empty = 0
        while not empty or journal.stat().st_size == empty:
            if not empty and journal.exists():
                empty = journal.stat().st_size
            assert time.monotonic() < limit
            time.sleep(0.02)
        process.send_signal(signal.SIGTERM)
        said = process.communicate(timeout=60)[1]
    assert process.returncode == 143 and "the same command resumes the scan" in said
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0 and "resuming from" in done.stderr
    rows = list(to_results(read_report(tmp_path / "r.parquet")))
    expected = to_batch(Scan(ScanOptions(model=calibrated_model)).score(listing([library])))
    assert_equal(rows, list(to_results(expected)))


def test_a_model_that_fails_ends_the_scan_as_it_does_the_local_one(
    cluster: TwoNodes, small_library: Path, make_model: Callable[..., Path]
) -> None:
    scan = ray_scan(ScanOptions(model=make_model(gain=float("nan"))), cluster.address)
    with pytest.raises(ModelError, match="gives scores that are not numbers"):
        list(scan.score(listing([small_library])))


def test_gpus_that_are_not_there_are_missed_before_the_scan(cluster: TwoNodes, calibrated_model: Path) -> None:
    with pytest.raises(InputError, match="no node of the Ray cluster has a GPU for"):
        ray_scan(ScanOptions(model=calibrated_model), cluster.address, gpus_per_actor=0.5)


NODES = st.lists(st.tuples(st.integers(0, 200), st.integers(0, 8)), max_size=20)


@given(NODES, st.sampled_from([0.0, 0.25, 1.0, 2.0]), st.sampled_from([0, 1, 7, 300]))
def test_shares_fit_into_the_cluster(nodes: list[tuple[int, int]], gpus: float, workers: int) -> None:
    s = share(nodes, gpus, workers)
    usable = [node for node in nodes if node[0]]
    if s is None:
        assert not usable or (gpus and not any(node[1] >= gpus for node in usable))
        return
    assert s.detectors >= 1 and s.decoders >= 1 and s.decoder_cpus > 0 and s.detector_cpus > 0
    used = s.detectors * s.detector_cpus + (s.decoders if not workers else 1) * s.decoder_cpus
    assert used <= sum(node[0] for node in usable) + 1e-6
    assert s.detectors * s.detector_gpus <= sum(node[1] for node in usable)


def test_shares_are_those_of_the_local_engine() -> None:
    two = share([(2, 0), (2, 0), (0, 0)])
    assert two is not None and (two.nodes, two.detectors, two.decoders, two.threads) == (2, 2, 2, 2)
    gpu = share([(16, 1), (16, 0)], gpus_per_actor=0.5)
    assert gpu is not None and (gpu.detectors, gpu.detector_gpus, gpu.decoders) == (2, 0.5, 30)


def run(*arguments: str | Path, hidden: bool = False) -> subprocess.CompletedProcess[str]:
    hide = "sys.modules.update(ray=None); " if hidden else ""
    program = f"import sys; {hide}from sonicscan.cli.scan import main; main()"
    return subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True, timeout=100)


def test_without_ray_the_core_says_what_to_install(small_library: Path, tiny_model: Path) -> None:
    done = run(small_library, "--model", tiny_model, "--engine", "ray", hidden=True)
    assert done.returncode == 2 and "pip install 'sonicscan[ray]'" in done.stderr and "Traceback" not in done.stderr
    assert run(small_library, "--model", tiny_model, hidden=True).returncode == 0


def test_a_cluster_that_is_not_there_is_a_sentence(small_library: Path, tiny_model: Path) -> None:
    options = (small_library, "--model", tiny_model)
    began = time.monotonic()
    done = run(*options, "--engine", "ray", "--ray-address", "127.0.0.1:1")
    assert done.returncode == 2 and "there is no Ray cluster at 127.0.0.1:1" in done.stderr
    assert "Traceback" not in done.stderr and time.monotonic() - began < 30
    done = run(*options, "--ray-address", "127.0.0.1:1")
    assert done.returncode == 2 and "are for --engine ray" in done.stderr
    done = run(*options, "--engine", "ray", "--gpus-per-actor", "-1")
    assert done.returncode == 2 and "is a share of a GPU" in done.stderr
