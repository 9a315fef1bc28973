"""Reports that lack tracks of their library: filtered ones, and single shards. Every command says so."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result
from report_samples import World, catalogue_rows, sample_report

from sonicscan.analysis.catalogue import load
from sonicscan.analysis.html import write_page
from sonicscan.analysis.page import audit_page
from sonicscan.cli.report import main
from sonicscan.report.metadata import ReportMetadata
from sonicscan.scoring.thresholds import certified_thresholds

SHARDS = ((1, 2), (2, 2))


def run(*args: object) -> Result:
    return CliRunner().invoke(main, [str(arg) for arg in args])


def json_of(*args: object) -> dict[str, object]:
    found: dict[str, object] = json.loads(run(*args, "--json").stdout)
    return found


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    world, rng = World(), np.random.default_rng(3)
    spec = world.model(rng)
    limits = certified_thresholds(spec.calibration, 0.01)
    return sample_report(
        tmp_path / "whole.parquet", catalogue_rows(world.margins(rng, 900, 100), spec, limits), spec, limits
    )


@pytest.fixture
def shards(tmp_path: Path, whole: Path) -> list[Path]:
    source = load(whole)
    assert source.spec is not None
    rows = sorted(source.rows, key=lambda row: row.path)
    return [
        sample_report(tmp_path / f"{i}.parquet", rows[i::2], source.spec, source.thresholds, shards=[[i + 1, 2]])
        for i in range(2)
    ]


def converted(report: Path, name: str, *options: object) -> Path:
    out = report.with_name(name)
    result = run("convert", report, "--out", out, *options)
    assert result.exit_code == 0, result.output
    return out


def words(result: Result) -> str:
    return " ".join(result.output.split())


@pytest.mark.parametrize("options", [("--min-score", 0.3), ("--flagged",), ("--verdict", "clear"), ("--fdr", 0.05)])
def test_a_selection_by_score_gives_no_estimate(whole: Path, options: tuple[object, ...]) -> None:
    before = json_of("summary", whole)
    assert before["partial"] == [] and before["ai_share"] and before["chance_flags"] and before["discoveries"]
    part = converted(whole, "part.parquet", *options)
    found = json_of("summary", part)
    for name in ("ai_share", "false_flags", "chance_flags", "discoveries"):
        assert found[name] is None, name
    assert found["differences"] == []
    for groups in (found["folders"], found["artists"], json_of("summary", part, "--by", "artist")):
        assert all(group["share"] is group["e_value"] is None and not group["reported"] for group in groups)  # type: ignore[attr-defined]
    said = words(run("summary", part))
    assert f"part.parquet has only the tracks that {load(part).metadata.filtered} selected." in said
    assert "Estimated share" not in said and "by chance alone" not in said
    assert "Note: part.parquet has only the tracks that" in words(run("summary", part, "--by", "artist"))


def test_a_selection_by_path_or_status_is_estimated_by_itself(whole: Path) -> None:
    part = converted(whole, "part.parquet", "--path", "/music/[A-F]/*", "--status", "ok")
    assert json_of("summary", part)["ai_share"] is not None
    assert "has only the tracks that --status ok --path selected. All figures are about" in words(run("summary", part))


def test_a_shard_says_that_it_is_one(shards: list[Path]) -> None:
    assert json_of("summary", shards[0])["ai_share"] is not None
    assert "0.parquet has only shard 1/2 of the library." in words(run("summary", shards[0]))
    merged = shards[0].with_name("merged.parquet")
    assert run("merge", *shards, "--out", merged).exit_code == 0
    assert json_of("summary", merged)["partial"] == []


@pytest.mark.parametrize(
    ("held", "missing"),
    [((), False), (SHARDS, False), (((1, 1),), False), (SHARDS[:1], True), ((*SHARDS, (1, 3)), True)],
)
def test_all_shards_are_the_whole(held: tuple[tuple[int, int], ...], missing: bool) -> None:
    assert ReportMetadata(shards=held).missing_shards == missing


def test_diff_and_trend_say_what_a_report_lacks(whole: Path, shards: list[Path]) -> None:
    said = words(run("diff", whole, shards[0]))
    assert "0.parquet has only shard 1/2" in said and "Files that it lacks are listed as new or gone." in said
    assert "Note" not in run("diff", shards[0], shards[0]).output  # an audit of one shard, night after night
    part = converted(whole, "part.parquet", "--flagged")
    assert "part.parquet has only the tracks that --verdict flagged selected" in words(run("diff", part, whole))
    (month,) = json.loads(run("trend", part, "--json").stdout)
    assert month["share"] is None and "part.parquet has only" in month["notes"][0]


@pytest.mark.parametrize(
    "options",
    [("--path", "/music/[A-F]/*"), ("--min-score", 0.3), ("--verdict", "clear"), ("--flagged", "--status", "ok")],
)
def test_flags_that_a_part_of_the_old_report_lacks_are_not_new(whole: Path, options: tuple[object, ...]) -> None:
    part = converted(whole, "part.parquet", *options)
    page = whole.with_name("page.html")
    for command in (("diff", part, whole), ("html", whole, "--since", part, "--out", page)):
        refused = run(*command)
        assert refused.exit_code == 2 and "part.parquet has only the tracks that --" in refused.stderr
        assert "flags that it lacks would count as new" in refused.stderr and not page.exists()


def test_old_reports_that_have_all_flags_are_compared(whole: Path, shards: list[Path]) -> None:
    only_flags = converted(whole, "flags.parquet", "--flagged")
    assert converted(only_flags, "again.parquet", "--verdict", "flagged")
    paths = [converted(whole, name, "--path", "/music/[A-F]/*") for name in ("a.parquet", "b.parquet")]
    for old, new in (
        (only_flags, whole),
        (only_flags.with_name("again.parquet"), whole),
        paths,
        (shards[0], shards[0]),
    ):
        assert run("diff", old, new).exit_code == 0
    for old, new in (shards, (shards[0], whole)):
        refused = run("diff", old, new)
        assert refused.exit_code == 2 and "0.parquet has only some shards of its library" in refused.stderr


def test_the_page_says_what_a_report_lacks(whole: Path) -> None:
    part = converted(whole, "part.parquet", "--min-score", 0.3)
    text = audit_page(load(part), part.with_suffix(".html"))
    write_page(text, part.with_suffix(".html"))
    assert "part.parquet has only the tracks that --min-score 0.3 selected." in text
    assert "estimated share of AI</" not in text and "Estimated share of AI:" not in text


def test_a_sample_of_a_selection_gives_no_rate_over_all_tracks(whole: Path) -> None:
    part, hear = converted(whole, "part.parquet", "--min-score", 0.3), whole.with_name("hear.csv")
    drawn = run("sample", part, "--n", 60, "--out", hear)
    assert drawn.exit_code == 0 and "Note: part.parquet has only the tracks that --min-score 0.3" in drawn.stderr
    header, *lines = hear.read_text().splitlines()
    kinds = ("ai", "human")
    filled = [line.replace(",,,,,,", f",,{kinds[k % 2]},Kim,2026-02-01,,") for k, line in enumerate(lines)]
    decisions = whole.with_name("filled.csv")
    decisions.write_text("\n".join([header, *filled]))
    found = run("estimate", part, "--decisions", decisions)
    assert found.exit_code == 0 and "Note: part.parquet has only" in found.stderr
    assert "Share of AI" in found.stdout and "False-discovery rate" in found.stdout
    assert "Miss rate" not in found.stdout and "False-positive rate" not in found.stdout


def test_merge_refuses_a_filtered_report(whole: Path, shards: list[Path]) -> None:
    part, out = converted(shards[0], "part.parquet", "--path", "*"), whole.with_name("merged.parquet")
    for given in ((part, shards[1]), (shards[1], part)):
        result = run("merge", *given, "--out", out, "--allow-gaps", "--allow-overlap", "--allow-mixed-models")
        assert result.exit_code == 2 and not out.exists()
        assert (
            "part.parquet has only the tracks that --path selected; merge the reports of whole scans" in result.stderr
        )


def test_convert_keeps_the_earlier_filter(whole: Path) -> None:
    once = converted(whole, "once.parquet", "--min-score", 0.3)
    twice = converted(once, "twice.parquet", "--path", "*")
    again = converted(twice, "again.parquet")
    for report in (twice, again):
        found = ReportMetadata.of(pq.read_schema(report), report)
        assert found.filtered == "--min-score 0.3 then --path" and found.selected
    refused = run("convert", once, "--fdr", 0.05, "--out", whole.with_name("fdr.parquet"))
    assert refused.exit_code == 2 and "--fdr needs the p-values of all tracks. once.parquet has only" in refused.stderr
