"""`sonicscan-report merge`: the reports of shards are the report of the whole, or a sentence says why not."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result
from faults import PROGRAM
from hypothesis import given, settings
from hypothesis import strategies as st
from report_samples import row, sample_report

from sonicscan.analysis import merge as merging
from sonicscan.analysis.merge import Allowed, merge
from sonicscan.cli.report import main
from sonicscan.report.metadata import ReportMetadata, metadata_of
from sonicscan.report.readers import read_report
from sonicscan.report.row import FileResult
from sonicscan.report.schema import SCHEMA, sort_rows, to_batch, to_results
from sonicscan.report.writers import write_report

LAW = settings(derandomize=True, deadline=None, max_examples=60)
NAMES = st.sampled_from(["a", "b", "é", "/", "\\xe9", "\U0001f3b5", " "])
# A path, and whether it stands for bytes that are not UTF-8: both can be in one folder.
KEYS = st.tuples(st.lists(NAMES, min_size=1, max_size=4).map("".join), st.booleans())
TIMES = ("started", "finished", "command")  # the command names the shard and its report


def run(*args: object) -> Result:
    return CliRunner().invoke(main, ["merge", *map(str, args)])


def rows_of(path: Path) -> list[FileResult]:
    return list(to_results(read_report(path)))


def sorted_report(path: Path, rows: list[FileResult], **metadata: object) -> Path:
    table = sort_rows(pa.Table.from_batches([to_batch(rows)]))
    return sample_report(path, list(to_results(table)), key="k", **metadata)


@pytest.fixture
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(merging, "BATCH_ROWS", 3)


def test_what_differs_in_one_scan_is_not_said_of_other_tracks(tmp_path: Path) -> None:
    paths = [
        sorted_report(tmp_path / f"{i}.parquet", [row(f"{i}", 0.5)], shards=[[i, 2]], differences=[f"codec: shard {i}"])
        for i in (1, 2)
    ]
    assert merge(paths, tmp_path / "m.parquet", Allowed()) == 2
    part = tmp_path / "part.parquet"
    assert CliRunner().invoke(main, ["convert", str(paths[0]), "--out", str(part), "--path", "*"]).exit_code == 0
    for path in (tmp_path / "m.parquet", part):
        assert ReportMetadata.of(pq.read_schema(path), path).differences == ()


@pytest.mark.usefixtures("small_batches")
@pytest.mark.parametrize("shards", [1, 2, 5])
def test_merged_shards_are_the_whole(shards: int) -> None:
    @LAW
    @given(st.dictionaries(KEYS, st.integers(0, shards - 1), max_size=40))
    def law(catalogue: dict[tuple[str, bool], int]) -> None:
        rows = [
            (row(path, 0.5, size=k, path_raw=path.encode("latin-1", "replace") if raw else None), shard)
            for k, ((path, raw), shard) in enumerate(catalogue.items())
        ]
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            whole = sorted_report(folder / "whole.parquet", [r for r, _ in rows], shards=[])
            parts = [
                sorted_report(folder / f"{i}.parquet", [r for r, shard in rows if shard == i], shards=[[i + 1, shards]])
                for i in range(shards)
            ]
            assert merge(parts[::-1], folder / "merged.parquet", Allowed()) == len(rows)
            assert read_report(folder / "merged.parquet").equals(read_report(whole), check_metadata=True)

    law()


def test_real_scans_of_shards_make_the_real_report(small_library: Path, calibrated_model: Path, tmp_path: Path) -> None:
    for name, shard in (("whole", ()), ("1", ("--shard", "1/2")), ("2", ("--shard", "2/2"))):
        out = tmp_path / f"{name}.parquet"
        subprocess.run([PROGRAM, small_library, "--model", calibrated_model, "-q", "--out", out, *shard], check=True)
    result = run(tmp_path / "1.parquet", tmp_path / "2.parquet", "--out", tmp_path / "m.parquet")
    assert result.exit_code == 0 and "6 tracks" in result.stderr and not result.stdout

    def timeless(name: str) -> tuple[list[FileResult], dict[str, str]]:
        table = read_report(tmp_path / f"{name}.parquet")
        metadata = {key: value for key, value in metadata_of(table.schema).items() if key not in TIMES}
        return [replace(r, elapsed_ms=None) for r in to_results(table)], metadata

    assert timeless("m") == timeless("whole")
    assert json.loads(metadata_of(pq.read_schema(tmp_path / "1.parquet"))["shards"]) == [[1, 2]]


def shard(folder: Path, i: int, n: int, *rows: FileResult, name: str = "", **metadata: object) -> Path:
    return sorted_report(folder / f"{name or i}.parquet", list(rows), shards=[[i, n]], **metadata)


def test_a_missing_shard_is_refused_unless_told(tmp_path: Path) -> None:
    parts = [shard(tmp_path, i, 3, row(f"{i}.mp3", 0.1)) for i in (1, 3)]
    out = tmp_path / "m.parquet"
    result = run(*parts, "--out", out)
    assert result.exit_code == 2 and "shard 2/3 of the library is missing" in result.stderr
    assert not out.exists()
    assert run(*parts, "--out", out, "--allow-gaps").exit_code == 0
    assert [r.path for r in rows_of(out)] == ["1.mp3", "3.mp3"]
    # The metadata say which shards are missing, so that they can be added later.
    rest = shard(tmp_path, 2, 3, row("2.mp3", 0.1))
    assert "shard 2/3" in run(out, "--out", tmp_path / "n.parquet").stderr
    assert run(out, rest, "--out", tmp_path / "n.parquet").exit_code == 0
    assert [r.path for r in rows_of(tmp_path / "n.parquet")] == ["1.mp3", "2.mp3", "3.mp3"]
    assert metadata_of(pq.read_schema(tmp_path / "n.parquet"))["shards"] == "[]"


def test_shards_of_different_splits_are_refused(tmp_path: Path) -> None:
    parts = [shard(tmp_path, 1, 1, row("a.mp3")), shard(tmp_path, 2, 2, row("b.mp3"))]
    result = run(*parts, "--out", tmp_path / "m.parquet")
    assert result.exit_code == 2 and "different splits (of 1 and of 2)" in result.stderr


def test_overlaps_are_refused_unless_told_and_the_newest_wins(tmp_path: Path) -> None:
    old = sorted_report(tmp_path / "old.parquet", [row("a", 0.1), row("b", 0.1)], finished="2026-01-01")
    new = sorted_report(tmp_path / "new.parquet", [row("b", 0.9), row("c", 0.9)], finished="2026-02-01")
    out = tmp_path / "m.parquet"
    result = run(old, new, "--out", out)
    assert result.exit_code == 2 and "old.parquet have a row for b" in result.stderr and not out.exists()
    for order in ((old, new), (new, old)):
        assert run(*order, "--out", out, "--allow-overlap").exit_code == 0
        assert [(r.path, r.score) for r in rows_of(out)] == [("a", 0.1), ("b", 0.9), ("c", 0.9)]
    twice = sorted_report(tmp_path / "twice.parquet", [row("a", 0.1), row("a", 0.2)])
    assert "twice.parquet has a row for a twice" in run(twice, "--out", out).stderr


def test_a_shard_that_comes_twice_is_refused_unless_told(tmp_path: Path) -> None:
    parts = [shard(tmp_path, 1, 1, row("a"), name=name) for name in "xy"]
    result = run(*parts, "--out", tmp_path / "m.parquet")
    assert result.exit_code == 2 and "are both shard 1/1" in result.stderr
    assert run(*parts, "--out", tmp_path / "m.parquet", "--allow-overlap").exit_code == 0


@pytest.mark.parametrize(
    ("other", "words"),
    [
        ({"digest": "e" * 64, "key": "l"}, "different models"),
        ({"key": "l"}, "different windows or versions"),
        ({"thresholds": {"flagged": 0.5}}, "different thresholds"),
    ],
)
def test_reports_that_cannot_be_compared_are_refused_unless_told(
    other: dict[str, object], words: str, tmp_path: Path
) -> None:
    a = sample_report(tmp_path / "a.parquet", [row("a", 0.1)], key="k")
    b = sample_report(tmp_path / "b.parquet", [row("b", 0.2)], **({"key": "k"} | other))  # type: ignore[arg-type]
    out = tmp_path / "m.parquet"
    result = run(a, b, "--out", out)
    assert result.exit_code == 2 and words in result.stderr and not out.exists()
    assert run(a, b, "--out", out, "--allow-mixed-models").exit_code == 0
    assert len(rows_of(out)) == 2
    assert not {"model_digest", "key", "thresholds"} & set(metadata_of(pq.read_schema(out)))


def test_what_cannot_be_merged_is_said_in_a_sentence(tmp_path: Path) -> None:
    good = sorted_report(tmp_path / "good.parquet", [row("a")])
    unsorted = sample_report(tmp_path / "unsorted.parquet", [row("b"), row("a")])
    (tmp_path / "text.parquet").write_text("no report")
    pq.write_table(pa.table({"path": ["a"]}), tmp_path / "strange.parquet")
    (tmp_path / "folder").mkdir()
    for name, words in (
        ("text.parquet", "cannot be read"),
        ("none.parquet", "cannot be read"),
        ("strange.parquet", "is not a report of schema version"),
        ("folder", "holds no parts"),
    ):
        result = run(good, tmp_path / name, "--out", tmp_path / "m.parquet")
        assert result.exit_code == 2 and words in result.stderr and "Traceback" not in result.stderr
    assert "not sorted by path" in run(unsorted, "--out", tmp_path / "m.parquet").stderr
    assert "must end in .parquet" in run(good, "--out", tmp_path / "m.csv").stderr
    assert not (tmp_path / "m.parquet").exists()


def test_memory_does_not_grow_with_the_reports(tmp_path: Path) -> None:
    """Peak memory of the whole program, with ten times the rows in a second pair of reports."""

    def peak_mb(rows: int) -> float:
        sample = pa.Table.from_batches([to_batch([row("x", 0.5, window_margins=[0.5] * 12)])])
        schema = pq.read_schema(sorted_report(tmp_path / "schema.parquet", []))
        for i in range(2):
            table = sample.take(pa.array([0] * (rows // 2)))
            paths = pa.array([f"/music/a folder/{k:07d}.mp3" for k in range(i, rows, 2)])
            write_report(table.set_column(0, SCHEMA.field(0), paths).cast(schema), tmp_path / f"{i}.parquet")
        program = (
            "import resource, sys\nfrom pathlib import Path\nfrom sonicscan.analysis.merge import Allowed, merge\n"
            "a, b, out = map(Path, sys.argv[1:])\nrows = merge([a, b], out, Allowed())\n"
            "print(rows, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)"
        )
        files = [tmp_path / name for name in ("0.parquet", "1.parquet", "m.parquet")]
        done = subprocess.run([sys.executable, "-c", program, *files], capture_output=True, text=True, check=True)
        merged, peak = done.stdout.split()
        assert int(merged) == rows
        return float(peak)

    assert peak_mb(400_000) - peak_mb(40_000) < 50  # the rows are 80 MB more in memory


def test_shards_from_different_mounts_share_one_root(tmp_path: Path) -> None:
    raw = b"/mnt/a/catalogue/caf\xe9.wav"
    rows = [row("/mnt/a/catalogue/b.wav", 0.5), row("/mnt/a/catalogue/caf\\xe9.wav", 0.5, path_raw=raw)]
    first = sample_report(tmp_path / "1.parquet", rows, shards=((1, 2),), roots=(("/mnt/a/catalogue/", "d1"),))
    second = sample_report(tmp_path / "2.parquet", [row("/srv/catalogue/a/c.wav", 0.5)], shards=((2, 2),))
    out = tmp_path / "all.parquet"
    strip = ("--strip", "/mnt/a/catalogue/", "--strip", "/srv/catalogue")
    assert run(first, second, "--out", out, *strip).exit_code == 0
    merged = read_report(out)
    assert merged.column("path").to_pylist() == ["a/c.wav", "b.wav", "caf\\xe9.wav"]
    assert merged.column("path_raw").to_pylist() == [None, None, b"caf\xe9.wav"]
    assert ReportMetadata.of(merged.schema, out).roots == ()
    done = run(first, second, "--out", out, "--strip", "/mnt/a")
    assert done.exit_code == 2 and "/srv/catalogue/a/c.wav, which is not below /mnt/a/" in done.output
    mixed = sample_report(tmp_path / "m.parquet", [row("/mnt/a/x.wav", 0.5), row("/srv/x.wav", 0.5)])
    done = run(mixed, "--out", out, "--strip", "/mnt/a", "--strip", "/srv")
    assert done.exit_code == 2 and "the one folder of all of its rows" in done.output


def test_a_prefix_that_is_two_folders_is_no_root_of_the_merged_report(tmp_path: Path) -> None:
    first = sample_report(tmp_path / "1.parquet", [row("x/a", 0.5)], roots=(("x/", "d1"), ("y/", "d3")))
    second = sample_report(tmp_path / "2.parquet", [row("x/b", 0.5)], roots=(("x/", "d2"), ("y/", "d3")))
    out = tmp_path / "all.parquet"
    assert run(first, second, "--out", out).exit_code == 0
    assert ReportMetadata.of(read_report(out).schema, out).roots == (("y/", "d3"),)
