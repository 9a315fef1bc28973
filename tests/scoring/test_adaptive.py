"""`--windows adaptive`: the order, the test that stops a track, and scans with it."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from faults import PROGRAM
from hypothesis import given, settings
from hypothesis import strategies as st
from synthesis import calibrated, music, write_model

import sonicscan
from sonicscan.analysis.evidence import explain
from sonicscan.audio.windows import ALL_WINDOWS, FIRST_ROUND, WindowPlan, spread_order
from sonicscan.cli.demo import write_sound
from sonicscan.errors import InputError
from sonicscan.model.loading import load_model
from sonicscan.model.sessions import Device
from sonicscan.scanning.scan import Scan, ScanOptions
from sonicscan.scoring import aggregate
from sonicscan.scoring.adaptive import ERROR_RATE, next_part
from sonicscan.scoring.thresholds import Thresholds
from sonicscan.spec import ModelSpec

LAW = settings(derandomize=True, deadline=None, max_examples=200)
ADAPTIVE = WindowPlan.parse("adaptive", adaptive=True)


@LAW
@given(st.integers(1, 5000))
def test_the_spread_order_has_every_window_once(n: int) -> None:
    assert sorted(spread_order(n)) == list(range(n))


@LAW
@given(st.integers(1, 6), st.integers(64, 5000))
def test_the_first_windows_lie_evenly(bits: int, n: int) -> None:
    first = sorted(spread_order(n)[: 2**bits - 1])
    assert np.abs(np.array(first) - n * np.arange(1, 2**bits) / 2**bits).max() < 1


@LAW
@given(st.integers(1, 10**8), st.integers(1000, 200_000), st.integers(1, 40))
def test_the_parts_of_an_adaptive_plan_are_the_windows_of_all(n: int, window: int, middle: int) -> None:
    whole = ALL_WINDOWS.starts(n, window)
    parts = [(0, middle), (middle, len(whole) + 1)]
    starts = [start for part in parts for start in replace(ADAPTIVE, part=part).starts(n, window)]
    assert sorted(starts) == whole
    assert ADAPTIVE.first(middle).starts(n, window) == replace(ADAPTIVE, part=(0, middle)).starts(n, window)


def read_until_decided(margins: np.ndarray, thresholds: Thresholds, shrink: float = 0.0) -> int:
    """How many windows the test takes of a track whose windows have these margins."""
    order = spread_order(len(margins))
    part: tuple[int, int] | None = (0, min(FIRST_ROUND, len(margins)))
    end = 0
    while part is not None:
        assert part[0] == end < part[1] <= len(margins)
        end = part[1]
        part = next_part(margins[order[:end]], 0, len(margins), thresholds, shrink)
    return end


@pytest.mark.parametrize("shrink", [0.0, 6.0])
def test_of_the_tracks_decided_early_no_more_than_stated_get_another_verdict(shrink: float) -> None:
    """With means spread evenly about the thresholds, as the bound supposes."""
    random = np.random.default_rng(0)
    thresholds = Thresholds(aggregate.score_of(1.0), aggregate.score_of(-1.0))
    early = wrong = 0
    for _ in range(4000):
        margins = random.normal(random.uniform(-3, 3), random.uniform(0.2, 1.0), 36)
        end = read_until_decided(margins, thresholds, shrink)
        known = margins[spread_order(36)[:end]]
        pooled = [aggregate.track_margin(m, shrink) for m in (known, margins)]
        verdicts = [thresholds.verdict(aggregate.score_of(margin)) for margin in pooled]
        early += end < 36
        wrong += verdicts[0] != verdicts[1]
    assert early > 3000
    assert 0 < wrong <= ERROR_RATE * early


@pytest.mark.parametrize(
    ("margins", "windows"),
    [
        (np.full(36, 5.0), FIRST_ROUND),  # far off, and all alike
        (np.full(36, 0.0), 36),  # on the threshold
        (np.linspace(-3, 3, 36), 36),
        (np.array([4.0]), 1),
        (np.array([4.0, 5.0, 4.5]), 3),
    ],
)
def test_a_track_is_read_as_far_as_its_verdict_needs(margins: np.ndarray, windows: int) -> None:
    assert read_until_decided(margins, Thresholds(0.5)) == windows


def test_thresholds_without_a_margin_decide_everything_at_once() -> None:
    assert read_until_decided(np.zeros(36), Thresholds(1.0)) == FIRST_ROUND
    assert read_until_decided(np.zeros(36), Thresholds(0.0)) == FIRST_ROUND


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tracks of 24, 18, 11, 1 and 14 windows; the last one begins with silence, another is all silent."""
    root = tmp_path_factory.mktemp("adaptive")
    for k, seconds in enumerate((120.0, 90.0, 57.0, 4.0)):
        write_sound(root / f"{k}.flac", music(seconds, 16000, seed=k), 16000)
    sound = music(70.0, 16000, seed=9)
    sound[: 16000 * 55] = 0
    write_sound(root / "quiet.flac", sound, 16000)
    write_sound(root / "silent.flac", np.zeros((16000 * 60, 1), dtype=np.float32), 16000)
    return root


def scan(library: Path, model: Path, **options: object) -> dict[str, sonicscan.FileResult]:
    return {Path(r.path).name: r for r in sonicscan.scan(library, model=model, **options)}  # type: ignore[arg-type]


def test_far_from_the_threshold_a_few_windows_do_and_they_are_windows_of_all(
    library: Path, calibrated_model: Path
) -> None:
    whole = scan(library, calibrated_model, windows=None, threshold=0.999)
    found = scan(library, calibrated_model, windows="adaptive", threshold=0.999)
    assert {name: r.windows for name, r in found.items()} | {"quiet.flac": 0} == {
        **{f"{k}.flac": min(FIRST_ROUND, n) for k, n in enumerate((24, 18, 11, 1))},
        "quiet.flac": 0,
        "silent.flac": 0,
    }
    assert {name: r.verdict for name, r in found.items()} == {name: r.verdict for name, r in whole.items()}
    assert (found["silent.flac"].status, found["silent.flac"].silent_windows) == ("silent", 12)
    assert (found["quiet.flac"].status, found["quiet.flac"].codec) == ("ok", "flac")
    for name, result in found.items():
        starts = dict(zip(whole[name].window_starts_s or [], whole[name].window_margins or [], strict=True))
        for start, margin in zip(result.window_starts_s or [], result.window_margins or [], strict=True):
            assert starts[start] == pytest.approx(margin, abs=1e-3)
        assert list(result.window_starts_s or []) == sorted(result.window_starts_s or [])


def test_on_the_threshold_all_windows_are_read(library: Path, calibrated_model: Path) -> None:
    whole = scan(library / "0.flac", calibrated_model, windows=None)["0.flac"]
    found = scan(library / "0.flac", calibrated_model, windows="adaptive", threshold=whole.score)["0.flac"]
    assert found.windows == whole.windows == 24
    assert found.window_starts_s == whole.window_starts_s
    assert found.window_margins == pytest.approx(whole.window_margins, abs=1e-3)


def test_the_same_rows_whatever_the_workers_and_the_batch(library: Path, calibrated_model: Path) -> None:
    threshold = scan(library / "1.flac", calibrated_model, windows=None)["1.flac"].score
    reports = [
        scan(library, calibrated_model, windows="adaptive", threshold=threshold, workers=w, batch_size=b)
        for w, b in ((1, 8), (3, 1), (2, 5))
    ]
    assert reports[0]["1.flac"].windows > FIRST_ROUND
    for other in reports[1:]:
        for name, result in reports[0].items():
            assert other[name].window_starts_s == result.window_starts_s
            assert other[name].verdict == result.verdict
            assert other[name].window_margins == pytest.approx(result.window_margins, abs=1e-4)


def test_a_row_says_which_windows_can_explain_it(library: Path, calibrated_model: Path) -> None:
    row = scan(library / "1.flac", calibrated_model, windows="adaptive", threshold=0.999)["1.flac"]
    plan = ADAPTIVE.first(row.windows + row.silent_windows)
    evidence = explain(str(library / "1.flac").encode(), load_model(calibrated_model, Device("cpu")), plan)
    assert evidence.score == pytest.approx(row.score, abs=1e-6)


def test_rows_are_carried_over_only_with_the_same_thresholds(
    library: Path, calibrated_model: Path, tmp_path: Path
) -> None:
    def run(out: str, threshold: str, *more: str | Path) -> bytes:
        command = [PROGRAM, library / "2.flac", "--model", calibrated_model, "--windows", "adaptive", *more]
        arguments = ["--threshold", threshold, "--out", tmp_path / out]
        return subprocess.run([*command, *arguments], capture_output=True, check=True).stderr

    first = tmp_path / "1.parquet"
    run("1.parquet", "0.9")
    assert b"carried  1 rows" in run("2.parquet", "0.9", "--since", first)
    assert b"with other windows or thresholds: every file is scored again" in run("3.parquet", "0.5", "--since", first)
    assert pq.read_table(first).column("windows").to_pylist() == [FIRST_ROUND]


def test_without_a_verdict_there_is_nothing_to_stop_for(tiny_model: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="this model gives none here"):
        Scan(ScanOptions(model=tiny_model, windows=ADAPTIVE))
    Scan(ScanOptions(model=tiny_model, windows=ADAPTIVE, threshold=0.5))
    untrained = write_model(tmp_path / "m.onnx", calibrated(ModelSpec("tiny", untrained=True)))
    with pytest.raises(InputError, match="this model gives none here"):
        Scan(ScanOptions(model=untrained, windows=ADAPTIVE, threshold=0.5))


def test_adaptive_is_understood_where_a_scan_is_meant_and_nowhere_else() -> None:
    assert str(ADAPTIVE) == "adaptive"
    with pytest.raises(InputError, match="or `all`, not 'adaptive'"):
        WindowPlan.parse("adaptive")
    with pytest.raises(InputError, match="`all` or `adaptive`, not 'some'"):
        WindowPlan.parse("some", adaptive=True)
